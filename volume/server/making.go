package server

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"hayloft/internal/id"
	"hayloft/volume"
)

// made are the next generations that were made here, read back, and are not committed
// as far as is known: open, and not served.
type made struct {
	mu   sync.Mutex // guards all below
	vols map[where]*volume.Volume
	work map[where]*making
}

// making is a generation that is being made, and those who wait for it.
type making struct {
	generation uint32
	end        chan struct{} // closed at the end; next and err are set then
	next       *volume.Volume
	err        error
}

func (m *made) get(at where) *volume.Volume {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.vols[at]
}

// take gives away what was made at a place, if it is of a generation.
func (m *made) take(at where, generation uint32) *volume.Volume {
	m.mu.Lock()
	defer m.mu.Unlock()
	vol := m.vols[at]
	if vol == nil || vol.Identity().Generation != generation {
		return nil
	}
	delete(m.vols, at)
	return vol
}

// drop closes what was made at a place unless it is of a generation.
func (m *made) drop(at where, but uint32) error {
	m.mu.Lock()
	vol := m.vols[at]
	if vol == nil || vol.Identity().Generation == but {
		m.mu.Unlock()
		return nil
	}
	delete(m.vols, at)
	m.mu.Unlock()
	return vol.Close()
}

// on gives away all that was made on a disk.
func (m *made) on(disk uint32) (out []*volume.Volume) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at, vol := range m.vols {
		if at.disk == disk {
			out = append(out, vol)
			delete(m.vols, at)
		}
	}
	return out
}

// idle waits until nothing is being made at a place.
func (m *made) idle(ctx context.Context, at where) error {
	for {
		m.mu.Lock()
		w := m.work[at]
		m.mu.Unlock()
		if w == nil {
			return nil
		}
		select {
		case <-w.end:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin returns what is being made at a place, and whether it begins just now.
func (m *made) begin(at where, generation uint32) (w *making, begun bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.work[at]; w != nil {
		return w, false
	}
	if m.work == nil {
		m.work, m.vols = make(map[where]*making), make(map[where]*volume.Volume)
	}
	w = &making{generation: generation, end: make(chan struct{})}
	m.work[at] = w
	return w, true
}

func (m *made) ended(at where, w *making) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.err == nil {
		m.vols[at] = w.next
	}
	delete(m.work, at)
	close(w.end)
}

// makeNext makes the generation of a compaction that is under way out of the replica on
// a disk, reads it back, and keeps it open. It goes on when ctx ends, and what was made
// is found by the next call. The result is in made until it is taken, and is not the
// caller's.
func (s *Server) makeNext(ctx context.Context, d *disk, v volume.ID, generation uint32) (*volume.Volume, error) {
	at := where{d.number, v}
	for {
		if next := s.made.get(at); next != nil && next.Identity().Generation == generation {
			return next, nil
		}
		w, begun := s.made.begin(at, generation)
		if begun {
			if err := s.enter(); err != nil {
				w.err = err
				s.made.ended(at, w)
				return nil, err
			}
			go func() {
				defer s.calls.Done()
				w.next, w.err = s.makeOnce(d, v, generation)
				s.made.ended(at, w)
			}()
		}
		select {
		case <-w.end:
		case <-ctx.Done():
			return nil, unavailable("%w", context.Cause(ctx))
		}
		if w.generation == generation {
			return w.next, w.err
		}
	}
}

// makeOnce makes a generation. One disk makes few at a time, whoever asks.
func (s *Server) makeOnce(d *disk, v volume.ID, generation uint32) (*volume.Volume, error) {
	ctx := d.life
	select {
	case d.helping <- struct{}{}:
		defer func() { <-d.helping }()
	case <-ctx.Done():
		return nil, s.ended(d)
	}
	row, err := s.freshOn(ctx, d, v)
	if err != nil {
		return nil, err
	}
	a := row.Attempt
	switch {
	case a == nil || a.Generation != generation || row.State != StateSealed:
		return nil, fmt.Errorf("%w: generation %d of volume %d is not under way", volume.ErrConflict, generation, v)
	case !row.inSync(d.number):
		return nil, unavailable("volume %d: the replica on disk %d is not in sync", v, d.number)
	}
	h, err := s.served(d, v)
	if err != nil {
		return nil, err
	}
	defer h.unpin()
	if have := h.vol.Identity(); have != row.Volume {
		return nil, unavailable("volume %d: disk %d serves generation %d, not %d", v, d.number, have.Generation, row.Volume.Generation)
	}
	if err := errors.Join(s.made.drop(where{d.number, v}, generation), s.removeVoid(ctx, d, row), d.roomForNext(h, row)); err != nil {
		return nil, err
	}
	return h.vol.Compact(ctx, volume.CompactOptions{
		Generation: a.Generation, Deletes: a.Deletes, Secret: a.Secret, Time: a.Time, Throttle: s.throttleOn(d, v), Repair: s.goodCopy(d, row),
	})
}

// helpers is how many generations are made on a disk at a time.
const helpers = 2

// goodCopy returns what brings a needle that cannot be read from another replica; nil
// when there is none.
func (s *Server) goodCopy(d *disk, row Row) func(context.Context, volume.Damaged) (volume.Needle, error) {
	if len(row.InSync) < 2 {
		return nil
	}
	return func(ctx context.Context, want volume.Damaged) (found volume.Needle, err error) {
		errs := []error{errNoCopy}
		for _, n := range row.InSync {
			if n == d.number {
				continue
			}
			p, err := s.peerOf(n)
			if err == nil {
				ctx, end := s.within(ctx, fetchWait)
				err = p.Fetch(ctx, n, row.Volume.Volume, []id.ID{want.Key}, func(x volume.Needle) error {
					if x.Alt == want.Alt {
						found = keep(x)
					}
					return nil
				})
				end()
			}
			if found.Key != 0 {
				return found, nil
			}
			errs = append(errs, err)
		}
		return found, errors.Join(errs...)
	}
}

// compactSeveral is compact for the first replica in sync of several.
func (s *Server) compactSeveral(ctx context.Context, d *disk, j *job, h *handle, row Row) (volume.SealRecord, error) {
	rec, _ := h.vol.Sealed()
	switch have := h.vol.Identity().Generation; {
	case row.InSync[0] != d.number:
		return rec, unavailable("volume %d is compacted where its primary is, on disk %d", j.v, row.InSync[0])
	case have > row.Volume.Generation:
		return rec, fmt.Errorf("%w: disk %d serves generation %d of volume %d, the directory has %d", volume.ErrConflict, d.number, have, j.v, row.Volume.Generation)
	}
	return s.compactTogether(ctx, d, j, h, row)
}

// compactTogether makes the next generation of a sealed volume of which several
// replicas are in sync, on all of them. d has the first of them, the primary.
func (s *Server) compactTogether(ctx context.Context, d *disk, j *job, h *handle, row Row) (volume.SealRecord, error) {
	rec, _ := h.vol.Sealed()
	all := s.parties(row)
	each(all, func(p *party) {
		ctx, end := s.within(ctx, askWait)
		defer end()
		if p.peer, p.out = s.peerOf(p.disk); p.out == nil {
			p.st, p.out = p.peer.Standing(ctx, p.disk, j.v)
		}
		if p.out == nil && !p.st.good(row) {
			p.out = unavailable("disk %d does not have generation %d, or is poisoned", p.disk, row.Volume.Generation)
		}
	})
	// Over deletes that all have. Those of an attempt under way are given.
	deletes, ready := ^uint32(0), all[:0:0]
	for _, p := range all {
		if p.out == nil {
			deletes, ready = min(deletes, p.st.Deletes), append(ready, p)
		}
	}
	if err := fewer(row, all, len(ready)); err != nil {
		return rec, err
	}
	row, err := s.decide(ctx, func(ctx context.Context) (Row, error) {
		return s.o.Directory.BeginCompaction(ctx, j.v, row.Volume.Generation, rec.Digest, max(deletes, rec.Deletes))
	})
	if err != nil {
		return rec, err
	}
	a := row.Attempt
	s.together(ctx, ready, func(ctx context.Context, p *party) {
		var got Sealed
		if got, p.out = p.peer.Make(ctx, p.disk, j.v, a.Generation); p.out == nil {
			p.st.Made = &got
		}
	})
	own := s.made.get(where{d.number, j.v})
	if own == nil {
		return rec, errors.Join(outcomes(all), s.abandon(ctx, d, row))
	}
	mine, _ := own.Sealed()
	var disks []uint32
	for _, p := range ready {
		switch {
		case p.out != nil:
		case p.st.Made.Digest != mine.Digest:
			p.out = fmt.Errorf("%w: disk %d made another generation %d", volume.ErrConflict, p.disk, a.Generation)
		default:
			disks = append(disks, p.disk)
		}
	}
	if err := fewer(row, all, len(disks)); err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
			err = errors.Join(err, s.giveUpAttempt(ctx, d, row))
		}
		return rec, err
	}
	return mine, s.commitMade(ctx, d, row, mine, disks)
}

