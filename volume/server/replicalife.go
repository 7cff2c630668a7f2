package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/internal/id"
	"hayloft/volume"
)

// What coordinators and replicas of other nodes ask of the replicas on the disks of
// this process. Nothing here waits for another node, but Admit.

// standingOf describes a replica in service.
func (s *Server) standingOf(h *handle) Standing {
	st := Standing{Generation: h.vol.Identity().Generation, Fenced: h.vol.Fenced(), Poisoned: h.vol.Stats().Poisoned != nil}
	if rec, sealed := h.vol.Sealed(); sealed {
		sealed := sealedOf(rec)
		st.Sealed = &sealed
	}
	if n, err := h.vol.NewestDelete(); err == nil {
		st.Deletes = n
	} else if st.Fenced {
		st.Poisoned = true // its log cannot be used
	}
	at := where{h.disk.number, h.vol.Identity().Volume}
	if next := s.made.get(at); next != nil {
		rec, _ := next.Sealed()
		sealed := sealedOf(rec)
		st.Made = &sealed
	}
	return st
}

// with calls fn with the replica on a disk of this process, pinned.
func (s *Server) with(number uint32, v volume.ID, fn func(*disk, *handle) error) error {
	if err := s.enter(); err != nil {
		return unavailable("%w", err)
	}
	defer s.calls.Done()
	d, err := s.diskHere(number)
	if err != nil {
		return err
	}
	h := s.pin(number, v)
	switch {
	case h == nil:
		return fmt.Errorf("%w: %d on disk %d", volume.ErrNoVolume, v, number)
	case h.vol == nil:
		return unavailable("volume %d: %w", v, h.sick)
	}
	defer h.unpin()
	return closing(h.blame(fn(d, h)))
}

// diskHere returns a disk of this process that can be used.
func (s *Server) diskHere(number uint32) (*disk, error) {
	d := s.diskByNumber(number)
	if d == nil {
		return nil, unavailable("disk %d is in none of the data directories here", number)
	}
	return d, d.usable()
}

// Standing implements PeerLife. A replica that cannot be opened is none.
func (r *replicas) Standing(_ context.Context, number uint32, v volume.ID) (st Standing, err error) {
	d, err := r.s.diskHere(number)
	if err != nil {
		return st, err
	}
	if h := r.s.handle(d.number, v); h == nil || h.vol == nil {
		return st, nil
	}
	err = r.s.with(number, v, func(_ *disk, h *handle) error {
		st = r.s.standingOf(h)
		return nil
	})
	return st, err
}

// Fence implements PeerLife. That a volume is poisoned its standing says.
func (r *replicas) Fence(ctx context.Context, number uint32, v volume.ID) (st Standing, err error) {
	err = r.s.with(number, v, func(_ *disk, h *handle) error {
		h.left.Store(true) // a writer of this process goes elsewhere
		if err := h.vol.Fence(ctx); err != nil && !errors.Is(err, volume.ErrPoisoned) {
			return err
		}
		st = r.s.standingOf(h)
		return nil
	})
	return st, err
}

// slow is what the engine asks before it reads or writes n bytes for another node.
func (d *disk) slow(ctx context.Context, n int64) error {
	d.s.n.upkeep.Add(uint64(n))
	return d.pace.wait(ctx, n)
}

// Holdings implements PeerLife.
func (r *replicas) Holdings(ctx context.Context, number uint32, v volume.ID, fn func(Holding) error) error {
	return r.s.with(number, v, func(d *disk, h *handle) error { return h.vol.Holdings(ctx, d.slow, fn) })
}

// Fetch implements PeerLife.
func (r *replicas) Fetch(ctx context.Context, number uint32, v volume.ID, keys []id.ID, fn func(volume.Needle) error) error {
	return r.s.with(number, v, func(_ *disk, h *handle) error { return h.vol.Fetch(ctx, keys, fn) })
}

