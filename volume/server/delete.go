package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

// Delete makes a blob unreadable for ever and returns when that is durable, on
// every replica that is in sync. One that was never written, or is deleted already,
// can be deleted.
func (s *Server) Delete(ctx context.Context, blob id.ID) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	var err error
	if s.o.Peers != nil {
		err = s.deleteAnywhere(ctx, blob)
	} else {
		err = s.deleteHere(ctx, blob)
	}
	switch {
	case err == nil:
		s.n.deletes.Add(1)
		return nil
	case errors.Is(err, volume.ErrNotFound):
		return nil // in no tile: nothing can ever be written under this id
	case errors.Is(err, volume.ErrPoisoned), errors.Is(err, volume.ErrHung), errors.Is(err, errElsewhere), errors.Is(err, errAgain):
		return unavailable("%w", err) // until another replica takes its place
	case errors.Is(err, volume.ErrNoSpace):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// deleteHere is Delete where every volume has one replica, or shards, on this node.
func (s *Server) deleteHere(ctx context.Context, blob id.ID) (err error) {
	for range 3 { // while its volume passes from file to shards, or between epochs
		err = s.locate(ctx, blob, func(h *handle) error {
			return h.gate.pass(func() error { return h.blame(h.vol.Delete(ctx, blob)) })
		})
		if !errors.Is(err, errElsewhere) {
			break
		}
	}
	return err
}

// How long a replica may be silent before a delete goes on without it, and the
// primary, who may have to do so with others first.
const (
	silence        = time.Second
	primarySilence = 3 * time.Second
	askAgain       = 50 * time.Millisecond
	deleteTries    = 8
)

// errAgain: the volume's row is not any more what this node knew.
var errAgain = errors.New("server: the replicas of the volume change")

// deleteAnywhere is Delete for whatever replicas there are, by the row that this
// node knows, and by fresh ones when that is not the present one.
func (s *Server) deleteAnywhere(ctx context.Context, blob id.ID) (err error) {
	for try := range deleteTries {
		p, ok := s.o.Directory.Locate(blob)
		if try > 0 || !ok {
			if p, ok, err = s.o.Directory.LocateFresh(ctx, blob); err != nil {
				return unavailable("%w", err)
			}
		}
		switch {
		case !ok:
			return fmt.Errorf("%w: no tile holds %v", volume.ErrNotFound, blob)
		case s.keptElsewhere(p):
			err = s.deleteAtKeeper(ctx, p, blob)
		case s.codedHandle(p.Volume.Volume) != nil, p.Keeper != 0:
			err = s.deleteHere(ctx, blob)
		case len(p.InSync) == 0:
			return s.noReplica(p)
		case p.State == StateOpen:
			err = s.entomb(ctx, p, blob)
		default:
			err = s.deleteThrough(ctx, p, blob)
		}
		if !errors.Is(err, errAgain) && !errors.Is(err, errElsewhere) {
			return err
		}
	}
	return err
}

// entomb deletes in an open volume, whose deletes need no order: on every replica
// that is in sync, at the same time. Those that do not answer leave the set.
func (s *Server) entomb(ctx context.Context, p Place, blob id.ID) error {
	v := p.Volume.Volume
	errs := s.onEach(p.InSync, func(disk uint32) error {
		return s.insist(ctx, disk, silence, func(ctx context.Context) error { return s.writerAt(disk).Entomb(ctx, disk, v, blob) })
	})
	var done []uint32
	for i, err := range errs {
		switch {
		case err == nil:
			done = append(done, p.InSync[i])
		case errors.Is(err, volume.ErrSealed):
			return errAgain
		}
	}
	switch {
	case len(done) == len(p.InSync):
		return nil
	case ctx.Err() != nil || len(done) == 0: // nobody here knows that it is the others
		return unavailable("volume %d: %w", v, errors.Join(errs...))
	}
	row, err := s.without(ctx, v, p.Sync, p.InSync, done)
	if err != nil || row.State != StateOpen || !within(row.InSync, done) {
		return lookAgain(err)
	}
	return nil
}

// within reports whether all of list are in set.
func within(list, set []uint32) bool {
	return !slices.ContainsFunc(list, func(d uint32) bool { return !slices.Contains(set, d) })
}

// lookAgain is errAgain, and why.
func lookAgain(err error) error {
	if err == nil {
		return errAgain
	}
	return fmt.Errorf("%w: %w", errAgain, err)
}

// without has those of all leave the in-sync set that are not in keep. It builds
// on sync epoch sync.
func (s *Server) without(ctx context.Context, v volume.ID, sync uint32, all, keep []uint32) (row Row, err error) {
	for _, disk := range all {
		if slices.Contains(keep, disk) {
			continue
		}
		row, err = s.decide(ctx, func(ctx context.Context) (Row, error) { return s.o.Directory.LeaveSync(ctx, v, disk, sync) })
		if err != nil {
			return row, err
		}
		s.n.leftSync.Add(1)
		s.o.Events(Event{Kind: EventLeftSync, Volume: v, Disk: disk})
		sync = row.Sync
	}
	return row, nil
}

// onEach calls fn for some disks at the same time and returns their errors.
func (s *Server) onEach(disks []uint32, fn func(disk uint32) error) []error {
	errs := make([]error, len(disks))
	if len(disks) == 1 {
		errs[0] = fn(disks[0])
		return errs
	}
	done := make(chan struct{})
	for i, disk := range disks {
		go func() {
			errs[i] = fn(disk)
			done <- struct{}{}
		}()
	}
	for range disks {
		<-done
	}
	return errs
}

// writerAt returns how a replica on a disk is reached, this process's own too.
func (s *Server) writerAt(disk uint32) PeerWriter {
	if s.diskByNumber(disk) == nil {
		if p := s.o.Peers.Of(disk); p != nil {
			return p
		}
	}
	return &replicas{s}
}

// up reports whether the node of a disk was heard of just now.
func (s *Server) up(disk uint32) bool {
	if d := s.diskByNumber(disk); d != nil {
		return d.usable() == nil
	}
	return slices.ContainsFunc(s.o.Peers.Disks(), func(d FleetDisk) bool { return d.Disk == disk && d.Up })
}

// insist asks a replica until it answers anything but that it cannot now, for as long
// as patience, and once if it is known to be away. What it does later reaches nobody.
func (s *Server) insist(ctx context.Context, disk uint32, patience time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := s.o.Clock.After(patience)
	answers := make(chan error, 1)
	for {
		s.calls.Go(func() { answers <- ask(ctx) })
		var err error
		select {
		case err = <-answers:
		case <-over:
			return unavailable("disk %d does not answer", disk)
		case <-ctx.Done():
			return unavailable("disk %d: %w", disk, ctx.Err())
		}
		if !errors.Is(err, ErrUnavailable) || !s.up(disk) {
			return err
		}
		select {
		case <-s.o.Clock.After(askAgain):
		case <-over:
			return err
		case <-ctx.Done():
			return err
		case <-s.life.Done():
			return err
		}
	}
}

// deleteThrough deletes in a closing or sealed volume, whose deletes the primary
// numbers. When that does not answer it leaves the set, and the next one is asked.
func (s *Server) deleteThrough(ctx context.Context, p Place, blob id.ID) error {
	v, primary := p.Volume.Volume, p.InSync[0]
	err := s.insist(ctx, primary, primarySilence, func(ctx context.Context) error { return s.writerAt(primary).Delete(ctx, primary, v, blob) })
	switch {
	case err == nil, errors.Is(err, volume.ErrInvalid), errors.Is(err, volume.ErrNoSpace):
		return err
	case errors.Is(err, ErrMoved):
		return lookAgain(err)
	case ctx.Err() != nil || !s.oneStands(ctx, v, p.InSync[1:]):
		return unavailable("volume %d: %w", v, err)
	}
	_, err = s.without(ctx, v, p.Sync, p.InSync[:1], nil)
	return lookAgain(err)
}
