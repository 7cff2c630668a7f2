package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"hayloft/volume"
)

// source is a replica that may answer a read: here and pinned, or at a peer. The
// shards of a coded volume are one too.
type source struct {
	disk uint32 // 0 for shards
	h    *handle
	peer Peer
}

func (src *source) unpin() {
	if src.h != nil {
		src.h.unpin()
	}
}

// sources returns the replicas of a place that are in sync, in the order in which
// to ask them: those here, and then by distance. The caller unpins them. None at all
// is an error.
func (s *Server) sources(p Place) (out []source, err error) {
	if h, err := s.shardsOf(p); h != nil || err != nil {
		if stale := s.current(); h != nil && stale != nil {
			h.unpin()
			return nil, stale
		}
		return []source{{h: h}}, err
	}
	if p.Keeper != 0 { // whatever replicas there are do not know all deletes
		peer, err := s.keeper(p)
		return []source{{disk: p.Keeper, peer: peer}}, err
	}
	stale := s.current()
	var errs []error
	for _, number := range p.InSync {
		if s.diskByNumber(number) == nil {
			if peer := s.o.Peers.Of(number); peer != nil {
				out = append(out, source{disk: number, peer: peer})
			}
			continue
		}
		h, err := s.readable(number, p.Volume)
		if h != nil && stale != nil {
			h.unpin()
			h, err = nil, stale
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, source{disk: number, h: h})
	}
	switch {
	case len(out) == 0 && len(errs) > 0:
		return nil, errors.Join(errs...)
	case len(out) == 0:
		return nil, s.noReplica(p)
	case len(out) > 1:
		s.byDistance(out)
	}
	return out, nil
}

// readable pins the replica of a volume on a disk of this process.
func (s *Server) readable(number uint32, meant volume.Identity) (*handle, error) {
	h := s.pin(number, meant.Volume)
	switch {
	case h == nil:
		return nil, unavailable("volume %d: %w", meant.Volume, ErrMissing)
	case h.vol == nil:
		return nil, unavailable("volume %d: %w", meant.Volume, h.sick)
	case h.disk.usable() != nil:
		h.unpin()
		return nil, unavailable("volume %d: %w", meant.Volume, h.disk.usable())
	case !h.answersFor(meant):
		h.unpin()
		return nil, unavailable("volume %d: the directory has %+v, the disk %+v", meant.Volume, meant, h.vol.Identity())
	}
	return h, nil
}

// byDistance sorts sources: those that were heard of before those that were not,
// the nearest first, and equal ones by turns.
func (s *Server) byDistance(out []source) {
	far := make(map[uint32]int)
	for _, d := range s.o.Peers.Disks() {
		far[d.Disk] = d.Distance
		if !d.Up {
			far[d.Disk] = math.MaxInt
		}
	}
	first := int(s.turn.Add(1) % uint64(len(out)))
	slices.Reverse(out[:first])
	slices.Reverse(out[first:])
	slices.Reverse(out)
	slices.SortStableFunc(out, func(a, b source) int {
		return cmp.Or(cmp.Compare(a.there(), b.there()), cmp.Compare(far[a.disk], far[b.disk]))
	})
}

func (src *source) there() int {
	if src.peer != nil {
		return 1
	}
	return 0
}

// anywhere does a reading on whatever replica answers. Not found is what a replica
// in sync says under a table that is no older than the call, or who holds the blob.
func anywhere[T any](ctx context.Context, s *Server, rd *reading[T]) (got T, err error) {
	if p, ok := s.o.Directory.Locate(rd.blob); ok {
		if all, err := s.sources(p); err == nil {
			got, sure, err := race(ctx, s, rd, p, all)
			if err == nil || sure {
				return got, err
			}
		}
	}
	within, cancel := context.WithTimeout(ctx, s.o.DirectoryTimeout)
	defer cancel()
	p, ok, err := s.o.Directory.LocateFresh(within, rd.blob)
	if err != nil {
		return got, unavailable("%w", err)
	}
	if !ok {
		return got, fmt.Errorf("%w: no tile holds %v", volume.ErrNotFound, rd.blob)
	}
	all, err := s.sources(p)
	if err != nil {
		return got, err
	}
	got, _, err = race(ctx, s, rd, p, all)
	return got, err
}

// attempt is what one source said. holds: it has the blob, whatever it found.
type attempt[T any] struct {
	got   T
	err   error
	holds bool
	disk  uint32
}

// race does a reading on the first of the sources, on the next one when that fails,
// and on the next one too when it takes longer than nearly all its reads did, if
// there is an allowance, and when it does not answer at all. The first answer counts.
// sure: a later table would not change it.
func race[T any](ctx context.Context, s *Server, rd *reading[T], p Place, all []source) (got T, sure bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results, gone := make(chan attempt[T]), make(chan struct{})
	defer close(gone)
	next, running, hedged, patient := 0, 0, uint32(0), false
	defer func() {
		for i := range all[next:] {
			all[next+i].unpin()
		}
	}()
	begin := func() {
		s.calls.Add(1) // the caller's own is counted
		go func(src source) {
			defer s.calls.Done()
			a := try(ctx, s, rd, p, &src)
			select {
			case results <- a:
			case <-gone:
				rd.drop(&a.got)
			}
		}(all[next])
		next++
		running++
	}
	begin()
	s.hedging.earn()
	var late <-chan time.Time
	if len(all) > 1 {
		late = s.o.Clock.After(s.latency.pause(all[0].disk))
	}
	var failed []error
	for {
		select {
		case a := <-results:
			running--
			if a.err == nil || errors.Is(a.err, volume.ErrNotFound) {
				if a.disk == hedged && hedged != 0 {
					s.n.hedgesWon.Add(1)
				}
				return a.got, a.err == nil || a.holds, a.err
			}
			if failed = append(failed, a.err); next < len(all) && ctx.Err() == nil {
				begin()
			} else if running == 0 {
				err := verdict(failed)
				return got, errors.Is(err, volume.ErrCorrupt), err
			}
		case <-late:
			if late = nil; next == len(all) {
				continue
			}
			late = s.o.Clock.After(longestPause)
			if patient || s.hedging.take() {
				s.n.hedges.Add(1)
				hedged = all[next].disk
				begin()
			}
			patient = true // it has waited longer than the allowance is for
		}
	}
}

// try does a reading on one source, and gives back its pin.
func try[T any](ctx context.Context, s *Server, rd *reading[T], p Place, src *source) (a attempt[T]) {
	defer src.unpin()
	a.disk = src.disk
	began := s.o.Clock.Elapsed()
	if src.peer != nil {
		s.n.remoteReads.Add(1)
		a.got, a.err = rd.there(ctx, src.peer, src.disk, p.Volume)
	} else {
		a.got, a.err = readOn(ctx, s, src.h, rd)
		a.holds = a.err != nil && src.h.vol.Has(rd.blob)
		a.err = closing(a.err)
	}
	if a.err == nil || ctx.Err() != nil {
		s.latency.disk(src.disk).add(s.o.Clock.Elapsed() - began)
	}
	return a
}

// verdict is what is known when every source failed: the blob is corrupt only when
// all that there are say so.
func verdict(failed []error) error {
	corrupt := 0
	for _, err := range failed {
		if errors.Is(err, volume.ErrCorrupt) {
			corrupt++
		}
	}
	if len(failed) == 1 || corrupt == len(failed) {
		return failed[0]
	}
	for i, err := range failed {
		failed[i] = unless(err, volume.ErrCorrupt)
	}
	return unavailable("%w", errors.Join(failed...))
}
