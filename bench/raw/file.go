package raw

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

// Evict drops the pages of every file in dir from the page cache.
func Evict(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		f, err := vfs.OS{}.Open(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a file that the engine replaced meanwhile
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Evict(0, 0), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Extent is what a direct read asks for.
type Extent struct {
	Off int64
	Len int
}

// Cover is the smallest aligned extent that holds [off, off+n).
func Cover(off, n, align int64) Extent {
	from := off / align * align
	to := (off + n + align - 1) / align * align
	return Extent{from, int(to - from)}
}

// MinAlign is the smallest offset alignment that direct I/O on the file takes.
func MinAlign(f *os.File) int64 {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	if err == nil && st.Mask&unix.STATX_DIOALIGN != 0 && st.Dio_offset_align > 0 {
		return int64(st.Dio_offset_align)
	}
	return PageSize
}

// OpenDirect opens a file past the page cache. Where a file system does not
// know O_DIRECT (tmpfs of old kernels), direct is false and the file is an
// ordinary one: good enough to test this package, not to measure.
func OpenDirect(name string, flag int) (f *os.File, direct bool, err error) {
	f, err = os.OpenFile(name, flag|unix.O_DIRECT, 0o640)
	if err == nil {
		return f, true, nil
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, false, err
	}
	f, err = os.OpenFile(name, flag, 0o640)
	return f, false, err
}

// End is the offset behind it.
func (e Extent) End() int64 { return e.Off + int64(e.Len) }
