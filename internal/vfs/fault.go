package vfs

import (
	"sync/atomic"
)

// OpKind names a call of FS or File.
type OpKind uint8

// The calls that Fault shows to its hook.
const (
	OpCreate OpKind = iota + 1
	OpOpen
	OpOpenWrite
	OpRemove
	OpRename
	OpMkdirAll
	OpReadDir
	OpStat
	OpSyncDir
	OpRead
	OpWrite
	OpSync
	OpAllocate
	OpTruncate
	OpSize
	OpEvict
)

// Op is one call.
type Op struct {
	N    int64  // counts calls through this Fault from 1
	Kind OpKind //
	Name string // the file or directory; for OpRename the old name
	Off  int64  // of reads, writes, Allocate, Evict; the size for OpTruncate
	Len  int64  // bytes
}

// Outcome is what a hook decides about a call. The zero Outcome lets it pass.
type Outcome struct {
	// Err, when not nil, makes the call fail with it.
	Err error
	// Short is how many bytes of a failing write still reach the file. Past the
	// page cache of the machine they are none unless Short is aligned.
	Short int64
}

// Fault is an FS whose calls can be made to fail. Before is asked ahead of
// each call, on the calling goroutine; it may block to make a slow disk. Set
// it before use. A Sync that is made to fail loses the unsynced writes the way
// a kernel does when the FS beneath is a Mem.
type Fault struct {
	FS
	Before func(Op) Outcome

	n atomic.Int64
}

func (f *Fault) ask(kind OpKind, name string, off, n int64) Outcome {
	op := Op{N: f.n.Add(1), Kind: kind, Name: name, Off: off, Len: n}
	if f.Before == nil {
		return Outcome{}
	}
	return f.Before(op)
}

func (f *Fault) open(kind OpKind, name string, open func(string) (File, error)) (File, error) {
	if o := f.ask(kind, name, 0, 0); o.Err != nil {
		return nil, o.Err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fs: f, name: name}, nil
}

// Create implements FS.
func (f *Fault) Create(name string) (File, error) { return f.open(OpCreate, name, f.FS.Create) }

// Open implements FS.
func (f *Fault) Open(name string) (File, error) { return f.open(OpOpen, name, f.FS.Open) }

// OpenDirect implements FS. Its hook sees an OpOpen.
func (f *Fault) OpenDirect(name string) (File, int, error) {
	unit := 0
	file, err := f.open(OpOpen, name, func(name string) (file File, err error) {
		file, unit, err = f.FS.OpenDirect(name)
		return file, err
	})
	return file, unit, err
}

// OpenDirectWrite implements FS. Its hook sees an OpOpen.
func (f *Fault) OpenDirectWrite(name string) (File, int, error) {
	unit := 0
	file, err := f.open(OpOpen, name, func(name string) (file File, err error) {
		file, unit, err = f.FS.OpenDirectWrite(name)
		return file, err
	})
	return file, unit, err
}

// OpenWrite implements FS.
func (f *Fault) OpenWrite(name string) (File, error) {
	return f.open(OpOpenWrite, name, f.FS.OpenWrite)
}

// Remove implements FS.
func (f *Fault) Remove(name string) error {
	if o := f.ask(OpRemove, name, 0, 0); o.Err != nil {
		return o.Err
	}
	return f.FS.Remove(name)
}

// Rename implements FS.
func (f *Fault) Rename(from, to string) error {
	if o := f.ask(OpRename, from, 0, 0); o.Err != nil {
		return o.Err
	}
	return f.FS.Rename(from, to)
}

// MkdirAll implements FS.
func (f *Fault) MkdirAll(name string) error {
	if o := f.ask(OpMkdirAll, name, 0, 0); o.Err != nil {
		return o.Err
	}
	return f.FS.MkdirAll(name)
}

// ReadDir implements FS.
func (f *Fault) ReadDir(name string) ([]string, error) {
	if o := f.ask(OpReadDir, name, 0, 0); o.Err != nil {
		return nil, o.Err
	}
	return f.FS.ReadDir(name)
}

// Stat implements FS.
func (f *Fault) Stat(name string) (Info, error) {
	if o := f.ask(OpStat, name, 0, 0); o.Err != nil {
		return Info{}, o.Err
	}
	return f.FS.Stat(name)
}

// SyncDir implements FS.
func (f *Fault) SyncDir(name string) error {
	if o := f.ask(OpSyncDir, name, 0, 0); o.Err != nil {
		return o.Err
	}
	return f.FS.SyncDir(name)
}

type faultFile struct {
	File
	fs   *Fault
	name string
}

func (f *faultFile) ReadAt(b []byte, off int64) (int, error) {
	if o := f.fs.ask(OpRead, f.name, off, int64(len(b))); o.Err != nil {
		return 0, o.Err
	}
	return f.File.ReadAt(b, off)
}

func (f *faultFile) WriteVAt(bufs [][]byte, off int64) (int, error) {
	var total int64
	for _, b := range bufs {
		total += int64(len(b))
	}
	o := f.fs.ask(OpWrite, f.name, off, total)
	if o.Err == nil {
		return f.File.WriteVAt(bufs, off)
	}
	if o.Short <= 0 {
		return 0, o.Err
	}
	var flat []byte
	for _, b := range bufs {
		flat = append(flat, b...)
	}
	if m, ok := f.File.(*memFile); ok && m.direct {
		m.writeTorn(flat[:min(o.Short, total)], off)
		return int(min(o.Short, total)), o.Err
	}
	n, err := f.File.WriteVAt([][]byte{flat[:min(o.Short, total)]}, off)
	if err != nil {
		return n, err
	}
	return n, o.Err
}

func (f *faultFile) Sync() error {
	o := f.fs.ask(OpSync, f.name, 0, 0)
	if o.Err == nil {
		return f.File.Sync()
	}
	if m, ok := f.File.(*memFile); ok {
		m.loseUnsynced()
	}
	return o.Err
}

func (f *faultFile) Allocate(off, n int64) error {
	if o := f.fs.ask(OpAllocate, f.name, off, n); o.Err != nil {
		return o.Err
	}
	return f.File.Allocate(off, n)
}

func (f *faultFile) Truncate(size int64) error {
	if o := f.fs.ask(OpTruncate, f.name, size, 0); o.Err != nil {
		return o.Err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Size() (int64, error) {
	if o := f.fs.ask(OpSize, f.name, 0, 0); o.Err != nil {
		return 0, o.Err
	}
	return f.File.Size()
}

func (f *faultFile) Evict(off, n int64) error {
	if o := f.fs.ask(OpEvict, f.name, off, n); o.Err != nil {
		return o.Err
	}
	return f.File.Evict(off, n)
}
