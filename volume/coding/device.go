package coding

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
)

// device is a file opened for reading what the device holds.
type device struct {
	f      vfs.File
	direct bool // offsets, lengths and memory must be multiples of pageSize
}

// openDevice opens a file past the page cache where there is a way, and drops
// what is cached: after a sync that failed the cache may hold as clean what the
// device never got.
func openDevice(fsys vfs.FS, name string) (*device, error) {
	d := &device{direct: true}
	f, unit, err := fsys.OpenDirect(name)
	if err == nil {
		// Some file systems open such files and do not read them.
		_, probe := f.ReadAt(slab.Alloc(pageSize), 0)
		if unit > pageSize || errors.Is(probe, unix.EINVAL) {
			err = errors.Join(vfs.ErrNoDirect, f.Close())
		}
	}
	if errors.Is(err, vfs.ErrNoDirect) {
		d.direct = false
		f, err = fsys.Open(name)
	}
	if err != nil {
		return nil, err
	}
	d.f = f
	if err := f.Evict(0, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("drop cached pages: %w", err), f.Close())
	}
	return d, nil
}

func isAligned(b []byte, off int64) bool {
	at := int64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	return (off|int64(len(b))|at)&(pageSize-1) == 0
}

// read fills b from offset off; end of file is an error.
func (d *device) read(b []byte, off int64) error { return d.readBy(d.f.ReadAt, b, off) }

// readFor is read for as long as ctx lasts, where a read can be called off.
func (d *device) readFor(ctx context.Context, b []byte, off int64) error {
	if f, ok := d.f.(vfs.ContextReader); ok {
		return d.readBy(func(b []byte, off int64) (int, error) { return f.ReadAtContext(ctx, b, off) }, b, off)
	}
	return d.read(b, off)
}

func (d *device) readBy(readAt func([]byte, int64) (int, error), b []byte, off int64) error {
	if !d.direct || isAligned(b, off) {
		n, err := readAt(b, off)
		return short(n, len(b), off, err)
	}
	from, to := off&^(pageSize-1), roundUp(off+int64(len(b)), pageSize)
	lease := buffers.Get(int(to - from))
	defer lease.Release()
	buf := lease.Bytes()[:to-from]
	n, err := readAt(buf, from)
	n = copy(b, buf[min(off-from, int64(n)):n])
	return short(n, len(b), off, err)
}

func short(n, want int, off int64, err error) error {
	if n == want {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", want, off, err)
}

func (d *device) close() error { return d.f.Close() }

// buffers is the memory of readers and of small pieces.
var buffers slab.Pool
