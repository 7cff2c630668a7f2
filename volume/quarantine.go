package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"hayloft/internal/vfs"
)

// A volume file that must not be served on this disk any more, and that nobody has
// decided to remove, is moved to quarantine: a name under which it is never opened.

// Quarantined is a volume file in quarantine.
type Quarantined struct {
	Volume     ID
	Generation uint32
	Name       string // file name without the directory
	Bytes      int64  // file size
}

// maxQuarantined is how many files of one generation can be in quarantine.
const maxQuarantined = 1 << 16

func quarantineName(v ID, generation uint32, n int) string {
	return fmt.Sprintf("%s.q%04x", baseName(v, generation), n)
}

// parseQuarantined is the inverse of quarantineName with .vol behind it.
func parseQuarantined(name string) (q Quarantined, n int, ok bool) {
	base, is := strings.CutSuffix(name, volumeExt)
	own, number, found := strings.Cut(base, ".q")
	v, generation, named := parseName(own + volumeExt)
	i, err := strconv.ParseUint(number, 16, 16)
	ok = is && found && named && err == nil && quarantineName(v, generation, int(i)) == base
	return Quarantined{Volume: v, Generation: generation, Name: name}, int(i), ok
}

// marker is the name of the poison marker of the file.
func (q Quarantined) marker() string { return strings.TrimSuffix(q.Name, volumeExt) + markerExt }

// Companions are the names of the files that may lie beside it and belong to it.
func (q Quarantined) Companions() []string { return []string{q.marker()} }

// ListQuarantined returns the volume files in quarantine in a directory, by name. A
// nil fsys is the machine's.
func ListQuarantined(fsys vfs.FS, dir string) ([]Quarantined, error) {
	all, err := list(fsys, dir, func(name string) (Entry, bool) {
		q, _, ok := parseQuarantined(name)
		return Entry(q), ok
	})
	out := make([]Quarantined, len(all))
	for i, e := range all {
		out[i] = Quarantined(e)
	}
	return out, err
}

// Quarantine takes the volume file e in dir, and what belongs to it alone, out of the
// way, durably. It must not be open. The delete log of the volume stays. That it may
// not be served any more is the caller's decision.
func Quarantine(dir string, e Entry, o Options) (Quarantined, error) {
	o = o.withDefaults()
	q, err := quarantine(dir, e, o)
	if err != nil {
		return q, fmt.Errorf("quarantine generation %d of volume %d: %w", e.Generation, e.Volume, err)
	}
	o.Events(Event{Kind: EventQuarantined, Volume: e.Volume, Length: e.Bytes})
	return q, nil
}

func quarantine(dir string, e Entry, o Options) (Quarantined, error) {
	q := Quarantined{Volume: e.Volume, Generation: e.Generation, Bytes: e.Bytes}
	n, err := nextQuarantine(o.FS, dir, e)
	if err != nil {
		return q, err
	}
	q.Name = quarantineName(e.Volume, e.Generation, n) + volumeExt
	name := filepath.Join(dir, e.Name)
	f, err := o.FS.OpenWrite(name) // the lock: nobody has it open
	if err != nil {
		return q, err
	}
	if err := errors.Join(o.FS.Rename(name, filepath.Join(dir, q.Name)), f.Close()); err != nil {
		return q, err
	}
	return q, settleQuarantine(dir, e.Volume, e.Generation, o)
}

// nextQuarantine is the number behind those in use.
func nextQuarantine(fsys vfs.FS, dir string, e Entry) (int, error) {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	next := 0
	for _, name := range names {
		if q, n, ok := parseQuarantined(name); ok && q.Volume == e.Volume && q.Generation == e.Generation {
			next = max(next, n+1)
		}
	}
	if next == maxQuarantined {
		return 0, fmt.Errorf("%w: %d files of one generation are in quarantine", ErrFull, next)
	}
	return next, nil
}

// settleQuarantine has what belonged to a volume file follow it to quarantine, or go:
// it must not meet another file under that name. It ends what a crash has cut off as
// well. There is no volume file of that name.
func settleQuarantine(dir string, v ID, generation uint32, o Options) error {
	// What comes back without its marker would take puts again.
	if err := o.FS.SyncDir(dir); err != nil {
		return err
	}
	if err := moveMarker(dir, v, generation, o); err != nil {
		return err
	}
	for _, ext := range []string{markerExt, checkpointExt, indexExt} {
		if err := o.FS.Remove(filepath.Join(dir, baseName(v, generation)+ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return o.FS.SyncDir(dir)
}

// moveMarker gives a poison marker to the newest file in quarantine, unless that has
// its own.
func moveMarker(dir string, v ID, generation uint32, o Options) error {
	n, err := nextQuarantine(o.FS, dir, Entry{Volume: v, Generation: generation})
	if err != nil || n == 0 {
		return err
	}
	to := filepath.Join(dir, quarantineName(v, generation, n-1)+markerExt)
	if _, err := o.FS.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = o.FS.Rename(filepath.Join(dir, markerName(v, generation)), to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveQuarantined removes a file from quarantine, and what belongs to it, for good.
// That it may go is the caller's decision.
func RemoveQuarantined(dir string, q Quarantined, o Options) error {
	o = o.withDefaults()
	if got, _, ok := parseQuarantined(q.Name); !ok || got.Volume != q.Volume || got.Generation != q.Generation {
		return fmt.Errorf("%w: %s is not the name of a volume file in quarantine", ErrInvalid, q.Name)
	}
	for _, name := range []string{q.marker(), q.Name} { // alone, nobody would find the marker
		if err := o.FS.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := o.FS.SyncDir(dir); err != nil {
		return err
	}
	o.Events(Event{Kind: EventRemoved, Volume: q.Volume, Length: q.Bytes})
	return nil
}
