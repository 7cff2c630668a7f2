package histogram

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	perDoubling = 4                    // buckets to a doubling; bucketOf's shifts are made for 4
	bounded     = perDoubling * 29     // buckets with an upper bound: of 1 to 2^30 units
	unit        = 256                  // nanoseconds: the unit of a Histogram
	unitBits    = 8                    // unit is 1 << unitBits
	none        = int64(math.MaxInt64) // the upper bound of the last bucket
)

// bucketOf is the bucket of v units, v at least 1: the first whose upper bound
// is not below v.
func bucketOf(v uint64) int {
	w := v - 1 // bounds belong to the bucket below them
	if w < perDoubling {
		return int(w)
	}
	e := bits.Len64(w) - 3
	i := perDoubling*(e+1) + int(w>>e)&(perDoubling-1)
	return min(i, bounded)
}

// upper is the largest number of units that bucket i counts.
func upper(i int) int64 {
	switch {
	case i >= bounded:
		return none
	case i < perDoubling:
		return int64(i) + 1
	}
	return int64(perDoubling+i%perDoubling+1) << (i/perDoubling - 1)
}

// cells are the counters of either kind. The number of observations is the sum
// of the buckets, so that it costs nothing to keep.
type cells struct {
	buckets [bounded + 1]atomic.Uint64
	sum     atomic.Int64
}

func snapshot[T ~int64](c *cells, unit int64) Distribution[T] {
	d := Distribution[T]{Sum: T(c.sum.Load())}
	for i := range c.buckets {
		n := c.buckets[i].Load()
		if n == 0 {
			continue
		}
		u := upper(i)
		if u != none {
			u *= unit
		}
		d.Count += n
		d.Buckets = append(d.Buckets, Bucket[T]{Upper: T(u), Count: n})
	}
	return d
}

// Histogram counts durations. Its zero value is ready; it must not be copied.
type Histogram struct{ cells cells }

// Observe counts d. One that is negative, as a clock that runs backward gives
// it, counts as 0.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	h.cells.buckets[bucketOf(max(1, (uint64(d)+unit-1)>>unitBits))].Add(1)
	h.cells.sum.Add(int64(d))
}

// Snapshot returns what was counted so far.
func (h *Histogram) Snapshot() Snapshot { return snapshot[time.Duration](&h.cells, unit) }

// Sizes counts numbers, as of bytes or records. Its zero value is ready; it must
// not be copied.
type Sizes struct{ cells cells }

// Observe counts n. A number below 1 is counted in the bucket of 1.
func (s *Sizes) Observe(n int64) {
	s.cells.buckets[bucketOf(uint64(max(n, 1)))].Add(1)
	s.cells.sum.Add(max(n, 0))
}

// Snapshot returns what was counted so far.
func (s *Sizes) Snapshot() SizeSnapshot { return snapshot[int64](&s.cells, 1) }
