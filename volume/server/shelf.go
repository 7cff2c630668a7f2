package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// ErrShelf: the shelf is another's by now, or was forgotten. What was asked for was
// not done.
var ErrShelf = errors.New("server: the shelf is not held any more")

// Shelf is the folder of one epoch of shards on a disk, which its node gives out to one
// keeper at a time. Names are those of files in it, "" is the folder. Two are compared
// with ==.
type Shelf interface {
	vfs.FS
	// Lost tells whether it answers nothing any more but ErrShelf.
	Lost() bool
}

// PeerShelves is what the keeper of a coded volume asks of the disks that its shards
// are on.
type PeerShelves interface {
	// Shelf takes the folder of an epoch on disk, made if there is none, from whoever
	// has it, when nothing of theirs is under way any more. A term below one it was
	// given out for, or below the row's, is ErrMoved.
	Shelf(ctx context.Context, disk uint32, v volume.ID, epoch, term uint32) (Shelf, error)
	// Mend has the keeper, on disk, make good what is damaged in shards of an epoch,
	// and returns when that was done. One that is not the keeper says ErrMoved.
	Mend(ctx context.Context, disk uint32, v volume.ID, epoch uint32, damage []Damage) error
}

// Damage is a place in a shard that is not what it should be: Length 0 is all of it.
type Damage struct {
	Shard          int
	Offset, Length int64
}

// shelfKey names a shelf of this process.
type shelfKey struct {
	disk  uint32
	v     volume.ID
	epoch uint32
}

// shelves are those that were given out. They are kept in memory alone: a process
// gives none out before it knows a table that is no older than itself.
type shelves struct {
	mu    sync.Mutex // guards all below
	known bool       // such a table
	all   map[shelfKey]*shelf
}

// shelf is who may use a folder.
type shelf struct {
	turn chan struct{} // held (full) by who takes it; guards holder and former

	holder *shelfFS // nil: nobody
	former *shelfFS // calls of it may be under way

	mu   sync.Mutex // guards term
	term uint32     // the greatest it was taken under
}

// raise makes term the greatest, unless there was a greater one.
func (sh *shelf) raise(term uint32) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if term < sh.term {
		return false
	}
	sh.term = term
	return true
}

// takeShelf gives out a shelf on a disk of this process.
func (s *Server) takeShelf(ctx context.Context, d *disk, v volume.ID, epoch, term uint32) (*shelfFS, error) {
	if err := s.mayTake(ctx, v, term); err != nil {
		return nil, err
	}
	key := shelfKey{d.number, v, epoch}
	s.shelves.mu.Lock()
	sh := s.shelves.all[key]
	if sh == nil {
		if s.shelves.all == nil {
			s.shelves.all = make(map[shelfKey]*shelf)
		}
		sh = &shelf{turn: make(chan struct{}, 1)}
		s.shelves.all[key] = sh
	}
	s.shelves.mu.Unlock()
	if !sh.raise(term) {
		return nil, fmt.Errorf("%w: the shelf of volume %d was taken under a later term than %d", ErrMoved, v, term)
	}
	select {
	case sh.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, unavailable("%w", ctx.Err())
	}
	defer func() { <-sh.turn }()
	if !sh.raise(term) { // meanwhile
		return nil, fmt.Errorf("%w: the shelf of volume %d was taken under a later term than %d", ErrMoved, v, term)
	}
	if sh.holder != nil {
		sh.holder.end()
		sh.former, sh.holder = sh.holder, nil
	}
	if sh.former != nil {
		select {
		case <-sh.former.idle:
			sh.former.closeAll()
			sh.former = nil
		case <-ctx.Done():
			return nil, unavailable("%s: calls of the shelf's former holder are under way", d.dir)
		}
	}
	f := &shelfFS{d: d, dir: d.epochDir(v, epoch), idle: make(chan struct{}), files: make(map[*shelfFile]bool)}
	if err := (impatient{d, f}).MkdirAll(""); err != nil {
		f.end()
		sh.former = f
		return nil, err
	}
	sh.holder = f
	return f, nil
}

