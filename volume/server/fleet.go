package server

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"hayloft/volume"
)

// fleet is the set of disks in use with their writers: a snapshot that is never
// changed. A disk that is out for a while is part of it, one that vanished is not.
type fleet struct {
	mu      sync.Mutex // held while the snapshot is replaced; guards roamers
	roamers map[volume.Class][]*writer
	present atomic.Pointer[snapshot]
}

type snapshot struct {
	disks   []*disk
	writers map[volume.Class][]*writer // by turns of the disks, those that roam last
}

var classes = []volume.Class{volume.ClassVariants, volume.ClassOriginals}

func (f *fleet) load() *snapshot {
	if sn := f.present.Load(); sn != nil {
		return sn
	}
	return &snapshot{}
}

// change replaces the set of disks by what f makes of it.
func (f *fleet) change(make func([]*disk) []*disk) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.present.Store(newSnapshot(make(slices.Clone(f.load().disks)), f.roamers))
}

// roam adds writers without a disk of their own.
func (f *fleet) roam(ws map[volume.Class][]*writer) {
	f.mu.Lock()
	f.roamers = ws
	f.mu.Unlock()
	f.change(func(all []*disk) []*disk { return all })
}

func newSnapshot(disks []*disk, roamers map[volume.Class][]*writer) *snapshot {
	sn := &snapshot{disks: disks, writers: make(map[volume.Class][]*writer)}
	for _, class := range classes {
		for i, more := 0, true; more; i++ {
			more = false
			for _, d := range disks {
				if ws := d.writers[class]; i < len(ws) {
					sn.writers[class] = append(sn.writers[class], ws[i])
					more = true
				}
			}
		}
		sn.writers[class] = append(sn.writers[class], roamers[class]...)
	}
	return sn
}

// all returns the disks in use, those that are out for a while too. Nobody
// changes the slice.
func (s *Server) all() []*disk { return s.fleet.load().disks }

// diskByNumber returns a disk in use by the directory's number, or nil.
func (s *Server) diskByNumber(n uint32) *disk {
	for _, d := range s.all() {
		if d.number == n {
			return d
		}
	}
	return nil
}

// writersOf returns the writers of a class. Nobody changes the slice.
func (s *Server) writersOf(class volume.Class) []*writer { return s.fleet.load().writers[class] }

// usable is nil when the disk may be read from, and else says why not: then
// ErrUnavailable and ErrDiskOut.
func (d *disk) usable() error {
	if why := d.out.Load(); why != nil {
		return *why
	}
	return nil
}

// takesWrites is nil when n more bytes may be written to the disk, which are then
// taken off what is known of its room. ErrNoSpace is for want of room only.
func (d *disk) takesWrites(n int64) error {
	if err := d.resting(); err != nil {
		return err
	}
	return d.mayAppend(n)
}

// mayAppend is takesWrites for files that are open: that no other could be made
// does not matter to them.
func (d *disk) mayAppend(n int64) error {
	if err := d.usable(); err != nil {
		return err
	}
	if why := d.readOnly.Load(); why != nil {
		return *why
	}
	if !d.room(n) {
		return fmt.Errorf("%w: %s", ErrNoSpace, d.dir)
	}
	return nil
}

// outError is what usable says of a disk that is out.
func outError(dir string, reason Reason, err error) error {
	return fmt.Errorf("%w: %w: %s (%s): %w", ErrUnavailable, ErrDiskOut, dir, reason, err)
}
