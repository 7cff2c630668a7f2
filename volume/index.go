package volume

import (
	"math/bits"
	"sync"
	"unsafe"

	"hayloft/internal/id"
)

// index finds records by (key, alt). It is a hash table without pointers, so
// the garbage collector does not look into it: 64 segments, each an array of
// 16-byte slots probed linearly. A segment grows by a quarter when it is 85 %
// full, so growing copies 1/64 of the table at a time and the load stays
// between 68 and 85 %: 19 to 24 bytes per needle.
//
// All alts of a key hash alike and lie in one run. A deleted key keeps one
// slot with altTombstone, which hides everything else under the key.
type index struct {
	segments [indexSegments]segment
}

const (
	indexSegments    = 64
	indexSegmentBits = 6
	altTombstone     = 255

	// A slot's place packs, from bit 0: size in 512-byte steps rounded up (19
	// bits), offset / 8 (37 bits), alt (8 bits).
	sizeUnit   = 512
	sizeBits   = 19
	offsetBits = 37
	// maxOffset is the end of the largest file the index can address: 1 TiB.
	maxOffset = int64(align) << offsetBits
)

type slot struct {
	key   id.ID // 0: empty
	place uint64
}

type segment struct {
	mu    sync.RWMutex // guards all below; the writer holds it for one change
	slots []slot
	used  int
}

// place is where a record lies. size is rounded up to a multiple of 512 and
// may reach past the record's end.
type place struct {
	off, size int64
}

// rounded is the size as the index keeps it.
func (p place) rounded() int64 { return (p.size + sizeUnit - 1) / sizeUnit * sizeUnit }

func packPlace(alt uint8, p place) uint64 {
	return uint64(alt)<<(offsetBits+sizeBits) | uint64(p.off/align)<<sizeBits | uint64((p.size+sizeUnit-1)/sizeUnit)
}

func (s slot) alt() uint8 { return uint8(s.place >> (offsetBits + sizeBits)) }

func (s slot) unpack() place {
	return place{
		off:  int64(s.place>>sizeBits&(1<<offsetBits-1)) * align,
		size: int64(s.place&(1<<sizeBits-1)) * sizeUnit,
	}
}

// hash mixes a key: ids of one volume differ in few bits (the finalizer of
// SplitMix64).
func hash(k id.ID) uint64 {
	x := uint64(k)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (ix *index) segment(key id.ID) (*segment, uint64) {
	h := hash(key)
	return &ix.segments[h>>(64-indexSegmentBits)], h << indexSegmentBits
}

// home maps a hash to the first slot to look at.
func home(h uint64, n int) int {
	hi, _ := bits.Mul64(h, uint64(n))
	return int(hi)
}

// get finds (key, alt). deleted tells that the key has a tombstone; then p is
// the tombstone's place.
func (ix *index) get(key id.ID, alt uint8) (p place, found, deleted bool) {
	s, h := ix.segment(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.slots) == 0 {
		return place{}, false, false
	}
	for i := home(h, len(s.slots)); s.slots[i].key != 0; i = s.next(i) {
		if s.slots[i].key != key {
			continue
		}
		switch s.slots[i].alt() {
		case altTombstone:
			return s.slots[i].unpack(), false, true
		case alt:
			p, found = s.slots[i].unpack(), true
		}
	}
	return p, found, false
}

// has tells whether any needle of key is there and the key is not deleted.
func (ix *index) has(key id.ID) bool {
	s, h := ix.segment(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.slots) == 0 {
		return false
	}
	found := false
	for i := home(h, len(s.slots)); s.slots[i].key != 0; i = s.next(i) {
		if s.slots[i].key == key {
			if s.slots[i].alt() == altTombstone {
				return false
			}
			found = true
		}
	}
	return found
}

func (s *segment) next(i int) int {
	if i++; i < len(s.slots) {
		return i
	}
	return 0
}

// put adds (key, alt), which must not be there.
func (ix *index) put(key id.ID, alt uint8, p place) {
	s, h := ix.segment(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insert(slot{key, packPlace(alt, p)}, h)
}

func (s *segment) insert(v slot, h uint64) {
	if (s.used+1)*100 > len(s.slots)*85 {
		s.grow()
	}
	i := home(h, len(s.slots))
	for s.slots[i].key != 0 {
		i = s.next(i)
	}
	s.slots[i] = v
	s.used++
}

func (s *segment) grow() {
	old := s.slots
	s.slots = make([]slot, max(8, len(old)+len(old)/4))
	for _, v := range old {
		if v.key == 0 {
			continue
		}
		i := home(hash(v.key)<<indexSegmentBits, len(s.slots))
		for s.slots[i].key != 0 {
			i = s.next(i)
		}
		s.slots[i] = v
	}
}

// remove replaces everything under key by its tombstone at p, and returns how
// many needles there were and the sum of their (rounded) sizes.
func (ix *index) remove(key id.ID, p place) (needles int, size int64) {
	s, h := ix.segment(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.slots) > 0 {
		for i := home(h, len(s.slots)); s.slots[i].key != 0; {
			if s.slots[i].key != key {
				i = s.next(i)
				continue
			}
			if s.slots[i].alt() != altTombstone {
				needles++
				size += s.slots[i].unpack().size
			}
			s.drop(i) // another slot may have moved to i
		}
	}
	s.insert(slot{key, packPlace(altTombstone, p)}, h)
	return needles, size
}

// drop empties slot i and closes the hole by moving later slots of the run
// back, so that no search ends early.
func (s *segment) drop(i int) {
	hole := i
	for j := s.next(i); s.slots[j].key != 0; j = s.next(j) {
		want := home(hash(s.slots[j].key)<<indexSegmentBits, len(s.slots))
		// j may move to the hole unless its home lies after the hole and not
		// after j, cyclically.
		if hole < j && (want <= hole || want > j) || hole > j && want <= hole && want > j {
			s.slots[hole] = s.slots[j]
			hole = j
		}
	}
	s.slots[hole] = slot{}
	s.used--
}

// each calls fn for a copy of every slot, one segment at a time.
func (ix *index) each(fn func(key id.ID, alt uint8, p place) bool) {
	for n := range ix.segments {
		s := &ix.segments[n]
		s.mu.RLock()
		slots := append([]slot(nil), s.slots...)
		s.mu.RUnlock()
		for _, v := range slots {
			if v.key != 0 && !fn(v.key, v.alt(), v.unpack()) {
				return
			}
		}
	}
}

// bytes is the memory the table holds.
func (ix *index) bytes() int64 {
	total := int64(unsafe.Sizeof(*ix))
	for n := range ix.segments {
		s := &ix.segments[n]
		s.mu.RLock()
		total += int64(len(s.slots)) * int64(unsafe.Sizeof(slot{}))
		s.mu.RUnlock()
	}
	return total
}
