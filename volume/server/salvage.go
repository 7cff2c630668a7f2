package server

import (
	"context"
	"errors"

	"hayloft/volume"
)

// salvage is seal for a volume that is poisoned: what is known to be synced goes
// on as its next generation, which is made as by compact and committed as sealed.
// The volume takes no deletes meanwhile, so nothing is missed.
func (s *Server) salvage(ctx context.Context, d *disk, j *job, h *handle, row Row) (volume.SealRecord, error) {
	var none volume.SealRecord
	ident := h.vol.Identity()
	j.total.Store(4 * h.vol.Stats().LiveBytes) // its headers are read first
	if err := s.removeVoid(ctx, d, row); err != nil {
		return none, err
	}
	if err := d.roomForNext(h, row); err != nil {
		return none, err
	}
	row, err := s.decide(ctx, func(ctx context.Context) (Row, error) {
		return s.o.Directory.BeginSalvage(ctx, ident.Volume, ident.Generation, d.number)
	})
	if err != nil {
		return none, err
	}
	a := row.Attempt
	next, err := h.vol.Compact(ctx, volume.CompactOptions{
		Generation: a.Generation, Deletes: a.Deletes, Secret: a.Secret, Time: a.Time, Seal: sealInfo(row), Throttle: j.throttle(d),
	})
	if err != nil {
		return none, errors.Join(err, s.abandon(ctx, d, row))
	}
	h.heir.Store(a.Generation)
	rec, err := s.commit(ctx, d, next)
	if err == nil {
		s.n.seals.Add(1)
		s.o.Events(Event{Kind: EventSealed, Dir: d.dir, Volume: j.v})
	}
	return rec, err
}
