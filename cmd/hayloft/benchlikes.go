package main

import (
	"fmt"

	"hayloft/bench/likes"

	"github.com/spf13/cobra"
)

func newBenchLikes() *cobra.Command {
	var o likes.Options
	var out benchOutput
	cmd := &cobra.Command{
		Use:   "likes",
		Short: "Many people who like one photo at the same time",
		Long: `Has --rate people a second like one photo, each once, through the real feed with a
synced log, measures how long a like takes, and counts afterwards: the photo's counter
must be exact and hayloft feed reconcile would find nothing wrong, or exit code 1.

It makes a directory of its own in --dir and removes it afterwards.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), s) } //nolint:errcheck // progress is not worth an end
			if err := o.Validate(); err != nil {
				return usageError{err}
			}
			report, err := likes.Run(cmd.Context(), o)
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
	f.StringVar(&o.Dir, "dir", "", "where the feed is kept meanwhile (default the temporary directory)")
	f.IntVar(&o.Rate, "rate", 3000, "likes per second")
	f.DurationVar(&o.Duration, "for", 0, "how long (default 1m)")
	out.flags(f)
	return cmd
}
