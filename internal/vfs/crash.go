package vfs

import (
	"maps"
	"math/rand/v2"
	"path"
	"slices"
)

// sector is the unit in which a device may write parts of one request.
const sector = 512

// Crash returns the file system a machine finds after its power was cut now.
// The seed decides the fate of each unsynced change: lost, whole, torn, out of
// order. Equal seeds on equal histories give equal results.
func (m *Mem) Crash(seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, 0x637261))
	out := NewMem(seed)
	names := make(map[string]*node, len(m.durable))
	for name, n := range m.durable {
		names[name] = n
	}
	inOrder := rng.IntN(2) == 0
	for _, op := range m.pending {
		if rng.IntN(2) == 0 {
			apply(names, op)
		} else if inOrder {
			break // a journal: nothing after the first loss
		}
	}
	copies := make(map[*node]*node, len(names))
	for _, name := range sortedNames(names) {
		n := names[name]
		if !reachable(names, name) {
			continue
		}
		c := copies[n]
		if c == nil {
			c = &node{dir: n.dir}
			c.durable = n.survive(rng)
			c.cur = append([]byte(nil), c.durable...)
			c.stale = append([]byte(nil), n.stale...)
			copies[n] = c
		}
		out.cur[name], out.durable[name] = c, c
	}
	return out
}

// Kill returns the file system as the next process finds it after this one was
// killed: everything written is seen, and what was unsynced still is.
func (m *Mem) Kill() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := NewMem(m.rng.Uint64())
	copies := make(map[*node]*node)
	clone := func(n *node) *node {
		if n == nil {
			return nil
		}
		c := copies[n]
		if c == nil {
			c = &node{dir: n.dir}
			c.cur = append([]byte(nil), n.cur...)
			c.durable = append([]byte(nil), n.durable...)
			c.stale = append([]byte(nil), n.stale...)
			c.pending = append([]dataOp(nil), n.pending...)
			copies[n] = c
		}
		return c
	}
	for name, n := range m.cur {
		out.cur[name] = clone(n)
	}
	for name, n := range m.durable {
		out.durable[name] = clone(n)
	}
	for _, op := range m.pending {
		set := make(map[string]*node, len(op.set))
		for name, n := range op.set {
			set[name] = clone(n)
		}
		out.pending = append(out.pending, dirOp{dir: op.dir, set: set})
	}
	return out
}

func reachable(names map[string]*node, name string) bool {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		n := names[dir]
		if n == nil || !n.dir {
			return false
		}
		if dir == path.Dir(dir) {
			return true
		}
	}
}

// survive returns what the device holds of n after a power cut.
func (n *node) survive(rng *rand.Rand) []byte {
	b := append([]byte(nil), n.durable...)
	ops := append([]dataOp(nil), n.pending...)
	if rng.IntN(2) == 0 {
		rng.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
	}
	filler := rng.IntN(4)
	for _, op := range ops {
		if op.data != nil {
			b = n.tear(rng, b, op, filler)
			continue
		}
		if rng.IntN(3) > 0 {
			b = n.expose(rng, op.perform(b), len(b), filler)
		}
	}
	return b
}

// tear applies what survives of one write.
func (n *node) tear(rng *rand.Rand, b []byte, op dataOp, filler int) []byte {
	old := len(b)
	size := len(op.data)
	switch rng.IntN(6) {
	case 0: // lost
		return b
	case 1: // whole
		return n.expose(rng, op.perform(b), old, -1)
	case 2: // a prefix, up to any byte
		return dataOp{data: op.data[:rng.IntN(size+1)], off: op.off}.perform(b)
	case 3: // the size, and a part from any byte on: a hole in front
		from := rng.IntN(size)
		b = n.expose(rng, sized(b, max(int64(old), op.off+int64(size))), old, filler)
		copy(b[op.off+int64(from):], op.data[from:])
		return b
	case 4: // the size, and nothing of the data
		return n.expose(rng, sized(b, max(int64(old), op.off+int64(size))), old, filler)
	}
	// the size, and some of the sectors
	b = n.expose(rng, sized(b, max(int64(old), op.off+int64(size))), old, filler)
	end := op.off + int64(size)
	for at := op.off; at < end; {
		next := min((at/sector+1)*sector, end)
		if rng.IntN(2) == 0 {
			copy(b[at:next], op.data[at-op.off:next-op.off])
		}
		at = next
	}
	return b
}

// expose decides what bytes from old on hold that the file has and nothing was
// written to: zeros, garbage, or the old content of the blocks.
func (n *node) expose(rng *rand.Rand, b []byte, old, filler int) []byte {
	if old >= len(b) {
		return b
	}
	switch filler {
	case 1:
		for i := old; i < len(b); i++ {
			b[i] = byte(rng.Uint32())
		}
	case 2:
		if old < len(n.stale) {
			copy(b[old:], n.stale[old:])
		}
	}
	return b
}

func sortedNames(names map[string]*node) []string {
	return slices.Sorted(maps.Keys(names))
}
