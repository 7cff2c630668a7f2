package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// deleteLog is the delete log of a fenced or sealed volume; see docs/format.md. It
// is a volume file that holds nothing but tombstones, so group commit, recovery,
// poisoning and the treatment of rot are those of the engine. All generations
// of a volume that are open in this process share one.
type deleteLog struct {
	dir string
	id  ID
	o   Options
	cur atomic.Pointer[logFile]

	// followers belong to the writer goroutine of cur.
	followers map[*sealedPart]bool

	mu   sync.Mutex // guards refs
	refs int        // generations that use it
}

// logFile is the file of a delete log, which another one may replace.
type logFile struct {
	v *Volume
	// unsure is why deletes may be missing: then no needle may be served.
	unsure error
}

// errReplaced: the call came to a file that is a delete log no more.
var errReplaced = errors.New("the delete log was replaced")

// createDeleteLog makes an empty delete log unless there is one. When it
// returns nil the file and its name are durable.
func createDeleteLog(dir string, v ID, o Options) error {
	if _, err := o.FS.Stat(filepath.Join(dir, DeleteLogName(v))); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err // it is synced when it is opened
	}
	content, err := encodeDeletes(v, nil, o.Clock.Now())
	if err == nil {
		err = vfs.WriteFile(o.FS, filepath.Join(dir, DeleteLogName(v)), content[:dataStart])
	}
	if err != nil {
		return fmt.Errorf("create the delete log: %w", classify(err))
	}
	return nil
}

// openDeleteLog opens and recovers the log. A log that is not there is damage:
// there was one before the volume was fenced.
func openDeleteLog(dir string, v ID, o Options) (*deleteLog, error) {
	o.MaxBytes, o.AllocChunk = maxOffset, min(o.AllocChunk, 64<<10)
	l := &deleteLog{dir: dir, id: v, o: o, refs: 1, followers: make(map[*sealedPart]bool)}
	file, err := l.open()
	if err != nil {
		return nil, err
	}
	l.cur.Store(file)
	return l, nil
}

// open opens the file that has the log's name.
func (l *deleteLog) open() (*logFile, error) {
	vol, err := openFile(l.dir, Entry{Volume: l.id, Generation: 1, Name: DeleteLogName(l.id)}, l.o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the delete log of volume %d is missing", ErrCorrupt, l.id)
	}
	if err != nil {
		return nil, err
	}
	file := &logFile{v: vol}
	switch cause := vol.poisoned(); {
	case vol.damage.unsureBelow > 0:
		file.unsure = fmt.Errorf("%w: a delete of volume %d is lost", ErrCorrupt, l.id)
	case errors.Is(cause, ErrCorrupt):
		file.unsure = cause // what could not be read may hold deletes
	}
	vol.sealing.onDelete = func(keys []id.ID) {
		for _, key := range keys {
			for f := range l.followers {
				f.forget(key)
			}
		}
	}
	return file, nil
}

// openLogFor opens the delete log of a volume that is about to be fenced or
// salvaged; without one it makes it.
func openLogFor(dir string, v ID, o Options) (*deleteLog, error) {
	if err := createDeleteLog(dir, v, o); err != nil {
		return nil, err
	}
	l, err := openDeleteLog(dir, v, o)
	if err != nil {
		return nil, err
	}
	if err := l.renew(); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return l, nil
}

// renew sees to it that no delete of the log is lost, and that it takes deletes as
// far as that can be had: one that is poisoned, and in which no delete was ever
// stored, gives its place to a new one.
func (l *deleteLog) renew() error {
	file := l.cur.Load()
	v := file.v
	cause := cmp.Or(file.unsure, v.poisoned())
	if cause == nil {
		return nil
	}
	if v.synced.Load() == dataStart && len(v.damage.rot) == 0 && v.unread == nil {
		return l.replace(nil)
	}
	if file.unsure != nil || v.unread != nil {
		return fmt.Errorf("delete log: %w", cause)
	}
	return nil
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
	return l.cur.Load().v.Close()
}

func (l *deleteLog) deleted(key id.ID) bool {
	_, _, deleted := l.cur.Load().v.idx.Load().get(key, 0)
	return deleted
}

// unsure is why deletes may be missing, or nil.
func (l *deleteLog) unsure() error { return l.cur.Load().unsure }

// retry tells whether a call has to be made again, of the file that has taken the
// place of the one that it met.
func (l *deleteLog) retry(met *logFile, err error) bool {
	return l.cur.Load() != met && (errors.Is(err, errReplaced) || errors.Is(err, ErrClosed))
}

// onWriter runs fn while no delete is being committed.
func (l *deleteLog) onWriter(fn func(v *Volume) error) error {
	for {
		file := l.cur.Load()
		o := &op{exec: func() error {
			if file.v.sealing.replaced {
				return errReplaced
			}
			return fn(file.v)
		}, done: make(chan error, 1)}
		err := ErrClosed
		if file.v.queue.add(o) {
			err = <-o.done
		}
		if !l.retry(file, err) {
			return err
		}
	}
}

