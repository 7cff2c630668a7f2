package policy

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
