package histogram

import "time"

// Bucket is how many observations were above the bound of the bucket before it
// and at most Upper.
type Bucket[T ~int64] struct {
	Upper T // the largest T there is: no bound
	Count uint64
}

// Distribution is what was counted up to a moment.
type Distribution[T ~int64] struct {
	Count   uint64
	Sum     T
	Buckets []Bucket[T] // those that counted anything, upper bounds rising
}

// Snapshot is a Distribution of durations.
type Snapshot = Distribution[time.Duration]

// SizeSnapshot is a Distribution of numbers.
type SizeSnapshot = Distribution[int64]

// Quantile returns a bound that a share q of the observations, 0 to 1, does not
// pass: the upper bound of the bucket that the q-th one lies in. It is 0 without
// observations.
func (d Distribution[T]) Quantile(q float64) T {
	if d.Count == 0 {
		return 0
	}
	rank := q * float64(d.Count)
	var seen uint64
	for _, b := range d.Buckets {
		if seen += b.Count; float64(seen) >= rank {
			return b.Upper
		}
	}
	return d.Buckets[len(d.Buckets)-1].Upper
}

// AtMost is how many observations are known to be at most v: those of the
// buckets whose bound is not above it. It is exact where v is a bound, as every
// power of two times the unit is.
func (d Distribution[T]) AtMost(v T) uint64 {
	var n uint64
	for _, b := range d.Buckets {
		if b.Upper > v {
			break
		}
		n += b.Count
	}
	return n
}

// Plus returns the sum of both, as of the same step on two volumes.
func (d Distribution[T]) Plus(e Distribution[T]) Distribution[T] {
	sum := Distribution[T]{Count: d.Count + e.Count, Sum: d.Sum + e.Sum}
	a, b := d.Buckets, e.Buckets
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Upper < b[0].Upper:
			sum.Buckets = append(sum.Buckets, a[0])
			a = a[1:]
		case len(a) == 0 || b[0].Upper < a[0].Upper:
			sum.Buckets = append(sum.Buckets, b[0])
			b = b[1:]
		default:
			sum.Buckets = append(sum.Buckets, Bucket[T]{Upper: a[0].Upper, Count: a[0].Count + b[0].Count})
			a, b = a[1:], b[1:]
		}
	}
	return sum
}