// follow tells p of every key that is deleted already, and of every one that
// will be, each once, until leave.
func (l *deleteLog) follow(p *sealedPart) error {
	return l.onWriter(func(v *Volume) error {
		p.recount(v)
		l.followers[p] = true
		return nil
	})
}

// unfollow ends what follow began.
func (l *deleteLog) unfollow(p *sealedPart) error {
	return l.onWriter(func(*Volume) error {
		delete(l.followers, p)
		return nil
	})
}

// leave is unfollow of who had a share of the log.
func (l *deleteLog) leave(p *sealedPart) error { return errors.Join(l.unfollow(p), l.release()) }

// count returns the number of the newest delete that is stored.
func (l *deleteLog) count() uint32 { return l.cur.Load().v.deletes.Load() }

// holds reports that the log has lost its end, where no later record tells of it:
// a generation goes by the deletes 1 to n, which were on the device before it.
func (l *deleteLog) holds(n uint32) error {
	if count := l.count(); count < n {
		return fmt.Errorf("%w: the delete log of volume %d ends at delete number %d, the file goes by %d", ErrCorrupt, l.id, count, n)
	}
	return nil
}

// scan calls fn for every delete in the file, in order, twins left out. lost tells
// that numbers in front of it are missing and no void record says why.
func (l *deleteLog) scan(ctx context.Context, fn func(d Delete, lost bool) error) error {
	for {
		file := l.cur.Load()
		err := file.v.acquire(ctx)
		if err == nil {
			err = file.scan(ctx, fn)
			file.v.release()
			return err
		}
		if !l.retry(file, err) {
			return err
		}
	}
}

func (file *logFile) scan(ctx context.Context, fn func(d Delete, lost bool) error) error {
	last, voided := uint32(0), false
	w := &walker{file: file.v.file, seal: &file.v.seal, end: file.v.synced.Load()}
	return w.scan(scanOptions{data: true}, func(r Record) error {
		voided = voided || r.Kind == KindVoid
		if r.Kind != KindTombstone || r.Deletes+1 == last {
			return ctx.Err()
		}
		lost := r.Deletes != last && !voided
		last, voided = r.Deletes+1, false
		return fn(Delete{Number: last, Key: r.Key}, lost)
	})
}

// upTo returns the keys deleted by the deletes 1 to n. All of them must be
// there, but for numbers that a recovery gave up.
func (l *deleteLog) upTo(ctx context.Context, n uint32) (map[id.ID]bool, error) {
	if count := l.count(); count < n {
		return nil, fmt.Errorf("%w: delete number %d, the log ends at %d", ErrInvalid, n, count)
	}
	keys := make(map[id.ID]bool)
	last := uint32(0)
	err := l.scan(ctx, func(d Delete, lost bool) error {
		if lost && last < n {
			return fmt.Errorf("%w: a delete behind number %d of volume %d is lost", ErrCorrupt, last, l.id)
		}
		if d.Number <= n {
			keys[d.Key] = true
		}
		last = d.Number
		return nil
	})
	if err == nil && last < n {
		err = fmt.Errorf("%w: delete %d of volume %d is lost", ErrCorrupt, n, l.id)
	}
	return keys, err
}

// Delete is one entry of a delete log.
type Delete struct {
	Number uint32 // counts from 1
	Key    id.ID
}

// Deletes calls fn for every delete in the log of a fenced or sealed volume with a
// number above after, in their order, read from the file. It returns the number of
// the newest one. Numbers that a recovery gave up are missing.
func (v *Volume) Deletes(ctx context.Context, after uint32, fn func(Delete) error) (count uint32, err error) {
	err = v.withLog(ctx, func(l *deleteLog) error {
		if count = l.count(); after >= count {
			return nil
		}
		return l.scan(ctx, func(d Delete, _ bool) error {
			if d.Number <= after || d.Number > count {
				return nil
			}
			return fn(d)
		})
	})
	return count, err
}

// NewestDelete returns the number of the newest delete in the log of a fenced or
// sealed volume that is on stable storage, 0 when there is none.
func (v *Volume) NewestDelete() (uint32, error) {
	l := v.deleteLog()
	if l == nil {
		return 0, v.notFenced()
	}
	return l.count(), nil
}

func (v *Volume) notFenced() error { return fmt.Errorf("%w: volume %d", ErrNotFenced, v.sb.Volume) }

// deleteLog is the log that deletes go to, nil before the fence.
func (v *Volume) deleteLog() *deleteLog {
	if p := v.sealing.part.Load(); p != nil {
		return p.log
	}
	return v.sealing.log.Load()
}

// withLog calls fn with the log while the volume is kept open.
func (v *Volume) withLog(ctx context.Context, fn func(*deleteLog) error) error {
	if err := v.acquire(ctx); err != nil {
		return err
	}
	defer v.release()
	l := v.deleteLog()
	if l == nil {
		return v.notFenced()
	}
	return fn(l)
}

// logged tells whether a key of an unsealed volume is deleted by a log beside its
// file, and why that is not certain.
func (v *Volume) logged(key id.ID) (gone bool, unsure error) {
	if l := v.sealing.log.Load(); l != nil {
		return l.deleted(key), l.unsure()
	}
	return v.later.gone[key], v.later.unsure
}