// fewer is why a compaction does not go on with n of the replicas in sync: fewer than
// two would be left so. What all said wraps ErrUnavailable when time may cure it.
func fewer(row Row, all []*party, n int) error {
	if n >= min(2, len(row.InSync)) {
		return nil
	}
	return fmt.Errorf("volume %d is not compacted with %d of %d replicas: %w", row.Volume.Volume, n, len(all), outcomes(all))
}

func outcomes(all []*party) error {
	errs := make([]error, len(all))
	for i, p := range all {
		errs[i] = p.out
	}
	return errors.Join(errs...)
}

// commitMade has the generation of an attempt committed that lies on some disks, and
// serves the one of this disk.
func (s *Server) commitMade(ctx context.Context, d *disk, row Row, rec volume.SealRecord, disks []uint32) error {
	v, generation := row.Volume.Volume, row.Attempt.Generation
	after, err := s.decide(ctx, func(ctx context.Context) (Row, error) {
		return s.o.Directory.CommitCompaction(ctx, v, generation, disks, sealedOf(rec))
	})
	if err != nil {
		return err // committed or not, it is found again
	}
	for _, n := range row.InSync {
		if !after.inSync(n) {
			s.o.Events(Event{Kind: EventLeftSync, Dir: d.dir, Volume: v, Disk: n, Err: unavailable("it has no generation %d", generation)})
		}
	}
	if next := s.made.take(where{d.number, v}, generation); next != nil {
		s.replace(d, next)
	}
	return nil
}

// giveUpAttempt has an attempt given up that some replica cannot make under its number.
func (s *Server) giveUpAttempt(ctx context.Context, d *disk, row Row) error {
	at := where{d.number, row.Volume.Volume}
	row, err := s.decide(ctx, func(ctx context.Context) (Row, error) {
		return s.o.Directory.AbandonCompaction(ctx, at.vol, row.Attempt.Generation)
	})
	if err != nil {
		return err
	}
	return errors.Join(s.made.drop(at, 0), s.removeVoid(ctx, d, row))
}
