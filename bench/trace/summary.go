package trace

import (
	"errors"
	"io"
	"slices"
	"time"
)

// Summary says what a trace is like.
type Summary struct {
	Requests     int64
	RequestBytes int64 // of all requests
	Objects      int64 // that were asked for
	ObjectBytes  int64 // of these, each once, with the size that it had first
	OneHit       float64
	TopPercent   float64 // share of the requests that goes to the most popular hundredth of the objects
	Time         time.Duration
	Sampled      int64 // what concerns objects is from one of so many of them; 1 is exact
}

// maxCounted is how many objects Summarize counts at most, some 200 MB of memory.
// Of larger traces it counts a half, a quarter … of the objects, chosen by their ids.
const maxCounted = 4 << 20

// Summarize reads a trace to its end.
func Summarize(s Source) (Summary, error) { return summarize(s, maxCounted) }

type counted struct {
	requests int64
	size     int64
}

func summarize(s Source, most int) (Summary, error) {
	var sum Summary
	objects := make(map[uint64]counted)
	mask := uint64(0)
	for {
		q, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return sum, err
		}
		sum.Requests++
		sum.RequestBytes += q.Size
		sum.Time = q.At
		if spread(q.ID)&mask != 0 {
			continue
		}
		o, known := objects[q.ID]
		if !known {
			o.size = q.Size
		}
		o.requests++
		objects[q.ID] = o
		for len(objects) > most {
			mask = mask<<1 | 1
			for id := range objects {
				if spread(id)&mask != 0 {
					delete(objects, id)
				}
			}
		}
	}
	sum.count(objects, int64(mask)+1)
	return sum, nil
}

// count fills in what concerns objects.
func (sum *Summary) count(objects map[uint64]counted, sampled int64) {
	sum.Sampled = sampled
	counts := make([]int64, 0, len(objects))
	var all, once, top int64
	for _, o := range objects {
		counts = append(counts, o.requests)
		all += o.requests
		sum.ObjectBytes += o.size * sampled
		if o.requests == 1 {
			once++
		}
	}
	sum.Objects = int64(len(objects)) * sampled
	if len(counts) == 0 {
		return
	}
	slices.Sort(counts)
	for _, n := range counts[len(counts)-(len(counts)+99)/100:] {
		top += n
	}
	sum.OneHit = float64(once) / float64(len(counts))
	sum.TopPercent = float64(top) / float64(all)
}

// spread makes ids that lie close together differ in all bits (the finalizer of
// SplitMix64, Steele et al. 2014).
func spread(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
