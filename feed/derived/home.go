package derived

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/clock"
)

// ErrHomeless is returned while there is no instance: it was closed, or no directory is
// left.
var ErrHomeless = errors.New("derived: no directory is left")

// Options are what Open needs. All must be given but FS, Clock and Notify.
type Options struct {
	Name   string   // of the marker file: only a directory with it is ever wiped
	Dirs   []string // in order of preference, each on a disk of its own
	FS     vfs.FS   // default: the machine's; tests crash it
	Clock  clock.Clock
	Pebble func(*pebble.Options) // sets what is not about directories and errors
	// Check says whether an instance that was opened, perhaps a new one, is of use. It may
	// write to it. An error makes it start empty.
	Check func(*pebble.DB) error
	// Poke wakes the writer: Lost may have changed. It must not block.
	Poke   func()
	Notify func(Notice)
}

// NoticeKind says what a Notice is about.
type NoticeKind uint8

// The kinds of notices.
const (
	Wiped         NoticeKind = iota + 1 // the instance was useless (Err says why) and starts empty
	StorageFailed                       // Pebble reports a failed background write, which it tries again
	Homeless                            // no directory is left
)

// Notice tells an operator what happened.
type Notice struct {
	Kind NoticeKind
	Err  error
}

// Names in each directory beside the marker.
const (
	instanceName = "db"
	discardName  = "db.discarded"
)

// Home is the instance and the directories it may lie in. See the package comment.
type Home struct {
	o       Options
	corrupt atomic.Pointer[error] // what Pebble found, until Reset

	diskMu sync.Mutex // guards usable, and why of each disk
	usable map[string]*disk

	dbMu   sync.RWMutex // guards those below: views hold it for reading
	in     *instance    // nil: there is none
	closed bool
}

// Open opens the instance in the first directory that has one, or an empty one in the
// first that can be used. It fails when there is none at all.
func Open(o Options) (*Home, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Notify == nil {
		o.Notify = func(Notice) {}
	}
	h := &Home{o: o, usable: map[string]*disk{}}
	for _, d := range o.Dirs {
		h.Give(d)
	}
	all := h.disks()
	slices.SortStableFunc(all, func(a, b *disk) int {
		switch had, has := h.holds(a), h.holds(b); {
		case had == has:
			return 0
		case had:
			return -1
		}
		return 1
	})
	errs := []error{ErrHomeless}
	for i, d := range all {
		if err := h.openOn(d); err != nil {
			err = fmt.Errorf("derived: open %s: %w", d.dir, err)
			h.lose(d, err)
			errs = append(errs, err)
			continue
		}
		for _, other := range all[i+1:] { // what was current once
			if h.holds(other) && h.mark(other) == nil {
				_ = other.fs.RemoveAll(other.fs.PathJoin(other.dir, instanceName)) // it costs room, no more
			}
		}
		return h, nil
	}
	return nil, errors.Join(errs...)
}

func (h *Home) holds(d *disk) bool {
	_, err := d.fs.Stat(d.fs.PathJoin(d.dir, instanceName))
	return err == nil
}

// openOn opens the instance on d, an empty one when what is there is of no use.
func (h *Home) openOn(d *disk) error {
	if err := h.mark(d); err != nil {
		return err
	}
	in, err := h.openInstance(d)
	if err == nil {
		h.in = in
		return nil
	}
	if pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errUseless) {
		return h.renew(d, err)
	}
	return err
}

// errUseless marks what Check has said.
var errUseless = errors.New("derived: an instance of no use")

// openInstance opens Pebble and checks it.
func (h *Home) openInstance(d *disk) (*instance, error) {
	in := &instance{on: d, clock: h.o.Clock, closing: make(chan struct{})}
	err := in.guard(func() (err error) {
		in.db, err = pebble.Open(d.fs.PathJoin(d.dir, instanceName), h.pebbleOptions(in))
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := in.guard(func() error { return h.o.Check(in.db) }); err != nil {
		_ = in.close() // one that is thrown away may fail to close
		return nil, fmt.Errorf("%w: %w", errUseless, err)
	}
	return in, nil
}

func (h *Home) pebbleOptions(in *instance) *pebble.Options {
	o := &pebble.Options{
		FS:                 in.on.fs,
		FormatMajorVersion: pebble.FormatValueSeparation,
		DisableWAL:         true,
		Logger:             logger{func(err error) { in.fail(err); h.o.Poke() }},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { h.background(in, err) },
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				err := fmt.Errorf("%s: %w", i.Path, i.Details)
				if h.corrupt.CompareAndSwap(nil, &err) {
					h.o.Poke()
				}
			},
		},
	}
	h.o.Pebble(o)
	return o
}

// background is told of a flush or compaction that failed. Pebble tries again at once,
// and for ever; where there is another directory, that one is better.
func (h *Home) background(in *instance, err error) {
	if in.on.isGone() {
		select { // it would try without a pause
		case <-in.closing:
		case <-h.o.Clock.After(50 * time.Millisecond):
		}
		return
	}
	h.o.Notify(Notice{StorageFailed, err})
	if in.on.fs.Failed() != nil && len(h.disks()) > 1 {
		h.lose(in.on, err)
		h.o.Poke()
	}
}

