package contest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/bench"
)

// ReadShare of the raw throughput is the rate of open-loop reads.
const ReadShare = 0.3

// OpenClients bounds how many open-loop reads are under way: far more than
// the rate asks for.
const OpenClients = 64

// Beside measures reads at a fixed rate while something else is done to the
// disk. The reads begin at random moments (Poisson), the same on all sides,
// and their latency counts from the moment they should have begun.
type Beside struct {
	Rate   float64 // reads per second
	Rounds int

	Sides []*Side
}

// Side is one of what is compared: the engine or the raw device, say.
type Side struct {
	Name string
	// Reader makes one slice's reads ready.
	Reader func() (Job, error)
	// Work makes one slice's other work ready. Run does it and returns the
	// bytes; the slice of reads lasts as long as it does.
	Work func(ctx context.Context) (Background, error)

	All  bench.Latency
	P99s []float64 // one for each round
	Took []float64 // seconds the work took
	Load []float64 // bytes of it per second
}

// Background is the other work of one slice.
type Background struct {
	Run  func(ctx context.Context) (int64, error)
	Stop func() error // nil is nothing to do
}

// Run measures every side in every round.
func (o *Beside) Run(ctx context.Context) error {
	for round := range o.Rounds {
		for i := range o.Sides {
			// Who begins changes, so that nobody always pays for the others.
			if err := o.measure(ctx, o.Sides[(round+i)%len(o.Sides)], uint64(round)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Beside) measure(ctx context.Context, s *Side, seed uint64) (err error) {
	reads, err := s.Reader()
	if err != nil {
		return err
	}
	if reads.Stop != nil {
		defer func() { err = errors.Join(err, reads.Stop()) }()
	}
	work, err := s.Work(ctx)
	if err != nil {
		return err
	}
	if work.Stop != nil {
		defer func() { err = errors.Join(err, work.Stop()) }()
	}
	var over atomic.Bool
	var wg sync.WaitGroup
	var workErr error
	wg.Go(func() {
		defer over.Store(true)
		begin := time.Now()
		var n int64
		n, workErr = work.Run(ctx)
		took := time.Since(begin).Seconds()
		s.Took, s.Load = append(s.Took, took), append(s.Load, float64(n)/took)
	})
	here := o.reads(ctx, s, reads, seed, &over)
	wg.Wait()
	s.P99s = append(s.P99s, here.P99)
	return errors.Join(ctx.Err(), workErr)
}

// reads starts reads until over is set or all needles were read.
func (o *Beside) reads(ctx context.Context, s *Side, j Job, seed uint64, over *atomic.Bool) bench.Result {
	var here bench.Latency
	var mu sync.Mutex // guards next, due and rng
	next, due := 0, 0.0
	rng := rand.New(rand.NewPCG(seed, 117))
	begin := time.Now()
	var wg sync.WaitGroup
	for c := range OpenClients {
		wg.Go(func() {
			for ctx.Err() == nil && !over.Load() {
				mu.Lock()
				i := next
				next++
				due += rng.ExpFloat64() / o.Rate
				start := begin.Add(time.Duration(due * float64(time.Second)))
				mu.Unlock()
				if i >= j.Limit {
					return
				}
				if !SleepUntil(ctx, start) {
					return
				}
				_, err := j.Do(ctx, c, i)
				took := time.Since(start)
				here.Add(took, err)
				s.All.Add(took, err)
			}
		})
	}
	wg.Wait()
	return here.Result("", 0.99)
}

// SleepUntil waits, and reports false when ctx ended first.
func SleepUntil(ctx context.Context, t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
