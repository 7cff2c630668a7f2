package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

// FS is a view of the machine's files. The zero value works.
type FS struct {
	// Share makes OpenWrite take a shared lock on the machine's file until
	// Close: it fails with vfs.ErrLocked while a writer has the file, and no
	// writer gets it meanwhile. Without it files are read while they change.
	Share bool

	read atomic.Int64

	mu    sync.Mutex       // guards all below
	nodes map[string]*node // files seen so far; nil: removed
	locks []*os.File
}

var _ vfs.FS = (*FS)(nil)

// BytesRead returns how many bytes were read from the machine's files.
func (f *FS) BytesRead() int64 { return f.read.Load() }

// Close gives files and locks back.
func (f *FS) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, n := range f.nodes {
		if n != nil && n.base != nil {
			errs = append(errs, n.base.Close())
		}
	}
	for _, l := range f.locks {
		errs = append(errs, l.Close())
	}
	f.nodes, f.locks = nil, nil
	return errors.Join(errs...)
}

// node returns the file of that name. Called with mu held.
func (f *FS) node(op, name string) (*node, error) {
	name = filepath.Clean(name)
	if n, ok := f.nodes[name]; ok {
		if n == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		return n, nil
	}
	base, err := vfs.OS{}.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := base.Size()
	if err != nil {
		return nil, errors.Join(err, base.Close())
	}
	n := &node{fs: f, base: base, fromBase: size, size: size}
	f.put(name, n)
	return n, nil
}

// put gives n its name; a nil n removes it. Called with mu held.
func (f *FS) put(name string, n *node) {
	if f.nodes == nil {
		f.nodes = map[string]*node{}
	}
	f.nodes[filepath.Clean(name)] = n
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := &node{fs: f}
	if old := f.nodes[filepath.Clean(name)]; old != nil && old.base != nil {
		n.base = old.base // only to be closed
	}
	f.put(name, n)
	return file{n}, nil
}

// Open implements vfs.FS.
func (f *FS) Open(name string) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node("open", name)
	if err != nil {
		return nil, err
	}
	return file{n}, nil
}

// OpenDirect implements vfs.FS: changed pages are in memory.
func (f *FS) OpenDirect(name string) (vfs.File, int, error) {
	return nil, 0, &fs.PathError{Op: "open", Path: name, Err: vfs.ErrNoDirect}
}

// OpenDirectWrite implements vfs.FS.
func (f *FS) OpenDirectWrite(name string) (vfs.File, int, error) { return f.OpenDirect(name) }

// OpenWrite implements vfs.FS.
func (f *FS) OpenWrite(name string) (vfs.File, error) {
	if f.Share {
		if err := f.Lock(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return f.Open(name)
}

// Lock takes a shared lock on a file of the machine until Close. It fails with
// vfs.ErrLocked while somebody writes it.
func (f *FS) Lock(name string) error {
	l, err := os.Open(name)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(l.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = vfs.ErrLocked
		}
		return errors.Join(&fs.PathError{Op: "lock", Path: name, Err: err}, l.Close())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.locks = append(f.locks, l)
	return nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.remove("remove", name)
}

func (f *FS) remove(op, name string) error {
	n, err := f.node(op, name)
	if err != nil {
		return err
	}
	f.put(name, nil)
	if n.base != nil {
		return n.base.Close()
	}
	return nil
}

// Rename implements vfs.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node("rename", from)
	if err != nil {
		return err
	}
	if err := f.remove("rename", to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.put(to, n)
	f.put(from, nil)
	return nil
}

// MkdirAll implements vfs.FS. Directories are not kept: files need none.
func (*FS) MkdirAll(string) error { return nil }

// SyncDir implements vfs.FS.
func (*FS) SyncDir(string) error { return nil }

// ReadDir implements vfs.FS.
func (f *FS) ReadDir(name string) ([]string, error) {
	names, err := vfs.OS{}.ReadDir(name)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for path, n := range f.nodes {
		if filepath.Dir(path) != filepath.Clean(name) {
			continue
		}
		base := filepath.Base(path)
		i, found := slices.BinarySearch(names, base)
		switch {
		case n == nil && found:
			names = slices.Delete(names, i, i+1)
		case n != nil && !found:
			names = slices.Insert(names, i, base)
		}
	}
	return names, nil
}

// Stat implements vfs.FS.
func (f *FS) Stat(name string) (vfs.Info, error) {
	f.mu.Lock()
	n, ok := f.nodes[filepath.Clean(name)]
	f.mu.Unlock()
	switch {
	case !ok:
		return vfs.OS{}.Stat(name)
	case n == nil:
		return vfs.Info{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	size, err := file{n}.Size()
	return vfs.Info{Size: size}, err
}
