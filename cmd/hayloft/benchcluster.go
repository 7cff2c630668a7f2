package main

import (
	"crypto/rand"
	"fmt"
	"os"

	"hayloft/api"
	"hayloft/bench/cluster"

	"github.com/spf13/cobra"
)

func newBenchCluster() *cobra.Command {
	var o cluster.Options
	var out benchOutput
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Three nodes: what a second replica costs, and what a killed node does",
		Long: `Starts a single node and a cluster of three on this machine, with TLS between the
nodes, and compares the time of one writer's writes. Then it kills nodes under
readers and writers who try another node after an error, kills leaders, and
replaces a node by an empty one; in the end every acknowledged blob is read.

It makes a directory of its own in --dir and removes it afterwards.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o.Progress = func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), s) } //nolint:errcheck // progress is not worth an end
			if o.Dir == "" {
				o.Dir = os.TempDir()
			}
			if o.Binary, err = os.Executable(); err != nil {
				return err
			}
			var random [32]byte
			if _, err := rand.Read(random[:]); err != nil {
				return err
			}
			key, row := api.NewBlobKey("bench", random)
			o.Key, o.Setting = key, row.String()
			if err := o.Validate(); err != nil {
				return usageError{err}
			}
			report, err := cluster.Run(cmd.Context(), o)
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
	f.StringVar(&o.Dir, "dir", "", "where the nodes keep their data (default the temporary directory)")
	f.IntVar(&o.Rounds, "rounds", 0, "rounds of the comparison of writes (default 7)")
	f.IntVar(&o.Writes, "writes", 0, "writes in each round and on each side (default 150)")
	f.IntVar(&o.Kills, "kills", 0, "how often a node is killed under load, and how often the leader (default 3)")
	f.IntVar(&o.Blobs, "blobs", 0, "blobs stored before (default 2000)")
	f.BoolVar(&o.Keep, "keep", false, "leave data and logs of the nodes where they are")
	out.flags(f)
	return cmd
}
