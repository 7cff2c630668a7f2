package server

import (
	"context"
	"errors"

	"hayloft/internal/id"
	"hayloft/volume"
)

// A coded volume is served by one node, its keeper, whatever disks its shards are on.
// The others ask that (docs/decisions/164-coded-volumes-have-a-keeper.md).

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
	if h == nil { // this node may be the one that is behind
		row, err := s.fresh(ctx, v)
		if err != nil || row.Coding.Committed == nil {
			return nil, err
		}
		return nil, unavailable("%w: %w", ErrMoved, lost(v))
	}
	if h.vol == nil {
		return nil, unavailable("volume %d: %w", v, h.sick)
	}
	return h, nil
}
