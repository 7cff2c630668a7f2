package cutfs

import (
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// file is a file of an FS.
type file struct {
	fs    *FS
	under vfs.File
	// ops is held for reading by an operation, for writing to close: one that was
	// left behind may still run, or begin later.
	ops    sync.RWMutex
	closed bool // guarded by ops
}

// during runs an operation on the file below.
func (f *file) during(op func() error) error {
	f.ops.RLock()
	defer f.ops.RUnlock()
	if f.closed {
		return fs.ErrClosed
	}
	return op()
}

var _ vfs.File = (*file)(nil)

// buffers keeps those of operations that ended. One that was left behind keeps
// its own.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// moved runs an operation on a copy of p: the caller's memory is its own again
// when it is left behind. read says that the copy flows back.
func (f *file) moved(p []byte, read bool, op func(p []byte) (int, error)) (int, error) {
	b := buffers.Get().(*[]byte)
	if cap(*b) < len(p) {
		*b = make([]byte, len(p))
	}
	own := (*b)[:len(p)]
	if !read {
		copy(own, p)
	}
	type moved struct {
		n   int
		err error
	}
	r, err := do(f.fs, func() (m moved, _ error) {
		if err := f.during(func() error { m.n, m.err = op(own); return nil }); err != nil {
			m.err = err
		}
		return m, nil
	}, nil)
	if err != nil {
		return 0, err // cut: own may still be in use
	}
	if read {
		copy(p, own[:r.n])
	}
	buffers.Put(b)
	f.fs.note(r.err)
	return r.n, r.err
}

// Read implements vfs.File.
func (f *file) Read(p []byte) (int, error) { return f.moved(p, true, f.under.Read) }

// ReadAt implements vfs.File.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	return f.moved(p, true, func(p []byte) (int, error) { return f.under.ReadAt(p, off) })
}

// Write implements vfs.File.
func (f *file) Write(p []byte) (int, error) { return f.moved(p, false, f.under.Write) }

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return f.moved(p, false, func(p []byte) (int, error) { return f.under.WriteAt(p, off) })
}

func (f *file) just(op func() error) error {
	return just(f.fs, func() error { return f.during(op) })
}

// noted is just for an operation whose failure is the disk's.
func (f *file) noted(op func() error) error {
	err := f.just(op)
	f.fs.note(err)
	return err
}

// Sync implements vfs.File.
func (f *file) Sync() error { return f.noted(f.under.Sync) }

// SyncData implements vfs.File.
func (f *file) SyncData() error { return f.noted(f.under.SyncData) }

// SyncTo implements vfs.File.
func (f *file) SyncTo(length int64) (full bool, err error) {
	full, err = do(f.fs, func() (full bool, err error) {
		err = f.during(func() error { full, err = f.under.SyncTo(length); return err })
		return full, err
	}, nil)
	f.fs.note(err)
	return full, err
}

// Preallocate implements vfs.File.
func (f *file) Preallocate(offset, length int64) error {
	return f.just(func() error { return f.under.Preallocate(offset, length) })
}

// Prefetch implements vfs.File.
func (f *file) Prefetch(offset, length int64) error {
	return f.just(func() error { return f.under.Prefetch(offset, length) })
}

// Stat implements vfs.File.
func (f *file) Stat() (vfs.FileInfo, error) {
	return do(f.fs, func() (i vfs.FileInfo, err error) {
		err = f.during(func() error { i, err = f.under.Stat(); return err })
		return i, err
	}, nil)
}

// Fd implements vfs.File: nobody may go round the cut.
func (f *file) Fd() uintptr { return vfs.InvalidFd }

// Close implements vfs.File. The file below is closed after a cut too.
func (f *file) Close() error {
	return f.fs.close(func() error {
		f.ops.Lock()
		defer f.ops.Unlock()
		f.closed = true
		return f.under.Close()
	})
}
