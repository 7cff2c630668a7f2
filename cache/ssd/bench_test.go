package ssd

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"hayloft/cache"
	"hayloft/internal/id"
)

// benchTier fills a tier on a disk of this machine with objects of 64 KiB, and opens it
// again.
func benchTier(b *testing.B, objects int) (t *Tier, restart time.Duration) {
	b.Helper()
	o := Options{Dir: b.TempDir(), Size: 1 << 30, Rate: 1 << 40, QueueBytes: 64 << 20, ReadTimeout: 10 * time.Second, everything: true} // others may use the disk
	data := make([]byte, 64<<10)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	open := func(ready int64) *Tier {
		t, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		for !t.Stats().Up || t.Stats().Objects < ready {
			<-time.After(100 * time.Microsecond)
		}
		return t
	}
	t = open(0)
	for i := range objects {
		k := keyOf(id.ID(i+1), "medium")
		for t.Stats().Admitted <= uint64(i) {
			t.Offer(k, cache.Object{Data: data, ContentType: "image/jpeg", ETag: "0123456789abcdef"})
		}
	}
	if err := t.Close(); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	return open(int64(objects)), time.Since(began)
}

// BenchmarkGet reads objects of 64 KiB from the disk under the directory of temporary
// files, past the page cache where that goes, 1 and 16 at a time.
func BenchmarkGet(b *testing.B) {
	const objects = 8000
	t, restart := benchTier(b, objects)
	defer t.Close()
	s := t.Stats()
	for _, readers := range []int{1, 16} {
		b.Run(map[int]string{1: "1", 16: "16"}[readers], func(b *testing.B) {
			b.SetBytes(64 << 10)
			b.SetParallelism(max(1, readers/2))
			get := func() {
				o, ok := t.Get(context.Background(), keyOf(id.ID(rand.IntN(objects)+1), "medium"))
				if !ok {
					b.Errorf("a miss: %+v", t.Stats())
					return
				}
				o.Release()
			}
			if readers == 1 {
				for b.Loop() {
					get()
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						get()
					}
				})
			}
			b.ReportMetric(restart.Seconds()*1000, "restart-ms")
			b.ReportMetric(float64(s.IndexBytes)/float64(s.Objects), "index-B/object")
		})
	}
}
