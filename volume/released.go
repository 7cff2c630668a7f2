package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// RemoveReleased removes the file of a generation that the directory has released,
// because shards hold it now, or given up before it was committed, and what belongs to it; with the last file of the
// volume in dir its delete log goes too. None of it may be open. That the
// generation may go is the directory's decision, which the caller has to know.
func RemoveReleased(dir string, e Entry, o Options) error {
	o = o.withDefaults()
	if err := removeGeneration(o, dir, e); err != nil {
		return fmt.Errorf("remove generation %d of volume %d: %w", e.Generation, e.Volume, err)
	}
	all, err := List(o.FS, dir)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Volume == e.Volume {
			return o.FS.SyncDir(dir)
		}
	}
	return errors.Join(RemoveDeleteLog(o, dir, e.Volume), o.FS.SyncDir(dir))
}

// RemoveDeleteLog removes the delete log of a volume of which nothing else is left
// in dir, and what belongs to it. The caller syncs dir.
func RemoveDeleteLog(o Options, dir string, v ID) error {
	o = o.withDefaults()
	names, err := o.FS.ReadDir(dir)
	for _, n := range names {
		if !strings.HasPrefix(n, DeleteLogName(v)) {
			continue
		}
		if e := o.FS.Remove(filepath.Join(dir, n)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// SealedIndex returns the index of a sealed volume as it is on the disk, verified.
// The bytes are the volume's: they are not to be changed, and not to be used after
// Close.
func (v *Volume) SealedIndex() ([]byte, error) {
	p := v.sealing.part.Load()
	if p == nil {
		return nil, fmt.Errorf("%w: volume %d", ErrNotSealed, v.sb.Volume)
	}
	if p.incomplete != nil {
		return nil, p.incomplete
	}
	return p.idx.b, nil
}
