package volume

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// deleteLog is the delete log of a sealed volume; see docs/format.md. It is a
// volume file that holds nothing but tombstones, so group commit, recovery,
// poisoning and the treatment of rot are those of the engine. All generations
// of a volume that are open in this process share one.
type deleteLog struct {
	v *Volume
	// unsure is why deletes may be missing: then no needle may be served.
	unsure error

	followers map[*sealedPart]bool // the writer goroutine's

	mu   sync.Mutex // guards refs
	refs int        // generations that use it
}

// createDeleteLog makes an empty delete log unless there is one. When it
// returns nil the file and its name are durable.
func createDeleteLog(dir string, v ID, o Options) error {
	if _, err := o.FS.Stat(filepath.Join(dir, DeleteLogName(v))); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err // it is synced when it is opened
	}
	return writeDeleteLog(dir, v, o)
}

// writeDeleteLog puts an empty delete log in the place of whatever is there.
func writeDeleteLog(dir string, v ID, o Options) error {
	sb := superblock{Identity: Identity{Volume: v, Generation: 1, Class: classDeletes}, Sequence: 1, Created: o.Clock.Now()}
	if _, err := rand.Read(sb.Secret[:]); err != nil {
		return fmt.Errorf("draw the file secret: %w", err)
	}
	copy0 := encodeSuperblock(sb)
	if err := vfs.WriteFile(o.FS, filepath.Join(dir, DeleteLogName(v)), append(copy0, copy0...)); err != nil {
		return fmt.Errorf("create the delete log: %w", classify(err))
	}
	return nil
}

// openDeleteLog opens and recovers the log. A log that is not there is damage:
// there was one before the volume was sealed.
func openDeleteLog(dir string, v ID, o Options) (*deleteLog, error) {
	o.MaxBytes, o.AllocChunk = maxOffset, min(o.AllocChunk, 64<<10)
	l := &deleteLog{refs: 1, followers: make(map[*sealedPart]bool)}
	vol, err := openFile(dir, Entry{Volume: v, Generation: 1, Name: DeleteLogName(v)}, o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the delete log of volume %d is missing", ErrCorrupt, v)
	}
	if err != nil {
		return nil, err
	}
	l.v = vol
	switch cause := vol.poisoned(); {
	case vol.damage.unsureBelow > 0:
		l.unsure = fmt.Errorf("%w: a delete of volume %d is lost", ErrCorrupt, v)
	case errors.Is(cause, ErrCorrupt):
		l.unsure = cause // what could not be read may hold deletes
	}
	return l, nil
}

// openUnusedLog opens the delete log of a volume that is about to be sealed, which
// takes deletes then. One that is poisoned already, and in which no delete was ever
// stored, gives its place to a new one.
func openUnusedLog(dir string, v ID, o Options) (*deleteLog, error) {
	for again := true; ; again = false {
		l, err := openDeleteLog(dir, v, o)
		if err != nil {
			return nil, err
		}
		cause := cmp.Or(l.unsure, l.v.poisoned())
		if cause == nil {
			return l, nil
		}
		unused := l.v.synced.Load() == dataStart && len(l.v.damage.rot) == 0 && l.v.unread == nil
		if err := l.release(); err != nil || !again || !unused {
			return nil, errors.Join(fmt.Errorf("delete log: %w", cause), err)
		}
		// The marker goes last: without it a part of the former log would count.
		if err := writeDeleteLog(dir, v, o); err != nil {
			return nil, err
		}
		if err := o.FS.Remove(filepath.Join(dir, DeleteLogName(v)+markerExt)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err := o.FS.SyncDir(dir); err != nil {
			return nil, err
		}
	}
}

// share counts one more generation that uses the log.
func (l *deleteLog) share() *deleteLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refs++
	return l
}

// release closes the log when nobody uses it any more.
func (l *deleteLog) release() error {
	l.mu.Lock()
	l.refs--
	last := l.refs == 0
	l.mu.Unlock()
	if !last {
		return nil
	}
	return l.v.Close()
}

func (l *deleteLog) deleted(key id.ID) bool {
	_, _, deleted := l.v.idx.Load().get(key, 0)
	return deleted
}

