package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// AppendDeletes deletes keys, in the delete log of a fenced or sealed volume, and
// returns the number of each one's delete, when all of them are on stable storage.
// A key that is deleted already keeps the number it has. It is for the replica that
// numbers the deletes of its volume; the others follow by LogDeletes.
func (v *Volume) AppendDeletes(ctx context.Context, keys []id.ID) (numbers []uint32, err error) {
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	begin := v.now()
	err = v.withLog(ctx, func(l *deleteLog) error {
		if err := v.poisoned(); err != nil {
			return err
		}
		numbers, err = l.append(ctx, keys)
		return err
	})
	if err != nil {
		return nil, err
	}
	v.counters.deleted.Add(int64(len(keys)))
	return numbers, v.timed(begin, nil)
}

// LogDeletes appends deletes to the log of a fenced or sealed volume right behind
// number after, so that they get the same numbers as in the log of another replica,
// and returns the number of the newest one there. Up to it all is on stable storage
// then. When it is below after nothing was appended: the caller sends what is
// missing. What is there already under the same numbers may come again; anything else
// is ErrConflict: then ReplaceDeleteLog. Without keys it says the newest number.
func (v *Volume) LogDeletes(ctx context.Context, after uint32, keys []id.ID) (newest uint32, err error) {
	if err := checkKeys(keys); err != nil {
		return 0, err
	}
	if uint64(after)+uint64(len(keys)) > maxDeletes {
		return 0, fmt.Errorf("%w: %d deletes behind number %d", ErrFull, len(keys), after)
	}
	err = v.withLog(ctx, func(l *deleteLog) error {
		if err := v.poisoned(); err != nil {
			return err
		}
		if len(keys) == 0 {
			newest = l.count()
			return nil
		}
		newest, err = l.appendBehind(ctx, after, keys)
		return err
	})
	if err == nil && newest >= after {
		v.counters.deleted.Add(int64(len(keys)))
	}
	return newest, err
}

// ReplaceDeleteLog puts the entries of another replica's log in the place of those
// of the log of a fenced or sealed volume, in one step that holds when it returns nil:
// all that log has, ascending by number. It is for a replica that is not to be
// trusted: what its own log alone had is gone, and a log that is poisoned or has lost
// deletes is sound again. After an error the log is as it was, or the new one, and may
// take no deletes until the next ReplaceDeleteLog or Open.
func (v *Volume) ReplaceDeleteLog(ctx context.Context, list []Delete) error {
	return v.withLog(ctx, func(l *deleteLog) error { return l.replace(list) })
}

func checkKeys(keys []id.ID) error {
	seen := make(map[id.ID]bool, len(keys))
	for _, key := range keys {
		if key == 0 || seen[key] {
			return fmt.Errorf("%w: key %v, twice or none", ErrInvalid, key)
		}
		seen[key] = true
	}
	if int64(len(keys))*2*headerSize > MaxGroup {
		return fmt.Errorf("%w: %d deletes", ErrTooLarge, len(keys))
	}
	return nil
}

// newDeletes puts tombstones for keys into a file, in one batch.
func newDeletes(keys []id.ID) *op {
	return &op{keys: keys, bytes: int64(len(keys)) * 2 * headerSize, done: make(chan error, 1)}
}

// submit hands the ops that op returns to the file that is the log's at the
// moment, until one was done there, or refused for good.
func (l *deleteLog) submit(ctx context.Context, op func() *op) (*Volume, *op, error) {
	for {
		file := l.cur.Load()
		o := op()
		err := file.v.submit(ctx, o)
		if !l.retry(file, err) {
			return file.v, o, err
		}
	}
}

func (l *deleteLog) delete(ctx context.Context, key id.ID) error {
	_, _, err := l.submit(ctx, func() *op { return newDelete(key) })
	return err
}

func (l *deleteLog) append(ctx context.Context, keys []id.ID) ([]uint32, error) {
	for {
		file := l.cur.Load()
		_, _, err := l.submit(ctx, func() *op { return newDeletes(keys) })
		if err != nil {
			return nil, err
		}
		numbers, err := file.numbers(ctx, keys)
		if l.cur.Load() == file {
			return numbers, err
		}
	}
}