// mark makes the directory with its marker and finishes an interrupted wipe.
func (h *Home) mark(d *disk) error {
	marker := d.fs.PathJoin(d.dir, h.o.Name)
	if _, err := d.fs.Stat(marker); err == nil {
		return d.fs.RemoveAll(d.fs.PathJoin(d.dir, discardName))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(d.fs, d.dir); err != nil {
		return err
	}
	names, err := d.fs.List(d.dir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("directory holds %q but no %s", names[0], h.o.Name)
	}
	f, err := d.fs.Create(marker, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(d.fs, d.dir)
}

// makeDir makes dir and what is missing above it, all of it durable.
func makeDir(fsys vfs.FS, dir string) error {
	if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := fsys.PathDir(dir)
	if parent != dir && parent != "." {
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fsys, parent)
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// renew makes an empty instance on d; the one before is closed.
func (h *Home) renew(d *disk, why error) error {
	dir, discard := d.fs.PathJoin(d.dir, instanceName), d.fs.PathJoin(d.dir, discardName)
	if err := d.fs.RemoveAll(discard); err != nil {
		return err
	}
	if err := d.fs.Rename(dir, discard); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.fs.RemoveAll(discard); err != nil {
		return err
	}
	in, err := h.openInstance(d)
	if err != nil {
		return err
	}
	h.in = in
	h.corrupt.Store(nil)
	h.o.Notify(Notice{Wiped, why})
	return nil
}

// View calls f with the instance. It must not be kept.
func (h *Home) View(f func(*pebble.DB) error) error {
	h.dbMu.RLock()
	defer h.dbMu.RUnlock()
	if h.in == nil {
		return ErrHomeless
	}
	return f(h.in.db)
}

// Commit writes a batch of the instance, not durably. It closes it.
func (h *Home) Commit(b *pebble.Batch) error {
	err := h.in.guard(func() error { return b.Commit(pebble.NoSync) })
	if errors.Is(err, errAbandoned) {
		return err // the disk keeps it
	}
	return errors.Join(err, b.Close())
}

// Batch returns an empty batch for Commit; ErrHomeless when there is no instance.
func (h *Home) Batch() (*pebble.Batch, error) {
	if h.in == nil {
		return nil, ErrHomeless
	}
	return h.in.db.NewBatch(), nil
}

// Flush begins to make all that was committed durable; the channel says when it is.
func (h *Home) Flush() (done <-chan struct{}, err error) {
	if h.in == nil {
		return nil, ErrHomeless
	}
	err = h.in.guard(func() (err error) { done, err = h.in.db.AsyncFlush(); return err })
	return done, err
}

// Lost is why the writer should call Reset: the disk is gone, the instance is damaged,
// or there is none and a directory can be used. nil: it need not.
func (h *Home) Lost() error {
	if h.in == nil {
		if len(h.disks()) > 0 {
			return errors.New("a directory can be used again")
		}
		return nil
	}
	if err := h.in.lost(); err != nil {
		return err
	}
	if p := h.corrupt.Load(); p != nil {
		return *p
	}
	return nil
}

// Reset replaces the instance by an empty one, in the same directory if that can be
// used, under the feet of the views. Without any directory there is none for now.
func (h *Home) Reset(why error) {
	h.dbMu.Lock()
	defer h.dbMu.Unlock()
	if h.closed {
		return
	}
	old := h.in
	h.in = nil
	order := h.disks()
	if old != nil {
		if lost := old.lost(); lost != nil {
			h.lose(old.on, lost)
			order = h.disks()
		}
		_ = old.close() // an instance that is thrown away may fail to close
		slices.SortStableFunc(order, func(a, b *disk) int {
			switch {
			case a == old.on:
				return -1
			case b == old.on:
				return 1
			}
			return 0
		})
	}
	for _, d := range order {
		err := h.mark(d)
		if err == nil {
			err = h.renew(d, why)
		}
		if err == nil {
			return
		}
		why = err
		h.lose(d, err)
	}
	h.corrupt.Store(nil)
	h.o.Notify(Notice{Homeless, why})
}

// Take tells that the disk of one of Options.Dirs is gone.
func (h *Home) Take(dir string, why error) {
	for _, d := range h.disks() {
		if filepath.Clean(d.dir) == filepath.Clean(dir) {
			h.lose(d, why)
		}
	}
	h.o.Poke()
}

// Give tells that a directory may be used again.
func (h *Home) Give(dir string) {
	h.diskMu.Lock()
	for _, d := range h.o.Dirs {
		if filepath.Clean(d) == filepath.Clean(dir) && h.usable[d] == nil {
			h.usable[d] = newDisk(h.o.FS, d)
		}
	}
	h.diskMu.Unlock()
	h.o.Poke()
}

func (h *Home) lose(d *disk, why error) {
	h.diskMu.Lock()
	defer h.diskMu.Unlock()
	if d.isGone() {
		return
	}
	d.why = fmt.Errorf("%s: %w", d.dir, why)
	delete(h.usable, d.dir)
	close(d.gone)
	d.fs.Cut(d.why)
}

// disks returns those that can be used, in order of preference.
func (h *Home) disks() []*disk {
	h.diskMu.Lock()
	defer h.diskMu.Unlock()
	var out []*disk
	for _, dir := range h.o.Dirs {
		if d := h.usable[dir]; d != nil {
			out = append(out, d)
		}
	}
	return out
}

// DiskBytes is the room that the instance takes.
func (h *Home) DiskBytes() (n uint64) {
	_ = h.View(func(db *pebble.DB) error {
		if h.in.lost() == nil {
			n = db.Metrics().DiskSpaceUsage()
		}
		return nil
	})
	return n
}

// Close makes everything durable and closes the instance.
func (h *Home) Close() error {
	h.dbMu.Lock()
	defer h.dbMu.Unlock()
	in := h.in
	h.in, h.closed = nil, true
	if in == nil {
		return nil
	}
	var err error
	if in.lost() == nil {
		err = in.guard(in.db.Flush)
	}
	return errors.Join(err, in.close())
}
