package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"hayloft/bench"
	"hayloft/testdata/photos"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure this machine and this server", Args: wantArgs(0, 0, "one of its commands")}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(newBenchPhoto())
	cmd.AddCommand(newBenchDisk())
	cmd.AddCommand(newBenchEC())
	cmd.AddCommand(newBenchCluster())
	cmd.AddCommand(newBenchBlob())
	cmd.AddCommand(newBenchFeed())
	cmd.AddCommand(newBenchLikes())
	cmd.AddCommand(newBenchCache())
	cmd.AddCommand(newBenchCompare())
	return cmd
}

// benchOutput is where a benchmark's report goes besides the terminal.
type benchOutput struct{ json, dir string }

func (o *benchOutput) flags(f *pflag.FlagSet) {
	f.StringVar(&o.json, "json", "", "write the report to this file as JSON")
	f.StringVar(&o.dir, "report", "", "write Markdown, CSV and SVG to this directory")
}

// write writes a report everywhere it is wanted. Failed pieces in it are an error.
func (o *benchOutput) write(w io.Writer, r *bench.Report) error {
	err := r.WriteMarkdown(w)
	if o.json != "" {
		err = errors.Join(err, r.WriteJSON(o.json))
	}
	if o.dir != "" {
		err = errors.Join(err, r.WriteDir(o.dir))
	}
	if n := r.Errors(); err == nil && n > 0 {
		err = fmt.Errorf("%d reads, writes or checks failed", n)
	}
	return err
}

// checkBench refuses wrong usage of a benchmark of disks. A number that was given
// means what it says: 0 is a default only when nothing was given.
func checkBench(cmd *cobra.Command, dirs []string, validate func() error, numbers ...string) error {
	if len(dirs) == 0 {
		return usagef("name the directory to measure in: --dir DIR")
	}
	for _, name := range numbers {
		f := cmd.Flags().Lookup(name)
		if v := f.Value.String(); f.Changed && (v == "0" || v == "0s" || v[0] == '-') {
			return usagef("--%s: more than 0", name)
		}
	}
	if err := validate(); err != nil {
		return usageError{err}
	}
	return nil
}

func newBenchPhoto() *cobra.Command {
	var o bench.PhotoOptions
	var out benchOutput
	var dir, images string
	cmd := &cobra.Command{
		Use:   "photo",
		Short: "The whole road over HTTP: upload, ready, feed, variants",
		Long: `Uploads photographs with many clients, waits until each is ready, reads the
follower's feed and every variant, and checks that nothing was lost. Without
--url it starts a server of its own, with default settings, in an empty
directory that it removes afterwards.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Images, err = benchImages(images); err != nil {
				return err
			}
			if o.URL == "" {
				own, err := startOwnServer(cmd.Context(), dir)
				if err != nil {
					return err
				}
				defer own.stop()
				o.URL, dir = own.url, own.dir
			}
			report, err := bench.Photo(cmd.Context(), o)
			if report == nil {
				return err
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
	f.IntVar(&o.Photos, "photos", 200, "uploads in each phase")
	f.IntVar(&o.Clients, "clients", 16, "uploads at once")
	f.Float64Var(&o.Rate, "rate", 4, "uploads per second in the open-loop phase; 0 leaves it out")
	f.StringVar(&images, "images", "", "directory of JPEGs to upload (default the dozen of the demo)")
	f.StringVar(&dir, "dir", "", "where the server of its own keeps its data (default the temporary directory)")
	out.flags(f)
	return cmd
}

// benchImages reads the JPEGs of a directory, or takes the demo's.
func benchImages(dir string) ([]bench.Image, error) {
	var out []bench.Image
	if dir == "" {
		for _, p := range photos.All() {
			out = append(out, bench.Image{Name: p.Name, Data: p.Data})
		}
		return out, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		if e.IsDir() || ext != ".jpg" && ext != ".jpeg" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, bench.Image{Name: e.Name(), Data: data})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no .jpg files", dir)
	}
	return out, nil
}
