package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"

	"hayloft/internal/id"
	"hayloft/internal/vfs/overlay"
	"hayloft/volume"

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
	File   string      `json:"file"` // below the directory
	SHA256 string      `json:"sha256"`
	Size   int         `json:"size"`
	ETag   string      `json:"etag"`
	Class  string      `json:"class"`
	Volume volume.ID   `json:"volume"`
	Blob   id.ID       `json:"blob"`
	Alt    uint8       `json:"alt"`
	Cookie string      `json:"cookie"`
	Master *masterJSON `json:"master,omitempty"`
}

func newVolumeExport(f *volumeFlags) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "export [VOLUME…]",
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
			all, err := f.volumes(args)
			if err != nil {
				return err
			}
			var claim overlay.FS
			if err := claimOffline(&claim, all); err != nil {
				return errors.Join(err, claim.Close())
			}
			return errors.Join(runExport(cmd, all, out), claim.Close())
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "directory to write; must be new or empty")
	return cmd
}

func runExport(cmd *cobra.Command, all []*offlineVolume, dir string) error {
	e, err := newExporter(cmd, dir)
	if err != nil {
		return err
	}
	p := startProgress(cmd, func() string {
		return fmt.Sprintf("%d needles, %s exported", e.needles.Load(), roughly(e.bytes.Load()))
	})
	for _, o := range all {
		if err = e.volume(cmd.Context(), o); err != nil {
			break
		}
	}
	p.end()
	if err = errors.Join(err, e.close(err == nil)); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "exported %d needles, %s, to %s\n", e.needles.Load(), roughly(e.bytes.Load()), dir)
	if e.damaged > 0 {
		return fmt.Errorf("%d damaged parts or needles could not be exported", e.damaged)
	}
	return nil
}

// exporter writes files and the two lists of them.
type exporter struct {
	cmd            *cobra.Command
	dir            string
	lists          [2]*os.File // under names that say that they are not whole
	manifest       *bufio.Writer
	sums           *bufio.Writer
	needles, bytes atomic.Int64
	damaged        int
}

func newExporter(cmd *cobra.Command, dir string) (*exporter, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("%s is not empty", dir)
	}
	e := &exporter{cmd: cmd, dir: dir}
	for i, name := range []string{manifestName, sumsName} {
		if e.lists[i], err = os.OpenFile(filepath.Join(dir, name+".tmp"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return nil, err
		}
	}
	e.manifest, e.sums = bufio.NewWriter(e.lists[0]), bufio.NewWriter(e.lists[1])
	return e, nil
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
	fmt.Fprintf(e.cmd.ErrOrStderr(), format+"\n", args...)
}

// volume exports one volume. The scan lists the needles; the engine says which
// of them are served, and verifies them.
func (e *exporter) volume(ctx context.Context, o *offlineVolume) error {
	v, err := openOffline(o, true)
	if errors.Is(err, volume.ErrCorrupt) || errors.Is(err, volume.ErrUnsupported) {
		e.complain("%s", oneLine(err))
		return nil
	}
	if err != nil {
		return err
	}
	s := v.Stats()
	_, err = volume.Scan(v.fs, o.path(s.Generation), func(r volume.Record) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case r.Kind == 0 && r.Offset < s.FileBytes:
			e.complain("volume %d in %s: %d bytes at %d are damaged: what needles lie there is unknown", o.id, o.data, r.Size, r.Offset)
		case r.Kind == volume.KindNeedle:
			return e.needle(ctx, v.Volume, o, r)
		}
		return nil
	})
	return errors.Join(err, v.close())
}

func (e *exporter) needle(ctx context.Context, v *volume.Volume, o *offlineVolume, r volume.Record) error {
	b, err := v.Read(ctx, r.Key, r.Alt, r.Cookie)
	switch {
	case errors.Is(err, volume.ErrNotFound):
		return nil // deleted, or never acknowledged
	case errors.Is(err, volume.ErrCorrupt):
		e.complain("volume %d in %s: blob %v alt %d: %s", o.id, o.data, r.Key, r.Alt, oneLine(err))
		return nil
	case err != nil:
		return err
	}
	name := exportName(v.Identity().Class, r, b)
	sum := fmt.Sprintf("%x", sha256.Sum256(b.Data))
	switch same, err := e.write(name, b.Data); {
	case err != nil:
		return err
	case same: // from another replica
		return nil
	}
	e.needles.Add(1)
	e.bytes.Add(int64(len(b.Data)))
	line := exportLine{name, sum, len(b.Data), fmt.Sprintf("%08x", b.ETag), v.Identity().Class.String(), o.id, r.Key, r.Alt, r.Cookie.String(), masterOf(b.Master)}
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err1 := fmt.Fprintf(e.manifest, "%s\n", text)
	_, err2 := fmt.Fprintf(e.sums, "%s  %s\n", sum, name)
	return errors.Join(err1, err2)
}

// write makes a file. same tells that it is there already with these bytes.
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

// exportName is where a needle goes. Nothing in it is a text from outside.
func exportName(class volume.Class, r volume.Record, b volume.Blob) string {
	ext := extensionOf(b)
	if m := b.Master; m != nil {
		return fmt.Sprintf("originals/%v/%s-%v-%v%s", m.Owner, m.Time.UTC().Format("20060102T150405"), m.Photo, r.Key, ext)
	}
	return fmt.Sprintf("%s/%v-%d%s", class, r.Key, r.Alt, ext)
}

// extensionOf goes by the content type, or by the first bytes without one.
func extensionOf(b volume.Blob) string {
	contentType := ""
	if b.Master != nil {
		contentType = b.Master.ContentType
	}
	if contentType == "" {
		contentType = http.DetectContentType(b.Data)
	}
	known := map[string]string{
		"image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/webp": ".webp", "image/avif": ".avif", "image/heic": ".heic",
	}
	if ext, ok := known[contentType]; ok {
		return ext
	}
	return ".bin"
}
