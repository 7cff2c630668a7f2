package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"hayloft/volume"
	"hayloft/volume/coding"
)

// openAtOnce is how many volumes are opened in parallel: enough to keep a few
// disks busy, few enough for their indexes' memory.
const openAtOnce = 8

// Server is the blob server of this process.
type Server struct {
	o       Options
	seats   []*seat // one for each data directory; constant after Open
	fleet   fleet
	coder   *coder
	writing *semaphore.Weighted // bytes
	turn    atomic.Uint64       // which disk is next
	workers [2]atomic.Uint32    // writers so far, by class
	shunned shunned
	latency latencies
	hedging allowance

	mu      sync.RWMutex // guards volumes, closing, joining and closed
	volumes map[where]*handle
	closing map[where]chan struct{} // closed when all former generations are
	joining map[where]error         // why deletes wait where a join has no answer
	closed  bool
	calls   sync.WaitGroup // under way, jobs too; added to under mu while not closed

	lookout  lookout
	shelves  shelves
	made     made
	life     context.Context // ends when Close begins
	stop     context.CancelFunc
	jobs     jobs
	scrubs   scrubs
	keeping  sync.WaitGroup // upkeep goroutines
	watching sync.WaitGroup // those that watch a disk
	retiring sync.WaitGroup // goroutines that close former generations
	burying  sync.WaitGroup // goroutines that may wait for a disk that does not answer; nothing depends on their end

	n struct {
		writes, moved, rolled, reads, notFound, corrupt, deletes atomic.Uint64
		seals, compactions, failures, upkeep                     atomic.Uint64
		coded, released, revoked, reclaimed, computed            atomic.Uint64
		damaged, repaired, rebuilt                               atomic.Uint64
		filled, fillBytes, restored                              atomic.Uint64
		replicaWrites, lateReplicas, leftSync                    atomic.Uint64
		remoteReads, hedges, hedgesWon, takenOver                atomic.Uint64
	}
}

// where names a replica on this node.
type where struct {
	disk uint32
	vol  volume.ID
}

// Open takes the data directories into use, opens every volume on them in
// parallel and returns when all are in service or known to be sick. It refuses
// (ErrDisk) when a directory is not one to use; then nothing is left open.
func Open(ctx context.Context, o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s := &Server{
		o:       o,
		writing: semaphore.NewWeighted(o.MaxWriteBytes),
		volumes: make(map[where]*handle),
		closing: make(map[where]chan struct{}),
		jobs:    jobs{of: make(map[where]*job), verifying: make(map[where]int)},
	}
	s.life, s.stop = context.WithCancel(context.Background())
	s.coder = newCoder(s)
	if err := s.start(ctx); err != nil {
		s.stop()
		return nil, errors.Join(err, s.release())
	}
	for _, d := range s.all() {
		d.begin()
	}
	s.fleet.roam(s.newRoamers()) // the writers of the disks come with them
	if !o.NoUpkeep {
		s.keeping.Go(func() { s.coder.upkeep(s.life) })
		if o.Peers != nil {
			s.keeping.Go(func() { s.lookOut(s.life) })
			s.keeping.Go(func() { s.tendTiles(s.life) })
		}
	}
	for _, t := range s.seats {
		if o.WatchEvery < 0 {
			break
		}
		s.watching.Go(func() { t.watch(s.life) })
	}
	return s, nil
}

