package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Mem is a file system in memory that knows what a power cut would leave of
// it. Crash and Kill return what a restarted machine or process finds; the
// Mem they are called on goes on as before, so one run can be cut at every
// moment of it.
type Mem struct {
	mu      sync.Mutex       // guards all below, and every node reached from here
	rng     *rand.Rand       //
	cur     map[string]*node // names as programs see them
	durable map[string]*node // names as the device holds them
	pending []dirOp          // name changes not yet synced, in order
	inodes  uint64           // given out by Stat
}

// node is a file or directory.
type node struct {
	dir     bool
	cur     []byte   // as programs see it
	durable []byte   // as the device holds it
	pending []dataOp // changes since the last sync, in order
	stale   []byte   // what old blocks may still hold, by offset
	locked  bool
	inode   uint64 // 0: nobody has asked
}

type dirOp struct {
	dir string           // the directory whose sync makes it durable
	set map[string]*node // names to add, or with a nil node to remove
}

type dataOp struct {
	data []byte // a write of data at off; nil: the size becomes off
	off  int64
	grow bool // with nil data: never shrinks (Allocate)
}

// NewMem returns an empty file system with a root directory. The seed drives
// what a failed Sync leaves behind.
func NewMem(seed uint64) *Mem {
	root := &node{dir: true}
	return &Mem{
		rng:     rand.New(rand.NewPCG(seed, 0x6d656d)),
		cur:     map[string]*node{"/": root, ".": root},
		durable: map[string]*node{"/": root, ".": root},
	}
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// lookup returns the node of a cleaned name.
func (m *Mem) lookup(op, name string) (*node, error) {
	n := m.cur[name]
	if n == nil {
		return nil, pathError(op, name, fs.ErrNotExist)
	}
	return n, nil
}

func (m *Mem) change(dir string, set map[string]*node) {
	for name, n := range set {
		if n == nil {
			delete(m.cur, name)
		} else {
			m.cur[name] = n
		}
	}
	m.pending = append(m.pending, dirOp{dir: dir, set: set})
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean(name)
	if n := m.cur[name]; n != nil {
		if n.dir {
			return nil, pathError("create", name, unix.EISDIR)
		}
		f, err := m.openLocked(name, n, true)
		if err != nil {
			return nil, err
		}
		n.resize(0, false)
		return f, nil
	}
	if p := m.cur[path.Dir(name)]; p == nil || !p.dir {
		return nil, pathError("create", name, fs.ErrNotExist)
	}
	n := &node{}
	m.change(path.Dir(name), map[string]*node{name: n})
	return m.openLocked(name, n, true)
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.openNamed(name, false) }

// OpenDirect implements FS. The unit is a sector.
func (m *Mem) OpenDirect(name string) (File, int, error) {
	return m.openDirect(name, false)
}

// OpenDirectWrite implements FS. What is written this way and not synced is
// lost, torn and reordered like any other write: the device has a cache too.
func (m *Mem) OpenDirectWrite(name string) (File, int, error) { return m.openDirect(name, true) }

func (m *Mem) openDirect(name string, write bool) (File, int, error) {
	f, err := m.openNamed(name, false)
	if err != nil {
		return nil, 0, err
	}
	d := f.(*memFile)
	if d.n.dir && write {
		return nil, 0, pathError("open", name, unix.EISDIR)
	}
	d.direct, d.write = true, write
	return d, sector, nil
}

// OpenWrite implements FS.
func (m *Mem) OpenWrite(name string) (File, error) { return m.openNamed(name, true) }

func (m *Mem) openNamed(name string, write bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean(name)
	n, err := m.lookup("open", name)
	if err != nil {
		return nil, err
	}
	if n.dir && write {
		return nil, pathError("open", name, unix.EISDIR)
	}
	return m.openLocked(name, n, write)
}

func (m *Mem) openLocked(name string, n *node, write bool) (File, error) {
	if write {
		if n.locked {
			return nil, pathError("lock", name, ErrLocked)
		}
		n.locked = true
	}
	return &memFile{m: m, n: n, name: name, write: write, locks: write}, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean(name)
	n, err := m.lookup("remove", name)
	if err != nil {
		return err
	}
	if n.dir && len(m.children(name)) > 0 {
		return pathError("remove", name, unix.ENOTEMPTY)
	}
	m.change(path.Dir(name), map[string]*node{name: nil})
	return nil
}

// Rename implements FS. Only files are renamed.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to = path.Clean(from), path.Clean(to)
	n, err := m.lookup("rename", from)
	if err != nil {
		return err
	}
	if d := m.cur[to]; n.dir || d != nil && d.dir {
		return pathError("rename", to, unix.EISDIR)
	}
	if p := m.cur[path.Dir(to)]; p == nil || !p.dir {
		return pathError("rename", to, fs.ErrNotExist)
	}
	if from == to {
		return nil
	}
	if path.Dir(from) == path.Dir(to) {
		m.change(path.Dir(to), map[string]*node{from: nil, to: n})
		return nil
	}
	m.change(path.Dir(to), map[string]*node{to: n})
	m.change(path.Dir(from), map[string]*node{from: nil})
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mkdirAll(path.Clean(name))
}

func (m *Mem) mkdirAll(name string) error {
	if n := m.cur[name]; n != nil {
		if !n.dir {
			return pathError("mkdir", name, unix.ENOTDIR)
		}
		return nil
	}
	if err := m.mkdirAll(path.Dir(name)); err != nil {
		return err
	}
	n := &node{dir: true}
	m.cur[name], m.durable[name] = n, n
	return nil
}

func (m *Mem) children(dir string) []string {
	var names []string
	for name := range m.cur {
		if name != dir && name != "/" && name != "." && path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names
}

// ReadDir implements FS.
func (m *Mem) ReadDir(name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean(name)
	n, err := m.lookup("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, pathError("readdir", name, unix.ENOTDIR)
	}
	return m.children(name), nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup("stat", path.Clean(name))
	if err != nil {
		return Info{}, err
	}
	if n.inode == 0 {
		m.inodes++
		n.inode = m.inodes
	}
	return Info{Size: int64(len(n.cur)), Dir: n.dir, ID: FileID{Device: 1, Inode: n.inode}}, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean(name)
	if _, err := m.lookup("syncdir", name); err != nil {
		return err
	}
	rest := m.pending[:0:0]
	for _, op := range m.pending {
		if op.dir == name {
			apply(m.durable, op)
		} else {
			rest = append(rest, op)
		}
	}
	m.pending = rest
	return nil
}

func apply(names map[string]*node, op dirOp) {
	for name, n := range op.set {
		if n == nil {
			delete(names, name)
		} else {
			names[name] = n
		}
	}
}

// Flip inverts bits of one stored byte of a file, as rot does: programs and
// the device see it alike.
func (m *Mem) Flip(name string, off int64, mask byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup("flip", path.Clean(name))
	if err != nil {
		return err
	}
	if off < 0 || off >= int64(len(n.cur)) || off >= int64(len(n.durable)) {
		return pathError("flip", name, io.EOF)
	}
	n.cur[off] ^= mask
	n.durable[off] ^= mask
	return nil
}

// String lists the files, for failing tests.
func (m *Mem) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for name, n := range m.cur {
		if !n.dir {
			lines = append(lines, fmt.Sprintf("%s: %d bytes, %d on the device, %d changes unsynced",
				name, len(n.cur), len(n.durable), len(n.pending)))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
