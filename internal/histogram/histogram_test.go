package histogram

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestEveryValueIsInTheBucketWhoseBoundsHoldIt(t *testing.T) {
	check := func(v int64) {
		t.Helper()
		i := bucketOf(uint64(v))
		if u := upper(i); v > u {
			t.Fatalf("%d is in bucket %d, which ends at %d", v, i, u)
		}
		if i > 0 && v <= upper(i-1) {
			t.Fatalf("%d is in bucket %d, but bucket %d ends at %d", v, i, i-1, upper(i-1))
		}
	}
	for v := int64(1); v <= 1<<16; v++ {
		check(v)
	}
	for bit := 16; bit < 63; bit++ {
		for _, d := range []int64{-1, 0, 1} {
			check(int64(1)<<bit + d)
		}
	}
	check(math.MaxInt64)
	if upper(bounded-1) != 1<<30 || upper(bounded) != none || bucketOf(1<<30+1) != bounded {
		t.Fatalf("the last bound is %d", upper(bounded-1))
	}
	for i := perDoubling + 1; i < bounded; i++ {
		if lo, hi := upper(i-1), upper(i); hi <= lo || float64(hi) > 1.25*float64(lo) {
			t.Fatalf("bucket %d reaches from %d to %d", i, lo, hi)
		}
	}
}

func TestDurations(t *testing.T) {
	var h Histogram
	if s := h.Snapshot(); s.Count != 0 || s.Quantile(0.5) != 0 || s.Buckets != nil {
		t.Fatalf("empty: %+v", s)
	}
	for _, d := range []time.Duration{-time.Second, 0, 1, 256, 257, time.Hour} {
		h.Observe(d)
	}
	want := Snapshot{
		Count: 6, Sum: time.Hour + 514,
		Buckets: []Bucket[time.Duration]{{256, 4}, {512, 1}, {math.MaxInt64, 1}},
	}
	if got := h.Snapshot(); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestSizes(t *testing.T) {
	var s Sizes
	for _, n := range []int64{-3, 0, 1, 2, 9, 10, 1 << 40} {
		s.Observe(n)
	}
	want := SizeSnapshot{
		Count: 7, Sum: 22 + 1<<40,
		Buckets: []Bucket[int64]{{1, 3}, {2, 1}, {10, 2}, {math.MaxInt64, 1}},
	}
	got := s.Snapshot()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for v, n := range map[int64]uint64{0: 0, 1: 3, 2: 4, 9: 4, 10: 6, math.MaxInt64: 7} {
		if got.AtMost(v) != n {
			t.Errorf("%d are at most %d, want %d", got.AtMost(v), v, n)
		}
	}
}

// TestQuantile compares with the sorted observations: never below the true
// quantile and at most a quarter and one unit above it.
func TestQuantile(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	var h Histogram
	all := make([]time.Duration, 10_000)
	for i := range all {
		all[i] = time.Duration(math.Exp(rng.Float64() * math.Log(float64(100*time.Second))))
		h.Observe(all[i])
	}
	slices.Sort(all)
	s := h.Snapshot()
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.9999, 1} {
		exact := all[max(0, int(math.Ceil(q*float64(len(all))))-1)]
		if got := s.Quantile(q); got < exact || float64(got) > 1.25*float64(exact)+unit {
			t.Errorf("seed %d: quantile %v is %v, the %v of the sorted", seed, q, got, exact)
		}
	}
}

func TestPlusIsAsIfBothHadBeenOne(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		var a, b, both Histogram
		for range rng.IntN(50) {
			d := time.Duration(rng.Int64N(1 << rng.IntN(40)))
			both.Observe(d)
			if rng.IntN(2) == 0 {
				a.Observe(d)
			} else {
				b.Observe(d)
			}
		}
		if got, want := a.Snapshot().Plus(b.Snapshot()), both.Snapshot(); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: got %+v, want %+v", seed, got, want)
		}
	}
}

func TestObserveFromManyGoroutinesLosesNothing(t *testing.T) {
	const goroutines, each = 8, 10_000
	var h Histogram
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				h.Observe(time.Duration(g*each + i))
			}
		})
	}
	wg.Wait()
	n := uint64(goroutines * each)
	if s := h.Snapshot(); s.Count != n || uint64(s.Sum) != n*(n-1)/2 {
		t.Fatalf("%d observations of %d in sum, want %d of %d", s.Count, s.Sum, n, n*(n-1)/2)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	var h Histogram
	var s Sizes
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Millisecond); s.Observe(1000) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	d := time.Duration(0)
	for b.Loop() {
		d = (d*5 + 977) & (1<<30 - 1)
		h.Observe(d)
	}
}
