package cutfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is a file system that can be cut off. Use New.
type FS struct {
	under  vfs.FS
	once   sync.Once
	cut    chan struct{} // closed by Cut
	why    error         // valid after cut
	failed atomic.Pointer[error]
}

var _ vfs.FS = (*FS)(nil)

// New returns an FS that passes everything to under until it is cut.
func New(under vfs.FS) *FS { return &FS{under: under, cut: make(chan struct{})} }

// Cut ends every operation, those under way and those to come, with why. The
// first call counts.
func (f *FS) Cut(why error) {
	f.once.Do(func() {
		f.why = why
		close(f.cut)
	})
}

// Failed is the first error with which the disk failed to read or write a file,
// or nil. That a file is missing or ends is no such error.
func (f *FS) Failed() error {
	if p := f.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// note remembers a failure of the disk.
func (f *FS) note(err error) {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrClosed) {
		return
	}
	f.failed.CompareAndSwap(nil, &err)
}

// result is what an operation returned.
type result[T any] struct {
	v   T
	err error
}

// do runs op and returns what it returns, or the reason of a cut that comes
// first. undo, if given, gets the value of an op that was left behind.
func do[T any](f *FS, op func() (T, error), undo func(T)) (T, error) {
	var none T
	select {
	case <-f.cut:
		return none, f.why
	default:
	}
	done := make(chan result[T])
	go func() {
		v, err := op()
		select {
		case done <- result[T]{v, err}:
		case <-f.cut:
			if undo != nil && err == nil {
				undo(v)
			}
		}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-f.cut:
		return none, f.why
	}
}

// just is do for an operation without a value.
func just(f *FS, op func() error) error {
	_, err := do(f, func() (struct{}, error) { return struct{}{}, op() }, nil)
	return err
}

func closeFile(v vfs.File) { _ = v.Close() } // nobody has it

// file runs an operation that opens a file.
func (f *FS) file(op func() (vfs.File, error)) (vfs.File, error) {
	v, err := do(f, op, closeFile)
	if err != nil {
		f.note(err)
		return nil, err
	}
	return &file{fs: f, under: v}, nil
}

// Create implements vfs.FS.
func (f *FS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.under.Create(name, c) })
}

// Open implements vfs.FS.
func (f *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.under.Open(name, opts...) })
}

// OpenReadWrite implements vfs.FS.
func (f *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.under.OpenReadWrite(name, c, opts...) })
}

// OpenDir implements vfs.FS.
func (f *FS) OpenDir(name string) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.under.OpenDir(name) })
}

// ReuseForWrite implements vfs.FS.
func (f *FS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.under.ReuseForWrite(from, to, c) })
}

// Link implements vfs.FS.
func (f *FS) Link(from, to string) error {
	return just(f, func() error { return f.under.Link(from, to) })
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error { return just(f, func() error { return f.under.Remove(name) }) }

// RemoveAll implements vfs.FS.
func (f *FS) RemoveAll(name string) error {
	return just(f, func() error { return f.under.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (f *FS) Rename(from, to string) error {
	return just(f, func() error { return f.under.Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(dir string, perm os.FileMode) error {
	return just(f, func() error { return f.under.MkdirAll(dir, perm) })
}

// Lock implements vfs.FS. The lock is given back even after a cut.
func (f *FS) Lock(name string) (io.Closer, error) {
	c, err := do(f, func() (io.Closer, error) { return f.under.Lock(name) }, func(c io.Closer) { _ = c.Close() })
	if err != nil {
		return nil, err
	}
	return closer{f, c}, nil
}

type closer struct {
	fs    *FS
	under io.Closer
}

func (c closer) Close() error { return c.fs.close(c.under.Close) }

// close closes what is below, after a cut too, when nobody waits for it.
func (f *FS) close(op func() error) error {
	select {
	case <-f.cut:
		go op()
		return f.why
	default:
		return just(f, op)
	}
}

// List implements vfs.FS.
func (f *FS) List(dir string) ([]string, error) {
	return do(f, func() ([]string, error) { return f.under.List(dir) }, nil)
}

// Stat implements vfs.FS.
func (f *FS) Stat(name string) (vfs.FileInfo, error) {
	return do(f, func() (vfs.FileInfo, error) { return f.under.Stat(name) }, nil)
}

// GetDiskUsage implements vfs.FS.
func (f *FS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	return do(f, func() (vfs.DiskUsage, error) { return f.under.GetDiskUsage(path) }, nil)
}

// PathBase implements vfs.FS.
func (f *FS) PathBase(path string) string { return f.under.PathBase(path) }

// PathJoin implements vfs.FS.
func (f *FS) PathJoin(elem ...string) string { return f.under.PathJoin(elem...) }

// PathDir implements vfs.FS.
func (f *FS) PathDir(path string) string { return f.under.PathDir(path) }

// Unwrap implements vfs.FS.
func (f *FS) Unwrap() vfs.FS { return f.under }