// Fill implements PeerLife.
func (r *replicas) Fill(ctx context.Context, number uint32, ident volume.Identity, group []volume.Needle) error {
	return r.s.with(number, ident.Volume, func(d *disk, h *handle) error {
		if have := h.vol.Identity(); have != ident || !h.vol.Fenced() {
			return fmt.Errorf("%w: %+v, fenced: %v, is to be filled as %+v", volume.ErrConflict, have, h.vol.Fenced(), ident)
		}
		size := int64(0)
		for i := range group {
			size += int64(len(group[i].Data))
		}
		if err := d.mayAppend(size); err != nil {
			return err
		}
		r.s.n.fillBytes.Add(uint64(size))
		return h.vol.Fill(ctx, group)
	})
}

// Bury implements PeerLife.
func (r *replicas) Bury(ctx context.Context, number uint32, v volume.ID, keys []id.ID) error {
	return r.s.with(number, v, func(_ *disk, h *handle) error { return h.vol.Bury(ctx, keys) })
}

// Seal implements PeerLife.
func (r *replicas) Seal(ctx context.Context, number uint32, v volume.ID, info volume.SealInfo) (out Sealed, err error) {
	err = r.s.with(number, v, func(d *disk, h *handle) error {
		info.Throttle = r.s.throttleOn(d, v)
		rec, err := h.vol.Seal(ctx, info)
		out = sealedOf(rec)
		return err
	})
	return out, err
}

// throttleOn paces work on a volume, and counts it for the volume's job, if it has one.
func (s *Server) throttleOn(d *disk, v volume.ID) func(context.Context, int64) error {
	if j := s.jobOn(where{d.number, v}); j != nil {
		return j.throttle(d)
	}
	return d.slow
}

// Make implements PeerLife.
func (r *replicas) Make(ctx context.Context, number uint32, v volume.ID, generation uint32) (Sealed, error) {
	d, err := r.s.diskHere(number)
	if err != nil {
		return Sealed{}, err
	}
	next, err := r.s.makeNext(ctx, d, v, generation)
	if err != nil {
		return Sealed{}, err
	}
	rec, _ := next.Sealed()
	return sealedOf(rec), nil
}

// Copy implements PeerLife.
func (r *replicas) Copy(ctx context.Context, number uint32, v volume.ID, generation uint32, fn func([]byte) error) (out Sealed, err error) {
	err = r.s.with(number, v, func(d *disk, h *handle) error {
		if have := h.vol.Identity().Generation; have != generation {
			return fmt.Errorf("%w: generation %d of volume %d, disk %d has %d", volume.ErrNoVolume, generation, v, number, have)
		}
		rec, err := h.vol.Copy(ctx, d.slow, fn)
		out = sealedOf(rec)
		return err
	})
	return out, err
}

// errEnough ends a walk that has brought what was asked for.
var errEnough = errors.New("server: that is enough")

// Deletes implements PeerLife.
func (r *replicas) Deletes(ctx context.Context, number uint32, v volume.ID, after uint32, limit int) (list []volume.Delete, newest uint32, err error) {
	err = r.s.with(number, v, func(_ *disk, h *handle) (err error) {
		newest, err = h.vol.NewestDelete()
		if err != nil || newest <= after {
			return err
		}
		_, err = h.vol.Deletes(ctx, after, func(d volume.Delete) error {
			if len(list) == limit {
				return errEnough
			}
			list = append(list, d)
			return nil
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	return list, newest, err
}

// logPage is how many deletes are asked for, or sent, at a time.
const logPage = 64 << 10

// allDeletes returns the delete log of a replica.
func allDeletes(ctx context.Context, p fellow, disk uint32, v volume.ID) (all []volume.Delete, err error) {
	all = []volume.Delete{} // none is something else than not known
	for after := uint32(0); ; {
		list, newest, err := p.Deletes(ctx, disk, v, after, logPage)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		if len(list) == 0 || list[len(list)-1].Number >= newest {
			return all, nil
		}
		after = list[len(list)-1].Number
	}
}

// good reports whether a replica has what the row of a sealed volume says.
func (st Standing) good(row Row) bool {
	return row.Seal != nil && !st.Poisoned && st.Generation == row.Volume.Generation && st.Sealed != nil && st.Sealed.Digest == row.Seal.Digest
}

// inSync reports whether a replica has all that was acknowledged, by the row.
func (r Row) inSync(disk uint32) bool { return slices.Contains(r.InSync, disk) }

// listed reports whether the volume is to have a replica on a disk.
func (r Row) listed(disk uint32) bool { return slices.Contains(r.Disks, disk) }
