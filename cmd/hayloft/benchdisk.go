package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"hayloft/bench/disk"

	"github.com/spf13/cobra"
)

func newBenchDisk() *cobra.Command {
	var o disk.Options
	var out benchOutput
	var methods bool
	cmd := &cobra.Command{
		Use:   "disk",
		Short: "The storage engine beside the raw disk: table 4 of the Haystack paper",
		Long: `Measures the storage engine and the raw device beside it, on a directory of
each disk: random reads of 64 KiB (A), of 8 and 64 KiB (B) and of 200 KiB,
single writes (C), writes in groups of 4 (D) and 16 (E), mixes of reads and
grouped writes (F, G), open-loop reads beside writes and beside a compaction,
restarts after a clean stop, after kill -9 and without a checkpoint, and the
memory of the index, open and sealed. Both sides get the same aligned lengths,
concurrency and bytes in flight, and take turns.

It makes a directory of its own in each --dir, needs up to 3 GiB there (4 GiB
with --full) and removes everything afterwards. As root it drops the machine's
caches before each restart.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), s) } //nolint:errcheck // progress is not worth an end
			if path, err := exec.LookPath("fio"); err == nil {
				o.Fio = func(ctx context.Context, args ...string) ([]byte, error) {
					return exec.CommandContext(ctx, path, args...).Output()
				}
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Writer = []string{self, "bench-writer"}
			if err := checkBench(cmd, o.Dirs, o.Validate, "needles", "sealed", "rounds", "slice"); err != nil {
				return err
			}
			run := disk.Run
			if methods {
				run = disk.Methods
			}
			report, err := run(cmd.Context(), o)
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
	f.StringSliceVar(&o.Dirs, "dir", nil, "directories to measure in, one per disk")
	f.BoolVar(&o.Quick, "quick", false, "a first look, within a minute")
	f.BoolVar(&o.Full, "full", false, "also the restart with ten million needles")
	f.IntVar(&o.Needles, "needles", 0, "needles of the restart (default 1,000,000, quick 100,000)")
	f.IntVar(&o.Sealed, "sealed", 0, "needles of each sealed volume whose index is measured (default 200,000, quick 40,000)")
	f.IntVar(&o.Rounds, "rounds", 0, "rounds of each comparison (default 5, quick 3)")
	f.DurationVar(&o.Slice, "slice", 0, "time for each side in a round (default 1s, quick 250ms)")
	f.BoolVar(&methods, "methods", false, "instead: ways to write durably and to read, without the engine")
	out.flags(f)
	return cmd
}

// newBenchWriter is the process that bench disk kills.
func newBenchWriter() *cobra.Command {
	var o disk.WriterOptions
	cmd := &cobra.Command{
		Use:    "bench-writer",
		Short:  "What hayloft bench disk kills",
		Hidden: true,
		Args:   wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			return disk.Writer(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "directory of the volume")
	cmd.Flags().IntVar(&o.From, "from", 0, "group to begin with")
	cmd.Flags().IntVar(&o.Size, "size", 0, "bytes of each needle")
	return cmd
}
