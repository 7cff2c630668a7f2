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

// All names of files this package makes.
const (
	volumeExt = ".vol"
	markerExt = ".poisoned"
	tmpExt    = ".tmp"
	// deletesExt and indexExt belong to sealed volumes.
	deletesExt = ".deletes"
	indexExt   = ".idx"
)

func baseName(v ID, generation uint32) string { return fmt.Sprintf("%08x-%08x", uint32(v), generation) }

// FileName returns the name of a volume's file inside its directory.
func FileName(v ID, generation uint32) string { return baseName(v, generation) + volumeExt }

// DeleteLogName returns the name of a volume's delete log inside its directory.
// The files that belong to it have longer names that begin with it.
func DeleteLogName(v ID) string { return fmt.Sprintf("%08x", uint32(v)) + deletesExt }

// IndexName returns the name of the sealed index of a volume's file.
func IndexName(v ID, generation uint32) string { return baseName(v, generation) + indexExt }

func markerName(v ID, generation uint32) string { return baseName(v, generation) + markerExt }

// Entry is one volume file in a directory.
type Entry struct {
	Volume     ID
	Generation uint32
	Name       string // file name without the directory
	Bytes      int64  // file size
}

// Companions are the names of the files that may lie beside the volume's own:
// its marker, checkpoint, sealed index and delete log, and their unfinished
// forms. Every other file is somebody else's.
func (e Entry) Companions() []string {
	out := []string{DeleteLogName(e.Volume), DeleteLogName(e.Volume) + tmpExt}
	for _, ext := range []string{markerExt, checkpointExt, indexExt} {
		name := baseName(e.Volume, e.Generation) + ext
		out = append(out, name, name+tmpExt)
	}
	return out
}

// parseName is the inverse of FileName.
func parseName(name string) (v ID, generation uint32, ok bool) {
	if len(name) != 17+len(volumeExt) || name[8] != '-' || name[17:] != volumeExt {
		return 0, 0, false
	}
	a, errA := strconv.ParseUint(name[:8], 16, 32)
	b, errB := strconv.ParseUint(name[9:17], 16, 32)
	v, generation = ID(a), uint32(b)
	if errA != nil || errB != nil || FileName(v, generation) != name {
		return 0, 0, false
	}
	return v, generation, true
}

// List returns the volume files of a directory by name, that is by volume and
// generation. It opens none of them and leaves other files alone. A nil fsys
// is the machine's.
func List(fsys vfs.FS, dir string) ([]Entry, error) {
	return list(fsys, dir, func(name string) (e Entry, ok bool) {
		e.Volume, e.Generation, ok = parseName(name)
		return e, ok
	})
}

// ListDeletes is List of the delete logs; their generation is 1.
func ListDeletes(fsys vfs.FS, dir string) ([]Entry, error) {
	return list(fsys, dir, func(name string) (Entry, bool) {
		n, err := strconv.ParseUint(strings.TrimSuffix(name, deletesExt), 16, 32)
		v := ID(n)
		return Entry{Volume: v, Generation: 1}, err == nil && DeleteLogName(v) == name
	})
}

// list returns the files of a directory whose names parse takes.
func list(fsys vfs.FS, dir string, parse func(name string) (Entry, bool)) ([]Entry, error) {
	if fsys == nil {
		fsys = vfs.OS{}
	}
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, name := range names {
		e, ok := parse(name)
		if !ok {
			continue
		}
		st, err := fsys.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		e.Name, e.Bytes = name, st.Size
		out = append(out, e)
	}
	return out, nil
}

// find returns the one file of volume v.
func find(fsys vfs.FS, dir string, v ID) (Entry, error) {
	all, err := List(fsys, dir)
	if err != nil {
		return Entry{}, err
	}
	var found []Entry
	for _, e := range all {
		if e.Volume == v {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return Entry{}, fmt.Errorf("%w: %d in %s", ErrNoVolume, v, dir)
	case 1:
		return found[0], nil
	}
	if e, ok := newest(fsys, dir, found); ok {
		return e, nil
	}
	// Which generation counts is the directory's decision, not a local guess.
	return Entry{}, fmt.Errorf("%w: volume %d has %d generations in %s", ErrInvalid, v, len(found), dir)
}
