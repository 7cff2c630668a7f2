package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"hayloft/bench/cache"
	"hayloft/internal/units"

	"github.com/spf13/cobra"
)

func newBenchCache() *cobra.Command {
	var o cache.Options
	var out benchOutput
	budget := units.Size(1 << 30)
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "The photo cache: policies on a trace, hits beside other servers, waiters, memory",
		Long: `Replays a trace through every policy and says what each misses (miss); measures
what a hit of 10, 64 and 200 KiB costs a server, beside a bare fasthttp handler,
and nginx, Varnish, memcached and Redis when they are installed (hits, needs wrk);
lets a thousand clients wait for one cold object (waiters); and watches the memory
of a cache over a day of requests (memory). --part chooses among these.

Without --trace the trace is generated. A CSV trace has lines time,id,size;
oracle is libCacheSim's oracleGeneral. Files whose name ends in .zst are unpacked.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o.Progress = func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), s) } //nolint:errcheck // progress is not worth an end
			if o.Dir == "" {
				o.Dir = os.TempDir()
			}
			if o.Binary, err = os.Executable(); err != nil {
				return err
			}
			o.Budget = int64(budget)
			if err := o.Validate(); err != nil {
				return usageError{err}
			}
			report, err := cache.Run(cmd.Context(), o)
			if report == nil {
				return err
			}
			if werr := out.write(cmd.OutOrStdout(), report); err == nil {
				err = werr
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Trace, "trace", "", "file to replay (default a generated trace)")
	f.StringVar(&o.Format, "format", "", "of the trace: csv or oracle")
	f.StringSliceVar(&o.Parts, "part", nil, "what to measure (default all): "+strings.Join(cache.Parts(), ", "))
	f.IntVar(&o.Requests, "requests", 0, "requests of the generated trace (default 4,000,000)")
	f.Uint64Var(&o.Seed, "seed", 0, "of the generated trace (default 1)")
	f.IntVar(&o.Rounds, "rounds", 0, "rounds of hits (default 5)")
	f.DurationVar(&o.Slice, "slice", 0, "time for each server and size in a round, whole seconds (default 1s)")
	f.IntVar(&o.Photos, "photos", 0, "photos of each size (default 100)")
	f.IntVar(&o.Waiters, "waiters", 0, "clients on one cold key (default 1,000)")
	f.Var(&budget, "memory", "budget of the cache that a day is replayed through")
	f.IntVar(&o.Day, "day", 0, "requests of that day (default 400,000)")
	f.StringVar(&o.Dir, "dir", "", "where servers keep their data (default the temporary directory)")
	out.flags(f)
	return cmd
}

// newBenchBytes is what bench cache compares hits with.
func newBenchBytes() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    "bench-bytes",
		Short:  "The files of a directory out of memory, for hayloft bench cache",
		Hidden: true,
		Args:   wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cache.ServeBytes(cmd.Context(), dir, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory")
	return cmd
}

// newBenchCacheNode is a cache alone, for bench cache.
func newBenchCacheNode() *cobra.Command {
	var o cache.NodeOptions
	memory := units.Size(256 << 20)
	cmd := &cobra.Command{
		Use:    "bench-cache-node",
		Short:  "A photo cache over an origin that makes objects up, for hayloft bench cache",
		Hidden: true,
		Args:   wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Budget, o.Out = int64(memory), cmd.OutOrStdout()
			return cache.ServeCache(cmd.Context(), o)
		},
	}
	cmd.Flags().Var(&memory, "memory", "budget of the cache")
	cmd.Flags().DurationVar(&o.Delay, "delay", time.Duration(0), "until the origin answers")
	return cmd
}
