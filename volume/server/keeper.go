package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// A coded volume is served by one node, its keeper, whatever disks its shards are on.
// The others ask that (docs/decisions/164-coded-volumes-have-a-keeper.md).

// keptElsewhere reports whether another node serves a coded volume.
func (s *Server) keptElsewhere(p Place) bool {
	return s.o.Peers != nil && p.Keeper != 0 && !s.ownDisk(p.Keeper)
}

// keeper returns the node that serves a coded volume which this one does not.
func (s *Server) keeper(p Place) (Peer, error) {
	if s.o.Peers != nil && !s.hasDisk(p.Keeper) {
		if peer := s.o.Peers.Of(p.Keeper); peer != nil {
			return peer, nil
		}
	}
	return nil, unavailable("volume %d: %w", p.Volume.Volume, lost(p.Volume.Volume))
}

// deleteAtKeeper deletes in a coded volume that another node serves.
func (s *Server) deleteAtKeeper(ctx context.Context, p Place, blob id.ID) error {
	peer, err := s.keeper(p)
	if err != nil {
		return err
	}
	v := p.Volume.Volume
	err = s.insist(ctx, p.Keeper, primarySilence, func(ctx context.Context) error { return peer.Delete(ctx, p.Keeper, v, blob) })
	switch {
	case err == nil, errors.Is(err, volume.ErrInvalid), errors.Is(err, volume.ErrNoSpace):
		return err
	case errors.Is(err, ErrMoved):
		return lookAgain(err)
	}
	return unavailable("volume %d: %w", v, err)
}

// kept pins the shards of a volume, for another node that asks for it: nil when it
// has no committed epoch. One whose shards are not served here is ErrMoved.
func (s *Server) kept(ctx context.Context, v volume.ID) (*handle, error) {
	row, ok := s.o.Directory.Row(v)
	if !ok || row.Coding.Committed == nil {
		return nil, nil
	}
	h := s.pin(0, v)
	switch {
	case h == nil || h.vol == nil && !s.coder.keeps(row): // this node may be the one that is behind
		row, err := s.fresh(ctx, v)
		if err != nil || row.Coding.Committed == nil {
			return nil, err
		}
		return nil, unavailable("%w: %w", ErrMoved, lost(v))
	case h.vol == nil:
		return nil, unavailable("volume %d: %w", v, h.sick)
	case !s.coder.keeps(row):
		h.unpin()
		return nil, unavailable("%w: volume %d is kept by another node", ErrMoved, v)
	}
	return h, nil
}

// Mend implements PeerShelves.
func (r *replicas) Mend(ctx context.Context, _ uint32, v volume.ID, epoch uint32, damage []Damage) error {
	s := r.s
	if err := s.enter(); err != nil {
		return unavailable("%w", err)
	}
	defer s.calls.Done()
	h, err := s.kept(ctx, v)
	if h == nil {
		return cmp.Or(err, unavailable("volume %d: %w", v, ErrMoved))
	}
	defer h.unpin()
	cv := h.coded
	if cv.c.Epoch != epoch {
		return unavailable("volume %d: epoch %d is served, not %d", v, cv.c.Epoch, epoch)
	}
	for _, d := range damage {
		if d.Shard < 0 || d.Shard >= cv.c.Shards() || d.Offset < 0 || d.Length < 0 {
			return fmt.Errorf("%w: damage %+v", volume.ErrInvalid, d)
		}
		cv.note(coding.Finding{Shard: d.Shard, Offset: d.Offset, Length: d.Length, Err: errFoundThere})
	}
	for again := true; ; again = false { // the job that is joined may have begun before
		_, err := s.do(ctx, s.coder, v, jobRebuild, nil)
		if err != nil || !again || !cv.damaged(damage) {
			return err
		}
	}
}

// errFoundThere is what a scrub of another node found.
var errFoundThere = fmt.Errorf("%w: found by the scrub of its node", volume.ErrCorrupt)

// damaged reports whether a shard is still known to be damaged.
func (cv *codedVolume) damaged(in []Damage) bool {
	places := cv.places()
	return slices.ContainsFunc(in, func(d Damage) bool { return places[d.Shard].file == nil || len(places[d.Shard].damage) > 0 })
}

