package disk

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/bench"
)

const (
	// readShare of the raw throughput is the rate of open-loop reads.
	readShare = 0.3
	// openClients bounds how many open-loop reads are under way: far more than
	// the rate asks for.
	openClients = 64
)

// beside measures reads at a fixed rate while something else is done to the
// disk. The reads begin at random moments (Poisson), the same on both sides,
// and their latency counts from the moment they should have begun.
type beside struct {
	rate   float64 // reads per second
	rounds int

	sides [2]side // engine, raw
}

// side is the engine or the raw device.
type side struct {
	name string
	// reader makes one slice's reads ready.
	reader func() (job, error)
	// work makes one slice's other work ready. run does it and returns the
	// bytes; the slice of reads lasts as long as it does.
	work func(ctx context.Context) (backgroundJob, error)

	all  bench.Latency
	p99s []float64 // one for each round
	took []float64 // seconds the work took
	load []float64 // bytes of it per second
}

// backgroundJob is the other work of one slice.
type backgroundJob struct {
	run  func(ctx context.Context) (int64, error)
	stop func() error // nil is nothing to do
}

func (o *beside) run(ctx context.Context) error {
	for round := range o.rounds {
		for i := range o.sides {
			// Who begins changes, so that nobody always pays for the other.
			if err := o.measure(ctx, &o.sides[(round+i)%2], uint64(round)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *beside) measure(ctx context.Context, s *side, seed uint64) (err error) {
	reads, err := s.reader()
	if err != nil {
		return err
	}
	if reads.stop != nil {
		defer func() { err = errors.Join(err, reads.stop()) }()
	}
	work, err := s.work(ctx)
	if err != nil {
		return err
	}
	if work.stop != nil {
		defer func() { err = errors.Join(err, work.stop()) }()
	}
	var over atomic.Bool
	var wg sync.WaitGroup
	var workErr error
	wg.Go(func() {
		defer over.Store(true)
		begin := time.Now()
		var n int64
		n, workErr = work.run(ctx)
		took := time.Since(begin).Seconds()
		s.took, s.load = append(s.took, took), append(s.load, float64(n)/took)
	})
	here := o.reads(ctx, s, reads, seed, &over)
	wg.Wait()
	s.p99s = append(s.p99s, here.P99)
	return errors.Join(ctx.Err(), workErr)
}

// reads starts reads until over is set or all needles were read.
func (o *beside) reads(ctx context.Context, s *side, j job, seed uint64, over *atomic.Bool) bench.Result {
	var here bench.Latency
	var mu sync.Mutex // guards next, due and rng
	next, due := 0, 0.0
	rng := rand.New(rand.NewPCG(seed, 117))
	begin := time.Now()
	var wg sync.WaitGroup
	for c := range openClients {
		wg.Go(func() {
			for ctx.Err() == nil && !over.Load() {
				mu.Lock()
				i := next
				next++
				due += rng.ExpFloat64() / o.rate
				start := begin.Add(time.Duration(due * float64(time.Second)))
				mu.Unlock()
				if i >= j.limit {
					return
				}
				if !sleepUntil(ctx, start) {
					return
				}
				_, err := j.do(ctx, c, i)
				took := time.Since(start)
				here.Add(took, err)
				s.all.Add(took, err)
			}
		})
	}
	wg.Wait()
	return here.Result("", 0.99)
}

// sleepUntil waits, and reports false when ctx ended first.
func sleepUntil(ctx context.Context, t time.Time) bool {
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

// pacer spends a budget of bytes per second; what was not spent is lost.
type pacer struct {
	rate int64

	mu   sync.Mutex // guards next
	next time.Time
}

// wait is a volume's Throttle.
func (p *pacer) wait(ctx context.Context, n int64) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	at := p.next
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	p.mu.Unlock()
	if sleepUntil(ctx, at) {
		return nil
	}
	return ctx.Err()
}
