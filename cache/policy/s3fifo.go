package policy

import "iter"

// s3fifo is S3-FIFO (Yang et al., SOSP 2023, section 4) with bytes in place of
// counts: new nodes go through a small queue of a tenth of the room, those asked
// for more than once move on to the main queue, the others leave at once and only
// their hash stays, as a ghost. A ghost that comes back goes to main.
type s3fifo struct {
	smallBytes  int64 // target of small
	small, main queue
	ghosts      ghosts
}

const (
	inSmall uint8 = iota
	inMain
)

// maxFreq is the most hits that are counted (two bits in the paper).
const maxFreq = 3

func newS3FIFO(budget int64) *s3fifo { return &s3fifo{smallBytes: budget / 10} }

func (p *s3fifo) Add(n *Node) {
	n.freq, n.part = 0, inSmall
	if p.ghosts.take(n.Hash) {
		n.part = inMain
	}
	p.of(n).push(n)
}

func (p *s3fifo) of(n *Node) *queue {
	if n.part == inMain {
		return &p.main
	}
	return &p.small
}

func (p *s3fifo) Hit(n *Node) { n.freq = min(n.freq+1, maxFreq) }

func (p *s3fifo) Remove(n *Node) {
	p.of(n).take(n)
	p.ghosts.shrink(p.small.count + p.main.count)
}

// Evict ends: each round takes a node out of small, lowers a freq, or returns.
func (p *s3fifo) Evict() *Node {
	for {
		if p.small.count > 0 && (p.small.bytes >= p.smallBytes || p.main.count == 0) {
			n := p.small.pop()
			if n.freq > 1 {
				n.freq, n.part = 0, inMain
				p.main.push(n)
				continue
			}
			p.ghosts.put(n.Hash, p.small.count+p.main.count)
			return n
		}
		n := p.main.pop()
		if n == nil {
			return nil
		}
		if n.freq > 0 {
			n.freq--
			p.main.push(n)
			continue
		}
		p.ghosts.shrink(p.small.count + p.main.count)
		return n
	}
}

func (p *s3fifo) Overhead() int64 { return int64(p.ghosts.ring.len()) * ghostCost }

func (p *s3fifo) All() iter.Seq[*Node] {
	return func(yield func(*Node) bool) { _ = p.small.each(yield) && p.main.each(yield) }
}