// mayTake refuses a term that is not the present one, as far as this node knows. It
// has to know every term that may have been used before the process began.
func (s *Server) mayTake(ctx context.Context, v volume.ID, term uint32) error {
	if err := s.current(); err != nil {
		return err
	}
	s.shelves.mu.Lock()
	known := s.shelves.known
	s.shelves.mu.Unlock()
	row, ok := s.o.Directory.Row(v)
	if !known || !ok || row.Term < term {
		var err error
		if row, err = s.fresh(ctx, v); err != nil {
			return err
		}
		s.shelves.mu.Lock()
		s.shelves.known = true
		s.shelves.mu.Unlock()
	}
	switch {
	case row.Term > term:
		return fmt.Errorf("%w: volume %d is kept under term %d, not %d", ErrMoved, v, row.Term, term)
	case row.Term < term:
		return unavailable("volume %d is kept under term %d, not %d yet", v, row.Term, term)
	}
	return nil
}

// clearShelf ends the use of a shelf whose folder is to go.
func (s *Server) clearShelf(ctx context.Context, d *disk, v volume.ID, epoch uint32) error {
	key := shelfKey{d.number, v, epoch}
	s.shelves.mu.Lock()
	sh := s.shelves.all[key]
	s.shelves.mu.Unlock()
	if sh == nil {
		return nil
	}
	select {
	case sh.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-sh.turn }()
	for _, f := range []*shelfFS{sh.holder, sh.former} {
		if f == nil {
			continue
		}
		f.end()
		select {
		case <-f.idle:
			f.closeAll()
		case <-ctx.Done():
			sh.former, sh.holder = f, nil
			return ctx.Err()
		}
	}
	sh.holder, sh.former = nil, nil
	s.shelves.mu.Lock()
	delete(s.shelves.all, key) // nobody opens a void epoch again
	s.shelves.mu.Unlock()
	return nil
}

// endShelves closes what is open on the shelves. Those with a call that hangs are left
// to it.
func (s *Server) endShelves() {
	s.shelves.mu.Lock()
	defer s.shelves.mu.Unlock()
	for _, sh := range s.shelves.all {
		sh.turn <- struct{}{}
		for _, f := range []*shelfFS{sh.holder, sh.former} {
			if f == nil {
				continue
			}
			f.end()
			select {
			case <-f.idle:
				f.closeAll()
			default:
				s.burying.Go(func() {
					<-f.idle
					f.closeAll()
				})
			}
		}
		<-sh.turn
	}
}

// Shelf implements PeerShelves. What hangs is left when the disk is out of service.
func (r *replicas) Shelf(ctx context.Context, number uint32, v volume.ID, epoch, term uint32) (Shelf, error) {
	s := r.s
	if err := s.enter(); err != nil {
		return nil, unavailable("%w", err)
	}
	defer s.calls.Done()
	d, err := s.diskHere(number)
	if err != nil {
		return nil, err
	}
	f, err := s.takeShelf(ctx, d, v, epoch, term)
	if err != nil {
		return nil, err
	}
	return lentShelf{impatient{d, f}, f}, nil
}

// lentShelf is a shelf here as others use it.
type lentShelf struct {
	impatient
	f *shelfFS
}

// Lost implements Shelf.
func (l lentShelf) Lost() bool { return l.f.Lost() }

// shelfFS is the file system of a shelf for one holder.
type shelfFS struct {
	d    *disk
	dir  string
	idle chan struct{} // closed when it is over and no call is under way

	mu    sync.Mutex // guards all below
	over  bool
	calls int
	files map[*shelfFile]bool
}

var _ Shelf = (*shelfFS)(nil)

func (f *shelfFS) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return ErrShelf
	}
	f.calls++
	return nil
}

func (f *shelfFS) done() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls--; f.over && f.calls == 0 {
		close(f.idle)
	}
}

// end lets no further call through.
func (f *shelfFS) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	if f.over = true; f.calls == 0 {
		close(f.idle)
	}
}

// closeAll closes the files that were left open. Nothing of theirs is under way.
func (f *shelfFS) closeAll() {
	f.mu.Lock()
	files := f.files
	f.files = nil
	f.mu.Unlock()
	for file := range files {
		_ = file.File.Close() // what counts was synced
	}
}

// Lost implements Shelf.
func (f *shelfFS) Lost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}

// do makes a call on the file of a name in the folder.
func (f *shelfFS) do(name string, call func(path string) error) error {
	if strings.ContainsAny(name, "/\\\x00") || name == ".." {
		return fmt.Errorf("%w: %q is no name on a shelf", volume.ErrInvalid, name)
	}
	if err := f.begin(); err != nil {
		return err
	}
	defer f.done()
	return call(filepath.Join(f.dir, name))
}

