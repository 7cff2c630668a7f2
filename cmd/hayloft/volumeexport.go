package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"unicode"

	"hayloft/volume/tools"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Names in an export.
const (
	manifestName = "manifest.jsonl"
	sumsName     = "SHA256SUMS"
)

// exportLine is one line of the manifest.
type exportLine struct {
	tools.Exported
	SHA256 string `json:"sha256"`
}

func newVolumeExport(f *volumeFlags) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "export [VOLUME...] -o DIR",
		Short: "Write every live needle to a directory, with a manifest",
		Long: `Writes each needle that a server would serve to a file of its own, verified:
masters to originals/OWNER/TIME-PHOTO-BLOB.jpg, variants to
variants/BLOB-ALT.jpg. manifest.jsonl has one JSON object for each file, and
SHA256SUMS is for sha256sum --check. The manifest holds cookies: whoever has it
can fetch the photos. What is damaged is named on standard error, left out, and
makes the exit code 1. Without numbers it takes every volume.`,
		Args: wantArgs(0, -1, "numbers of volumes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usagef("name the directory to write: -o DIR")
			}
			o, err := f.open(cmd, true)
			if err != nil {
				return err
			}
			all, err := o.wanted(cmd.Context(), args)
			if err == nil {
				e := &exporter{notes: cmd.ErrOrStderr(), dir: out}
				p := startProgress(cmd, func() string {
					return fmt.Sprintf("%d needles, %s exported", e.needles.Load(), roughly(e.bytes.Load()))
				})
				err = e.run(func(s tools.ExportSink) error {
					for _, v := range all {
						if err := o.Export(cmd.Context(), v, s); err != nil {
							return err
						}
					}
					return cmd.Context().Err()
				})
				p.end()
				if err == nil {
					err = e.sum(cmd.OutOrStdout())
				}
			}
			return o.close(f, err)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "directory to write; must be new or empty")
	return cmd
}

// exporter writes files and the two lists of them.
type exporter struct {
	notes          io.Writer
	dir            string
	lists          [2]*os.File // under names that say that they are not whole
	manifest       *bufio.Writer
	sums           *bufio.Writer
	needles, bytes atomic.Int64
	damaged        int
}

// run writes what fill gives to the sink.
func (e *exporter) run(fill func(tools.ExportSink) error) error {
	if err := e.begin(); err != nil {
		return err
	}
	err := fill(tools.ExportSink{Needle: e.needle, Damaged: func(text string) error { e.complain("%s", text); return nil }})
	return errors.Join(err, e.close(err == nil))
}

// sum says what was done.
func (e *exporter) sum(out io.Writer) error {
	fmt.Fprintf(out, "exported %d needles, %s, to %s\n", e.needles.Load(), roughly(e.bytes.Load()), e.dir)
	if e.damaged > 0 {
		return fmt.Errorf("%d damaged parts or needles could not be exported", e.damaged)
	}
	return nil
}

func (e *exporter) begin() error {
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return err
	}
	there, err := os.ReadDir(e.dir)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return fmt.Errorf("%s is not empty", e.dir)
	}
	for i, name := range []string{manifestName, sumsName} {
		if e.lists[i], err = os.OpenFile(filepath.Join(e.dir, name+".tmp"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
	}
	e.manifest, e.sums = bufio.NewWriter(e.lists[0]), bufio.NewWriter(e.lists[1])
	return nil
}

// close makes everything durable and, when it is whole, gives the lists their
// names.
func (e *exporter) close(whole bool) error {
	errs := []error{e.manifest.Flush(), e.sums.Flush(), unix.Syncfs(int(e.lists[0].Fd()))}
	for i, name := range []string{manifestName, sumsName} {
		errs = append(errs, e.lists[i].Close())
		if whole && errors.Join(errs...) == nil {
			errs = append(errs, os.Rename(filepath.Join(e.dir, name+".tmp"), filepath.Join(e.dir, name)))
		}
	}
	d, err := os.Open(e.dir)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, d.Sync(), d.Close())...)
}

func (e *exporter) complain(format string, args ...any) {
	e.damaged++
	fmt.Fprintf(e.notes, format+"\n", args...)
}

func (e *exporter) needle(n tools.Exported, data []byte) error {
	// The name may come from another machine.
	if !filepath.IsLocal(n.File) || strings.ContainsFunc(n.File, unicode.IsControl) || n.File == manifestName || n.File == sumsName || n.File == lostName {
		return fmt.Errorf("the export names a file that is refused: %q", n.File)
	}
	same, err := e.write(n.File, data)
	if err != nil || same { // from another replica
		return err
	}
	e.needles.Add(1)
	e.bytes.Add(int64(len(data)))
	sum := fmt.Sprintf("%x", sha256.Sum256(data))
	text, err := json.Marshal(exportLine{n, sum})
	if err != nil {
		return err
	}
	_, err1 := fmt.Fprintf(e.manifest, "%s\n", text)
	_, err2 := fmt.Fprintf(e.sums, "%s  %s\n", sum, n.File)
	return errors.Join(err1, err2)
}

// write makes a file. same tells that it is there already.
func (e *exporter) write(name string, data []byte) (same bool, err error) {
	name = filepath.Join(e.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return false, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		there, err := os.ReadFile(name)
		if err != nil {
			return false, err
		}
		if string(there) != string(data) {
			e.complain("%s: two copies differ; the first was exported", name)
		}
		return true, nil
	}
	if err != nil {
		return false, err
	}
	_, err = f.Write(data)
	return false, errors.Join(err, f.Close())
}
