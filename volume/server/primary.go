package server

import (
	"context"
	"errors"
	"slices"
	"sync"

	"hayloft/internal/id"
	"hayloft/volume"
)

// shipments are what the primary of a volume knows of the delete logs of its other
// replicas, by disk.
type shipments struct {
	mu sync.Mutex // guards of
	of map[uint32]*shipment
}

// shipment is what one other replica's delete log is known to have.
type shipment struct {
	turn chan struct{} // held (full) by who sends; guards all below
	sync uint32        // the epoch in which that was found
	upTo uint32        // what both logs have up to this number is the same
}

func (s *shipments) to(disk uint32) *shipment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[uint32]*shipment)
	}
	sh := s.of[disk]
	if sh == nil {
		sh = &shipment{turn: make(chan struct{}, 1)}
		s.of[disk] = sh
	}
	return sh
}

// shipLimit is how many deletes are sent at a time.
const shipLimit = 4096

// primaryOf reports whether the replica on a disk numbers the deletes of a volume.
func primaryOf(disk uint32) func(Row) bool {
	return func(r Row) bool {
		return (r.State == StateClosing || r.State == StateSealed) && len(r.InSync) > 0 && r.InSync[0] == disk
	}
}

// Entomb implements PeerWriter.
func (r *replicas) Entomb(ctx context.Context, disk uint32, v volume.ID, key id.ID) error {
	s := r.s
	if err := s.enter(); err != nil {
		return unavailable("%w", err)
	}
	defer s.calls.Done()
	h, _, err := s.replica(ctx, disk, v, func(row Row) bool { return slices.Contains(row.Disks, disk) })
	if err != nil {
		return err
	}
	defer h.unpin()
	return closing(h.blame(h.vol.Entomb(ctx, key)))
}

// Delete implements PeerWriter.
func (r *replicas) Delete(ctx context.Context, disk uint32, v volume.ID, key id.ID) error {
	s := r.s
	if err := s.enter(); err != nil {
		return unavailable("%w", err)
	}
	defer s.calls.Done()
	if err := s.current(); err != nil {
		return err
	}
	h, err := s.kept(ctx, v)
	coded := h != nil
	if !coded && err == nil {
		h, _, err = s.replica(ctx, disk, v, func(row Row) bool { return slices.Contains(row.Disks, disk) })
	}
	if err != nil {
		return err
	}
	defer h.unpin()
	err = h.gate.pass(func() error {
		if coded {
			return h.blame(h.vol.Delete(ctx, key))
		}
		return s.deleteAsPrimary(ctx, h, v, key)
	})
	if errors.Is(err, errElsewhere) {
		return ErrMoved
	}
	return closing(err)
}

// deleteAsPrimary deletes in the delete log of h, under the next number, and has the
// other replicas that are in sync append the same. The gate of h is passed: nobody
// joins the set meanwhile.
func (s *Server) deleteAsPrimary(ctx context.Context, h *handle, v volume.ID, key id.ID) error {
	row, err := s.rowWith(ctx, v, primaryOf(h.disk.number))
	switch {
	case err != nil && !primaryOf(h.disk.number)(row) && row.Sync > 0:
		return ErrMoved
	case err != nil:
		return err
	}
	if err := h.fence(ctx); err != nil {
		return s.retreat(ctx, h, row, err)
	}
	numbers, err := h.vol.AppendDeletes(ctx, []id.ID{key})
	if err != nil {
		return s.retreat(ctx, h, row, err)
	}
	return s.level(ctx, h, row, numbers[0])
}

// fence has the deletes of a volume that takes no puts any more go to its log.
func (h *handle) fence(ctx context.Context) error {
	if h.vol.Fenced() {
		return nil
	}
	return h.vol.Fence(ctx)
}

// retreat gives up being the primary when the delete log takes nothing any more and
// another replica's may.
func (s *Server) retreat(ctx context.Context, h *handle, row Row, err error) error {
	err = h.blame(err)
	if !errors.Is(err, volume.ErrPoisoned) && !errors.Is(err, volume.ErrHung) && !errors.Is(err, ErrDiskOut) ||
		!s.oneStands(ctx, row.Volume.Volume, row.InSync[1:]) {
		return err
	}
	if _, err := s.without(ctx, row.Volume.Volume, row.Sync, row.InSync[:1], nil); err != nil {
		return err
	}
	return ErrMoved
}

