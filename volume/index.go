package volume

import (
	"iter"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"hayloft/internal/id"
)

// index finds records by (key, alt). It is a list and a hash table:
//
//   - the list (index_block.go) holds every record in the order of the file,
//     in blocks of 128 bytes. It only grows;
//   - the table holds, for each key and block that has it, 32 bits: the
//     block's number and as many bits of the key's hash as there is room for.
//     It has 256 segments, chosen by hash, which grow one at a time by a
//     quarter, so growing copies 1/256 of the table.
//
// Nothing in it holds a pointer except the directory of 32 KiB chunks, so the
// garbage collector does not look into it. decision 013 has the numbers.
//
// Threads: one goroutine writes. Readers take no lock: what they meet was
// published by an atomic store and never changes, but for a segment's table,
// which is replaced as a whole.
//
// A deleted key has a tombstone in the list, which hides everything else under
// the key.
type index struct {
	segments [indexSegments]segment
	chunks   atomic.Pointer[[]*chunk]
	blocks   atomic.Uint64 // blocks in use

	tail cursor // the last entry; the writer's

	// foreseen is the table of a segment that is expected to be needed soon: one
	// that must be made again is made for that at once. The writer's.
	foreseen struct {
		slots  int
		blocks uint64
	}
}

const (
	indexSegments    = 256
	indexSegmentBits = 8
	altTombstone     = 255

	// A segment is at most 7/8 full.
	loadNum, loadDen = 7, 8
	// blockBits of a slot's 32 are the block's number, from 1.
	minBlockBits, maxBlockBits = 16, 31

	// foreseenMost is by how much the index is made larger at once for what is
	// only expected.
	foreseenMost = 4

	// maxOffset is the end of the largest file the index can address: 1 TiB.
	maxOffset = int64(align) << 37
)

type segment struct {
	table atomic.Pointer[table]
	used  int // slots; the writer's
}

// table is open addressing with linear probing. A slot is 0 or block+1 in the
// lower bits, with the lower bits of the hash above it. Slots are never
// emptied.
type table struct {
	slots []atomic.Uint32
	bits  uint8 // of a slot that are the block
}

// place is where a record lies, in bytes of the file.
type place struct {
	off, size int64
}

