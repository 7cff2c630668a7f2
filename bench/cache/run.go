package cache

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"hayloft/bench"
)

// run is the state of Run.
type run struct {
	Options
	dir    string // of this run
	report *bench.Report
}

// Run measures and returns the report; also, as far as it came, when something
// failed.
func Run(ctx context.Context, o Options) (*bench.Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	dir, err := os.MkdirTemp(o.Dir, "hayloft-bench-cache-")
	if err != nil {
		return nil, fmt.Errorf("bench cache: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is named bench
	b := &run{Options: o, dir: dir, report: &bench.Report{
		Bench: "cache", When: time.Now().UTC(), Machine: bench.ThisMachine(dir), Settings: map[string]string{}, Ratios: map[string]float64{},
	}}
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{PartMiss, b.misses}, {PartHits, b.hits}, {PartWaiters, b.waiters}, {PartMemory, b.memory}} {
		if !slices.Contains(o.Parts, part.name) {
			continue
		}
		if err := part.do(ctx); err != nil {
			return b.report, fmt.Errorf("bench cache: %s: %w", part.name, err)
		}
	}
	return b.report, nil
}

func (b *run) add(r ...bench.Result) { b.report.Results = append(b.report.Results, r...) }
