package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"hayloft/internal/id"
	"hayloft/volume"
)

// openAtOnce is how many volumes are opened in parallel: enough to keep a few
// disks busy, few enough for their indexes' memory.
const openAtOnce = 8

// Server is the blob server of this process.
type Server struct {
	o       Options
	disks   []*disk
	dead    []DiskStats                // that could not be read at Open; constant
	writers map[volume.Class][]*writer // by turns of the disks
	writing *semaphore.Weighted        // bytes
	turn    atomic.Uint64              // which disk is next

	mu      sync.RWMutex // guards volumes, closing and closed
	volumes map[where]*handle
	closing map[where]chan struct{} // closed when all former generations are
	closed  bool
	calls   sync.WaitGroup // under way, jobs too; added to under mu while not closed

	life     context.Context // ends when Close begins
	stop     context.CancelFunc
	jobs     jobs
	keeping  sync.WaitGroup // upkeep goroutines
	retiring sync.WaitGroup // goroutines that close former generations

	n struct {
		writes, moved, rolled, reads, notFound, corrupt, deletes atomic.Uint64
		seals, compactions, failures, upkeep                     atomic.Uint64
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
		writers: make(map[volume.Class][]*writer),
		writing: semaphore.NewWeighted(o.MaxWriteBytes),
		volumes: make(map[where]*handle),
		closing: make(map[where]chan struct{}),
		jobs:    jobs{of: make(map[where]*job), verifying: make(map[where]int)},
	}
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.start(ctx); err != nil {
		s.stop()
		return nil, errors.Join(err, s.release())
	}
	for _, class := range []volume.Class{volume.ClassVariants, volume.ClassOriginals} {
		for range o.OpenPerDisk {
			for _, d := range s.disks {
				s.writers[class] = append(s.writers[class], newWriter(s, d, class, uint16(len(s.writers[class]))))
			}
		}
	}
	for _, d := range s.disks {
		if o.NoUpkeep {
			break
		}
		s.keeping.Go(func() { d.upkeep(s.life) })
	}
	return s, nil
}

// start claims and registers the disks, all of them before any volume is opened.
func (s *Server) start(ctx context.Context) error {
	uuids := make(map[[16]byte]string)
	share := max(1, s.o.MaxReadBytes/int64(len(s.o.Dirs)))
	for _, dir := range s.o.Dirs {
		ident, lock, err := claim(&s.o, dir)
		if errors.Is(err, ErrDisk) {
			return err
		}
		if err != nil { // a bad disk is out of service, and the others are not
			s.dead = append(s.dead, DiskStats{Dir: dir, Failing: err})
			s.o.Events(Event{Kind: EventDiskFailing, Dir: dir, Err: err})
			continue
		}
		s.disks = append(s.disks, newDisk(s, dir, ident, lock, volume.NewReadBudget(share, s.o.MaxReads)))
		if other, twice := uuids[ident.uuid]; twice {
			return fmt.Errorf("%w: %s has the identity of %s: one is a copy", ErrDisk, dir, other)
		}
		uuids[ident.uuid] = dir
	}
	if len(s.disks) == 0 {
		return fmt.Errorf("%w: none can be used: %w", ErrDisk, s.dead[0].Failing)
	}
	for _, d := range s.disks {
		sp, err := s.o.Space(d.dir)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDisk, d.dir, err)
		}
		if d.number, err = s.o.Directory.RegisterDisk(ctx, d.ident.uuid, uint64(sp.Capacity)); err != nil {
			return fmt.Errorf("%w: register %s: %w", ErrUnavailable, d.dir, err)
		}
		d.space = sp
	}
	places := make(chan struct{}, openAtOnce)
	errs := make([]error, len(s.disks))
	var wg sync.WaitGroup
	for i, d := range s.disks {
		wg.Go(func() { errs[i] = d.open(places) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil { // its volumes are out of service; the others are not
			s.disks[i].failed(err)
		}
	}
	s.tellMissing()
	return nil
}

func (s *Server) volumeOptions(d *disk) volume.Options {
	return volume.Options{
		FS: s.o.FS, Clock: s.o.Clock, MaxBytes: s.o.VolumeBytes, AllocChunk: s.o.AllocChunk,
		Reads: d.reads, Steps: &d.steps,
		Events: func(e volume.Event) {
			s.o.Events(Event{Kind: EventVolume, Dir: d.dir, Volume: e.Volume, Err: e.Err, Engine: e})
		},
	}
}

// serve puts a volume into service, or notes why it cannot be.
func (s *Server) serve(d *disk, v volume.ID, vol *volume.Volume, err error) *handle {
	h := &handle{disk: d, vol: vol, sick: err}
	s.mu.Lock()
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
	for _, ws := range s.writers {
		for _, w := range ws {
			errs = append(errs, w.keeper.Close(ctx))
		}
	}
	if late == nil {
		errs = append(errs, s.release())
	}
	return errors.Join(errs...)
}

// quiet waits until calls, jobs and upkeep have ended.
func (s *Server) quiet(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.keeping.Wait()
		s.calls.Wait()
		s.retiring.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		go func() {
			<-done
			s.release() //nolint:errcheck // nobody waits any more, and opening finds what there is
		}()
		return ErrLate
	}
}

// release closes volumes and disks.
func (s *Server) release() error {
	s.mu.Lock()
	all := s.volumes
	s.volumes = make(map[where]*handle)
	s.mu.Unlock()
	var mu sync.Mutex // guards errs
	var errs []error
	var wg sync.WaitGroup
	for _, h := range all {
		if h.vol == nil {
			continue
		}
		wg.Go(func() {
			if err := h.vol.Close(); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, d := range s.disks {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}

func hexOf(u [16]byte) string { return hex.EncodeToString(u[:]) }

// unavailable marks an error that says nothing about the blob.
func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, fmt.Errorf(format, args...))
}

// Delete makes a blob unreadable for ever and returns when that is durable. One
// that was never written, or is deleted already, can be deleted.
func (s *Server) Delete(ctx context.Context, blob id.ID) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	err := s.locate(ctx, blob, func(h *handle) error { return h.vol.Delete(ctx, blob) })
	switch {
	case err == nil:
		s.n.deletes.Add(1)
		return nil
	case errors.Is(err, volume.ErrNotFound):
		return nil // in no tile: nothing can ever be written under this id
	case errors.Is(err, volume.ErrPoisoned):
		return unavailable("%w", err) // until another replica takes its place
	case errors.Is(err, volume.ErrNoSpace):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