// hash mixes a key: ids of one volume differ in few bits (the finalizer of
// SplitMix64).
func hash(k id.ID) uint64 {
	x := uint64(k)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func segmentOf(h uint64) uint64 { return h >> (64 - indexSegmentBits) }

// home maps a hash to the first slot to look at.
func (t *table) home(h uint64) int {
	hi, _ := bits.Mul64(h<<indexSegmentBits, uint64(len(t.slots)))
	return int(hi)
}

func (t *table) next(i int) int {
	if i++; i < len(t.slots) {
		return i
	}
	return 0
}

// slot is the value that stands for a key with hash h in a block.
func (t *table) slot(h, block uint64) uint32 {
	return uint32(h)>>t.bits<<t.bits | uint32(block+1)
}

// insert makes block reachable for keys with hash h, and reports whether that
// took a slot: another key may have led to the same value.
func (t *table) insert(h, block uint64) bool { return t.occupy(t.home(h), t.slot(h, block)) }

// occupy is insert for those who know home and slot already. Loading calls it
// from several goroutines.
func (t *table) occupy(i int, want uint32) bool {
	for ; ; i = t.next(i) {
		v := t.slots[i].Load()
		if v == 0 && t.slots[i].CompareAndSwap(0, want) {
			return true
		}
		if v == want || v == 0 && t.slots[i].Load() == want {
			return false
		}
	}
}

// reach calls fn for the blocks that may hold a key with hash h until it
// returns false.
func (t *table) reach(h uint64, fn func(block uint64) bool) {
	mine := uint32(h) >> t.bits
	for i := t.home(h); ; i = t.next(i) {
		v := t.slots[i].Load()
		if v == 0 || v>>t.bits == mine && !fn(uint64(v&(1<<t.bits-1))-1) {
			return
		}
	}
}

func (ix *index) block(n uint64) *block {
	return &(*ix.chunks.Load())[n/chunkBlocks][n%chunkBlocks]
}

// entries yields what the list holds under key, tombstones too.
func (ix *index) entries(key id.ID) iter.Seq[located] {
	return func(yield func(located) bool) {
		h := hash(key)
		t := ix.segments[segmentOf(h)].table.Load()
		if t == nil {
			return
		}
		t.reach(h, func(n uint64) bool {
			for c := ix.block(n).cursor(); c.next(); {
				if c.key == key && !yield(c.located) {
					return false
				}
			}
			return true
		})
	}
}

// get finds (key, alt), the last of several records. deleted tells that the key has a tombstone; then p is
// the tombstone's place.
func (ix *index) get(key id.ID, alt uint8) (p place, found, deleted bool) {
	for e := range ix.entries(key) {
		switch e.alt {
		case altTombstone:
			return e.place, false, true
		case alt:
			if !found || e.off >= p.off {
				p, found = e.place, true
			}
		}
	}
	return p, found, false
}

// last yields the needles that can be found under a key without a tombstone.
func (ix *index) last(key id.ID) iter.Seq[located] {
	return func(yield func(located) bool) {
		for e := range ix.entries(key) {
			if p, found, _ := ix.get(key, e.alt); found && p == e.place && !yield(e) {
				return
			}
		}
	}
}

// has tells whether any needle of key is there and the key is not deleted.
func (ix *index) has(key id.ID) bool {
	found := false
	for e := range ix.entries(key) {
		if e.alt == altTombstone {
			return false
		}
		found = true
	}
	return found
}

// put adds (key, alt). One that is there already is hidden by it.
func (ix *index) put(key id.ID, alt uint8, p place) { ix.add(located{key, alt, p}) }

// remove hides everything under key behind its tombstone at p, and returns how
// many needles there were and the sum of their sizes. The key must have none.
func (ix *index) remove(key id.ID, p place) (needles int, size int64) {
	for e := range ix.last(key) {
		needles++
		size += e.size
	}
	ix.add(located{key, altTombstone, p})
	return needles, size
}

func (ix *index) add(e located) {
	n := ix.blocks.Load()
	var b *block
	var enc []byte
	var buf [maxEntry]byte
	used := 0
	if n > 0 {
		b = ix.block(n - 1)
		used = int(b.head.Load() & 0xff)
		enc = ix.tail.append(buf[:0], e)
	}
	if n == 0 || used+len(enc) > blockData {
		b = ix.newBlock(n)
		ix.tail = start(e.key, e.off)
		b.key = e.key
		b.head.Store(packHead(e.off, 0))
		used, enc = 0, ix.tail.append(buf[:0], e)
		n++
		ix.blocks.Store(n)
	}
	copy(b.data[used:], enc)
	b.head.Add(uint64(len(enc)))
	ix.tail.located = e
	ix.insert(hash(e.key), n-1)
}

// newBlock returns the zeroed block n, the first that is not in use.
func (ix *index) newBlock(n uint64) *block {
	if n%chunkBlocks == 0 {
		var all []*chunk
		if p := ix.chunks.Load(); p != nil {
			all = *p
		}
		// Readers of the old directory do not look behind its end.
		all = append(all, new(chunk))
		ix.chunks.Store(&all)
	}
	return ix.block(n)
}

func (ix *index) insert(h, block uint64) {
	s := &ix.segments[segmentOf(h)]
	t := s.table.Load()
	switch {
	case t == nil:
		t = newTable(0, block)
		s.table.Store(t)
	case (s.used+1)*loadDen > len(t.slots)*loadNum:
		t = ix.rebuild(s, segmentOf(h), max(len(t.slots)+len(t.slots)/4, ix.foreseen.slots))
	case block+1 >= 1<<t.bits:
		t = ix.rebuild(s, segmentOf(h), len(t.slots))
	}
	if t.insert(h, block) {
		s.used++
	}
}

// foresee tells how much larger the index will be when a walk is over. Tables
// made for that at once need not be made again and again, which costs more than
// all the rest of a walk. What lies ahead may be anything, so at most foreseenMost
// is believed: told again and again, the index grows by that factor. settle ends
// it.
func (ix *index) foresee(times float64) {
	times = min(times, foreseenMost)
	ix.foreseen.slots = int(roomFor(uint64(float64(ix.slots()) * times)))
	ix.foreseen.blocks = min(uint64(float64(ix.blocks.Load())*times), 1<<(maxBlockBits-1))
}

// settle makes tables smaller that were made for more than came.
func (ix *index) settle() {
	ix.foreseen.slots, ix.foreseen.blocks = 0, 0
	for i := range ix.segments {
		s := &ix.segments[i]
		fit := int(roomFor(uint64(s.used) * indexSegments))
		if t := s.table.Load(); t != nil && len(t.slots) > fit+fit/4 {
			ix.rebuild(s, uint64(i), fit)
		}
	}
}

// roomFor is how large the table of a segment should be for so many slots in
// all.
func roomFor(slots uint64) uint64 {
	// Hashing spreads 1,000 keys within a tenth and more of them better; one
	// eighth is left to grow.
	return min(slots/indexSegments*loadDen/loadNum*9/8+slots/indexSegments/16+64, 1<<31)
}

func newTable(slots int, block uint64) *table {
	// One bit more than needed: room to double before the next rebuild.
	need := min(max(bits.Len64(block+1)+1, minBlockBits), maxBlockBits)
	return &table{slots: make([]atomic.Uint32, max(8, slots)), bits: uint8(need)}
}

// rebuild replaces a segment's table. The keys come from the blocks that the
// old one leads to.
func (ix *index) rebuild(s *segment, number uint64, slots int) *table {
	old := s.table.Load()
	t := newTable(slots, max(ix.blocks.Load(), ix.foreseen.blocks))
	s.used = 0
	for i := range old.slots {
		v := old.slots[i].Load()
		if v == 0 {
			continue
		}
		block := uint64(v&(1<<old.bits-1)) - 1
		last := id.ID(0)
		for c := ix.block(block).cursor(); c.next(); last = c.key {
			if c.key == last {
				continue
			}
			if h := hash(c.key); segmentOf(h) == number && old.slot(h, block) == v && t.insert(h, block) {
				s.used++
			}
		}
	}
	s.table.Store(t)
	return t
}

// all yields every entry of the list in the order of the file, also those that
// a later tombstone hides.
func (ix *index) all() iter.Seq[located] {
	return func(yield func(located) bool) {
		for n := range ix.blocks.Load() {
			for c := ix.block(n).cursor(); c.next(); {
				if !yield(c.located) {
					return
				}
			}
		}
	}
}

// each calls fn for every needle that can be found, and for every tombstone
// with altTombstone, in the order of the file.
func (ix *index) each(fn func(key id.ID, alt uint8, p place) bool) {
	for e := range ix.all() {
		if e.alt != altTombstone {
			if last, found, _ := ix.get(e.key, e.alt); !found || last != e.place {
				continue
			}
		}
		if !fn(e.key, e.alt, e.place) {
			return
		}
	}
}

// slots is how many slots of the table are taken. The writer calls it.
func (ix *index) slots() (n uint64) {
	for i := range ix.segments {
		n += uint64(ix.segments[i].used)
	}
	return n
}

// adopt takes over a list that was loaded, n blocks of it in chunks, and the
// tables that b made for it. The index must be empty and have no readers yet.
func (ix *index) adopt(chunks []*chunk, n uint64, b *tableBuilder) {
	ix.chunks.Store(&chunks)
	ix.blocks.Store(n)
	if n == 0 {
		return
	}
	for ix.tail = ix.block(n - 1).cursor(); ix.tail.next(); {
	}
	if b.done() {
		for i := range ix.segments {
			ix.segments[i].table.Store(b.tables[i])
			ix.segments[i].used = int(b.used[i].Load())
		}
		return
	}
	// The keys are not spread as expected: let the segments grow.
	ix.eachKey(0, n, func(h, block uint64) { ix.insert(h, block) })
}

// eachKey calls fn for every key of every block in [from, to).
func (ix *index) eachKey(from, to uint64, fn func(h, block uint64)) {
	for n := from; n < to; n++ {
		last := id.ID(0)
		for c := ix.block(n).cursor(); c.next(); last = c.key {
			if c.key != last {
				fn(hash(c.key), n)
			}
		}
	}
}

// bytes is the memory the index holds.
func (ix *index) bytes() int64 {
	total := int64(unsafe.Sizeof(*ix))
	if p := ix.chunks.Load(); p != nil {
		total += int64(cap(*p))*int64(unsafe.Sizeof((*chunk)(nil))) + int64(len(*p))*int64(unsafe.Sizeof(chunk{}))
	}
	for n := range ix.segments {
		if t := ix.segments[n].table.Load(); t != nil {
			total += int64(unsafe.Sizeof(*t)) + 4*int64(len(t.slots))
		}
	}
	return total
}
