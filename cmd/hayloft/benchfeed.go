package main

import (
	"fmt"
	"time"

	"hayloft/bench/feed"

	"github.com/spf13/cobra"
)

func newBenchFeed() *cobra.Command {
	var o feed.Options
	var out benchOutput
	var minutes float64
	cmd := &cobra.Command{
		Use:   "feed",
		Short: "Fan-out and pages of the feed, beside Redis sorted sets",
		Long: `Makes a world of readers whose timelines are full, has authors post in proportion
to their followers through the real feed, and measures deliveries, pages, and a
post that goes to everybody; then the same in a world ten times as large. Redis
(scripts/install redis-server) gets the same deliveries in the same run.

It makes a directory of its own in --dir, needs about 2 GB there and 2 GB of
memory, ten times that for the larger world, and removes everything afterwards.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), s) } //nolint:errcheck // progress is not worth an end
			o.Duration = time.Duration(minutes * float64(time.Minute))
			if err := o.Validate(); err != nil {
				return usageError{err}
			}
			report, err := feed.Run(cmd.Context(), o)
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
	f.StringVar(&o.Dir, "dir", "", "where the world is kept meanwhile (default the temporary directory)")
	f.Float64Var(&minutes, "minutes", 5, "time of the fan-out; the other parts take a share of it")
	f.IntVar(&o.Readers, "readers", 100_000, "readers, all of them active")
	f.IntVar(&o.Large, "large", 1_000_000, "readers of the larger world; 1 leaves it out")
	f.StringVar(&o.Graph, "graph", "", `file with an edge "a b" in each line instead of degrees after LinkBench; both follow each other`)
	f.IntVar(&o.Cap, "timeline-cap", 500, "entries in each timeline")
	f.StringVar(&o.Redis, "redis", "redis-server", "Redis server to compare with; none leaves it out")
	f.Uint64Var(&o.Seed, "seed", 1, "of everything random")
	out.flags(f)
	return cmd
}
