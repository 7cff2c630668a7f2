package timeline

import (
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// mergerName is stored by Pebble; a change of what merging means needs another
// name and another formatVersion.
const mergerName = "hayloft.timeline.1"

// newMerger returns the merge operator that joins timeline operands.
//
// The join of two runs has the larger floor and the union of their positions
// at or above it; when more than limit are left it keeps the newest limit, and
// the floor becomes the place just above the newest that it leaves out. It is associative, commutative and
// idempotent (codec_test.go), so Pebble may join operands in any grouping and
// a delivery that is repeated changes nothing.
func newMerger(limit int) *pebble.Merger {
	return &pebble.Merger{
		Name: mergerName,
		Merge: func(_, value []byte) (pebble.ValueMerger, error) {
			m := merges.Get().(*merge)
			m.limit = limit
			return m, decodeOperand(&m.run, value)
		},
	}
}

// merge collects operands and joins them once, at the end. A compaction joins those of
// every reader, so merges and their memory are used again.
type merge struct {
	run
	limit int
	out   []byte // what Finish has returned
}

// A compaction that merges without a pause keeps a processor for as long as the scheduler
// lets it, 10 ms, and the pages that wait for it with it. mergesInARow is some tenths of one.
const mergesInARow = 64

var merged atomic.Uint64

var merges = sync.Pool{New: func() any { return new(merge) }}

// MergeNewer implements pebble.ValueMerger. The join does not depend on order.
func (m *merge) MergeNewer(value []byte) error { return decodeOperand(&m.run, value) }

// MergeOlder implements pebble.ValueMerger.
func (m *merge) MergeOlder(value []byte) error { return decodeOperand(&m.run, value) }

// Finish implements pebble.ValueMerger. The value is valid until the closer is closed.
func (m *merge) Finish(bool) ([]byte, io.Closer, error) {
	if merged.Add(1)%mergesInARow == 0 {
		runtime.Gosched()
	}
	normalise(&m.run, m.limit)
	m.out = appendRun(m.out[:0], m.run)
	return m.out, m, nil
}

// Close implements io.Closer: m and its value are used no more.
func (m *merge) Close() error {
	*m = merge{run: run{pos: m.pos[:0]}, out: m.out[:0]}
	merges.Put(m)
	return nil
}

// normalise sorts r, removes what is double or below the floor, and trims it.
func normalise(r *run, limit int) {
	descending := func(a, b id.ID) int { return comparePos(b, a) }
	if !slices.IsSortedFunc(r.pos, descending) {
		slices.SortFunc(r.pos, descending)
	}
	r.pos = slices.Compact(r.pos)
	for len(r.pos) > 0 && r.pos[len(r.pos)-1] < r.floor {
		r.pos = r.pos[:len(r.pos)-1]
	}
	if len(r.pos) > limit {
		r.floor = r.pos[limit] + 1
		r.pos = r.pos[:limit]
	}
}

func comparePos(a, b id.ID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
