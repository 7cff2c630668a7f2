package bench

import (
	"context"
	"sync"
	"time"
)

// openLoop runs do(i, start) for i in [0, n), request i at the intended time
// start = begin + i/rate, on at most clients goroutines. When all are busy the
// request waits, and its start stays the intended one, so that the wait counts.
// Rate 0 starts each request as soon as a client is free.
func openLoop(ctx context.Context, n, clients int, rate float64, do func(i int, start time.Time)) {
	type slot struct {
		i     int
		start time.Time
	}
	work := make(chan slot, n)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for s := range work {
				if rate == 0 {
					s.start = time.Now()
				}
				do(s.i, s.start)
			}
		})
	}
	begin := time.Now()
	for i := range n {
		s := slot{i: i}
		if rate > 0 {
			s.start = begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
			select {
			case <-time.After(time.Until(s.start)):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
		work <- s
	}
	close(work)
	wg.Wait()
}
