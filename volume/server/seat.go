package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// seat is one of the data directories that were named, whatever disk is there.
type seat struct {
	s      *Server
	dir    string
	steps  volume.Steps
	kicked chan struct{} // holds one token when the disk is to be looked at

	suspect atomic.Int32 // 1 while it is not DiskOK
	tick    atomic.Int64 // the time of its health, in ns
	outs    atomic.Uint64

	mu     sync.Mutex // guards all below
	disk   *disk      // that is or was last in use here; nil: none was
	health healthReport
}

// healthReport is what others may know of a seat's health.
type healthReport struct {
	state  DiskState
	reason Reason
	err    error
	since  time.Time
}

// out is why the disk is out, or nil.
func (h healthReport) out() error {
	if h.state == DiskOut {
		return h.err
	}
	return nil
}

func newSeat(s *Server, dir string) *seat {
	return &seat{s: s, dir: dir, kicked: make(chan struct{}, 1), health: healthReport{since: s.o.Clock.Now()}}
}

// kick has the disk looked at now.
func (t *seat) kick() {
	select {
	case t.kicked <- struct{}{}:
	default:
	}
}

// stillborn notes that the directory could not be taken into use at Open.
func (t *seat) stillborn(err error) {
	t.mu.Lock()
	t.health = healthReport{DiskOut, ReasonErrors, err, t.s.o.Clock.Now()}
	t.mu.Unlock()
	t.s.o.DiskChanged(t.dir, outError(t.dir, ReasonErrors, err))
}

// take notes which disk is in use in the directory.
func (t *seat) take(d *disk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.disk = d
}

func (t *seat) report() healthReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.health
}

func (t *seat) present() *disk {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.disk
}

// claim takes what lies in the directory for a disk of this process. See claim of
// identity.go for its errors. The disk is not registered yet.
func (t *seat) claim() (*disk, error) {
	o := &t.s.o
	ident, lock, err := claim(o, t.dir)
	if err != nil {
		return nil, err
	}
	mark, err := o.FS.Stat(filepath.Join(t.dir, identityName))
	home, errHome := o.FS.Stat(t.dir)
	if err = errors.Join(err, errHome); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s: %w", t.dir, err), lock.Close())
	}
	d := &disk{
		s: t.s, seat: t, dir: t.dir, ident: ident, lock: lock, pace: pace{s: t.s}, steps: &t.steps,
		reads: volume.NewReadBudget(t.s.readShare(), o.MaxReads), shardReads: newPlaces(o, t.s.readShare()),
		seen: &observer{kick: t.kick, tick: &t.tick}, mark: mark.ID, device: home.ID.Device,
		turn: make(chan struct{}, 1), helping: make(chan struct{}, helpers), birth: make(chan struct{}, 1), making: make(chan struct{}, 1), kicked: make(chan struct{}, 1),
		buried: make(chan struct{}),
	}
	d.fs = observed{o.FS, d.seen}
	d.life, d.end = context.WithCancel(t.s.life)
	d.scrub = newScrubber(d)
	answers := make(chan struct{})
	d.silent.Store(&answers)
	return d, nil
}

