package server

import (
	"context"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
)

// impatient is the file system of a disk as long jobs reach it that others wait for:
// the coder's. A call that hangs is left as soon as the disk is out of service, with a
// buffer of its own, so that one disk does not stop the work on all others. What it
// does later is done to a file that the job has given up.
type impatient struct {
	d  *disk
	on vfs.FS // of a shelf there; nil: all of the disk's
}

func (p impatient) fs() vfs.FS {
	if p.on != nil {
		return p.on
	}
	return p.d.fs
}

var _ vfs.FS = impatient{}

// left are the buffers of calls: those that are left behind are not given back before
// their calls return.
var left slab.Pool

// call waits for f, or until the disk is out: then answered is false, and late is
// called when f returns after all.
func (p impatient) call(f func() error, late func()) (answered bool, err error) {
	done := make(chan error)
	gone := make(chan struct{})
	hung := p.d.hung()
	go func() {
		err := f()
		select {
		case done <- err:
		case <-gone:
			late()
		}
	}()
	select {
	case err := <-done:
		return true, err
	case <-hung:
		close(gone)
		return false, p.d.whyOut()
	}
}

// do is call for what leaves nothing behind.
func (p impatient) do(f func() error) error {
	_, err := p.call(f, func() {})
	return err
}

// open calls f, which opens a file, and wraps that.
func (p impatient) open(f func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	_, err := p.call(func() (err error) {
		file, err = f()
		return err
	}, func() {
		if file != nil {
			_ = file.Close() // nobody has it
		}
	})
	if err != nil {
		return nil, err
	}
	return &impatientFile{p, file}, nil
}

// Create implements vfs.FS.
func (p impatient) Create(name string) (vfs.File, error) {
	return p.open(func() (vfs.File, error) { return p.fs().Create(name) })
}

// Open implements vfs.FS.
func (p impatient) Open(name string) (vfs.File, error) {
	return p.open(func() (vfs.File, error) { return p.fs().Open(name) })
}

// OpenWrite implements vfs.FS.
func (p impatient) OpenWrite(name string) (vfs.File, error) {
	return p.open(func() (vfs.File, error) { return p.fs().OpenWrite(name) })
}

// OpenDirect implements vfs.FS.
func (p impatient) OpenDirect(name string) (vfs.File, int, error) {
	return p.direct(func() (vfs.File, int, error) { return p.fs().OpenDirect(name) })
}

// OpenDirectWrite implements vfs.FS.
func (p impatient) OpenDirectWrite(name string) (vfs.File, int, error) {
	return p.direct(func() (vfs.File, int, error) { return p.fs().OpenDirectWrite(name) })
}

func (p impatient) direct(open func() (vfs.File, int, error)) (vfs.File, int, error) {
	units := make(chan int, 1)
	f, err := p.open(func() (vfs.File, error) {
		f, unit, err := open()
		units <- unit
		return f, err
	})
	if err != nil {
		return nil, 0, err
	}
	return f, <-units, nil
}

// Remove implements vfs.FS.
func (p impatient) Remove(name string) error {
	return p.do(func() error { return p.fs().Remove(name) })
}

// Rename implements vfs.FS.
func (p impatient) Rename(from, to string) error {
	return p.do(func() error { return p.fs().Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (p impatient) MkdirAll(name string) error {
	return p.do(func() error { return p.fs().MkdirAll(name) })
}

// SyncDir implements vfs.FS.
func (p impatient) SyncDir(name string) error {
	return p.do(func() error { return p.fs().SyncDir(name) })
}

// ReadDir implements vfs.FS.
func (p impatient) ReadDir(name string) ([]string, error) {
	return answer(p, func() ([]string, error) { return p.fs().ReadDir(name) })
}

// Stat implements vfs.FS.
func (p impatient) Stat(name string) (vfs.Info, error) {
	return answer(p, func() (vfs.Info, error) { return p.fs().Stat(name) })
}

// answer is call for what returns a value. One that is late is dropped.
func answer[T any](p impatient, f func() (T, error)) (T, error) {
	values := make(chan T, 1)
	err := p.do(func() error {
		v, err := f()
		values <- v
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return <-values, nil
}

// impatientFile is a file of an impatient file system.
type impatientFile struct {
	p impatient
	f vfs.File
}

// ReadAt implements vfs.File.
func (f *impatientFile) ReadAt(b []byte, off int64) (n int, err error) {
	lease := left.Get(len(b))
	own := lease.Bytes()[:len(b)]
	var got int
	answered, err := f.p.call(func() (err error) {
		got, err = f.f.ReadAt(own, off)
		return err
	}, func() { lease.Release() })
	if answered {
		n = copy(b, own[:got])
		lease.Release()
	}
	return n, err
}

// WriteVAt implements vfs.File. It copies what it is given.
func (f *impatientFile) WriteVAt(bufs [][]byte, off int64) (n int, err error) {
	size := 0
	for _, b := range bufs {
		size += len(b)
	}
	lease := left.Get(size)
	own := lease.Bytes()[:0]
	for _, b := range bufs {
		own = append(own, b...)
	}
	var put int
	answered, err := f.p.call(func() (err error) {
		put, err = f.f.WriteVAt([][]byte{own}, off)
		return err
	}, func() { lease.Release() })
	if answered {
		n = put
		lease.Release()
	}
	return n, err
}

// input is a shard as jobs read it.
type input struct{ s *diskShard }

// ReadAt implements coding.Shard.
func (i input) ReadAt(ctx context.Context, b []byte, off int64) error {
	if i.s.at.d == nil {
		return i.s.ReadAt(ctx, b, off)
	}
	if err := i.s.why(); err != nil {
		return err
	}
	lease := left.Get(len(b))
	own := lease.Bytes()[:len(b)]
	answered, err := impatient{d: i.s.at.d}.call(func() error { return i.s.ReadAt(ctx, own, off) }, func() { lease.Release() })
	if answered {
		copy(b, own)
		lease.Release()
	}
	return err
}

// Sync implements vfs.File.
func (f *impatientFile) Sync() error { return f.p.do(f.f.Sync) }

// Allocate implements vfs.File.
func (f *impatientFile) Allocate(off, n int64) error {
	return f.p.do(func() error { return f.f.Allocate(off, n) })
}

// Truncate implements vfs.File.
func (f *impatientFile) Truncate(size int64) error {
	return f.p.do(func() error { return f.f.Truncate(size) })
}

// Size implements vfs.File.
func (f *impatientFile) Size() (int64, error) { return answer(f.p, f.f.Size) }

// Evict implements vfs.File.
func (f *impatientFile) Evict(off, n int64) error {
	return f.p.do(func() error { return f.f.Evict(off, n) })
}

// Close implements vfs.File. It waits for calls under way, but for those that were
// left, beside the caller when the disk is out.
func (f *impatientFile) Close() error { return f.p.do(f.f.Close) }
