package tools

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/internal/vfs/overlay"
	"hayloft/volume"
)

// volumesDirName and diskIDName are names in a data directory; see
// docs/data-directory.md.
const (
	volumesDirName = "volumes"
	diskIDName     = "disk.id"
)

// Files are the volumes in data directories, as files. List, Show and Dump take
// no lock: beside a running server they see a snapshot. Verify and Export need
// Claim before.
type Files struct {
	dirs  []string
	claim *overlay.FS // holds the locks, nil without Claim
}

var _ Source = (*Files)(nil)

// OpenFiles checks that the directories are data directories.
func OpenFiles(dirs []string) (*Files, error) {
	f := &Files{}
	for _, d := range dirs {
		d = filepath.Clean(d)
		if slices.Contains(f.dirs, d) {
			return nil, fmt.Errorf("data directory %s is named twice", d)
		}
		if err := dataDir(d); err != nil {
			return nil, err
		}
		f.dirs = append(f.dirs, d)
	}
	return f, nil
}

func dataDir(d string) error {
	st, err := os.Stat(d)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no directory %s", d)
	}
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is not a directory", d)
	}
	_, err = os.Stat(filepath.Join(d, volumesDirName))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	hint := ""
	if here, err := volume.List(nil, d); err == nil && len(here) > 0 {
		hint = fmt.Sprintf("; it holds volumes itself: name the directory above it, %s", filepath.Dir(d))
	}
	return fmt.Errorf("%s is not a data directory: it has no directory %q%s", d, volumesDirName, hint)
}

// ErrInUse: a running server has the directory.
var ErrInUse = errors.New("in use by a running server")

// Claim keeps servers away from the directories until Close, and is ErrInUse
// when one is there. Others that claim them may be there too.
func (f *Files) Claim() error {
	f.claim = &overlay.FS{}
	for _, d := range f.dirs {
		err := f.claim.Lock(filepath.Join(d, diskIDName))
		if errors.Is(err, vfs.ErrLocked) {
			return fmt.Errorf("%s is %w", d, ErrInUse)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // bare volumes will do
			return err
		}
	}
	return nil
}

// Close ends the claim.
func (f *Files) Close() error {
	if f.claim == nil {
		return nil
	}
	return f.claim.Close()
}

// Used tells which of the directories a process uses, from the kernel's table
// of locks: trying a lock could keep a server from starting.
func (f *Files) Used() []string {
	held := map[string]bool{}
	table, err := os.Open("/proc/locks")
	if err != nil {
		return nil // then nobody knows
	}
	defer table.Close()
	for lines := bufio.NewScanner(table); lines.Scan(); {
		if w := strings.Fields(lines.Text()); len(w) >= 6 && w[1] == "FLOCK" && w[3] == "WRITE" {
			held[w[5]] = true
		}
	}
	var out []string
	for _, d := range f.dirs {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(d, diskIDName), &st); err != nil {
			continue
		}
		if held[fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)] {
			out = append(out, d)
		}
	}
	return out
}

// bare is one volume in one data directory.
type bare struct {
	data    string
	id      volume.ID
	entries []volume.Entry // its files, by generation
}

func (b *bare) dir() string { return filepath.Join(b.data, volumesDirName) }

func (b *bare) path(generation uint32) string {
	return filepath.Join(b.dir(), volume.FileName(b.id, generation))
}

// marked reports whether a failed write or sync left its marker.
func (b *bare) marked() bool {
	newest := b.path(b.entries[len(b.entries)-1].Generation)
	_, err := os.Stat(strings.TrimSuffix(newest, ".vol") + ".poisoned")
	return err == nil
}

// volumes returns the files of one volume, or of all with 0, by number. A volume of
// which there are shards alone has none.
func (f *Files) volumes(wanted volume.ID) ([]*bare, error) {
	var out []*bare
	for _, d := range f.dirs {
		entries, err := volume.List(nil, filepath.Join(d, volumesDirName))
		if err != nil {
			return nil, err
		}
		var last *bare
		for _, e := range entries {
			if wanted != 0 && e.Volume != wanted {
				continue
			}
			if last == nil || last.id != e.Volume {
				last = &bare{data: d, id: e.Volume}
				out = append(out, last)
			}
			last.entries = append(last.entries, e)
		}
	}
	if wanted != 0 && len(out) == 0 {
		if shards, err := f.shardPaths(wanted); err != nil || len(shards) > 0 {
			return nil, err
		}
		return nil, fmt.Errorf("%w %d in %s", volume.ErrNoVolume, wanted, strings.Join(f.dirs, ", "))
	}
	slices.SortStableFunc(out, func(a, b *bare) int { return cmp.Compare(a.id, b.id) })
	return out, nil
}

// opened is a volume that was opened over an overlay: the engine recovers it in
// memory, as the next start of the server would on the disk.
type opened struct {
	*volume.Volume
	fs     *overlay.FS
	events []volume.Event
}

func (b *bare) open(share bool) (*opened, error) {
	v := &opened{fs: &overlay.FS{Share: share}}
	var err error
	v.Volume, err = volume.Open(b.dir(), b.id, volume.Options{FS: v.fs, Events: func(e volume.Event) { v.events = append(v.events, e) }})
	if errors.Is(err, vfs.ErrLocked) {
		err = fmt.Errorf("volume %d in %s is %w", b.id, b.data, ErrInUse)
	}
	if err != nil {
		return nil, errors.Join(err, v.fs.Close())
	}
	return v, nil
}