// register makes the disk known to the directory.
func (d *disk) register(ctx context.Context) error {
	sp, err := d.s.o.Space(d.dir)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDisk, d.dir, err)
	}
	if d.number, err = d.s.o.Directory.RegisterDisk(ctx, d.ident.uuid, uint64(sp.Capacity)); err != nil {
		return fmt.Errorf("%w: register %s: %w", ErrUnavailable, d.dir, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.space = sp
	d.said.Store(&sp)
	return nil
}

// begin gives the disk its writers and has it kept up. Its volumes are open.
func (d *disk) begin() {
	d.writers = make(map[volume.Class][]*writer)
	for i, class := range classes {
		for range d.s.o.OpenPerDisk {
			d.writers[class] = append(d.writers[class], newWriter(d.s, d, class, d.s.worker(i)))
		}
	}
	if !d.s.o.NoUpkeep {
		d.s.keeping.Go(func() { d.upkeep(d.life) })
	}
	d.s.keeping.Go(func() { d.scrub.loop(d.life) })
}

// seatOf returns the directory whose disk in use has an identity, or nil.
func (s *Server) seatOf(uuid [16]byte) *seat {
	for _, d := range s.all() {
		if d.ident.uuid == uuid {
			return d.seat
		}
	}
	return nil
}

// vacant describes the directories without a disk in use.
func (s *Server) vacant(disks []*disk) (out []DiskStats) {
	for _, t := range s.seats {
		if slices.ContainsFunc(disks, func(d *disk) bool { return d.seat == t }) {
			continue
		}
		d, h := t.present(), t.report()
		st := DiskStats{Dir: t.dir, Failing: h.err, State: h.state, Reason: h.reason, Why: h.err, Since: h.since, Outs: t.outs.Load(), Steps: t.steps.Snapshot()}
		if d != nil {
			st.UUID, st.Disk = hexOf(d.ident.uuid), d.number
		}
		out = append(out, st)
	}
	return out
}

// whyGone returns why a disk that was in use is in none of the directories now,
// or nil when this process never had it.
func (s *Server) whyGone(number uint32) error {
	for _, t := range s.seats {
		if d := t.present(); d != nil && d.number == number && d.removed.Load() {
			return d.usable()
		}
	}
	return nil
}

// noReplica is the error for a blob whose place is on no disk in use here. It
// names the disks that would have it and are out.
func (s *Server) noReplica(p Place) error {
	var errs []error
	for _, number := range p.Disks {
		if why := s.whyGone(number); why != nil {
			errs = append(errs, why)
		}
	}
	if len(errs) > 0 {
		return unavailable("volume %d: %w", p.Volume.Volume, errors.Join(errs...))
	}
	return unavailable("volume %d: no replica on this node", p.Volume.Volume)
}

// hung is closed while the disk is out: nobody waits for it then.
func (d *disk) hung() <-chan struct{} { return *d.silent.Load() }

// whyOut is usable for who found hung closed; the disk may be back by now.
func (d *disk) whyOut() error {
	if err := d.usable(); err != nil {
		return err
	}
	return unavailable("%w: %s was out for a while", ErrDiskOut, d.dir)
}

// blame says of a call that failed on a disk that is out by now that it did for
// that reason: nothing is known about the blob.
func (d *disk) blame(err error) error {
	out := d.usable()
	if err == nil || out == nil || errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", out, unless(err, volume.ErrNotFound, volume.ErrCorrupt))
}

// unless keeps of an error that is one of some only the text.
func unless(err error, some ...error) error {
	if slices.ContainsFunc(some, func(target error) bool { return errors.Is(err, target) }) {
		return errors.New(err.Error())
	}
	return err
}

// probe looks whether the disk in use is still there. gone is why not, fault what
// the device says instead of an answer. Other errors, such as want of file
// descriptors, say nothing.
func (d *disk) probe() (gone, fault error) {
	fsys, name := d.s.o.FS, filepath.Join(d.dir, identityName)
	st, err := fsys.Stat(name)
	switch {
	case missing(err):
		return fmt.Errorf("%s is not there any more", identityName), nil
	case err != nil:
		return nil, faultOf(err)
	case st.ID != d.mark:
		return fmt.Errorf("%s is another file than the one that was claimed", identityName), nil
	}
	if _, err := fsys.Stat(d.volumesDir()); missing(err) {
		return fmt.Errorf("%s is not there any more", volumesName), nil
	}
	b, err := readPast(fsys, name)
	switch {
	case missing(err):
		return nil, nil // the next probe will say so
	case err != nil:
		return nil, faultOf(err)
	case string(b) != string(d.ident.encode()):
		return fmt.Errorf("%s was written to", identityName), nil
	}
	return nil, nil
}

func faultOf(err error) error {
	if ofDevice(err) {
		return err
	}
	return nil
}

// readPast reads a small file from the device if there is a way: what lies in the
// page cache outlives its disk.
func readPast(fsys vfs.FS, name string) ([]byte, error) {
	f, unit, err := fsys.OpenDirect(name)
	if errors.Is(err, vfs.ErrNoDirect) {
		return vfs.ReadFile(fsys, name, identityLimit)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // opened for reading only
	if unit <= identityLimit {
		b, err := readPage(f)
		if !errors.Is(err, unix.EINVAL) { // some open such files and do not read them
			return b, err
		}
	}
	return vfs.ReadFile(fsys, name, identityLimit)
}

func readPage(f vfs.File) ([]byte, error) {
	b := slab.Alloc(identityLimit)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// missing: a name leads nowhere.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}
