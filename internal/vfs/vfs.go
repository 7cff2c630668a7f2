package vfs

import (
	"context"
	"errors"
	"io"
	"path/filepath"
)

// ErrLocked is returned by Create and OpenWrite when the file is open for
// writing elsewhere, in this process or another one.
var ErrLocked = errors.New("file is open for writing elsewhere")

// ErrNoDirect is returned by OpenDirect and OpenDirectWrite when the file system
// reads and writes through the page cache only.
var ErrNoDirect = errors.New("the file system cannot read or write past the page cache")

// Info is what Stat tells of a name.
type Info struct {
	Size int64 // bytes; 0 for a directory
	Dir  bool
	ID   FileID
}

// FileID says which file or directory a name leads to: two names have the same
// one if and only if they lead to the same, as long as it is open or has a name.
// The zero FileID is of a file system that cannot tell.
type FileID struct {
	Device uint64 // the file system it lies on, as long as that is mounted
	Inode  uint64
}

// FS is a file system. Names are slash-separated paths. Errors satisfy
// errors.Is with fs.ErrNotExist and fs.ErrExist where they apply.
type FS interface {
	// Create makes the file, or empties the one there is, opens it for
	// reading and writing and locks it. The name is durable after SyncDir.
	Create(name string) (File, error)
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenDirect opens an existing file for reading past the page cache. The
	// offset, length and memory of each ReadAt must be multiples of unit bytes,
	// a power of two; the file's last bytes may be short of one. Where there is
	// no such way it fails with ErrNoDirect.
	OpenDirect(name string) (f File, unit int, err error)
	// OpenDirectWrite is OpenDirect for reading and writing. It takes no lock:
	// the caller holds the file by OpenWrite. What is written has to be aligned
	// as what is read, and is unsynced until the Sync of either of the two
	// files, which covers what was written through both.
	OpenDirectWrite(name string) (f File, unit int, err error)
	// OpenWrite opens an existing file for reading and writing and locks it.
	OpenWrite(name string) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Rename moves a file, replacing what has the new name.
	Rename(from, to string) error
	// MkdirAll makes a directory and its parents, durably.
	MkdirAll(name string) error
	// ReadDir returns the names in a directory, sorted.
	ReadDir(name string) ([]string, error)
	// Stat tells the size, kind and identity of what a name leads to.
	Stat(name string) (Info, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
}

// File is an open file. Offsets and lengths are bytes.
type File interface {
	io.ReaderAt
	// WriteVAt writes the buffers one after another at off, with as few calls
	// as the system allows. A result short of the sum has a non-nil error. The
	// buffers are the caller's again when it returns.
	WriteVAt(bufs [][]byte, off int64) (int, error)
	// Sync makes data, and the size needed to read it, durable (fdatasync).
	Sync() error
	// Allocate reserves space for [off, off+n), growing the file when it ends
	// before. New bytes read as zero. Without room it fails with ENOSPC and
	// the bytes below the old end are as they were.
	Allocate(off, n int64) error
	// Truncate cuts or grows the file to size bytes.
	Truncate(size int64) error
	// Size returns the file's size in bytes.
	Size() (int64, error)
	// Evict drops clean cached pages of [off, off+n), so that the next read
	// of them asks the device. It is advice: pages still dirty stay.
	Evict(off, n int64) error
	// Close releases the file and its lock. It does not sync.
	Close() error
}

// Surer is a File with a second way to its bytes, slower than ReadAt and surer:
// one that is put together from several disks, say, and finds out which of them
// is wrong. Who reads the usual way and finds the bytes wrong reads them again
// this way before it says so.
type Surer interface {
	// ReadAtSurely is io.ReaderAt's ReadAt. Bytes that it cannot vouch for are an
	// error.
	ReadAtSurely(b []byte, off int64) (int, error)
}

// ReadAtSurely reads the surest way that f has.
func ReadAtSurely(f io.ReaderAt, b []byte, off int64) (int, error) {
	if s, ok := f.(Surer); ok {
		return s.ReadAtSurely(b, off)
	}
	return f.ReadAt(b, off)
}

// ContextReader is a File that is far away: a read of it can be called off.
type ContextReader interface {
	// ReadAtContext is io.ReaderAt's ReadAt, for as long as ctx lasts.
	ReadAtContext(ctx context.Context, b []byte, off int64) (int, error)
}

// ReadFile returns the whole content of a file, at most limit bytes of it.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // opened for reading only
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, limit))
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// WriteFile puts a small file in place atomically and durably: after a crash
// the name has its old content or the new one, and once WriteFile returned
// nil, the new one.
func WriteFile(fsys FS, name string, content []byte) error {
	tmp := name + ".tmp"
	if err := writeNew(fsys, tmp, content); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func writeNew(fsys FS, name string, content []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err = f.WriteVAt([][]byte{content}, 0); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
