package volume

import "sync/atomic"

// tableBuilder makes the tables of an index whose list is loaded, at their
// final size. Inserting ten million keys in the order of the list would miss
// the processor's caches ten million times; so the slots to be taken are put by
// for each segment first and then written into one segment at a time, whose
// table fits into a cache. decision 117 has the numbers.
//
// Any number of goroutines feed it, each through a feeder of its own.
type tableBuilder struct {
	tables [indexSegments]*table
	used   [indexSegments]atomic.Int64
	full   atomic.Bool // some table has no room: none of them is of use
	put    int         // slots that a feeder puts by for a segment
}

// A feeder puts by as many slots as pay for going back to a table, but all
// feeders together not more than about an eighth of the slots.
const minPutBy, maxPutBy = 32, 2048

// newTableBuilder expects a list of n blocks that takes so many slots.
func newTableBuilder(n, slots uint64, feeders int) *tableBuilder {
	b := &tableBuilder{put: int(min(max(slots/indexSegments/8/uint64(feeders), minPutBy), maxPutBy))}
	for i := range b.tables {
		b.tables[i] = newTable(int(roomFor(slots)), n)
	}
	return b
}

// done tells whether every table holds what it was given, with room to grow.
// All feeders must have ended.
func (b *tableBuilder) done() bool {
	for i := range b.used {
		if b.used[i].Load()*loadDen > int64(len(b.tables[i].slots))*loadNum {
			return false
		}
	}
	return !b.full.Load()
}

// feeder is one goroutine's way into a tableBuilder.
type feeder struct {
	b     *tableBuilder
	putBy [indexSegments][]uint64 // home, and the slot in the lower 32 bits
}

func (b *tableBuilder) feeder() *feeder {
	f := &feeder{b: b}
	space := make([]uint64, indexSegments*b.put)
	for i := range f.putBy {
		f.putBy[i] = space[i*b.put : i*b.put : (i+1)*b.put]
	}
	return f
}

// add makes block reachable for keys with hash h, once end was called.
func (f *feeder) add(h, block uint64) {
	s := segmentOf(h)
	t := f.b.tables[s]
	f.putBy[s] = append(f.putBy[s], uint64(t.home(h))<<32|uint64(t.slot(h, block)))
	if len(f.putBy[s]) == cap(f.putBy[s]) {
		f.flush(s)
	}
}

func (f *feeder) end() {
	for s := range f.putBy {
		f.flush(uint64(s))
	}
}

// flush writes what was put by into the table of segment s.
func (f *feeder) flush(s uint64) {
	t, used := f.b.tables[s], &f.b.used[s]
	put := f.putBy[s]
	f.putBy[s] = put[:0]
	// Counted beforehand: a table without an empty slot would be searched for
	// ever.
	if used.Add(int64(len(put))) >= int64(len(t.slots)) {
		f.b.full.Store(true)
		return
	}
	for _, v := range put {
		if !t.occupy(int(v>>32), uint32(v)) {
			used.Add(-1)
		}
	}
}
