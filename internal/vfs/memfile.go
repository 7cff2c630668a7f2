package vfs

import (
	"io"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resize makes the size of n, as programs see it, size bytes.
func (n *node) resize(size int64, grow bool) {
	if grow && size <= int64(len(n.cur)) {
		return
	}
	n.keepStale(size)
	n.cur = sized(n.cur, size)
	n.pending = append(n.pending, dataOp{off: size, grow: grow})
}

// keepStale remembers the bytes that a cut to size frees: their blocks may
// come back to this file with the old content in them.
func (n *node) keepStale(size int64) {
	if size >= int64(len(n.cur)) {
		return
	}
	if len(n.stale) < len(n.cur) {
		n.stale = sized(n.stale, int64(len(n.cur)))
	}
	copy(n.stale[size:], n.cur[size:])
}

// sized returns b with the given length, new bytes zero.
func sized(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	if size <= int64(cap(b)) {
		old := len(b)
		b = b[:size]
		clear(b[old:])
		return b
	}
	grown := make([]byte, size, size+size/4)
	copy(grown, b)
	return grown
}

// perform applies a change to content.
func (op dataOp) perform(b []byte) []byte {
	if op.data == nil {
		if op.grow && op.off <= int64(len(b)) {
			return b
		}
		return sized(b, op.off)
	}
	if end := op.off + int64(len(op.data)); end > int64(len(b)) {
		b = sized(b, end)
	}
	copy(b[op.off:], op.data)
	return b
}

type memFile struct {
	m      *Mem
	n      *node
	name   string
	write  bool
	locks  bool // Close gives the lock back
	direct bool // reads and writes must be aligned
	closed bool // guarded by m.mu
}

func (f *memFile) check(op string, write bool) error {
	if f.closed {
		return pathError(op, f.name, fs.ErrClosed)
	}
	if f.n.dir {
		return pathError(op, f.name, unix.EISDIR)
	}
	if write && !f.write {
		return pathError(op, f.name, unix.EBADF)
	}
	return nil
}

func aligned(b []byte, off int64) bool {
	return (off|int64(len(b))|int64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))))%sector == 0
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("read", false); err != nil {
		return 0, err
	}
	if off < 0 || f.direct && !aligned(b, off) {
		return 0, pathError("read", f.name, unix.EINVAL)
	}
	if off >= int64(len(f.n.cur)) {
		if len(b) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(b, f.n.cur[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteVAt(bufs [][]byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("write", true); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("write", f.name, unix.EINVAL)
	}
	var flat []byte
	for _, b := range bufs {
		if f.direct && !aligned(b, off+int64(len(flat))) {
			return 0, pathError("write", f.name, unix.EINVAL)
		}
		flat = append(flat, b...)
	}
	f.n.write(flat, off)
	return len(flat), nil
}

func (n *node) write(b []byte, off int64) {
	if len(b) == 0 {
		return
	}
	op := dataOp{data: b, off: off}
	n.cur = op.perform(n.cur)
	n.pending = append(n.pending, op)
}

// writeTorn is what a direct write that fails leaves: it may end anywhere.
func (f *memFile) writeTorn(b []byte, off int64) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.write(b, off)
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("sync", false); err != nil {
		return err
	}
	for _, op := range f.n.pending {
		f.n.durable = op.perform(f.n.durable)
	}
	f.n.pending = nil
	return nil
}

// loseUnsynced is a sync that failed: some of the writes reached the device,
// and the rest is forgotten, although programs go on seeing it.
func (f *memFile) loseUnsynced() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.durable = f.n.survive(f.m.rng)
	f.n.pending = nil
}

func (f *memFile) Allocate(off, n int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("allocate", true); err != nil {
		return err
	}
	if off < 0 || n <= 0 {
		return pathError("allocate", f.name, unix.EINVAL)
	}
	f.n.resize(off+n, true)
	return nil
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.name, unix.EINVAL)
	}
	f.n.resize(size, false)
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return 0, pathError("size", f.name, fs.ErrClosed)
	}
	return int64(len(f.n.cur)), nil
}

func (f *memFile) Evict(off, n int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("evict", false); err != nil {
		return err
	}
	// What a read finds afterwards is the device, overlaid by the pages that
	// are still dirty. Pages a failed sync marked clean lose their content.
	device := append([]byte(nil), f.n.durable...)
	for _, op := range f.n.pending {
		device = op.perform(device)
	}
	device = sized(device, int64(len(f.n.cur)))
	from := min(max(off, 0), int64(len(device)))
	to := int64(len(device))
	if n > 0 {
		to = min(off+n, to)
	}
	if from < to {
		copy(f.n.cur[from:to], device[from:to])
	}
	return nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	if f.locks {
		f.n.locked = false
	}
	return nil
}
