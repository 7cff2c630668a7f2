package cache

// policy decides what leaves when room is needed. It is called with its shard's
// mutex held.
type policy interface {
	// add takes in an entry that was just stored.
	add(e *entry)
	// hit notes that an entry was served.
	hit(e *entry)
	// evict chooses an entry and gives it up; nil when it has none.
	evict() *entry
	// remove gives up an entry that leaves for another reason.
	remove(e *entry)
	// overhead is the memory that the policy takes apart from the entries, in bytes.
	overhead() int64
}

// node is what a policy keeps inside each entry.
type node struct {
	prev, next *entry
	hash       uint64 // of the key
	cost       int64  // bytes of budget
	freq       uint8
	main       bool
}

// queue is a list of entries, oldest first, linked through their nodes.
type queue struct {
	oldest, newest *entry
	bytes          int64
	count          int
}

func (q *queue) push(e *entry) {
	e.node.prev, e.node.next = q.newest, nil
	if q.newest != nil {
		q.newest.node.next = e
	} else {
		q.oldest = e
	}
	q.newest = e
	q.bytes += e.node.cost
	q.count++
}

func (q *queue) take(e *entry) {
	if e.node.prev != nil {
		e.node.prev.node.next = e.node.next
	} else {
		q.oldest = e.node.next
	}
	if e.node.next != nil {
		e.node.next.node.prev = e.node.prev
	} else {
		q.newest = e.node.prev
	}
	e.node.prev, e.node.next = nil, nil
	q.bytes -= e.node.cost
	q.count--
}

// s3fifo is S3-FIFO (Yang et al., SOSP 2023, section 4) with bytes in place of
// counts: new entries go through a small queue of a tenth of the room, those
// asked for more than once move on to the main queue, the others leave at once
// and only their hash stays, as a ghost. A ghost that comes back goes to main.
type s3fifo struct {
	smallBytes  int64 // target of small
	small, main queue
	ghosts      ghosts
}

func newS3FIFO(budget int64) *s3fifo { return &s3fifo{smallBytes: budget / 10} }

func (p *s3fifo) add(e *entry) {
	e.node.freq = 0
	e.node.main = p.ghosts.take(e.node.hash)
	p.of(e).push(e)
}

func (p *s3fifo) of(e *entry) *queue {
	if e.node.main {
		return &p.main
	}
	return &p.small
}

func (p *s3fifo) hit(e *entry) { e.node.freq = min(e.node.freq+1, 3) }

func (p *s3fifo) remove(e *entry) {
	p.of(e).take(e)
	p.ghosts.shrink(p.small.count + p.main.count)
}

// evict ends: each round takes an entry out of small, lowers a freq, or returns.
func (p *s3fifo) evict() *entry {
	for {
		if p.small.count > 0 && (p.small.bytes >= p.smallBytes || p.main.count == 0) {
			e := p.small.oldest
			p.small.take(e)
			if e.node.freq > 1 {
				e.node.freq, e.node.main = 0, true
				p.main.push(e)
				continue
			}
			p.ghosts.put(e.node.hash, p.small.count+p.main.count)
			return e
		}
		e := p.main.oldest
		if e == nil {
			return nil
		}
		p.main.take(e)
		if e.node.freq > 0 {
			e.node.freq--
			p.main.push(e)
			continue
		}
		p.ghosts.shrink(p.small.count + p.main.count)
		return e
	}
}

func (p *s3fifo) overhead() int64 { return int64(p.ghosts.ring.len()) * ghostCost }

// ghostCost is the memory of one ghost: 16 bytes in the ring, 16 in a map that
// is at worst a little under half full, both possibly doubled by growth.
const ghostCost = 96

// ghosts are hashes of evicted keys, oldest first, at most as many as there are
// entries.
type ghosts struct {
	ring ring
	at   map[uint64]uint64 // hash → number of its newest ring slot
	next uint64
}

type ghost struct{ hash, number uint64 }

func (g *ghosts) put(hash uint64, limit int) {
	if g.at == nil {
		g.at = make(map[uint64]uint64)
	}
	g.next++
	g.at[hash] = g.next
	g.ring.push(ghost{hash, g.next})
	g.shrink(limit)
}

// take reports whether hash is a ghost, and forgets it. Its ring slot stays
// until it comes to the front; the number tells that it is void.
func (g *ghosts) take(hash uint64) bool {
	_, ok := g.at[hash]
	delete(g.at, hash)
	return ok
}

func (g *ghosts) shrink(limit int) {
	for g.ring.len() > limit {
		old := g.ring.pop()
		if g.at[old.hash] == old.number {
			delete(g.at, old.hash)
		}
	}
	if g.ring.len() == 0 {
		g.at = nil // maps never shrink by themselves
	}
}

// ring is a queue in a circular buffer.
type ring struct {
	buf   []ghost
	first int
	n     int
}

func (r *ring) len() int { return r.n }

func (r *ring) push(g ghost) {
	if r.n == len(r.buf) {
		buf := make([]ghost, max(16, 2*len(r.buf)))
		for i := range r.n {
			buf[i] = r.buf[(r.first+i)%len(r.buf)]
		}
		r.buf, r.first = buf, 0
	}
	r.buf[(r.first+r.n)%len(r.buf)] = g
	r.n++
}

func (r *ring) pop() ghost {
	g := r.buf[r.first]
	r.first = (r.first + 1) % len(r.buf)
	r.n--
	return g
}
