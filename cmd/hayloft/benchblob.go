package main

import (
	"crypto/rand"
	"os"
	"time"

	"hayloft/api"
	"hayloft/bench"
	"hayloft/internal/units"

	"github.com/spf13/cobra"
)

func newBenchBlob() *cobra.Command {
	o := bench.BlobOptions{}
	size := units.Size(64 << 10)
	var out benchOutput
	var dir string
	cmd := &cobra.Command{
		Use:   "blob",
		Short: "PUT, GET and DELETE of blobs over HTTP, on any Hayloft",
		Long: `Stores blobs with many clients, reads them at random, compares every byte, and
deletes them. With --url it measures that server, for which --key is a key of
scope blob (hayloft user blob-key); else a server of its own, with default
settings, in an empty directory that it removes afterwards.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Size = int(size)
			if o.Clients < 1 || o.Size < 1 || o.Size > maxPhotoBytes || o.Time <= 0 {
				return usagef("--clients, --size and --time: above 0, and a blob is at most %s", units.Size(maxPhotoBytes))
			}
			if (o.URL == "") != (o.Key == "") {
				return usagef("--url and --key go together")
			}
			if o.URL == "" {
				var random [32]byte
				if _, err := rand.Read(random[:]); err != nil {
					return err
				}
				key, row := api.NewBlobKey("bench", random)
				own, err := startOwnServer(cmd.Context(), dir, "--blob-keys", row.String())
				if err != nil {
					return err
				}
				defer own.stop()
				o.URL, o.Key, dir = own.url, key, own.dir
			}
			report, err := bench.Blob(cmd.Context(), o)
			if report == nil {
				return err
			}
			if dir == "" {
				dir = os.TempDir()
			}
			report.Machine = bench.ThisMachine(dir)
			if werr := out.write(cmd.OutOrStdout(), report); err == nil {
				err = werr
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.URL, "url", "", "server to measure (default one of its own)")
	f.StringVar(&o.Key, "key", "", "key of scope blob for that server")
	f.Var(&size, "size", "of each blob")
	f.IntVar(&o.Clients, "clients", 16, "clients at once")
	f.DurationVar(&o.Time, "time", 5*time.Second, "of each phase")
	f.StringVar(&dir, "dir", "", "where the server of its own keeps its data (default the temporary directory)")
	out.flags(f)
	return cmd
}
