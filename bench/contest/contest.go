package contest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hayloft/bench"
)

// Contest measures several ways to do a work, taking turns.
type Contest struct {
	Rounds int
	Slice  time.Duration
	Arms   []*Arm
}

// Arm is one way.
type Arm struct {
	Name    string
	Clients int
	// Start makes ready what one slice needs; that is not measured.
	Start func(ctx context.Context) (Job, error)

	Rates []float64     // one for each round: weight per second
	P50s  []float64     // seconds, one for each round
	CPUs  []float64     // seconds of processor per piece, one for each round
	All   bench.Latency // over all rounds
}

// Job is one slice's work.
type Job struct {
	// Limit ends the slice after so many calls of Do, if time does not.
	Limit int
	// Do is called by client (0 … clients-1) for the i-th piece. It returns
	// how much work that was.
	Do func(ctx context.Context, client, i int) (weight float64, err error)
	// Stop is called when all clients have ended; nil is nothing to do.
	Stop func() error
}

// Run measures every arm in every round. Errors of single pieces are counted;
// what Run returns made measuring impossible.
func (c *Contest) Run(ctx context.Context) error {
	for round := range c.Rounds {
		for i := range c.Arms {
			// Who begins changes, so that nobody always pays for the others.
			if err := c.Arms[(round+i)%len(c.Arms)].Measure(ctx, c.Slice); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Arm) Measure(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j, err := a.Start(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	before := cpuSeconds()
	rate, lat := a.spin(ctx, j, d)
	a.Rates = append(a.Rates, rate)
	a.P50s = append(a.P50s, lat.P50)
	a.CPUs = append(a.CPUs, (cpuSeconds()-before)/float64(max(1, lat.N)))
	if j.Stop != nil {
		err = j.Stop()
	}
	if err = errors.Join(ctx.Err(), err); err != nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	return nil
}

// spin lets the clients work until d has passed or the pieces are used up, and
// returns weight per second and the latencies of the pieces.
func (a *Arm) spin(ctx context.Context, j Job, d time.Duration) (rate float64, lat bench.Result) {
	var mu sync.Mutex // guards next and weight
	next, weight := 0, 0.0
	var here bench.Latency
	var wg sync.WaitGroup
	begin := time.Now()
	for client := range a.Clients {
		wg.Go(func() {
			mine := 0.0
			// One piece at least, or a busy machine's slice would tell nothing.
			for first := true; ctx.Err() == nil && (first || time.Since(begin) < d); first = false {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= j.Limit {
					break
				}
				t := time.Now()
				w, err := j.Do(ctx, client, i)
				took := time.Since(t)
				here.Add(took, err)
				a.All.Add(took, err)
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

// Results is what the arm reports: the median rate, the latencies of its
// pieces, which are closed-loop, and the time of this process's processors per
// piece, user and system. What kernel threads do for it is not in that.
func (a *Arm) Results(unit string, weightPerUnit float64) []bench.Result {
	lat := a.All.Result(a.Name+"_closed", 0.5)
	rate := bench.Result{Name: a.Name, Unit: unit, Value: Median(a.Rates) / weightPerUnit, N: lat.N, Errors: lat.Errors}
	lat.Errors = 0 // counted once
	cpu := bench.Result{Name: a.Name + "_cpu", Unit: "s", Value: Median(a.CPUs), N: lat.N}
	return []bench.Result{rate, lat, cpu}
}

// Ratio is the median over the rounds of x / y.
func Ratio(x, y []float64) float64 {
	var out []float64
	for i := range min(len(x), len(y)) {
		if y[i] > 0 {
			out = append(out, x[i]/y[i])
		}
	}
	return Median(out)
}

// Median of nothing is 0.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// Best is the arm with the largest median rate.
func Best(arms []*Arm) *Arm {
	return slices.MaxFunc(arms, func(a, b *Arm) int {
		switch x, y := Median(a.Rates), Median(b.Rates); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
}
