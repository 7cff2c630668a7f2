package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/internal/id"
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
	s          *Server
	seat       *seat
	dir        string
	ident      identity
	lock       vfs.File // the identity file, held open
	number     uint32   // the directory's
	writers    map[volume.Class][]*writer
	reads      *volume.ReadBudget
	shardReads places
	late       atomic.Int64  // reads under way that nobody waits for any more
	steps      *volume.Steps // of all volumes that are or were in the directory
	fs         vfs.FS        // how everything on the disk is reached
	seen       *observer     // what fs sees
	mark       vfs.FileID    // of the identity file
	device     uint64        // of the data directory

	life     context.Context // ends when the disk is gone for good, or Close begins
	end      context.CancelFunc
	out      atomic.Pointer[error]         // why it is out of service, or nil
	readOnly atomic.Pointer[error]         // why nothing is written to it, or nil
	silent   atomic.Pointer[chan struct{}] // closed while it is out
	removed  atomic.Bool                   // it is out for good
	buried   chan struct{}                 // closed when it is gone and its files are closed

	asking atomic.Bool           // Rooms has it asked how full it is
	said   atomic.Pointer[Space] // what it said last, for those who do not wait

	turn    chan struct{} // held (full) by the job that is at work on the disk
	helping chan struct{} // has one token of each generation that is being made here
	birth   chan struct{} // held (full) by who makes a volume of a writer of this disk, or gives one up
	making  chan struct{} // held (full) by who makes the file of a volume for another's writer; nobody else is waited for
	kicked  chan struct{} // holds one token when the disk is to be looked over
	pace    pace
	blind   bool      // the upkeep could not list the files; the upkeep's alone
	listed  *fileList // nil: it is to be made again; the upkeep's alone

	troubles troubles
	rows     map[volume.ID]uint64 // what rowsChanged saw last; it alone uses it
	scrub    *scrubber
	damage   damageList

	mu      sync.Mutex // guards all below
	space   Space
	asked   time.Time // when space was
	full    bool
	failing error // of the last attempt to open a volume
	fails   int   // in a row
	until   time.Time
	idles   map[volume.ID]idle
	ill     map[volume.ID][]id.ID // blobs of which reads have found something damaged
}

func (d *disk) volumesDir() string { return filepath.Join(d.dir, volumesName) }

// room reports whether n bytes may be written. It asks the file system once a
// second; the engine's own ENOSPC catches what happens in between.
func (d *disk) room(n int64) bool {
	d.mu.Lock()
	d.ask()
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

// ask has d.space not be older than a second. d.mu is held.
func (d *disk) ask() {
	now := d.s.o.Clock.Now()
	if age := now.Sub(d.asked); d.asked.IsZero() || age < 0 || age >= spaceEvery {
		d.asked = now
		// A file system that does not even say how full it is takes nothing.
		d.space = Space{}
		if sp, err := d.s.o.Space(d.dir); err == nil {
			d.space = sp
		}
		said := d.space
		d.said.Store(&said)
	}
}

// left is the room above the reserve, in bytes.
func (d *disk) left() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ask()
	return d.space.Free - d.s.o.KeepFree
}

// roomForNext takes the bytes of a volume's next generation off the room of the
// disk, unless its file is there. For want of room uploads go on, and the
// generation waits.
func (d *disk) roomForNext(h *handle, row Row) error {
	v := row.Volume.Volume
	if a := row.Attempt; a != nil && d.has(volume.Identity{Volume: v, Generation: a.Generation}) {
		return nil
	}
	n := h.vol.Stats().LiveBytes
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ask()
	if left := d.space.Free - d.s.o.KeepFree; left < n {
		return fmt.Errorf("%w: no room to compact volume %d in %s: it takes %d bytes, and %d are left above the reserve", ErrNoSpace, v, d.dir, n, max(left, 0))
	}
	d.space.Free -= n // until it is asked again
	return nil
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
	if err != nil && d.usable() == nil {
		d.seat.kick()
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

// lateShare is the share of a disk's places for reads that may be taken by those
// it never answered before it is taken to hang.
const lateShare = 4

// beginRead refuses a read while the disk hangs, so that nobody waits for it who
// could serve others. The reads that hang are the probe: when the disk answers
// them, it is asked again. The caller ends with what it returns.
func (d *disk) beginRead(ctx context.Context) (end func(), err error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	limit := int64(max(1, d.s.o.MaxReads/lateShare))
	if n := d.late.Load(); n >= limit {
		return nil, unavailable("%s does not answer: %d reads hang", d.dir, n)
	}
	answered := context.AfterFunc(ctx, func() {
		if d.late.Add(1) == limit {
			d.s.o.Events(Event{Kind: EventDiskHangs, Dir: d.dir})
		}
	})
	return func() {
		if !answered() {
			d.late.Add(-1)
		}
	}, nil
}

func (d *disk) stats() DiskStats {
	health := d.seat.report()
	d.mu.Lock()
	defer d.mu.Unlock()
	return DiskStats{
		State: health.state, Reason: health.reason, Why: health.err, Since: health.since, Outs: d.seat.outs.Load(),
		Dir: d.dir, UUID: hexOf(d.ident.uuid), Disk: d.number, Free: d.space.Free, Total: d.space.Capacity,
		Full: d.full, Failing: cmp.Or(health.out(), d.failing), Reading: d.reads.Held(), Late: d.late.Load(), Sick: make(map[volume.ID]error),
		Steps: d.steps.Snapshot(), Scrub: d.scrub.status(),
	}
}

// open opens every volume on the disk. What cannot be opened is out of service.
func (d *disk) open(places chan struct{}) error {
	if err := volume.RemoveUnfinished(d.volumesDir(), d.s.volumeOptions(d)); err != nil { // it does no harm
		d.s.o.Events(Event{Kind: EventUpkeepFailed, Dir: d.dir, Work: jobRemove.String(), Err: err})
	}
	entries, err := volume.List(d.fs, d.volumesDir())
	if err != nil {
		return err
	}
	files := make(map[volume.ID][]volume.Entry)
	for _, e := range entries {
		files[e.Volume] = append(files[e.Volume], e)
	}
	var wg sync.WaitGroup
	for v, all := range files {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			vol, err := d.openKnown(v, all)
			d.s.serve(d, v, vol, err)
		})
	}
	wg.Wait()
	return d.reportUnknown(entries) // opening has removed what crashes left
}

