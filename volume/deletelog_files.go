package volume

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// A delete log is opened by the volume that it belongs to. Who keeps several
// copies of one reads them without opening them, and makes them anew.

// DeleteLog is what a delete log holds.
type DeleteLog struct {
	Deletes []Delete // in the order of the file; the numbers of what is lost are missing
	// Doubt is why deletes may be missing, or nil. A batch that was never
	// acknowledged is no reason.
	Doubt error
	// Poisoned: an earlier process has left its marker.
	Poisoned bool
	// Settled: nothing is wrong with it, and nothing was under way when it was last
	// written.
	Settled bool
}

// ReadDeleteLog reads the delete log of volume v in dir, as the device holds it, by
// the rules of its recovery, and changes nothing. A log that is not there is
// fs.ErrNotExist, one whose superblocks are damaged ErrCorrupt, and the file of
// another volume under its name ErrConflict.
func ReadDeleteLog(fsys vfs.FS, dir string, v ID) (log DeleteLog, err error) {
	vol := &Volume{o: Options{FS: fsys}.withDefaults(), dir: dir, name: filepath.Join(dir, DeleteLogName(v))}
	vol.steps = vol.o.Steps
	vol.idx.Store(new(index))
	if vol.file, err = vol.o.FS.Open(vol.name); err != nil {
		return log, fmt.Errorf("delete log of volume %d: %w", v, err)
	}
	defer func() {
		if err = errors.Join(err, vol.file.Close()); err != nil {
			err = fmt.Errorf("delete log of volume %d: %w", v, err)
		}
	}()
	if err := vol.file.Evict(0, 0); err != nil {
		return log, fmt.Errorf("drop cached pages: %w", err)
	}
	if vol.sb, _, err = readSuperblock(vol.file); err != nil {
		return log, err
	}
	if vol.sb.Volume != v || vol.sb.Generation != 1 || !vol.isLog() {
		return log, fmt.Errorf("%w: %s is of volume %d, generation %d, class %v", ErrConflict, vol.name, vol.sb.Volume, vol.sb.Generation, vol.sb.Class)
	}
	vol.seal = newSeal(vol.sb)
	if _, log.Poisoned, err = vol.readMarker(); err != nil {
		return log, err
	}
	// The marker may be that of an earlier file under this name, and what it knows
	// is not asked for: a delete that was never acknowledged may count.
	vol.damage = damage{}
	if err := vol.recover(0, true); err != nil { // as if poisoned: it writes nothing
		return log, err
	}
	log.Doubt = vol.unread
	if vol.damage.unsureBelow > 0 {
		log.Doubt = errors.Join(log.Doubt, fmt.Errorf("%w: a delete of volume %d is lost", ErrCorrupt, v))
	}
	size, err := vol.file.Size()
	if err != nil {
		return log, err
	}
	log.Settled = !log.Poisoned && log.Doubt == nil && size == vol.synced.Load()
	return log, log.take(vol)
}

// take notes the deletes.
func (log *DeleteLog) take(vol *Volume) error {
	w := &walker{file: vol.file, seal: &vol.seal, end: vol.synced.Load()}
	last := uint32(0)
	return w.scan(scanOptions{data: true}, func(r Record) error {
		switch {
		case r.Kind == 0:
			log.Settled = false
		case r.Kind == KindTombstone && r.Deletes+1 != last:
			last = r.Deletes + 1
			log.Deletes = append(log.Deletes, Delete{Number: last, Key: r.Key})
		}
		return nil
	})
}

// EncodeDeleteLog returns the bytes of a delete log of volume v that holds these
// deletes, numbered from 1 in this order. Each key comes once. It is for a file
// that gets its name when it is synced. The file secret is drawn anew.
func EncodeDeleteLog(v ID, keys []id.ID, created time.Time) ([]byte, error) {
	if len(keys) > maxDeletes {
		return nil, fmt.Errorf("%w: delete log of %d deletes", ErrInvalid, len(keys))
	}
	list := make([]Delete, len(keys))
	for i, key := range keys {
		list[i] = Delete{Number: uint32(i) + 1, Key: key}
	}
	return encodeDeletes(v, list, created)
}

