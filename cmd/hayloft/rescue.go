package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hayloft/volume"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

// lostName is the list of what a rescue knows and could not get.
const lostName = "lost.jsonl"

func newRescue() *cobra.Command {
	var data []string
	var o tools.RescueOptions
	r := &rescue{}
	cmd := &cobra.Command{
		Use:   "rescue --data DIR[,DIR...] -o DIR",
		Short: "Get every original out of what is left of data directories",
		Long: `Reads volume files and the shards of coded volumes in the data directories, and
nothing else: no server, no directory of volumes, no accounts are needed. Disks
may be missing, files damaged, and several generations and epochs may lie side by
side: each original that is whole anywhere, or can be computed, is written once to
originals/OWNER/TIME-PHOTO-BLOB.jpg, with manifest.jsonl and SHA256SUMS as by
hayloft volume export. Nothing in the data directories is changed.

What was deleted is left out, unless --deleted is given. What could not be had is
named on standard error, needle by needle in lost.jsonl, and makes the exit code 1.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(data) == 0 {
				return usagef("name what is left of the data directories: --data DIR[,DIR...]")
			}
			if r.dir == "" {
				return usagef("name the directory to write: -o DIR")
			}
			return r.run(cmd, data, o)
		},
	}
	cmd.Flags().StringSliceVar(&data, "data", nil, "data directories, one for each disk that is left")
	cmd.Flags().StringVarP(&r.dir, "output", "o", "", "directory to write; must be new or empty")
	cmd.Flags().BoolVar(&o.All, "all", false, "also write variants, which a server makes again from the originals")
	cmd.Flags().BoolVar(&o.Deleted, "deleted", false, "also write what was deleted")
	cmd.Flags().BoolVar(&r.asJSON, "json", false, "print what became of each volume as JSON")
	return cmd
}

// rescue is one run of the command.
type rescue struct {
	exporter
	asJSON   bool
	problems []string
	lost     *os.File // nil as long as nothing is lost
	lostTo   *bufio.Writer
}

// rescueSummary is what --json prints.
type rescueSummary struct {
	Output   string                `json:"output"`
	Needles  int64                 `json:"needles"`
	Bytes    int64                 `json:"bytes"`
	Lost     int64                 `json:"lost"`     // needles that are known and whole nowhere
	Absent   []volume.ID           `json:"absent"`   // numbers of volumes without any file
	Problems []string              `json:"problems"` // all of them
	Volumes  []tools.RescuedVolume `json:"volumes"`
}

func (r *rescue) run(cmd *cobra.Command, data []string, o tools.RescueOptions) error {
	from, err := tools.OpenRescue(data, o)
	if err != nil {
		return err
	}
	for _, d := range data {
		if within(r.dir, d) {
			return fmt.Errorf("%s lies in %s, in which nothing is changed", r.dir, d)
		}
	}
	if err := from.Claim(); err != nil {
		return errors.Join(err, from.Close())
	}
	r.notes = cmd.ErrOrStderr()
	sum := rescueSummary{Output: r.dir, Problems: []string{}, Absent: []volume.ID{}}
	p := startProgress(cmd, func() string {
		now, done, total := from.Progress()
		return fmt.Sprintf("%d of %d volumes, volume %d: %d needles, %s written", done, total, now, r.needles.Load(), roughly(r.bytes.Load()))
	})
	err = r.exporter.run(func(s tools.ExportSink) error {
		rows, absent, err := from.Run(cmd.Context(), tools.RescueSink{ExportSink: tools.ExportSink{Needle: s.Needle, Damaged: r.problem}, Lost: r.miss})
		sum.Volumes = rows
		sum.Absent = append(sum.Absent, absent...)
		return errors.Join(err, r.closeLost())
	})
	p.end()
	if err = errors.Join(err, from.Close()); err != nil {
		return err
	}
	return r.tell(cmd, sum)
}

// tell prints what was done. Its error says that something is missing.
func (r *rescue) tell(cmd *cobra.Command, sum rescueSummary) error {
	deleted := int64(0)
	for _, v := range sum.Volumes {
		sum.Lost += v.Lost
		deleted += v.Deleted
	}
	sum.Needles, sum.Bytes = r.needles.Load(), r.bytes.Load()
	for _, text := range r.problems {
		fmt.Fprintln(r.notes, text)
	}
	if len(sum.Absent) > 0 {
		fmt.Fprintf(r.notes, "hayloft: there is no file of %s: never used, or on a disk that was not named\n", numbers(sum.Absent))
	}
	sum.Problems = append(sum.Problems, r.problems...)
	if r.asJSON {
		if err := printJSON(cmd.OutOrStdout(), sum); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "rescued %d needles, %s, of %d volumes, to %s\n", sum.Needles, roughly(sum.Bytes), len(sum.Volumes), r.dir)
		if deleted > 0 {
			fmt.Fprintf(cmd.OutOrStdout(), "%d needles had been deleted\n", deleted)
		}
	}
	switch {
	case sum.Lost > 0:
		return fmt.Errorf("%d needles could not be rescued: see %s", sum.Lost, filepath.Join(r.dir, lostName))
	case r.damaged+len(r.problems) > 0:
		return errors.New("what could be rescued is not certainly everything")
	}
	return nil
}

// problem keeps what the end says.
func (r *rescue) problem(text string) error {
	r.problems = append(r.problems, text)
	return nil
}

// miss notes a needle that is lost.
func (r *rescue) miss(l tools.Lost) (err error) {
	if r.lost == nil {
		if r.lost, err = os.OpenFile(filepath.Join(r.dir, lostName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		r.lostTo = bufio.NewWriter(r.lost)
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = r.lostTo.Write(append(text, '\n'))
	return err
}

func (r *rescue) closeLost() error {
	if r.lost == nil {
		return nil
	}
	return errors.Join(r.lostTo.Flush(), r.lost.Close())
}

// within tells whether a path lies in dir, or is it, as far as both can be
// resolved.
func within(path, dir string) bool {
	path, err1 := filepath.Abs(path)
	dir, err2 := filepath.Abs(dir)
	if err1 != nil || err2 != nil {
		return false
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	rest := ""
	for { // what is not there yet has no links
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			path = filepath.Join(real, rest)
			break
		}
		if path == filepath.Dir(path) {
			return false
		}
		rest = filepath.Join(filepath.Base(path), rest)
		path = filepath.Dir(path)
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// numbers names volumes, those in a row by the first and last.
func numbers(all []volume.ID) string {
	word := "volumes"
	if len(all) == 1 {
		word = "volume"
	}
	var parts []string
	for i := 0; i < len(all); {
		j := i
		for j+1 < len(all) && all[j+1] == all[j]+1 {
			j++
		}
		if j == i {
			parts = append(parts, fmt.Sprint(all[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d to %d", all[i], all[j]))
		}
		i = j + 1
	}
	return word + " " + strings.Join(parts, ", ")
}
