package main

import (
	"fmt"

	"hayloft/bench/ec"
	"hayloft/volume/coding"

	"github.com/spf13/cobra"
)

func newBenchEC() *cobra.Command {
	var o ec.Options
	var out benchOutput
	var policies []string
	cmd := &cobra.Command{
		Use:   "ec",
		Short: "Coded volumes: coding, reads with and without all shards, rebuild, scrub",
		Long: `Measures what a coded volume takes on the disk, what coding one costs beside a
raw pass with the same reads and writes, what a needle costs out of shards beside
one out of a volume's file, and with its shard away beside k direct reads at once;
what making shards again reads, takes, and does to reads meanwhile; and whether
1,000 bits flipped at random are found and repaired. Sides take turns.

It makes a directory of its own in each --dir, needs up to 4 GiB in all and
removes everything afterwards. Several directories may lie on one disk: a server
with as many makes shards again at a higher rate.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), s) } //nolint:errcheck // progress is not worth an end
			for _, s := range policies {
				p, err := coding.ParsePolicy(s)
				if err != nil {
					return usagef("--ec: %v", err)
				}
				o.Policies = append(o.Policies, p)
			}
			if err := checkBench(cmd, o.Dirs, o.Validate, "rounds", "slice", "seed"); err != nil {
				return err
			}
			report, err := ec.Run(cmd.Context(), o)
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
	f.StringSliceVar(&o.Dirs, "dir", nil, "directories to measure in, which take the shards in turn")
	f.StringSliceVar(&policies, "ec", nil, "K+M: policies to measure (default 4+2,10+4)")
	f.BoolVar(&o.Quick, "quick", false, "a first look, within a minute")
	f.IntVar(&o.Rounds, "rounds", 0, "rounds of each comparison (default 5, quick 3)")
	f.DurationVar(&o.Slice, "slice", 0, "time for each side in a round (default 1s, quick 250ms)")
	f.Uint64Var(&o.Seed, "seed", 0, "which bits are flipped (default any)")
	out.flags(f)
	return cmd
}