// numbers returns those of deletes that are stored.
func (file *logFile) numbers(ctx context.Context, keys []id.ID) ([]uint32, error) {
	if err := file.v.acquire(ctx); err != nil {
		return nil, err
	}
	defer file.v.release()
	out := make([]uint32, len(keys))
	for i, key := range keys {
		var err error
		if out[i], err = file.v.numberOf(key); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// numberOf reads the number of a delete that is stored from one of its tombstones;
// 0 when there is none.
func (v *Volume) numberOf(key id.ID) (uint32, error) {
	p, _, deleted := v.idx.Load().get(key, 0)
	if !deleted {
		return 0, nil
	}
	var errs error
	for _, off := range []int64{p.off, p.off + headerSize} {
		b := make([]byte, headerSize)
		_, err := v.file.ReadAt(b, off)
		var h header
		if err == nil {
			h, err = v.seal.decodeHeader(b, off)
		}
		if err == nil && h.Kind == KindTombstone && h.Key == key {
			return h.Deletes + 1, nil
		}
		errs = errors.Join(errs, err)
	}
	return 0, fmt.Errorf("%w: both tombstones of %v at %d: %w", ErrCorrupt, key, p.off, errs)
}

func (l *deleteLog) appendBehind(ctx context.Context, after uint32, keys []id.ID) (uint32, error) {
	_, o, err := l.submit(ctx, func() *op {
		o := newDeletes(keys)
		o.numbered, o.after = true, after
		return o
	})
	if err != nil {
		return 0, err
	}
	return o.newest, nil
}

// planNumbered is planDeletes of deletes that have their numbers.
func (v *Volume) planNumbered(o *op) (*batch, error) {
	o.newest = v.pipe.deleted()
	if o.newest != o.after { // what is told or compared has to be stored
		v.drain()
		if err := v.poisoned(); err != nil {
			return nil, err
		}
	}
	if o.newest < o.after {
		return nil, nil
	}
	there := min(int(o.newest-o.after), len(o.keys))
	for i, key := range o.keys[:there] {
		n, err := v.numberOf(key)
		if err != nil {
			return nil, err
		}
		if want := o.after + uint32(i) + 1; n != want {
			return nil, fmt.Errorf("%w: delete number %d of volume %d is not of %v", ErrConflict, want, v.sb.Volume, key)
		}
	}
	fresh := o.keys[there:]
	for _, key := range fresh {
		if _, _, deleted := v.idx.Load().get(key, 0); deleted || v.writer.deleting[key] != nil {
			return nil, fmt.Errorf("%w: %v was deleted in volume %d under another number", ErrConflict, key, v.sb.Volume)
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	o.newest += uint32(len(fresh))
	return v.placeDeletes(fresh)
}

// deleted is how many deletes were put into batches.
func (p *pipe) deleted() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open != nil {
		return p.open.deletes
	}
	return p.deletes
}

// replace puts a log of these deletes in the place of whatever is there. A process
// that ends meanwhile leaves one of the two.
func (l *deleteLog) replace(list []Delete) error {
	content, err := encodeDeletes(l.id, list, l.o.Clock.Now())
	if err != nil {
		return err
	}
	if len(list) == 0 {
		content = content[:dataStart] // never used
	}
	var old *Volume
	err = l.onWriter(func(v *Volume) error {
		file, err := l.exchange(v, content)
		if err != nil {
			return fmt.Errorf("replace the delete log of volume %d: %w", l.id, classify(err))
		}
		for f := range l.followers {
			f.recount(file.v)
		}
		l.cur.Store(file)
		v.sealing.replaced, old = true, v
		return nil
	})
	if err != nil {
		return err
	}
	return old.Close()
}

// exchange does with the files what replace does, on the writer goroutine of the
// former one.
func (l *deleteLog) exchange(former *Volume, content []byte) (*logFile, error) {
	moved, err := placeDeleteLog(l.o.FS, l.dir, l.id, content)
	if !moved {
		return nil, err
	}
	var file *logFile
	if err == nil {
		file, err = l.open()
	}
	if err == nil {
		if err = cmp.Or(file.unsure, file.v.poisoned()); err != nil {
			err = errors.Join(err, file.v.Close())
		}
	}
	if err != nil {
		// The former file may have no name any more: nothing may be stored in it. No
		// marker tells of that, it would be taken for one of the new file.
		former.setPoison(err)
		return nil, err
	}
	return file, nil
}

// placeDeleteLog puts a file in the place of the delete log of volume v in dir, and
// returns when it is there for good. moved tells, with an error, that it may be.
func placeDeleteLog(fsys vfs.FS, dir string, v ID, content []byte) (moved bool, err error) {
	name := filepath.Join(dir, DeleteLogName(v))
	f, err := fsys.Create(name + tmpExt)
	if err != nil {
		return false, err
	}
	if _, err = f.WriteVAt([][]byte{content}, 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	// First of all: what the marker says of the former log would cut the new one.
	if err := RemoveDeleteLogMarker(fsys, dir, v); err != nil {
		return false, err
	}
	if err := fsys.Rename(name+tmpExt, name); err != nil {
		return true, err
	}
	return true, fsys.SyncDir(dir)
}
