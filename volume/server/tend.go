package server

import (
	"context"
	"slices"
	"time"
)

// tendEvery is the longest time between two looks at the open tiles.
const tendEvery = 10 * time.Second

// tendTiles looks after the open tiles of this process's writers until ctx ends:
// nobody else can close them while their slots are leased.
func (s *Server) tendTiles(ctx context.Context) {
	for {
		for _, class := range classes {
			for _, w := range s.writersOf(class) {
				if err := w.tend(ctx); err != nil && ctx.Err() == nil {
					s.o.Events(Event{Kind: EventLease, Dir: w.dir(), Err: err})
				}
			}
		}
		select {
		case <-s.o.Clock.After(min(s.o.UpkeepEvery, tendEvery)):
		case <-ctx.Done():
			return
		}
	}
}

// tend closes the open tile of the writer's slot when its volume has replicas
// elsewhere and should take no more: so that it is sealed, and has all its replicas
// again.
func (w *writer) tend(ctx context.Context) error {
	lease, ok := w.keeper.Lease()
	if !ok {
		return nil
	}
	p, ok := w.s.o.Directory.OpenTile(lease.Slot)
	if !ok || len(p.Disks) == 1 && p.Disks[0] == w.home() {
		return nil // the upkeep of the disk sees to that
	}
	row, ok := w.s.o.Directory.Row(p.Volume.Volume)
	if !ok || row.Unconfirmed {
		return nil
	}
	select {
	case w.gate <- struct{}{}:
	default:
		return nil // it is just changing tiles
	}
	t := w.tile.Load()
	over := w.s.over(t, row) || w.stayAway(row)
	<-w.gate
	if !over {
		return nil
	}
	if t != nil && t.ident == row.Volume {
		t.left()
	}
	_, err := w.end(ctx, row)
	return err
}

// stayAway reports whether a replica elsewhere was away at this look and at the one
// before: what lies on the others alone is to have two again, though nobody writes.
func (w *writer) stayAway(row Row) bool {
	if w.s.o.Peers == nil {
		return false
	}
	up := make(map[uint32]bool)
	for _, d := range w.s.o.Peers.Disks() {
		up[d.Disk] = d.Up
	}
	away := slices.ContainsFunc(row.Disks, func(d uint32) bool { return d != w.home() && !up[d] })
	before := w.missed
	w.missed = 0
	if away {
		w.missed = row.Volume.Volume
	}
	return away && before == row.Volume.Volume
}

// over reports whether the open volume of a row should take no more. t is the open
// tile of the writer that has its slot, nil when it has none.
func (s *Server) over(t *tile, row Row) bool {
	age := s.o.Clock.Now().Sub(row.Opened.Time())
	switch {
	case t == nil || t.ident != row.Volume: // it was left
		return true
	case !slices.Equal(row.Disks, row.InSync), t.poisoned(), !s.taking(row.Disks):
		return true
	}
	return age >= s.o.SealAfter && t.wrote.Load()
}

// poisoned reports whether a replica here is.
func (t *tile) poisoned() bool {
	return slices.ContainsFunc(t.all, func(r holder) bool { return r.h != nil && r.h.vol.Stats().Poisoned != nil })
}
