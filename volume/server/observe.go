package server

import (
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

// observed is the file system of one disk as everything on it reaches it: it
// sees how each call ends and which ones wait, and lets none through any more
// once the disk is gone, so that nobody who is late writes into what was put in
// its place.
type observed struct {
	vfs.FS
	o *observer
}

var _ vfs.FS = observed{}

// observer keeps what was seen until the watcher takes it.
type observer struct {
	kick func()                // a fault was seen
	tick *atomic.Int64         // the watcher's time
	gone atomic.Pointer[error] // why no call is let through any more

	mu     sync.Mutex // guards all below
	kinds  [2]waiting
	failed []place
	broken []string
}

// The kinds of calls whose answers are waited for.
const (
	readCall  = iota // of file contents
	writeCall        // of contents, syncs, and changes of a file's size
	nameCall         // the rest: only their errors count
)

// waiting are the calls of one kind that are under way, the oldest first.
type waiting struct {
	first, last *call
	answered    int
}

// call is one that is under way.
type call struct {
	begun      int64 // tick
	kind       int
	prev, next *call
}

// maxFaults bounds what is kept of one look.
const maxFaults = 256

func (o *observer) begin(kind int) (*call, error) {
	if why := o.gone.Load(); why != nil {
		return nil, *why
	}
	if kind == nameCall {
		return nil, nil
	}
	c := &call{begun: o.tick.Load(), kind: kind}
	o.mu.Lock()
	defer o.mu.Unlock()
	w := &o.kinds[kind]
	if c.prev = w.last; c.prev == nil {
		w.first = c
	} else {
		c.prev.next = c
	}
	w.last = c
	return c, nil
}

func (o *observer) end(c *call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := &o.kinds[c.kind]
	if c.prev == nil {
		w.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		w.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	w.answered++
}

// oldest returns the tick at which the oldest call of a kind under way began.
func (o *observer) oldest(kind int) (begun int64, any bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.kinds[kind].first; c != nil {
		return c.begun, true
	}
	return 0, false
}

// fault notes an error of the device.
func (o *observer) fault(kind int, name string, off, n int64, err error) {
	if !ofDevice(err) || o.gone.Load() != nil {
		return
	}
	o.mu.Lock()
	if kind == readCall && len(o.failed) < maxFaults {
		o.failed = append(o.failed, place{name: name, from: off, to: off + max(n, 1)})
		o.kinds[readCall].answered = max(0, o.kinds[readCall].answered-1) // it does not count for the disk
	}
	if kind == writeCall && len(o.broken) < maxFaults {
		o.broken = append(o.broken, name)
	}
	o.mu.Unlock()
	o.kick()
}

// take returns what was seen since it was last called, at a time of the watcher's.
func (o *observer) take(now time.Duration) (s sight) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.failed, s.broken = o.failed, o.broken
	o.failed, o.broken = nil, nil
	for kind, t := range []*traffic{&s.reads, &s.writes} {
		w := &o.kinds[kind]
		t.answered, w.answered = w.answered, 0
		if w.first != nil {
			t.oldest = max(now-time.Duration(w.first.begun), 1)
		}
	}
	return s
}

// deviceErrors are what the kernel says when a device, or the file system on it,
// fails. Others, such as want of room or of file descriptors, say nothing about it.
var deviceErrors = []unix.Errno{
	unix.EIO,
	unix.ENXIO, unix.ENODEV, unix.ENOMEDIUM, // it was pulled out
	unix.EREMOTEIO, unix.EBADMSG, unix.EILSEQ, // of a bus, of check sums below the file system
	unix.ETIMEDOUT, unix.ENOLINK, unix.ENOTCONN, unix.ESTALE, unix.ESHUTDOWN, // of file systems that are elsewhere, or were shut down
	unix.EUCLEAN, unix.EROFS, // damaged, and made read-only for that
}

func ofDevice(err error) bool {
	var no unix.Errno
	if !errors.As(err, &no) {
		return false
	}
	for _, d := range deviceErrors {
		if no == d {
			return true
		}
	}
	return false
}

// did runs a call on a name.
func (f observed) did(kind int, name string, do func() error) error {
	if _, err := f.o.begin(nameCall); err != nil {
		return &fs.PathError{Op: "use", Path: name, Err: err}
	}
	err := do()
	if err != nil {
		f.o.fault(kind, name, 0, 0, err)
	}
	return err
}

func (f observed) open(kind int, name string, open func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := f.did(kind, name, func() (err error) {
		file, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &observedFile{file, f.o, name}, nil
}

// Create implements vfs.FS.
func (f observed) Create(name string) (vfs.File, error) {
	return f.open(writeCall, name, func() (vfs.File, error) { return f.FS.Create(name) })
}

// Open implements vfs.FS.
func (f observed) Open(name string) (vfs.File, error) {
	return f.open(readCall, name, func() (vfs.File, error) { return f.FS.Open(name) })
}

// OpenDirect implements vfs.FS.
func (f observed) OpenDirect(name string) (file vfs.File, unit int, err error) {
	file, err = f.open(readCall, name, func() (file vfs.File, err error) {
		file, unit, err = f.FS.OpenDirect(name)
		return file, err
	})
	return file, unit, err
}

// OpenDirectWrite implements vfs.FS.
func (f observed) OpenDirectWrite(name string) (file vfs.File, unit int, err error) {
	file, err = f.open(readCall, name, func() (file vfs.File, err error) {
		file, unit, err = f.FS.OpenDirectWrite(name)
		return file, err
	})
	return file, unit, err
}

// OpenWrite implements vfs.FS. It writes nothing.
func (f observed) OpenWrite(name string) (vfs.File, error) {
	return f.open(readCall, name, func() (vfs.File, error) { return f.FS.OpenWrite(name) })
}

// Remove implements vfs.FS.
func (f observed) Remove(name string) error {
	return f.did(writeCall, name, func() error { return f.FS.Remove(name) })
}

// Rename implements vfs.FS.
func (f observed) Rename(from, to string) error {
	return f.did(writeCall, from, func() error { return f.FS.Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (f observed) MkdirAll(name string) error {
	return f.did(writeCall, name, func() error { return f.FS.MkdirAll(name) })
}

// SyncDir implements vfs.FS.
func (f observed) SyncDir(name string) error {
	return f.did(writeCall, name, func() error { return f.FS.SyncDir(name) })
}

// ReadDir implements vfs.FS.
func (f observed) ReadDir(name string) (names []string, err error) {
	err = f.did(readCall, name, func() error {
		names, err = f.FS.ReadDir(name)
		return err
	})
	return names, err
}

// Stat implements vfs.FS.
func (f observed) Stat(name string) (i vfs.Info, err error) {
	err = f.did(readCall, name, func() error {
		i, err = f.FS.Stat(name)
		return err
	})
	return i, err
}

// observedFile is an open file of an observed.
type observedFile struct {
	vfs.File
	o    *observer
	name string
}

// ReadAt implements vfs.File.
func (f *observedFile) ReadAt(b []byte, off int64) (int, error) {
	c, err := f.o.begin(readCall)
	if err != nil {
		return 0, err
	}
	n, err := f.File.ReadAt(b, off)
	f.o.end(c)
	if err != nil {
		f.o.fault(readCall, f.name, off, int64(len(b)), err)
	}
	return n, err
}

// WriteVAt implements vfs.File.
func (f *observedFile) WriteVAt(bufs [][]byte, off int64) (int, error) {
	c, err := f.o.begin(writeCall)
	if err != nil {
		return 0, err
	}
	n, err := f.File.WriteVAt(bufs, off)
	return n, f.wrote(c, err)
}

func (f *observedFile) wrote(c *call, err error) error {
	f.o.end(c)
	if err != nil {
		f.o.fault(writeCall, f.name, 0, 0, err)
	}
	return err
}

// Sync implements vfs.File.
func (f *observedFile) Sync() error {
	c, err := f.o.begin(writeCall)
	if err != nil {
		return err
	}
	return f.wrote(c, f.File.Sync())
}

// Allocate implements vfs.File.
func (f *observedFile) Allocate(off, n int64) error {
	c, err := f.o.begin(writeCall)
	if err != nil {
		return err
	}
	return f.wrote(c, f.File.Allocate(off, n))
}

// Truncate implements vfs.File.
func (f *observedFile) Truncate(size int64) error {
	c, err := f.o.begin(writeCall)
	if err != nil {
		return err
	}
	return f.wrote(c, f.File.Truncate(size))
}
