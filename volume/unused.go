package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"hayloft/internal/vfs"
)

// RemoveUnused removes the file of a volume that the directory made void before
// anything was written there, and what belongs to it; none is fine. It must not
// be open. One that holds a needle, is sealed, or cannot be read so far that this
// is certain stays, and is an error.
func RemoveUnused(dir string, ident Identity, o Options) error {
	if err := errors.Join(ident.validate(), o.Validate()); err != nil {
		return err
	}
	o = o.withDefaults()
	e := Entry{Volume: ident.Volume, Generation: ident.Generation, Name: FileName(ident.Volume, ident.Generation)}
	st, err := o.FS.Stat(filepath.Join(dir, e.Name))
	switch {
	case err == nil:
		e.Bytes = st.Size
		if err := unused(dir, ident, o); err != nil {
			return fmt.Errorf("remove volume %d: %w", ident.Volume, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	// What belongs to a file goes first, for good: alone, nobody would know it.
	gone := false
	for _, name := range append(e.Companions(), e.Name+tmpExt) {
		switch err := o.FS.Remove(filepath.Join(dir, name)); {
		case err == nil:
			gone = true
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	if gone {
		if err := o.FS.SyncDir(dir); err != nil {
			return err
		}
	}
	if st, err = o.FS.Stat(filepath.Join(dir, e.Name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := errors.Join(err, removeGeneration(o, dir, e)); err != nil {
		return fmt.Errorf("remove volume %d: %w", ident.Volume, err)
	}
	return o.FS.SyncDir(dir)
}

// unused reports a reason not to remove a file. One that is blank behind its
// superblocks is not opened: that might write.
func unused(dir string, ident Identity, o Options) error {
	name := filepath.Join(dir, FileName(ident.Volume, ident.Generation))
	sb, err := superblockOf(o.FS, name)
	if err != nil {
		return err
	}
	if sb.Identity != ident || sb.State != stateOpen {
		return fmt.Errorf("%w: the file is of %+v, state %d, and is to be of %+v and open", ErrConflict, sb.Identity, sb.State, ident)
	}
	if is, err := blank(o.FS, name); is || err != nil {
		return err
	}
	v, err := OpenGeneration(dir, ident.Volume, ident.Generation, o)
	if err != nil {
		return err
	}
	switch stats := v.Stats(); {
	case stats.Needles > 0:
		err = fmt.Errorf("%w: it holds %d needles", ErrConflict, stats.Needles)
	case stats.Poisoned != nil:
		err = stats.Poisoned
	}
	return errors.Join(err, v.Close())
}

// blank reports whether a file holds nothing but zeros behind its superblocks.
func blank(fsys vfs.FS, name string) (is bool, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, 64<<10)
	for at := int64(dataStart); ; {
		n, err := f.ReadAt(b, at)
		for _, x := range b[:n] {
			if x != 0 {
				return false, nil
			}
		}
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, err
		}
	}
}

// RemoveUnfinished removes files that Create or Receive was making when the process
// ended, and that never got their name, of volumes that have no other file in dir.
// Those that are open for writing stay.
func RemoveUnfinished(dir string, o Options) error {
	o = o.withDefaults()
	names, err := o.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	all, err := List(o.FS, dir)
	if err != nil {
		return err
	}
	have := make(map[ID]bool)
	for _, e := range all {
		have[e.Volume] = true
	}
	for _, n := range names {
		base, tmp := strings.CutSuffix(n, tmpExt)
		v, _, ok := parseName(base)
		if !tmp || !ok || have[v] || inUse(o.FS, filepath.Join(dir, n)) {
			continue
		}
		if err := o.FS.Remove(filepath.Join(dir, n)); err != nil {
			return err
		}
		o.Events(Event{Kind: EventRemoved, Volume: v})
	}
	return nil
}
