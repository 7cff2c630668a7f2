package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS is the machine's file system.
type OS struct{}

// maxIOV is the most buffers one pwritev takes (IOV_MAX of Linux).
const maxIOV = 1024

// Create implements FS.
func (OS) Create(name string) (File, error) {
	// Truncation waits for the lock: without it, Create could empty a file
	// that another process is writing.
	f, err := lockedOpen(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := f.f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Open implements FS.
func (OS) Open(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// OpenDirect implements FS.
func (OS) OpenDirect(name string) (File, int, error) { return openDirect(name, os.O_RDONLY) }

// OpenDirectWrite implements FS.
func (OS) OpenDirectWrite(name string) (File, int, error) { return openDirect(name, os.O_RDWR) }

func openDirect(name string, flag int) (File, int, error) {
	f, err := os.OpenFile(name, flag|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, 0, &os.PathError{Op: "open", Path: name, Err: ErrNoDirect}
	}
	if err != nil {
		return nil, 0, err
	}
	unit, err := directUnit(osFile{f})
	if err != nil {
		return nil, 0, errors.Join(&os.PathError{Op: "open", Path: name, Err: err}, f.Close())
	}
	return osFile{f}, unit, nil
}

// directUnit asks what direct reads and writes of f must be aligned to.
func directUnit(f osFile) (int, error) {
	var st unix.Statx_t
	err := f.control("statx", func(fd int) error {
		return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	})
	if err != nil || st.Mask&unix.STATX_DIOALIGN == 0 {
		return 4096, nil // an old kernel: no device asks for more
	}
	unit := max(st.Dio_mem_align, st.Dio_offset_align)
	if st.Dio_offset_align == 0 || unit&(unit-1) != 0 {
		return 0, ErrNoDirect
	}
	return int(max(unit, 512)), nil
}

// OpenWrite implements FS.
func (OS) OpenWrite(name string) (File, error) {
	f, err := lockedOpen(name, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func lockedOpen(name string, flag int) (osFile, error) {
	f, err := os.OpenFile(name, flag, 0o640)
	if err != nil {
		return osFile{}, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return osFile{f}, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	return osFile{}, errors.Join(&os.PathError{Op: "lock", Path: name, Err: err}, f.Close())
}

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// MkdirAll implements FS.
func (o OS) MkdirAll(name string) error {
	name = filepath.Clean(name)
	st, err := os.Stat(name)
	if err == nil {
		if !st.IsDir() {
			return &os.PathError{Op: "mkdir", Path: name, Err: unix.ENOTDIR}
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(name)
	if err := o.MkdirAll(parent); err != nil {
		return err
	}
	if err := os.Mkdir(name, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return o.SyncDir(parent)
}

// ReadDir implements FS.
func (OS) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Stat implements FS.
func (OS) Stat(name string) (Info, error) {
	st, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	i := Info{Dir: st.IsDir()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		i.ID = FileID{Device: uint64(sys.Dev), Inode: sys.Ino}
	}
	if !i.Dir {
		i.Size = st.Size()
	}
	return i, nil
}

// SyncDir implements FS.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type osFile struct{ f *os.File }

func (o osFile) ReadAt(b []byte, off int64) (int, error) { return o.f.ReadAt(b, off) }
func (o osFile) Truncate(size int64) error               { return o.f.Truncate(size) }
func (o osFile) Close() error                            { return o.f.Close() }

func (o osFile) Size() (int64, error) {
	st, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// control runs fn on the descriptor, which cannot be closed meanwhile.
func (o osFile) control(op string, fn func(fd int) error) error {
	rc, err := o.f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := rc.Control(func(fd uintptr) { inner = retryEINTR(func() error { return fn(int(fd)) }) }); err != nil {
		// Control refuses for one reason only, with an error of its own.
		return &os.PathError{Op: op, Path: o.f.Name(), Err: os.ErrClosed}
	}
	if inner != nil {
		return &os.PathError{Op: op, Path: o.f.Name(), Err: inner}
	}
	return nil
}

// retryEINTR repeats a call that a signal cut short before it did anything.
func retryEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (o osFile) WriteVAt(bufs [][]byte, off int64) (int, error) {
	return writeAll(bufs, off, func(bufs [][]byte, off int64) (n int, err error) {
		err = o.control("pwritev", func(fd int) (err error) {
			n, err = unix.Pwritev(fd, bufs, off)
			return err
		})
		if err == nil && n == 0 {
			err = fmt.Errorf("pwritev %s: wrote nothing at %d", o.f.Name(), off)
		}
		return n, err
	})
}

// writeAll has write write bufs, again and again if it does a part of it.
func writeAll(bufs [][]byte, off int64, write func(bufs [][]byte, off int64) (int, error)) (int, error) {
	total := 0
	rest := make([][]byte, 0, len(bufs))
	for _, b := range bufs {
		if len(b) > 0 {
			rest = append(rest, b)
		}
	}
	for len(rest) > 0 {
		n, err := write(rest[:min(len(rest), maxIOV)], off+int64(total))
		if total > 0 && errors.Is(err, unix.EINVAL) {
			// Past the page cache the rest of a block cannot be asked for.
			return total, fmt.Errorf("%w: %d bytes at %d, then: %v", io.ErrShortWrite, total, off, err)
		}
		if err != nil {
			return total, err
		}
		// A short count without an error is not a failure yet: asking again
		// for the rest tells what stands in the way.
		total += n
		rest = skip(rest, n)
	}
	return total, nil
}

// skip drops the first n bytes of bufs, which it changes.
func skip(bufs [][]byte, n int) [][]byte {
	for n > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

func (o osFile) Sync() error {
	return o.control("fdatasync", unix.Fdatasync)
}

func (o osFile) Allocate(off, n int64) error {
	err := o.control("fallocate", func(fd int) error { return unix.Fallocate(fd, 0, off, n) })
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	return o.fillZero(off + n)
}

// fillZero is Allocate for file systems without fallocate: zeros from the
// file's end up to end.
func (o osFile) fillZero(end int64) error {
	size, err := o.Size()
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for at := size; at < end; {
		n, err := o.WriteVAt([][]byte{zeros[:min(int64(len(zeros)), end-at)]}, at)
		if err != nil {
			return errors.Join(err, o.f.Truncate(size))
		}
		at += int64(n)
	}
	return nil
}

func (o osFile) Evict(off, n int64) error {
	return o.control("fadvise", func(fd int) error { return unix.Fadvise(fd, off, n, unix.FADV_DONTNEED) })
}