func (v *opened) close() error { return errors.Join(v.Close(), v.fs.Close()) }

// look opens a volume in memory, without a lock, and describes it.
func (b *bare) look() Detail {
	d := Detail{Row: Row{ID: b.id, Data: b.data}, Events: []string{}}
	for _, e := range b.entries {
		d.SizeBytes += e.Bytes
	}
	v, err := b.open(false)
	if err != nil {
		d.failed(err)
		return d
	}
	d.describe(v.Volume)
	d.File = b.path(*d.Generation)
	for _, e := range v.events {
		if e.Kind != volume.EventPageCache { // of this way to open it
			d.Events = append(d.Events, eventText(e))
		}
	}
	if err := v.close(); err != nil {
		d.Error = OneLine(err)
	}
	return d
}

// List implements Source. What each directory has of a volume is a row, and so are its
// shards, of which nobody knows here whether they count.
func (f *Files) List(ctx context.Context) ([]Row, error) {
	all, err := f.volumes(0)
	if err != nil {
		return nil, err
	}
	rows := []Row{}
	for _, b := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows = append(rows, b.look().Row)
	}
	err = f.sets(ctx, 0, func(s *shardSet) error { rows = append(rows, s.look().Row); return nil })
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	return rows, err
}

// Show implements Source.
func (f *Files) Show(ctx context.Context, v volume.ID) ([]Detail, error) {
	all, err := f.volumes(v)
	if err != nil {
		return nil, err
	}
	details := []Detail{}
	for _, b := range all {
		details = append(details, b.look())
	}
	return details, f.sets(ctx, v, func(s *shardSet) error { details = append(details, s.look()); return nil })
}

// Dump implements Source: every generation there is, and without one the newest epoch
// that can be put together.
func (f *Files) Dump(ctx context.Context, v volume.ID, q Query, s DumpSink) error {
	all, err := f.volumes(v)
	if err != nil {
		return err
	}
	for _, b := range all {
		for _, e := range b.entries {
			if err := DumpPath(ctx, nil, b.path(e.Generation), q, s); err != nil {
				return err
			}
		}
	}
	if len(all) > 0 {
		return nil
	}
	return f.sets(ctx, v, func(set *shardSet) error { return set.dump(ctx, q, s) })
}

// Verify implements Source. It opens the volume as the server would: what that
// repairs is repaired in memory. Shards are checked one by one.
func (f *Files) Verify(ctx context.Context, v volume.ID, report func(Progress)) ([]Verified, error) {
	all, err := f.volumes(v)
	if err != nil {
		return nil, err
	}
	rows := []Verified{}
	for _, b := range all {
		row, err := b.verify(ctx, report)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	err = f.sets(ctx, v, func(s *shardSet) error {
		row, err := s.verify(ctx, report)
		rows = append(rows, row)
		return err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func (b *bare) verify(ctx context.Context, report func(Progress)) (Verified, error) {
	row := Verified{ID: b.id, Data: b.data, Findings: []Finding{}, Notes: []string{}}
	v, err := b.open(true)
	if errors.Is(err, volume.ErrCorrupt) {
		row.add(Finding{Kind: "open", Error: OneLine(err)})
		return row, nil
	}
	if err != nil {
		return row, err
	}
	done := watch(v.fs, func(n int64) {
		report(Progress{Volume: b.id, Step: "verify", Done: n, Total: v.Stats().FileBytes})
	})
	r, err := v.Check(ctx, row.found)
	done()
	row.Needles, row.Bytes = r.Needles, r.Bytes
	row.opening(v.events, b.marked())
	return row, errors.Join(err, v.close())
}

// Export implements Source. What lies in shards alone is left to a rescue.
func (f *Files) Export(ctx context.Context, v volume.ID, s ExportSink) error {
	all, err := f.volumes(v)
	if err != nil {
		return err
	}
	gone, err := f.deletedBeside(v, s.Damaged)
	if err != nil {
		return err
	}
	live := s
	live.Needle = func(e Exported, data []byte) error {
		if gone[e.Blob] {
			return nil
		}
		return s.Needle(e, data)
	}
	for _, b := range all {
		if err := b.export(ctx, live); err != nil {
			return err
		}
	}
	if len(all) > 0 {
		return nil
	}
	return f.sets(ctx, v, func(set *shardSet) error {
		return s.Damaged(unexported(v, set.data(), errShardsAlone))
	})
}

// errShardsAlone: a server or a rescue puts shards together.
var errShardsAlone = errors.New("it lies in shards: hayloft rescue takes photos out of them, and a running server exports them")

func (b *bare) export(ctx context.Context, s ExportSink) error {
	v, err := b.open(true)
	if errors.Is(err, volume.ErrCorrupt) || errors.Is(err, volume.ErrUnsupported) {
		return s.Damaged(unexported(b.id, b.data, err))
	}
	if err != nil {
		return err
	}
	return errors.Join(export(ctx, v.Volume, b.data, nil, s), v.close())
}
