package cache

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"hayloft/bench/trace"
)

// Options say what Run measures.
type Options struct {
	Binary string // hayloft; not needed for PartMiss
	Dir    string // where servers keep their data
	// Trace is a file to replay, in Format; empty: a generated trace.
	Trace  string
	Format string // csv or oracle

	Requests int           // of the generated trace; 0: 4,000,000
	Seed     uint64        // of the generated trace; 0: 1
	Parts    []string      // of Parts; nil: all
	Rounds   int           // of hits, in each every server once for each size; 0: 5
	Slice    time.Duration // of each; 0: 1 s
	Photos   int           // of each size; 0: 100
	Waiters  int           // on one cold key; 0: 1,000
	Budget   int64         // bytes of the cache that a day is replayed through; 0: 1 GiB
	Day      int           // requests of that day; 0: 400,000
	Progress func(string)
}

// The parts of the benchmark.
const (
	PartMiss    = "miss"    // policies on a trace
	PartHits    = "hits"    // hits over HTTP beside other servers
	PartWaiters = "waiters" // many clients on one cold key
	PartMemory  = "memory"  // a day through the cache
)

// Parts are all of them.
func Parts() []string { return []string{PartMiss, PartHits, PartWaiters, PartMemory} }

// Validate lists every fault of o.
func (o Options) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("bench cache: "+format, args...))
		}
	}
	for _, p := range o.Parts {
		need(slices.Contains(Parts(), p), "there is no part %q", p)
	}
	need(o.Format == "" || o.Format == "csv" || o.Format == "oracle", "format %q is neither csv nor oracle", o.Format)
	need(o.Trace == "" || o.Format != "", "a trace needs its format")
	need(o.Requests >= 0 && o.Rounds >= 0 && o.Slice >= 0 && o.Photos >= 0 && o.Waiters >= 0 && o.Budget >= 0 && o.Day >= 0, "a number is negative")
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.Requests, 4_000_000}, {&o.Rounds, 5}, {&o.Photos, 100}, {&o.Waiters, 1000}, {&o.Day, 400_000}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Slice == 0 {
		o.Slice = time.Second
	}
	if o.Budget == 0 {
		o.Budget = 1 << 30
	}
	if o.Parts == nil {
		o.Parts = Parts()
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}

// model is that of generated traces.
var model = trace.Published
