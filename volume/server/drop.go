package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"hayloft/volume"
)

// mayDrop reports whether what lies of a volume on a disk of this node may go: nothing
// of it is the volume's there, and the volume is complete without it. See decision 170.
func (r Row) mayDrop(disk uint32) bool {
	return r.State == StateSealed && !r.coded() && r.Attempt == nil && (!r.listed(disk) || r.inSync(disk)) &&
		len(without(r.InSync, disk)) >= max(r.Target, 1)-r.own(disk)
}

// own is 1 when a disk has a replica in sync.
func (r Row) own(disk uint32) int {
	if r.inSync(disk) {
		return 1
	}
	return 0
}

func without(list []uint32, disk uint32) []uint32 {
	return slices.DeleteFunc(slices.Clone(list), func(n uint32) bool { return n == disk })
}

// strays are the volumes that lie on the disk and are not among its rows.
func (d *disk) strays(rows []Row, files map[volume.ID]int, aside map[volume.ID]bool) (out []volume.ID) {
	if d.s.o.Peers == nil {
		return nil // a file of another disk may be a person's copy
	}
	have := make(map[volume.ID]bool)
	for v := range files {
		have[v] = true
	}
	for v := range aside {
		have[v] = true
	}
	for _, r := range rows {
		delete(have, r.Volume.Volume)
	}
	return slices.Sorted(maps.Keys(have))
}

// dueStray is due for a volume that lies on the disk and is not listed there.
func (d *disk) dueStray(v volume.ID) jobKind {
	row, ok := d.s.o.Directory.Row(v)
	if !ok || row.listed(d.number) || d.troubles.rests(trouble{v: v}, d.s.o.Clock.Now()) {
		return 0
	}
	if row.mayDrop(d.number) || row.released(d.s.generationOn(d, v)) {
		return jobDrop
	}
	return 0
}

// released reports whether shards serve in the place of a generation, for good.
func (r Row) released(generation uint32) bool {
	return r.coded() && generation != 0 && r.Coding.MayRemoveSource(generation)
}

// generationOn is the one that is served on a disk, 0 for none.
func (s *Server) generationOn(d *disk, v volume.ID) uint32 {
	if h := s.handle(d.number, v); h != nil && h.vol != nil {
		return h.vol.Identity().Generation
	}
	return 0
}

// drop is the job: remove what lies of a volume on a disk that does not count, by a row
// of now. What is in quarantine goes too, and nothing else when the disk's own replica
// is in sync.
func (s *Server) drop(ctx context.Context, d *disk, j *job) error {
	row, err := s.fresh(ctx, j.v)
	if err != nil {
		return err
	}
	all, err := d.generations(j.v)
	if err != nil {
		return err
	}
	whole := row.mayDrop(d.number)
	if whole {
		if err := s.complete(ctx, d, row); err != nil {
			return err
		}
	}
	for _, e := range all {
		if row.listed(d.number) || !whole && !row.released(e.Generation) {
			continue
		}
		if err := s.withdrawn(ctx, where{d.number, j.v}); err != nil {
			return err
		}
		if err := volume.RemoveReleased(d.volumesDir(), e, s.volumeOptions(d)); err != nil {
			return err
		}
		s.o.Events(Event{Kind: EventDropped, Dir: d.dir, Volume: j.v, File: e.Name})
	}
	if !whole {
		return s.reopen(d, j.v)
	}
	return errors.Join(s.emptyQuarantine(d, j.v), s.reopen(d, j.v))
}

// complete asks the other replicas in sync, and is nil when as many as the volume is to
// have say that they hold what was sealed: one in sync by the row may be away or ill, and
// what lies here be the last that is good.
func (s *Server) complete(ctx context.Context, d *disk, row Row) error {
	others := without(row.InSync, d.number)
	errs := make([]error, len(others))
	var wg sync.WaitGroup
	for i, n := range others {
		wg.Go(func() {
			p, err := s.peerOf(n)
			if err == nil {
				var st Standing
				ctx, end := s.within(ctx, askWait)
				st, err = p.Standing(ctx, n, row.Volume.Volume)
				end()
				if err == nil && !st.good(row) {
					err = errNotGood
				}
			}
			errs[i] = err
		})
	}
	wg.Wait()
	good := len(slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err != nil }))
	if good < max(row.Target, 1)-row.own(d.number) {
		return unavailable("volume %d: %d other replicas are known to be good: %w", row.Volume.Volume, good, errors.Join(errs...))
	}
	return nil
}

// emptyQuarantine removes what was put aside of a volume.
func (s *Server) emptyQuarantine(d *disk, v volume.ID) error {
	all, err := volume.ListQuarantined(d.fs, d.volumesDir())
	for _, q := range all {
		if q.Volume == v {
			err = errors.Join(err, volume.RemoveQuarantined(d.volumesDir(), q, s.volumeOptions(d)))
		}
	}
	return err
}
