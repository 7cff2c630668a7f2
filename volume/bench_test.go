package volume

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"hayloft/internal/id"
)

// Benchmarks run on the file system of the temporary directory: set TMPDIR to
// the disk you mean.

func benchVolume(b *testing.B) *Volume {
	b.Helper()
	v, err := Create(b.TempDir(), testIdent, Options{MaxBytes: 64 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closeVolume(b, v) })
	return v
}

// BenchmarkAppend stores synced needles from 1 or 16 writers.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{64 << 10, 200 << 10} {
		for _, writers := range []int{1, 16} {
			b.Run(fmt.Sprintf("%dKiB/w%d", size>>10, writers), func(b *testing.B) {
				v := benchVolume(b)
				data := testNeedle(1, 0, size).Data
				b.SetBytes(int64(size))
				b.SetParallelism((writers + 1) / 2)
				var next atomic.Uint64
				put := func() {
					n := Needle{Key: id.ID(next.Add(1)), Cookie: 1, Data: data}
					if err := v.Append(bg, []Needle{n}); err != nil {
						b.Error(err)
					}
				}
				b.ResetTimer()
				if writers == 1 {
					for range b.N {
						put()
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							put()
						}
					})
				}
				b.StopTimer()
				s := v.Stats()
				b.ReportMetric(float64(s.Appended)/float64(max(1, s.Syncs)), "needles/sync")
				steps := v.Steps()
				b.ReportMetric(float64(steps.Write.Sum+steps.Sync.Sum)/float64(b.Elapsed()), "busy") // the device, of the time
				b.ReportMetric(float64(steps.Assemble.Sum)/float64(max(1, s.Batches)), "assemble-ns/batch")
			})
		}
	}
}

// BenchmarkBatch puts batches together: what the processor does for one, apart
// from the check sums of the data, which the callers make.
func BenchmarkBatch(b *testing.B) {
	for _, c := range []struct{ needles, size int }{{1, 8 << 10}, {8, 64 << 10}, {8, 200 << 10}} {
		b.Run(fmt.Sprintf("%dx%dKiB", c.needles, c.size>>10), func(b *testing.B) {
			s := newSeal(testSuperblock())
			n := testNeedle(1, 0, c.size)
			h, meta := newNeedle(&n)
			var x batch
			b.ReportAllocs()
			b.SetBytes(int64(c.needles * c.size))
			for b.Loop() {
				x.begin(dataStart, 0)
				for range c.needles {
					x.add(&s, h, meta, n.Data, false)
				}
				x.pad(&s, pageSize)
				x.release()
			}
		})
	}
}

// BenchmarkRead reads needles that the page cache holds.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{8 << 10, 64 << 10, 200 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			v := benchVolume(b)
			const n = 200
			for key := id.ID(1); key <= n; key++ {
				mustAppend(b, v, Needle{Key: key, Cookie: 1, Data: testNeedle(key, 0, size).Data})
			}
			b.SetBytes(int64(size))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := v.Read(bg, id.ID(1+rand.Uint64N(n)), 0, 1); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkOpen is a restart: identity, recovery and index of 2,000 needles.
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{16 << 10, 200 << 10} {
		b.Run(fmt.Sprintf("2000x%dKiB", size>>10), func(b *testing.B) {
			dir := b.TempDir()
			v, err := Create(dir, testIdent, Options{})
			if err != nil {
				b.Fatal(err)
			}
			group := make([]Needle, 20)
			for key := id.ID(1); key <= 2000; {
				for i := range group {
					group[i] = Needle{Key: key, Cookie: 1, Data: make([]byte, size)}
					key++
				}
				mustAppend(b, v, group...)
			}
			closeVolume(b, v)
			for b.Loop() {
				v, err := Open(dir, testIdent.Volume, Options{})
				if err != nil {
					b.Fatal(err)
				}
				closeVolume(b, v)
			}
		})
	}
}
