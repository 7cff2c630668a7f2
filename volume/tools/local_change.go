package tools

import (
	"context"

	"hayloft/volume"
	"hayloft/volume/server"
)

// Seal implements Keeper.
func (l *Local) Seal(ctx context.Context, v volume.ID, report func(Progress)) error {
	if _, err := l.replicas(v); err != nil {
		return err
	}
	return l.o.Blobs.Seal(ctx, v, l.progress(report))
}

// Encode implements Keeper.
func (l *Local) Encode(ctx context.Context, v volume.ID, report func(Progress)) error {
	if _, err := l.replicas(v); err != nil {
		return err
	}
	return l.o.Blobs.Encode(ctx, v, l.progress(report))
}

// Rebuild implements Keeper.
func (l *Local) Rebuild(ctx context.Context, v volume.ID, report func(Progress)) error {
	if _, err := l.replicas(v); err != nil {
		return err
	}
	return l.o.Blobs.Rebuild(ctx, v, l.progress(report))
}

// Compact implements Keeper.
func (l *Local) Compact(ctx context.Context, v volume.ID, report func(Progress)) (Compacted, error) {
	before, err := l.replicas(v)
	if err != nil {
		return Compacted{}, err
	}
	r, err := l.o.Blobs.Compact(ctx, v, l.progress(report))
	if err != nil {
		return Compacted{}, err
	}
	c := Compacted{Needles: r.Needles, Before: before[0].Stats.FileBytes, After: r.End}
	after, err := l.replicas(v)
	if err != nil {
		return Compacted{}, err
	}
	c.Generation = after[0].Generation
	return c, nil
}

func (l *Local) progress(report func(Progress)) func(server.Progress) {
	return func(p server.Progress) { report(Progress{p.Volume, p.Step, p.Done, p.Total}) }
}
