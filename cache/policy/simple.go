package policy

import "iter"

// fifo gives up what came first.
type fifo struct{ q queue }

func (p *fifo) Add(n *Node)     { p.q.push(n) }
func (p *fifo) Hit(*Node)       {}
func (p *fifo) Evict() *Node    { return p.q.pop() }
func (p *fifo) Remove(n *Node)  { p.q.take(n) }
func (p *fifo) Overhead() int64 { return 0 }

func (p *fifo) All() iter.Seq[*Node] {
	return func(yield func(*Node) bool) { p.q.each(yield) }
}

// lru gives up what was not asked for for the longest time.
type lru struct{ fifo }

func (p *lru) Hit(n *Node) {
	p.q.take(n)
	p.q.push(n)
}

// s4lru is quadruply segmented LRU (Huang et al., SOSP 2013, section 6.1): four
// LRU queues of a quarter of the room each. New nodes go to the lowest; a hit
// moves one queue up; what a queue has too much of goes to the one below. The
// lowest takes room that the others have not used yet.
type s4lru struct {
	quarter int64
	parts   [4]queue
}

func newS4LRU(budget int64) *s4lru { return &s4lru{quarter: budget / 4} }

func (p *s4lru) Add(n *Node) {
	n.part = 0
	p.parts[0].push(n)
}

func (p *s4lru) Hit(n *Node) {
	p.parts[n.part].take(n)
	n.part = min(n.part+1, uint8(len(p.parts)-1))
	p.parts[n.part].push(n)
	for i := n.part; i > 0; i-- {
		for p.parts[i].bytes > p.quarter {
			low := p.parts[i].pop()
			low.part = i - 1
			p.parts[i-1].push(low)
		}
	}
}

func (p *s4lru) Evict() *Node {
	for i := range p.parts {
		if n := p.parts[i].pop(); n != nil {
			return n
		}
	}
	return nil
}

func (p *s4lru) Remove(n *Node)  { p.parts[n.part].take(n) }
func (p *s4lru) Overhead() int64 { return 0 }

func (p *s4lru) All() iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		for i := range p.parts {
			if !p.parts[i].each(yield) {
				return
			}
		}
	}
}

// sieve is SIEVE (Zhang et al., NSDI 2024, section 3.1): one queue in order of
// arrival, and a hand that goes from the oldest to the newest, lets everything
// stay that was hit since it last came by, and gives up the first that was not.
type sieve struct {
	q    queue
	hand *Node // the next to be looked at; nil: the oldest
}

func (p *sieve) Add(n *Node) {
	n.freq = 0
	p.q.push(n)
}

func (p *sieve) Hit(n *Node) { n.freq = 1 }

// Evict ends: after one round nothing has a hit.
func (p *sieve) Evict() *Node {
	n := p.hand
	for {
		if n == nil {
			n = p.q.oldest
		}
		if n == nil {
			return nil
		}
		if n.freq == 0 {
			p.hand = n.next
			p.q.take(n)
			return n
		}
		n.freq = 0
		n = n.next
	}
}

func (p *sieve) Remove(n *Node) {
	if p.hand == n {
		p.hand = n.next
	}
	p.q.take(n)
}

func (p *sieve) Overhead() int64 { return 0 }

func (p *sieve) All() iter.Seq[*Node] {
	return func(yield func(*Node) bool) { p.q.each(yield) }
}