func (f *shelfFS) open(name string, open func(path string) (vfs.File, error)) (vfs.File, error) {
	var out *shelfFile
	err := f.do(name, func(path string) error {
		file, err := open(path)
		if err != nil {
			return err
		}
		out = &shelfFile{File: file, f: f}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.files[out] = true // not closed before this call has ended
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Create implements vfs.FS.
func (f *shelfFS) Create(name string) (vfs.File, error) { return f.open(name, f.d.fs.Create) }

// Open implements vfs.FS.
func (f *shelfFS) Open(name string) (vfs.File, error) { return f.open(name, f.d.fs.Open) }

// OpenWrite implements vfs.FS.
func (f *shelfFS) OpenWrite(name string) (vfs.File, error) { return f.open(name, f.d.fs.OpenWrite) }

// OpenDirect implements vfs.FS.
func (f *shelfFS) OpenDirect(name string) (file vfs.File, unit int, err error) {
	file, err = f.open(name, func(path string) (got vfs.File, err error) {
		got, unit, err = f.d.fs.OpenDirect(path)
		return got, err
	})
	return file, unit, err
}

// OpenDirectWrite implements vfs.FS.
func (f *shelfFS) OpenDirectWrite(name string) (file vfs.File, unit int, err error) {
	file, err = f.open(name, func(path string) (got vfs.File, err error) {
		got, unit, err = f.d.fs.OpenDirectWrite(path)
		return got, err
	})
	return file, unit, err
}

// Remove implements vfs.FS.
func (f *shelfFS) Remove(name string) error { return f.do(name, f.d.fs.Remove) }

// Rename implements vfs.FS.
func (f *shelfFS) Rename(from, to string) error {
	return f.do(from, func(path string) error {
		return f.do(to, func(next string) error { return f.d.fs.Rename(path, next) })
	})
}

// MkdirAll implements vfs.FS.
func (f *shelfFS) MkdirAll(name string) error { return f.do(name, f.d.fs.MkdirAll) }

// SyncDir implements vfs.FS.
func (f *shelfFS) SyncDir(name string) error { return f.do(name, f.d.fs.SyncDir) }

// ReadDir implements vfs.FS.
func (f *shelfFS) ReadDir(name string) (names []string, err error) {
	err = f.do(name, func(path string) (err error) {
		names, err = f.d.fs.ReadDir(path)
		return err
	})
	return names, err
}

// Stat implements vfs.FS.
func (f *shelfFS) Stat(name string) (info vfs.Info, err error) {
	err = f.do(name, func(path string) (err error) {
		info, err = f.d.fs.Stat(path)
		return err
	})
	return info, err
}

// shelfFile is a file on a shelf.
type shelfFile struct {
	vfs.File
	f *shelfFS
}

func (s *shelfFile) do(call func() error) error {
	if err := s.f.begin(); err != nil {
		return err
	}
	defer s.f.done()
	return call()
}

// ReadAt implements vfs.File.
func (s *shelfFile) ReadAt(b []byte, off int64) (n int, err error) {
	err = s.do(func() (err error) {
		n, err = s.File.ReadAt(b, off)
		return err
	})
	return n, err
}

// WriteVAt implements vfs.File.
func (s *shelfFile) WriteVAt(bufs [][]byte, off int64) (n int, err error) {
	err = s.do(func() (err error) {
		n, err = s.File.WriteVAt(bufs, off)
		return err
	})
	return n, err
}

// Sync implements vfs.File.
func (s *shelfFile) Sync() error { return s.do(s.File.Sync) }

// Allocate implements vfs.File.
func (s *shelfFile) Allocate(off, n int64) error {
	return s.do(func() error { return s.File.Allocate(off, n) })
}

// Truncate implements vfs.File.
func (s *shelfFile) Truncate(size int64) error {
	return s.do(func() error { return s.File.Truncate(size) })
}

// Size implements vfs.File.
func (s *shelfFile) Size() (n int64, err error) {
	err = s.do(func() (err error) {
		n, err = s.File.Size()
		return err
	})
	return n, err
}

// Evict implements vfs.File.
func (s *shelfFile) Evict(off, n int64) error {
	return s.do(func() error { return s.File.Evict(off, n) })
}

// Close implements vfs.File. Of a shelf that has another holder the files are closed
// already.
func (s *shelfFile) Close() error {
	if s.f.begin() != nil {
		return nil
	}
	defer s.f.done()
	s.f.mu.Lock()
	open := s.f.files[s]
	delete(s.f.files, s)
	s.f.mu.Unlock()
	if !open {
		return nil
	}
	return s.File.Close()
}