// start claims and registers the disks, all of them before any volume is opened.
func (s *Server) start(ctx context.Context) error {
	var disks []*disk
	var dead error
	for _, dir := range s.o.Dirs {
		t := newSeat(s, dir)
		s.seats = append(s.seats, t)
		d, err := t.claim()
		if errors.Is(err, ErrDisk) {
			return err
		}
		if err != nil { // a bad disk is out of service, and the others are not
			dead = errors.Join(dead, err)
			t.stillborn(err)
			s.o.Events(Event{Kind: EventDiskFailing, Dir: dir, Err: err})
			continue
		}
		other := s.seatOf(d.ident.uuid)
		disks = append(disks, d)
		s.fleet.change(func([]*disk) []*disk { return disks })
		t.take(d)
		if other != nil {
			return fmt.Errorf("%w: %s has the identity of %s: one is a copy", ErrDisk, dir, other.dir)
		}
	}
	if len(disks) == 0 && len(s.o.Dirs) > 0 {
		return fmt.Errorf("%w: none can be used: %w", ErrDisk, dead)
	}
	for _, d := range disks {
		if err := d.register(ctx); err != nil {
			return err
		}
	}
	places := make(chan struct{}, openAtOnce)
	errs := make([]error, len(disks))
	var wg sync.WaitGroup
	for i, d := range disks {
		wg.Go(func() { errs[i] = d.open(places) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil { // its volumes are out of service; the others are not
			disks[i].failed(err)
		}
	}
	s.tellMissing()
	s.coder.openAll(ctx)
	return nil
}

// readShare is the part of MaxReadBytes that each disk has, and the coded volumes
// where volumes are coded.
func (s *Server) readShare() int64 {
	shares := int64(max(1, len(s.o.Dirs)))
	if s.o.Coding != (coding.Policy{}) {
		shares++
	}
	return max(1, s.o.MaxReadBytes/shares)
}

func (s *Server) volumeOptions(d *disk) volume.Options {
	return volume.Options{
		FS: d.fs, Clock: s.o.Clock, MaxBytes: s.o.VolumeBytes, AllocChunk: s.o.AllocChunk,
		Reads: d.reads, Steps: d.steps, Hung: d.hung,
		Events: func(e volume.Event) {
			if d.removed.Load() {
				return // what volumes say of a disk that is gone
			}
			s.o.Events(Event{Kind: EventVolume, Dir: d.dir, Volume: e.Volume, Err: e.Err, Engine: e})
		},
	}
}

// serve puts a volume into service, or notes why it cannot be.
func (s *Server) serve(d *disk, v volume.ID, vol *volume.Volume, err error) *handle {
	h := &handle{disk: d, vol: vol, sick: err, gate: newGate()}
	s.mu.Lock()
	if d.removed.Load() {
		s.mu.Unlock()
		if vol != nil {
			s.bury(vol)
		}
		return &handle{disk: d, sick: d.usable(), gate: newGate()}
	}
	h.gate.shut, h.gate.held = s.coder.doubtOf(v), s.joining[where{d.number, v}]
	s.volumes[where{d.number, v}] = h
	s.mu.Unlock()
	if err != nil {
		s.o.Events(Event{Kind: EventVolumeSick, Dir: d.dir, Volume: v, Err: err})
	}
	return h
}

func (s *Server) handle(disk uint32, v volume.ID) *handle {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.volumes[where{disk, v}]
}

// enter counts a call in; the caller calls s.calls.Done.
func (s *Server) enter() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	s.calls.Add(1)
	return nil
}

// Close lets calls under way end, gives back the slots, and closes volumes and
// disks. When the directory does not take the slots back, they stay taken until
// their windows end, and nothing else is lost. ctx bounds the waits. When calls
// have not ended with it the slots are given back all the same, and ErrLate is
// returned: volumes and disks are closed when the calls end, or with the process.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.mu.Unlock()
	s.stop()
	late := s.quiet(ctx)
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), s.o.DirectoryTimeout)
		defer cancel()
	}
	errs := []error{late}
	for _, class := range classes {
		for _, w := range s.writersOf(class) {
			errs = append(errs, w.keeper.Close(ctx))
		}
	}
	if late == nil {
		errs = append(errs, s.releaseIn(ctx))
	}
	return errors.Join(errs...)
}

// quiet waits until calls, jobs and upkeep have ended.
func (s *Server) quiet(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.watching.Wait()
		s.calls.Wait()
		s.keeping.Wait()
		s.retiring.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		go func() {
			// Calls that wait for a disk that is out may wait for ever: the others
			// are closed as they should be.
			if slices.ContainsFunc(s.all(), func(d *disk) bool { return d.usable() != nil }) {
				s.release() //nolint:errcheck // nobody waits any more, and opening finds what there is
				return
			}
			<-done
			s.release() //nolint:errcheck // the same
		}()
		return ErrLate
	}
}

// releaseIn closes volumes and disks, as long as ctx lasts: a disk may not
// answer.
func (s *Server) releaseIn(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.release() }()
	select {
	case err := <-done:
		s.buried(ctx)
		return err
	case <-ctx.Done():
		return ErrLate
	}
}

// burialWait is how long Close waits for what nothing depends on.
const burialWait = time.Second

func (s *Server) buried(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, burialWait)
	defer cancel()
	done := make(chan struct{})
	go func() {
		s.burying.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// release closes volumes and disks. It does not wait for those of disks that are out.
func (s *Server) release() error {
	s.mu.Lock()
	all := s.volumes
	s.volumes = make(map[where]*handle)
	s.mu.Unlock()
	byDisk := make(map[*disk][]*volume.Volume)
	var coded []*codedVolume
	for _, h := range all {
		switch {
		case h.coded != nil:
			coded = append(coded, h.coded)
		case h.vol != nil:
			byDisk[h.disk] = append(byDisk[h.disk], h.vol)
		}
	}
	disks := s.all()
	for _, d := range disks {
		byDisk[d] = append(byDisk[d], s.made.on(d.number)...)
	}
	errs := make([]error, len(disks), len(disks)+1)
	errs = append(errs, s.closeCoded(coded)) // they read from the disks
	s.endShelves()
	var wg sync.WaitGroup
	for i, d := range disks {
		if d.usable() != nil {
			s.burying.Go(func() { _ = d.close(byDisk[d]) }) // what it says is known
			continue
		}
		wg.Go(func() { errs[i] = d.close(byDisk[d]) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// close closes the disk's volumes, and then gives the disk back.
func (d *disk) close(volumes []*volume.Volume) error {
	errs := make([]error, len(volumes))
	var wg sync.WaitGroup
	for i, vol := range volumes {
		wg.Go(func() { errs[i] = vol.Close() })
	}
	wg.Wait()
	return errors.Join(append(errs, d.lock.Close())...)
}

func hexOf(u [16]byte) string { return hex.EncodeToString(u[:]) }

// unavailable marks an error that says nothing about the blob.
func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, fmt.Errorf(format, args...))
}
