package volume

import (
	"fmt"
	"path/filepath"

	"hayloft/internal/vfs"
)

// HeadBytes is what the superblocks take of every volume file.
const HeadBytes = dataStart

// OpenGeneration is Open of one of several generations of a volume: the one that
// the directory has committed. It is ErrNoVolume when that is not in dir.
func OpenGeneration(dir string, v ID, generation uint32, o Options) (*Volume, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	all, err := List(o.FS, dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.Volume == v && e.Generation == generation {
			return openFile(dir, e, o)
		}
	}
	return nil, fmt.Errorf("%w: generation %d of %d in %s", ErrNoVolume, generation, v, dir)
}

// RemoveVoid removes the file of a generation that the directory decided never
// to commit, whatever is in it. It must not be open. The generation committed,
// an older one, must be in dir and sealed or poisoned; its contents are not read:
// the void one never replaced it.
func RemoveVoid(dir string, void Entry, committed uint32, o Options) error {
	o = o.withDefaults()
	sb, err := superblockOf(o.FS, filepath.Join(dir, FileName(void.Volume, committed)))
	switch {
	case err != nil:
		return fmt.Errorf("remove generation %d of volume %d: generation %d: %w", void.Generation, void.Volume, committed, err)
	case sb.Volume != void.Volume || sb.Generation != committed || void.Generation <= committed || sb.Seal == nil && !marked(o.FS, dir, void.Volume, committed):
		return fmt.Errorf("%w: remove generation %d of volume %d, which has generation %d", ErrInvalid, void.Generation, void.Volume, committed)
	}
	if err := removeGeneration(o, dir, void); err != nil {
		return fmt.Errorf("remove generation %d of volume %d: %w", void.Generation, void.Volume, err)
	}
	return o.FS.SyncDir(dir)
}

// marked tells whether a generation has a poison marker.
func marked(fsys vfs.FS, dir string, v ID, generation uint32) bool {
	_, err := fsys.Stat(filepath.Join(dir, markerName(v, generation)))
	return err == nil
}
