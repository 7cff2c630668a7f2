package ssd

import (
	"sync"
	"sync/atomic"

	"hayloft/internal/id"
	"hayloft/internal/spread"
)

// index says where each object lies, in 12 bytes and the room that an open hash
// table leaves empty: 15 to 19 bytes an object. It keeps hashes, not keys: what
// it says may be wrong, and the record tells.
type index struct {
	limit int64 // entries
	count atomic.Int64
	parts [256]part

	mu     sync.Mutex // guards all below; taken after that of a part, or alone
	hidden map[id.ID]bool
	many   bool // hidden would be too long: anything may be
}

// maxHidden bounds how many hidden blobs are remembered one by one.
const maxHidden = 1 << 16

// hide remembers that records of a blob may be on the device though the index does
// not lead to them any more: a restart would find them.
func (x *index) hide(blob id.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.many = x.many || len(x.hidden) == maxHidden; x.many {
		x.hidden = nil
		return
	}
	if x.hidden == nil {
		x.hidden = make(map[id.ID]bool)
	}
	x.hidden[blob] = true
}

// wasHidden reports whether records of a blob may be hidden, and forgets it.
func (x *index) wasHidden(blob id.ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	was := x.many || x.hidden[blob]
	delete(x.hidden, blob)
	return was
}

// part is the part of the index for one in 256 blobs: an open table with linear
// probing, in the order of the hashes but for collisions.
type part struct {
	mu    sync.Mutex
	slots []slot
	n     int
}

// slot is one object.
type slot struct {
	blob   uint32 // upper half of the blob's hash; the lowest byte chose the part
	tag    uint16 // of tagOf
	units  uint16 // 0: the slot is empty
	region uint16
	unit   uint16
}

const slotBytes = 12

func newIndex(limit int64) *index { return &index{limit: limit} }

func (x *index) part(blob id.ID) (*part, uint32) {
	h := spread.Mix(uint64(blob))
	return &x.parts[h&255], uint32(h >> 32)
}

// home is where a hash would lie if it were alone.
func (p *part) home(hash uint32) int { return int(uint64(hash) * uint64(len(p.slots)) >> 32) }

func (p *part) next(i int) int {
	if i++; i == len(p.slots) {
		return 0
	}
	return i
}

// at returns where the object is, or -1. Needs mu.
func (p *part) at(hash uint32, tag uint16) int {
	if p.n == 0 {
		return -1
	}
	for i := p.home(hash); p.slots[i].units != 0; i = p.next(i) {
		if p.slots[i].blob == hash && p.slots[i].tag == tag {
			return i
		}
	}
	return -1
}

// find returns the slot of an object.
func (x *index) find(blob id.ID, tag uint32) (slot, bool) {
	p, hash := x.part(blob)
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.at(hash, uint16(tag))
	if i < 0 {
		return slot{}, false
	}
	return p.slots[i], true
}

// put notes where an object is; false when the index is full.
func (x *index) put(region int, r row) bool {
	p, hash := x.part(r.blob)
	s := slot{hash, uint16(r.tag), r.units, uint16(region), r.unit}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.at(hash, s.tag); i >= 0 {
		p.slots[i] = s
		return true
	}
	if x.count.Load() >= x.limit {
		x.hide(r.blob)
		return false
	}
	if (p.n+1)*5 > len(p.slots)*4 {
		p.grow()
	}
	p.insert(s)
	x.count.Add(1)
	return true
}

// insert puts in s, for which there is room. Needs mu.
func (p *part) insert(s slot) {
	i := p.home(s.blob)
	for p.slots[i].units != 0 {
		i = p.next(i)
	}
	p.slots[i] = s
	p.n++
}

// grow makes the table a quarter larger: a small step, so that little of it is
// empty. Needs mu.
func (p *part) grow() {
	old := p.slots
	p.slots, p.n = make([]slot, max(8, len(old)+len(old)/4)), 0
	for _, s := range old {
		if s.units != 0 {
			p.insert(s)
		}
	}
}

// remove empties slot i and closes the gap. Needs mu.
func (p *part) remove(i int) {
	size := len(p.slots)
	for j := p.next(i); p.slots[j].units != 0; j = p.next(j) {
		// The one at j may move to the gap if its home is not between the two.
		if back, gap := (j-p.home(p.slots[j].blob)+size)%size, (j-i+size)%size; back >= gap {
			p.slots[i] = p.slots[j]
			i = j
		}
	}
	p.slots[i] = slot{}
	p.n--
}

// drop forgets an object if it is still where s says.
func (x *index) drop(blob id.ID, s slot) bool {
	p, hash := x.part(blob)
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.at(hash, s.tag)
	if i < 0 || p.slots[i] != s {
		return false
	}
	p.remove(i)
	x.count.Add(-1)
	x.hide(blob)
	return true
}

// purge forgets every object of a blob and returns how many there were.
func (x *index) purge(blob id.ID) (n int) {
	p, hash := x.part(blob)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == 0 {
		return 0
	}
	for i := p.home(hash); p.slots[i].units != 0; {
		if p.slots[i].blob != hash {
			i = p.next(i)
			continue
		}
		p.remove(i) // another may be at i now
		n++
	}
	x.count.Add(-int64(n))
	return n
}

// dropRegion forgets what lies in a region. It looks at every slot, a part at a
// time: a millisecond for each hundred thousand objects.
func (x *index) dropRegion(region int) {
	for k := range x.parts {
		p := &x.parts[k]
		p.mu.Lock()
		for i := 0; i < len(p.slots); {
			if s := p.slots[i]; s.units != 0 && int(s.region) == region {
				p.remove(i) // what moved to i is looked at next
				x.count.Add(-1)
				continue
			}
			i++
		}
		p.mu.Unlock()
	}
}

// bytes is the memory of the tables.
func (x *index) bytes() (n int64) {
	for k := range x.parts {
		p := &x.parts[k]
		p.mu.Lock()
		n += int64(len(p.slots)) * slotBytes
		p.mu.Unlock()
	}
	return n
}
