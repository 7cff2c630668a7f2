package server

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

const (
	spaceEvery = time.Second // how long an answer about room is used
	failPause  = time.Second // after the first failure in a row; doubles
	failLimit  = time.Minute
)

// disk is one data directory.
type disk struct {
	s      *Server
	dir    string
	ident  identity
	lock   vfs.File // the identity file, held open
	number uint32   // the directory's

	mu      sync.Mutex // guards all below
	space   Space
	asked   time.Time // when space was
	full    bool
	failing error // of the last attempt to open a volume
	fails   int   // in a row
	until   time.Time
}

func (d *disk) volumesDir() string { return filepath.Join(d.dir, volumesName) }

// room reports whether n bytes may be written. It asks the file system once a
// second; the engine's own ENOSPC catches what happens in between.
func (d *disk) room(n int64) bool {
	now := d.s.o.Clock.Now()
	d.mu.Lock()
	if age := now.Sub(d.asked); d.asked.IsZero() || age < 0 || age >= spaceEvery {
		d.asked = now
		// A file system that does not even say how full it is takes nothing.
		d.space = Space{}
		if sp, err := d.s.o.Space(d.dir); err == nil {
			d.space = sp
		}
	}
	was := d.full
	d.full = d.space.Free-d.s.o.KeepFree < n
	d.space.Free -= n // until it is asked again
	if d.full {
		d.space.Free += n
	}
	full := d.full
	d.mu.Unlock()
	if full && !was {
		d.s.o.Events(Event{Kind: EventDiskFull, Dir: d.dir})
	}
	return !full
}

// outOfRoom notes that the engine met ENOSPC.
func (d *disk) outOfRoom() {
	d.mu.Lock()
	was := d.full
	d.full, d.space.Free, d.asked = true, 0, d.s.o.Clock.Now()
	d.mu.Unlock()
	if !was {
		d.s.o.Events(Event{Kind: EventDiskFull, Dir: d.dir})
	}
}

// failed notes that no volume could be made here; nil ends a row of failures.
func (d *disk) failed(err error) {
	d.mu.Lock()
	d.failing = err
	if err == nil {
		d.fails, d.until = 0, time.Time{}
	} else {
		d.fails++
		d.until = d.s.o.Clock.Now().Add(min(failPause<<min(d.fails-1, 10), failLimit))
	}
	d.mu.Unlock()
	if err != nil {
		d.s.o.Events(Event{Kind: EventDiskFailing, Dir: d.dir, Err: err})
	}
}

// resting returns why the disk is left alone for now, or nil.
func (d *disk) resting() error {
	now := d.s.o.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failing != nil && now.Before(d.until) {
		return d.failing
	}
	return nil
}

func (d *disk) stats() DiskStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return DiskStats{
		Dir: d.dir, UUID: hexOf(d.ident.uuid), Disk: d.number, Free: d.space.Free, Total: d.space.Capacity,
		Full: d.full, Failing: d.failing, Sick: make(map[volume.ID]error),
	}
}

// open opens every volume on the disk. What cannot be opened is out of service.
func (d *disk) open(places chan struct{}) error {
	entries, err := volume.List(d.s.o.FS, d.volumesDir())
	if err != nil {
		return err
	}
	if err := d.reportUnknown(entries); err != nil {
		return err
	}
	ids := make(map[volume.ID]bool)
	var wg sync.WaitGroup
	for _, e := range entries {
		if ids[e.Volume] {
			continue // two generations: the engine refuses, once
		}
		ids[e.Volume] = true
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			v, err := volume.Open(d.volumesDir(), e.Volume, d.s.volumeOptions(d))
			d.s.serve(d, e.Volume, v, err)
		})
	}
	wg.Wait()
	return nil
}

func (d *disk) reportUnknown(entries []volume.Entry) error {
	known := make(map[string]bool)
	for _, e := range entries {
		known[e.Name] = true
		for _, name := range e.Companions() {
			known[name] = true
		}
	}
	names, err := d.s.o.FS.ReadDir(d.volumesDir())
	for _, n := range names {
		if !known[n] {
			d.s.o.Events(Event{Kind: EventUnknownFile, Dir: d.dir, File: filepath.Join(volumesName, n)})
		}
	}
	return err
}

// handle is a volume in service, or one that cannot be.
type handle struct {
	disk *disk
	vol  *volume.Volume // nil when sick
	sick error
	left atomic.Bool // a writer of this process has left it
}

// appendable reports whether puts can go to the volume.
func (h *handle) appendable() bool {
	return h != nil && h.vol != nil && h.vol.Stats().Poisoned == nil
}