// openKnown opens a volume, and refuses a file that is not what the directory
// knows to be sealed: another volume's, or one of an earlier day.
func (d *disk) openKnown(v volume.ID, all []volume.Entry) (*volume.Volume, error) {
	vol, err := d.openOne(v, all)
	if err != nil {
		return nil, err
	}
	row, ok := d.s.o.Directory.Row(v)
	if !ok || row.Seal == nil || vol.Identity() != row.Volume {
		return vol, nil
	}
	rec, sealed := vol.Sealed()
	switch {
	case !sealed:
		err = fmt.Errorf("%w: the file of volume %d is not sealed, and the directory has it sealed: it is a copy of an earlier day", volume.ErrConflict, v)
	case rec.Digest != row.Seal.Digest:
		err = fmt.Errorf("%w: the file of volume %d does not hold what the directory knows to be sealed (digest %x, not %x)", volume.ErrConflict, v, rec.Digest[:8], row.Seal.Digest[:8])
	default:
		return vol, nil
	}
	return nil, errors.Join(err, vol.Close())
}

// openOne opens the generation of a volume that the directory has committed. If
// that is not on the disk or cannot be opened, or this node does not know the
// volume yet, it is another that compaction made or was made from: see doc.go.
func (d *disk) openOne(v volume.ID, all []volume.Entry) (*volume.Volume, error) {
	if len(all) == 1 {
		return volume.Open(d.volumesDir(), v, d.s.volumeOptions(d))
	}
	row, ok := d.s.o.Directory.Row(v)
	if !ok || !slices.ContainsFunc(all, func(e volume.Entry) bool { return e.Generation == row.Volume.Generation }) {
		d.s.o.Events(Event{Kind: EventGeneration, Dir: d.dir, Volume: v})
		return volume.Open(d.volumesDir(), v, d.s.volumeOptions(d))
	}
	vol, err := volume.OpenGeneration(d.volumesDir(), v, row.Volume.Generation, d.s.volumeOptions(d))
	if err == nil {
		return vol, nil
	}
	d.s.o.Events(Event{Kind: EventGeneration, Dir: d.dir, Volume: v, Err: err})
	for _, e := range slices.Backward(all) {
		other, otherErr := volume.OpenGeneration(d.volumesDir(), v, e.Generation, d.s.volumeOptions(d))
		if otherErr != nil {
			continue
		}
		if (&handle{vol: other}).answersFor(row.Volume) {
			return other, nil
		}
		err = errors.Join(err, other.Close())
	}
	return nil, err
}

func (d *disk) reportUnknown(entries []volume.Entry) error {
	known := make(map[string]bool)
	for _, e := range entries {
		known[e.Name] = true
		for _, name := range e.Companions() {
			known[name] = true
		}
	}
	kept, err := volume.ListQuarantined(d.fs, d.volumesDir())
	for _, q := range kept {
		known[q.Name] = true
		for _, name := range q.Companions() {
			known[name] = true
		}
	}
	names, namesErr := d.fs.ReadDir(d.volumesDir())
	err = errors.Join(err, namesErr)
	for _, n := range names {
		if !known[n] {
			d.s.o.Events(Event{Kind: EventUnknownFile, Dir: d.dir, File: filepath.Join(volumesName, n)})
		}
	}
	return err
}
