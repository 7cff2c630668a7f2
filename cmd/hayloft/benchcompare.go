package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"hayloft/bench"
	"hayloft/bench/cache"
	"hayloft/bench/compare"
	"hayloft/bench/feed"

	"github.com/spf13/cobra"
)

func newBenchCompare() *cobra.Command {
	var dir string
	var quick bool
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "One table beside nginx, Varnish, memcached and Redis, as far as they are installed",
		Long: `The hits of bench cache and the deliveries of bench feed, in one table: so many
per second, and for hits the processor time that the server took for each. What
is not installed has no row (make compare installs everything).`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			progress := func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), s) } //nolint:errcheck // progress is not worth an end
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			if dir == "" {
				dir = os.TempDir()
			}
			hits := cache.Options{Binary: binary, Dir: dir, Parts: []string{cache.PartHits}, Progress: progress}
			deliveries := feed.Options{Dir: dir, Duration: time.Minute, Readers: 20_000, Large: 1, Progress: progress}
			if quick {
				hits.Rounds, hits.Photos = 1, 20
				deliveries.Duration, deliveries.Readers = 5*time.Second, 2000
			}
			ofCache, err := cache.Run(cmd.Context(), hits)
			if err != nil && ofCache == nil {
				return err
			}
			ofFeed, ferr := feed.Run(cmd.Context(), deliveries)
			return errors.Join(err, ferr, writeCompare(cmd.OutOrStdout(), ofCache, ofFeed))
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "where servers keep their data (default the temporary directory)")
	f.BoolVar(&quick, "quick", false, "less of everything, in half a minute")
	return cmd
}

// writeCompare writes the table, and below it how it was measured. A report that is
// there has failed pieces, or none.
func writeCompare(w io.Writer, reports ...*bench.Report) error {
	var errs []error
	var known []*bench.Report
	for _, r := range reports {
		if r == nil {
			continue
		}
		known = append(known, r)
		if n := r.Errors(); n > 0 {
			errs = append(errs, fmt.Errorf("bench %s: %d reads, writes or checks failed", r.Bench, n))
		}
	}
	if len(known) > 0 {
		errs = append(errs, compare.Write(w, known...))
		_, err := fmt.Fprintf(w, "\n%s\n\n", known[0].Machine)
		errs = append(errs, err)
	}
	for _, r := range known {
		for _, k := range slices.Sorted(maps.Keys(r.Settings)) {
			_, err := fmt.Fprintf(w, "* %s, %s: %s\n", r.Bench, k, r.Settings[k])
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