// mendThere has the keeper of an epoch, another node, make damaged shards again.
func (s *Server) mendThere(ctx context.Context, row Row, epoch uint32, found []shardFinding) error {
	peer, err := s.keeper(Place{Volume: row.Volume, Keeper: KeeperOf(row.Coding, row.Keeper)})
	if err != nil {
		return err
	}
	var damage []Damage
	for _, f := range found {
		damage = append(damage, Damage{Shard: f.shard, Offset: f.f.Offset, Length: f.f.Length})
	}
	return peer.Mend(ctx, row.Keeper, row.Volume.Volume, epoch, damage)
}

// ownDisk reports whether a disk is this node's, in service or not.
func (s *Server) ownDisk(number uint32) bool {
	return s.hasDisk(number) || slices.ContainsFunc(s.o.Directory.NodeDisks(), func(d NodeDisk) bool { return d.Disk == number })
}

// keeps reports whether this node serves the shards of a coded volume.
func (c *coder) keeps(row Row) bool {
	return c.s.o.Peers == nil || row.Keeper != 0 && c.s.ownDisk(row.Keeper)
}

// mayKeep reports whether this node is to take a coded volume over: it has the source
// in sync, without which there is no way back, or its keeper is away and it is the
// first of those that are there.
func (c *coder) mayKeep(row Row, k sky) bool {
	if c.s.o.Peers == nil || c.keeps(row) {
		return false
	}
	for _, n := range row.InSync {
		if c.s.hasDisk(n) {
			return true
		}
	}
	if row.Keeper != 0 && k.away(row.Keeper) < takeOver {
		return false
	}
	return c.successor(row, k) != 0
}

// successor is the disk of this node that takes a volume over, 0 when another node
// does: of those that have a source in sync or shards, the first that is there.
func (c *coder) successor(row Row, k sky) uint32 {
	order := slices.Clone(row.InSync)
	for _, h := range row.Coding.Committed.Homes {
		order = append(order, uint32(h))
	}
	for _, n := range order {
		if k.away(n) < takeOver {
			if c.s.hasDisk(n) {
				return n
			}
			return 0
		}
	}
	return 0
}

// keep is the job: become the keeper of a coded volume, and serve it.
func (c *coder) keep(ctx context.Context, j *job) error {
	row, err := c.fresh(ctx, j.v)
	if err != nil || row.Coding.Committed == nil {
		return err
	}
	k := c.s.look()
	if !c.mayKeep(row, k) {
		return nil // another was faster, or the keeper is back
	}
	disk := c.successor(row, k)
	for _, n := range row.InSync {
		if c.s.hasDisk(n) {
			disk = n
		}
	}
	row, err = c.s.decide(ctx, func(ctx context.Context) (Row, error) {
		return c.s.o.Directory.KeepCoded(ctx, j.v, disk, row.Term)
	})
	if err != nil {
		return err
	}
	c.s.n.takenOver.Add(1)
	c.s.o.Events(Event{Kind: EventKept, Volume: j.v, Disk: disk})
	return c.install(ctx, row).sick
}

// keepNew makes this node the keeper of an epoch that it has just had committed, which
// it is already of a volume that was coded before.
func (c *coder) keepNew(ctx context.Context, row Row) (Row, error) {
	if c.keeps(row) {
		return row, nil
	}
	return c.s.decide(ctx, func(ctx context.Context) (Row, error) {
		return c.s.o.Directory.KeepCoded(ctx, row.Volume.Volume, row.InSync[0], row.Term)
	})
}

// yield lets go of volumes that another node keeps by now.
func (c *coder) yield() {
	if c.s.o.Peers == nil {
		return
	}
	for _, h := range c.handles() {
		v := h.coded.c.Volume
		row, ok := c.s.o.Directory.Row(v)
		if !ok || row.Coding.Committed == nil || c.keeps(row) || row.Term <= h.coded.term {
			continue
		}
		at := where{0, v}
		c.s.mu.Lock()
		mine := c.s.volumes[at] == h
		if mine {
			delete(c.s.volumes, at)
		}
		c.s.mu.Unlock()
		if mine {
			h.gate.close(func() error { return errElsewhere })
			c.retire(h)
		}
	}
}
