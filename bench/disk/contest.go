package disk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hayloft/bench"
)

// contest measures several ways to do a work, taking turns.
type contest struct {
	rounds int
	slice  time.Duration
	arms   []*arm
}

// arm is one way.
type arm struct {
	name    string
	clients int
	// start makes ready what one slice needs; that is not measured.
	start func(ctx context.Context) (job, error)

	rates []float64     // one for each round: weight per second
	p50s  []float64     // seconds, one for each round
	cpus  []float64     // seconds of processor per piece, one for each round
	all   bench.Latency // over all rounds
}

// job is one slice's work.
type job struct {
	// limit ends the slice after so many calls of do, if time does not.
	limit int
	// do is called by client (0 … clients-1) for the i-th piece. It returns
	// how much work that was.
	do func(ctx context.Context, client, i int) (weight float64, err error)
	// stop is called when all clients have ended; nil is nothing to do.
	stop func() error
}

// run measures every arm in every round. Errors of single pieces are counted;
// what run returns made measuring impossible.
func (c *contest) run(ctx context.Context) error {
	for round := range c.rounds {
		for i := range c.arms {
			// Who begins changes, so that nobody always pays for the others.
			if err := c.arms[(round+i)%len(c.arms)].measure(ctx, c.slice); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *arm) measure(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j, err := a.start(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	before := cpuSeconds()
	rate, lat := a.spin(ctx, j, d)
	a.rates = append(a.rates, rate)
	a.p50s = append(a.p50s, lat.P50)
	a.cpus = append(a.cpus, (cpuSeconds()-before)/float64(max(1, lat.N)))
	if j.stop != nil {
		err = j.stop()
	}
	if err = errors.Join(ctx.Err(), err); err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	return nil
}

// spin lets the clients work until d has passed or the pieces are used up, and
// returns weight per second and the latencies of the pieces.
func (a *arm) spin(ctx context.Context, j job, d time.Duration) (rate float64, lat bench.Result) {
	var mu sync.Mutex // guards next and weight
	next, weight := 0, 0.0
	var here bench.Latency
	var wg sync.WaitGroup
	begin := time.Now()
	for client := range a.clients {
		wg.Go(func() {
			mine := 0.0
			for ctx.Err() == nil && time.Since(begin) < d {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= j.limit {
					break
				}
				t := time.Now()
				w, err := j.do(ctx, client, i)
				took := time.Since(t)
				here.Add(took, err)
				a.all.Add(took, err)
				if err == nil {
					mine += w
				}
			}
			mu.Lock()
			weight += mine
			mu.Unlock()
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	return weight / elapsed.Seconds(), here.Result("", 0.5)
}

// results is what the arm reports: the median rate, the latencies of its
// pieces, which are closed-loop, and the time of this process's processors per
// piece, user and system. What kernel threads do for it is not in that.
func (a *arm) results(unit string, weightPerUnit float64) []bench.Result {
	lat := a.all.Result(a.name+"_closed", 0.5)
	rate := bench.Result{Name: a.name, Unit: unit, Value: median(a.rates) / weightPerUnit, N: lat.N, Errors: lat.Errors}
	lat.Errors = 0 // counted once
	cpu := bench.Result{Name: a.name + "_cpu", Unit: "s", Value: median(a.cpus), N: lat.N}
	return []bench.Result{rate, lat, cpu}
}

// ratio is the median over the rounds of x / y.
func ratio(x, y []float64) float64 {
	var out []float64
	for i := range min(len(x), len(y)) {
		if y[i] > 0 {
			out = append(out, x[i]/y[i])
		}
	}
	return median(out)
}

// median of nothing is 0.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// best is the arm with the largest median rate.
func best(arms []*arm) *arm {
	return slices.MaxFunc(arms, func(a, b *arm) int {
		switch x, y := median(a.rates), median(b.rates); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
}