func (l *deleteLog) delete(ctx context.Context, key id.ID) error { return l.v.Delete(ctx, key) }

// onWriter runs fn while no delete is being committed.
func (l *deleteLog) onWriter(fn func() error) error {
	o := &op{exec: fn, done: make(chan error, 1)}
	if !l.v.queue.add(o) {
		return ErrClosed
	}
	return <-o.done
}

// follow tells p of every key that is deleted already, and of every one that
// will be, each once, until leave.
func (l *deleteLog) follow(p *sealedPart) error {
	return l.onWriter(func() error {
		err := l.scan(context.Background(), func(_ uint32, key id.ID) error {
			p.forget(key)
			return nil
		})
		if err != nil {
			return err
		}
		l.followers[p] = true
		l.v.sealing.onDelete = func(keys []id.ID) {
			for _, key := range keys {
				for f := range l.followers {
					f.forget(key)
				}
			}
		}
		return nil
	})
}

// leave ends what follow began, and releases the log.
func (l *deleteLog) leave(p *sealedPart) error {
	err := l.onWriter(func() error {
		delete(l.followers, p)
		return nil
	})
	return errors.Join(err, l.release())
}

// count returns the number of the newest delete.
func (l *deleteLog) count() (n uint32, err error) {
	err = l.onWriter(func() error {
		n = l.v.writer.deletes
		return nil
	})
	return n, err
}

// holds reports that the log has lost its end, where no later record tells of it:
// a generation goes by the deletes 1 to n, which were on the device before it.
func (l *deleteLog) holds(n uint32) error {
	count, err := l.count()
	if err == nil && count < n {
		err = fmt.Errorf("%w: the delete log of volume %d ends at delete number %d, the file goes by %d",
			ErrCorrupt, l.v.sb.Volume, count, n)
	}
	return err
}

// scan calls fn for every delete in the file, in order, twins left out.
func (l *deleteLog) scan(ctx context.Context, fn func(number uint32, key id.ID) error) error {
	last := uint32(0)
	w := &walker{file: l.v.file, seal: &l.v.seal, end: l.v.synced.Load()}
	return w.scan(scanOptions{data: true}, func(r Record) error {
		if r.Kind != KindTombstone || r.Deletes+1 == last {
			return ctx.Err()
		}
		last = r.Deletes + 1
		return fn(last, r.Key)
	})
}

// upTo returns the keys deleted by the deletes 1 to n. All of them must be
// there.
func (l *deleteLog) upTo(ctx context.Context, n uint32) (map[id.ID]bool, error) {
	if count, err := l.count(); err != nil || count < n {
		return nil, errors.Join(err, fmt.Errorf("%w: delete number %d, the log ends at %d", ErrInvalid, n, count))
	}
	keys := make(map[id.ID]bool)
	next := uint32(1)
	err := l.scan(ctx, func(number uint32, key id.ID) error {
		if number <= n && number != next {
			return fmt.Errorf("%w: delete %d of volume %d is lost", ErrCorrupt, next, l.v.sb.Volume)
		}
		if number <= n {
			keys[key] = true
		}
		next = number + 1
		return nil
	})
	if err == nil && n > 0 && next <= n {
		err = fmt.Errorf("%w: delete %d of volume %d is lost", ErrCorrupt, next, l.v.sb.Volume)
	}
	return keys, err
}

// Delete is one entry of a delete log.
type Delete struct {
	Number uint32 // counts from 1
	Key    id.ID
}

// Deletes calls fn for every delete of a sealed volume with a number above
// after, in their order, read from the file. It returns the number of the
// newest one.
func (v *Volume) Deletes(ctx context.Context, after uint32, fn func(Delete) error) (uint32, error) {
	if err := v.acquire(ctx); err != nil {
		return 0, err
	}
	defer v.release()
	p := v.sealing.part.Load()
	if p == nil {
		return 0, fmt.Errorf("%w: volume %d", ErrNotSealed, v.sb.Volume)
	}
	count, err := p.log.count()
	if err != nil || after >= count {
		return count, err
	}
	return count, p.log.scan(ctx, func(number uint32, key id.ID) error {
		if number <= after || number > count {
			return nil
		}
		return fn(Delete{Number: number, Key: key})
	})
}
