package ssd

import (
	"errors"
	"io"
	"testing"

	"hayloft/bench/trace"
	"hayloft/cache"
	"hayloft/cache/policy"
	"hayloft/internal/id"
)

// shelves is a device without a device: what was let in longest ago leaves, a 64th of
// the room at a time.
type shelves struct {
	region int64 // bytes
	there  map[uint64]bool
	sizes  []int64    // by region, from the one that leaves next
	ids    [][]uint64 // the same
}

func (s *shelves) put(object uint64, size int64) {
	n := len(s.ids)
	if n == 0 || s.sizes[n-1]+size > s.region {
		s.ids, s.sizes = append(s.ids, nil), append(s.sizes, 0)
		if n++; n > 64 {
			for _, old := range s.ids[0] {
				delete(s.there, old)
			}
			s.ids, s.sizes, n = s.ids[1:], s.sizes[1:], n-1
		}
	}
	s.ids[n-1], s.sizes[n-1] = append(s.ids[n-1], object), s.sizes[n-1]+size
	s.there[object] = true
}

// BenchmarkAdmission replays a generated trace through a memory for 1 % of its bytes and
// a device for 10 %, and says which share of the requests reaches the store, and how much
// is written for each byte that is served: without a device, with one that is given
// everything, and with one that is given what comes a second time.
func BenchmarkAdmission(b *testing.B) {
	g, err := trace.Generate(trace.Published, 4_000_000, 1)
	if err != nil {
		b.Fatal(err)
	}
	sum, err := trace.Summarize(g.Open())
	if err != nil {
		b.Fatal(err)
	}
	room := sum.ObjectBytes / 10
	for _, how := range []string{"none", "everything", "second"} {
		b.Run(how, func(b *testing.B) {
			for b.Loop() {
				memory := policy.NewReplay(policy.Default, sum.ObjectBytes/100)
				device := shelves{region: room / 64, there: map[uint64]bool{}}
				admit := newAdmission(Options{Size: room}.generation())
				var store, requests, written int64
				for src := g.Open(); ; requests++ {
					q, err := src.Next()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					if memory.Get(q.ID, q.Size) || device.there[q.ID] {
						continue
					}
					store++
					if how == "everything" || how == "second" && admit.again(cache.Key{Variant: "small", Blob: id.ID(q.ID), Cookie: 1, Ext: "jpg"}) {
						device.put(q.ID, q.Size)
						written += q.Size
					}
				}
				b.ReportMetric(float64(store)/float64(requests), "store/request")
				b.ReportMetric(float64(written)/float64(sum.RequestBytes), "written/served")
			}
		})
	}
}