// encodeDeletes is EncodeDeleteLog of deletes that have numbers, ascending. A void
// record stands where numbers are missing.
func encodeDeletes(v ID, list []Delete, created time.Time) ([]byte, error) {
	sb := superblock{Identity: Identity{Volume: v, Generation: 1, Class: classDeletes}, Sequence: 1, Created: created}
	if v == 0 {
		return nil, fmt.Errorf("%w: delete log of volume 0", ErrInvalid)
	}
	if _, err := rand.Read(sb.Secret[:]); err != nil {
		return nil, fmt.Errorf("draw the file secret: %w", err)
	}
	s := newSeal(sb)
	copy0 := encodeSuperblock(sb)
	out := append(make([]byte, 0, dataStart+(2*len(list)+1)*headerSize), append(copy0, copy0...)...)
	put := func(h header) {
		at := len(out)
		out = append(out, make([]byte, headerSize)...)
		s.putHeader(out[at:], &h, int64(at))
	}
	seen := make(map[id.ID]bool, len(list))
	last := uint32(0)
	for _, d := range list {
		if d.Key == 0 || seen[d.Key] || d.Number <= last {
			return nil, fmt.Errorf("%w: delete %d, behind %d, is of key %v, twice or none", ErrInvalid, d.Number, last, d.Key)
		}
		seen[d.Key] = true
		h := header{Kind: KindTombstone, Key: d.Key, SyncedTo: dataStart, Deletes: d.Number - 1}
		if d.Number != last+1 {
			put(header{Kind: KindVoid, SyncedTo: dataStart, Deletes: last})
		}
		last = d.Number
		put(h)
		put(h)
	}
	// When the file has its name, all in front of this mark is synced.
	put(header{Kind: KindMark, SyncedTo: int64(len(out)), Deletes: last})
	return out, nil
}

// RemoveDeleteLogMarker removes what says that the delete log of volume v in dir is
// poisoned, once another log has taken its place. None is fine.
func RemoveDeleteLogMarker(fsys vfs.FS, dir string, v ID) error {
	err := fsys.Remove(filepath.Join(dir, DeleteLogName(v)+markerExt))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	return err
}

// CheckDeleteLog reads the first n bytes of the delete log of volume v in dir from
// the device and verifies all of them: both superblocks and every record. It is for
// a part of which all was synced. A log that is not there is fs.ErrNotExist, what is
// damaged ErrCorrupt; anything else is a failure of the check.
func CheckDeleteLog(fsys vfs.FS, dir string, v ID, n int64) (err error) {
	name := filepath.Join(dir, DeleteLogName(v))
	f, err := fsys.Open(name)
	if err != nil {
		return fmt.Errorf("delete log of volume %d: %w", v, err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("delete log of volume %d: %w", v, err)
		}
	}()
	if err := f.Evict(0, 0); err != nil {
		return fmt.Errorf("drop cached pages: %w", err)
	}
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size < n {
		return fmt.Errorf("%w: file ends at %d, expected %d", ErrCorrupt, size, n)
	}
	sb, damaged, err := readSuperblock(f)
	switch {
	case err != nil:
		return err
	case damaged:
		return fmt.Errorf("%w: a superblock copy", ErrCorrupt)
	case sb.Volume != v || sb.Generation != 1 || sb.Class != classDeletes:
		return fmt.Errorf("%w: it is of volume %d, generation %d, class %v", ErrConflict, sb.Volume, sb.Generation, sb.Class)
	}
	s := newSeal(sb)
	w := &walker{file: f, seal: &s, end: n}
	return w.scan(scanOptions{data: true}, func(r Record) error {
		if r.Kind == 0 || r.Err != nil {
			return fmt.Errorf("%w: record at %d: %w", ErrCorrupt, r.Offset, r.Err)
		}
		return nil
	})
}
