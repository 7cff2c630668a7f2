package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"hayloft/internal/vfs"
)

// newest returns the generation that supersedes all others of found: each of
// them is named as the source, with its digest, by the next one. The oldest may
// be a poisoned one that was salvaged: it has no digest, and when the next one got
// its name it had its marker for good.
func newest(fsys vfs.FS, dir string, found []Entry) (Entry, bool) {
	found = slices.Clone(found)
	slices.SortFunc(found, func(a, b Entry) int { return cmp.Compare(a.Generation, b.Generation) })
	var before superblock
	for i, e := range found {
		sb, err := superblockOf(fsys, filepath.Join(dir, e.Name))
		if err != nil || sb.Seal == nil && i > 0 || sb.Volume != e.Volume || sb.Generation != e.Generation {
			return Entry{}, false
		}
		if i > 0 && (sb.Seal.Source != before.Generation || before.Seal != nil && sb.Seal.SourceDigest != before.Seal.Digest) {
			return Entry{}, false
		}
		before = sb
	}
	return found[len(found)-1], true
}

func superblockOf(fsys vfs.FS, name string) (superblock, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return superblock{}, err
	}
	sb, _, err := readSuperblock(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return sb, err
}

// removeLeftovers removes what a compaction or seal that did not come to its
// end has left: files that never got their name, indexes without a volume
// file, checkpoints of the index of an open volume, and markers of generations
// that were removed. All can be made again from what is there. Only called by the holder of
// the newest generation's lock.
func (v *Volume) removeLeftovers() {
	names, err := v.o.FS.ReadDir(v.dir)
	if err != nil {
		return
	}
	have := make(map[string]bool, len(names))
	for _, n := range names {
		have[n] = true
	}
	prefix := fmt.Sprintf("%08x", uint32(v.sb.Volume))
	for _, n := range names {
		if !strings.HasPrefix(n, prefix) {
			continue
		}
		base, tmp := strings.CutSuffix(n, tmpExt)
		g, isIndex := strings.CutSuffix(base, indexExt)
		c, isCheckpoint := strings.CutSuffix(base, checkpointExt)
		m, isMarker := strings.CutSuffix(base, markerExt)
		_, _, ofOpen := parseName(c + volumeExt)
		_, _, isVolume := parseName(base)
		_, _, named := parseName(g + volumeExt)
		_, marked, ofVolume := parseName(m + volumeExt)
		redundant := tmp && (isVolume || isIndex && named || isMarker && ofVolume || base == DeleteLogName(v.sb.Volume)) ||
			!tmp && isIndex && named && !have[g+volumeExt] ||
			isCheckpoint && ofOpen || // of when the volume was open
			isMarker && ofVolume && marked < v.sb.Generation && !have[m+volumeExt]
		if !redundant {
			continue
		}
		if tmp && isVolume && inUse(v.o.FS, filepath.Join(v.dir, n)) { // a generation that is being received
			continue
		}
		if isMarker && ofVolume && moveMarker(v.dir, v.sb.Volume, marked, v.o) != nil { // of a file in quarantine, perhaps
			continue
		}
		if err := v.o.FS.Remove(filepath.Join(v.dir, n)); err == nil {
			v.event(Event{Kind: EventRemoved})
		}
	}
}

// inUse tells whether somebody has a file open for writing.
func inUse(fsys vfs.FS, name string) bool {
	f, err := fsys.OpenWrite(name)
	if err == nil {
		_ = f.Close() // nothing was written
	}
	return errors.Is(err, vfs.ErrLocked)
}

// RemoveSuperseded removes the files of all generations of volume id in dir below
// the committed one. They must not be open. It first reads that one from the
// device, whole, and compares it with its digest; throttle, if not nil, is
// asked before n bytes are read. It removes nothing unless each generation is
// the source of the next, up to that one, which is there. Which one is committed is
// the directory's decision; what lies above it is let alone.
func RemoveSuperseded(ctx context.Context, dir string, v ID, committed uint32, o Options, throttle func(ctx context.Context, n int64) error) error {
	o = o.withDefaults()
	all, err := List(o.FS, dir)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(e Entry) bool { return e.Volume != v || e.Generation > committed })
	if len(all) == 0 || len(all) == 1 && all[0].Generation == committed {
		return nil
	}
	top, ok := newest(o.FS, dir, all)
	if !ok || top.Generation != committed {
		return fmt.Errorf("%w: no generation of volume %d supersedes the others", ErrInvalid, v)
	}
	// What is only in the page cache, or has its name only there, replaces
	// nothing.
	if err := o.FS.SyncDir(dir); err != nil {
		return err
	}
	if _, err := verifyFile(ctx, o.FS, filepath.Join(dir, top.Name), throttle); err != nil {
		return fmt.Errorf("generation %d of volume %d: %w", top.Generation, v, err)
	}
	for _, e := range all {
		if e.Generation == top.Generation {
			continue
		}
		if err := removeGeneration(o, dir, e); err != nil {
			return fmt.Errorf("remove generation %d of volume %d: %w", e.Generation, v, err)
		}
		// One by one, the oldest first: a crash that brought an older one back
		// without the next would break the chain by which the newest counts.
		if err := o.FS.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// removeGeneration removes one file that nobody has open, and what belongs to
// it.
func removeGeneration(o Options, dir string, e Entry) error {
	name := filepath.Join(dir, e.Name)
	f, err := o.FS.OpenWrite(name)
	if err != nil {
		return err
	}
	if err := errors.Join(o.FS.Remove(name), f.Close()); err != nil {
		return err
	}
	o.Events(Event{Kind: EventRemoved, Volume: e.Volume, Length: e.Bytes})
	// A file that came back without its marker would take puts again.
	if err := o.FS.SyncDir(dir); err != nil {
		return err
	}
	for _, extra := range []string{IndexName(e.Volume, e.Generation), markerName(e.Volume, e.Generation),
		baseName(e.Volume, e.Generation) + checkpointExt} {
		if err := o.FS.Remove(filepath.Join(dir, extra)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