// level returns when every replica in sync has the deletes of h's log up to a number.
// Those that do not answer, or have others under the same numbers, leave the set.
// row is one under which h is the primary.
func (s *Server) level(ctx context.Context, h *handle, row Row, upTo uint32) error {
	own := h.disk.number
	done := []uint32{own}
	for range deleteTries {
		rest := slices.DeleteFunc(slices.Clone(row.InSync), func(d uint32) bool { return slices.Contains(done, d) })
		if len(rest) == 0 {
			return nil
		}
		moved := false
		for i, err := range s.onEach(rest, func(disk uint32) error { return s.ship(ctx, h, row, disk, upTo) }) {
			if err == nil {
				done = append(done, rest[i])
			}
			moved = moved || errors.Is(err, ErrMoved)
		}
		if ctx.Err() != nil {
			return unavailable("%w", ctx.Err())
		}
		var err error
		if !moved && !within(rest, done) {
			row, err = s.without(ctx, row.Volume.Volume, row.Sync, row.InSync, done)
		}
		if moved || err != nil {
			if row, err = s.fresh(ctx, row.Volume.Volume); err != nil {
				return err
			}
		}
		if !primaryOf(own)(row) {
			return ErrMoved
		}
	}
	return errAgain
}

// ship returns when the replica on another disk has the deletes of h's log up to a
// number. row names the sync epoch; the replica is in it, or joins.
func (s *Server) ship(ctx context.Context, h *handle, row Row, disk, upTo uint32) error {
	return s.insist(ctx, disk, silence, func(ctx context.Context) error {
		sh := h.shipments.to(disk)
		select {
		case sh.turn <- struct{}{}:
		case <-ctx.Done():
			return unavailable("%w", ctx.Err())
		}
		defer func() { <-sh.turn }()
		if row.Sync > sh.sync { // it may have been replaced, or was primary itself
			sh.sync, sh.upTo = row.Sync, 0
			if row.Seal != nil {
				sh.upTo = row.Seal.Deletes // every replica had these when the generation was committed
			}
		}
		return sh.send(ctx, s.writerAt(disk), h, row, disk, upTo)
	})
}

// send sends what is missing up to a number. The caller has the turn.
func (sh *shipment) send(ctx context.Context, to PeerWriter, h *handle, row Row, disk, upTo uint32) error {
	v, back := row.Volume.Volume, false
	for sh.upTo < upTo {
		keys, err := behind(ctx, h.vol, sh.upTo)
		if err != nil {
			return err
		}
		newest, err := to.LogDeletes(ctx, disk, v, row.Sync, sh.upTo, keys)
		switch {
		case err != nil:
			return err
		case newest >= sh.upTo && len(keys) > 0:
			sh.upTo += uint32(len(keys))
		case newest >= sh.upTo || back: // a number is missing here, or there again
			return unavailable("volume %d: delete %d cannot be sent to disk %d", v, sh.upTo+1, disk)
		default:
			sh.upTo, back = newest, true
		}
	}
	return nil
}

// errPage ends a walk over a delete log: enough for one message.
var errPage = errors.New("server: enough deletes")

// behind returns the keys of the deletes that follow number after in a log, as many
// as are sent at a time.
func behind(ctx context.Context, vol *volume.Volume, after uint32) (keys []id.ID, err error) {
	_, err = vol.Deletes(ctx, after, func(d volume.Delete) error {
		if d.Number != after+uint32(len(keys))+1 || len(keys) == shipLimit {
			return errPage
		}
		keys = append(keys, d.Key)
		return nil
	})
	if errors.Is(err, errPage) {
		err = nil
	}
	return keys, err
}

// LogDeletes implements PeerWriter.
func (r *replicas) LogDeletes(ctx context.Context, disk uint32, v volume.ID, sync, after uint32, keys []id.ID) (newest uint32, err error) {
	s := r.s
	if err := s.enter(); err != nil {
		return 0, unavailable("%w", err)
	}
	defer s.calls.Done()
	if err := s.current(); err != nil {
		return 0, err
	}
	if _, err := s.onDisk(disk); err != nil {
		return 0, err
	}
	h, err := s.served(s.diskByNumber(disk), v)
	if err != nil {
		return 0, err
	}
	defer h.unpin()
	err = h.gate.pass(func() error {
		// Who let others into the set has done so behind the gate, and knows it here.
		row, err := s.rowWith(ctx, v, func(row Row) bool {
			return row.Sync >= sync && slices.Contains(row.Disks, disk) && (row.State == StateClosing || row.State == StateSealed)
		})
		if err != nil {
			return err
		}
		if row.Sync > sync {
			return ErrMoved
		}
		if err := h.fence(ctx); err != nil {
			return err
		}
		newest, err = h.vol.LogDeletes(ctx, after, keys)
		return h.blame(err)
	})
	if errors.Is(err, errElsewhere) {
		err = ErrMoved
	}
	return newest, closing(err)
}
