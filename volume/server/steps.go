package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"hayloft/volume"
)

// policyName is what the superblock of a sealed volume says of how many replicas
// it is to have.
const policyName = "replicas=%d"

// fresh returns a volume's row as it is now.
func (s *Server) fresh(ctx context.Context, v volume.ID) (Row, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.DirectoryTimeout)
	defer cancel()
	row, ok, err := s.o.Directory.FreshRow(ctx, v)
	switch {
	case err != nil:
		return row, unavailable("%w", err)
	case !ok:
		return row, unknown(v)
	case row.State == StateVoid:
		return row, unknown(v)
	case row.State > StateVoid || row.State < StateOpen:
		return row, fmt.Errorf("%w: volume %d is in %v", volume.ErrUnsupported, v, row.State)
	}
	return row, nil
}

// freshOn is fresh for a volume that the directory has on a disk: what another
// disk has of it is not its replica.
func (s *Server) freshOn(ctx context.Context, d *disk, v volume.ID) (Row, error) {
	row, err := s.fresh(ctx, v)
	if err == nil && !slices.Contains(row.Disks, d.number) {
		err = fmt.Errorf("%w: volume %d lies in %s, and the directory has it on other disks", volume.ErrConflict, v, d.dir)
	}
	return row, err
}

// decide asks the directory for a change of a row.
func (s *Server) decide(ctx context.Context, ask func(context.Context) (Row, error)) (Row, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.DirectoryTimeout)
	defer cancel()
	row, err := ask(ctx)
	if err != nil {
		return row, unavailable("%w", err)
	}
	return row, nil
}

// served pins the generation of a volume that is served.
func (s *Server) served(d *disk, v volume.ID) (*handle, error) {
	h := s.pin(d.number, v)
	switch {
	case h == nil:
		return nil, lost(v)
	case h.vol == nil:
		return nil, unavailable("volume %d: %w", v, h.sick)
	}
	return h, nil
}

// seal is the job: close the tile, seal the file, tell the directory. Each step
// finds what an earlier attempt has done.
func (s *Server) seal(ctx context.Context, d *disk, j *job) (volume.SealRecord, error) {
	row, err := s.freshOn(ctx, d, j.v)
	if err != nil {
		return volume.SealRecord{}, err
	}
	h, err := s.served(d, j.v)
	if err != nil {
		return volume.SealRecord{}, err
	}
	defer h.unpin()
	if row.State == StateOpen {
		if row, err = s.closeTile(ctx, h, row); err != nil {
			return volume.SealRecord{}, err
		}
		if !row.inSync(d.number) {
			return volume.SealRecord{}, nil // others seal it
		}
	}
	if len(row.InSync) > 1 && row.State == StateClosing {
		var salvage bool
		if row, salvage, err = s.sealSeveral(ctx, d, j, row); !salvage {
			rec, _ := h.vol.Sealed()
			return rec, err
		}
	}
	rec, sealed := h.vol.Sealed()
	switch have := h.vol.Identity().Generation; {
	case !sealed && have < row.Volume.Generation:
		return s.catchUp(ctx, d, j, h, row)
	case have > row.Volume.Generation && row.State == StateClosing:
		return rec, s.commitServed(ctx, d, h, row)
	case !sealed && h.vol.Poisoned() != nil:
		return s.salvage(ctx, d, j, h, row)
	case !sealed:
		j.total.Store(h.vol.Stats().FileBytes)
		info := sealInfo(row)
		info.Throttle = j.throttle(d)
		rec, err = h.vol.Seal(ctx, info)
		if err != nil && h.vol.Poisoned() != nil {
			return s.salvage(ctx, d, j, h, row)
		}
		if err != nil {
			return rec, err
		}
	}
	if row.State == StateSealed {
		return rec, nil
	}
	_, err = s.decide(ctx, func(ctx context.Context) (Row, error) {
		return s.o.Directory.SealVolume(ctx, j.v, h.vol.Identity().Generation, []uint32{d.number}, sealedOf(rec))
	})
	if err != nil {
		return rec, err
	}
	s.n.seals.Add(1)
	s.o.Events(Event{Kind: EventSealed, Dir: d.dir, Volume: j.v})
	return rec, nil
}

// sealInfo is what the superblock of a sealed volume says of its row.
func sealInfo(row Row) volume.SealInfo {
	info := volume.SealInfo{Slot: row.Slot, From: row.From, To: row.To, Policy: fmt.Appendf(nil, policyName, len(row.Disks))}
	for _, uuid := range row.Replicas {
		info.Replicas = append(info.Replicas, uuid[:]...)
	}
	return info
}

func sealedOf(r volume.SealRecord) Sealed {
	return Sealed{Digest: r.Digest, Needles: r.Needles, Bytes: r.End, DataBytes: r.DataBytes, Sealed: r.Sealed, Deletes: r.Deletes}
}

// closeTile ends the open tile of a volume and returns the row after that: as
// the holder of its slot when a writer of this process is that.
func (s *Server) closeTile(ctx context.Context, h *handle, row Row) (Row, error) {
	if len(row.Disks) == 1 || s.holds(row.Slot, row.Volume.Class) {
		h.left.Store(true)
	}
	for _, w := range s.writersOf(row.Volume.Class) {
		if lease, ok := w.keeper.Lease(); !ok || lease.Slot != row.Slot {
			continue
		}
		after, err := w.end(ctx, row)
		if err != nil || after.State != StateOpen {
			return after, err
		}
	}
	after, err := s.decide(ctx, func(ctx context.Context) (Row, error) { return s.o.Directory.CloseVolume(ctx, row.Volume.Volume) })
	switch {
	case err == nil && after.State == StateVoid:
		return after, unknown(row.Volume.Volume)
	case err != nil && len(row.Disks) > 1:
		return row, fmt.Errorf("%w: %w", errHeld, err)
	}
	return after, err
}

// compact is the job: have a number given out, make the file, have it committed,
// serve it. When an earlier attempt came to one of these, it goes on from there.
func (s *Server) compact(ctx context.Context, d *disk, j *job) (volume.SealRecord, error) {
	row, err := s.freshOn(ctx, d, j.v)
	if err != nil {
		return volume.SealRecord{}, err
	}
	h, err := s.served(d, j.v)
	if err != nil {
		return volume.SealRecord{}, err
	}
	defer h.unpin()
	rec, sealed := h.vol.Sealed()
	have := h.vol.Identity().Generation
	j.total.Store(3 * h.vol.Stats().LiveBytes) // read, written, read back
	if have < row.Volume.Generation {
		return s.catchUp(ctx, d, j, h, row)
	}
	if !sealed || row.State != StateSealed {
		return rec, fmt.Errorf("%w: volume %d", volume.ErrNotSealed, j.v)
	}
	if err := s.removeVoid(ctx, d, row); err != nil {
		return rec, err
	}
	if len(row.Disks) > 1 {
		return s.compactSeveral(ctx, d, j, h, row)
	}
	if err := s.made.drop(where{d.number, j.v}, 0); err != nil { // from when there were several
		return rec, err
	}
	if have > row.Volume.Generation {
		return rec, s.commitServed(ctx, d, h, row)
	}
	if err := d.roomForNext(h, row); err != nil {
		return rec, err
	}
	deletes, err := h.vol.Deletes(ctx, ^uint32(0), func(volume.Delete) error { return nil })
	if err != nil {
		return rec, err
	}
	row, err = s.decide(ctx, func(ctx context.Context) (Row, error) {
		return s.o.Directory.BeginCompaction(ctx, j.v, have, rec.Digest, deletes)
	})
	if err != nil {
		return rec, err
	}
	a := row.Attempt
	next, err := h.vol.Compact(ctx, volume.CompactOptions{
		Generation: a.Generation, Deletes: a.Deletes, Secret: a.Secret, Time: a.Time, Throttle: j.throttle(d),
	})
	if err != nil {
		return rec, errors.Join(err, s.abandon(ctx, d, row))
	}
	return s.commit(ctx, d, next)
}

// commit has a generation that lies whole on the disk committed, and serves it.
func (s *Server) commit(ctx context.Context, d *disk, next *volume.Volume) (volume.SealRecord, error) {
	rec, _ := next.Sealed()
	ident := next.Identity()
	_, err := s.decide(ctx, func(ctx context.Context) (Row, error) {
		return s.o.Directory.CommitCompaction(ctx, ident.Volume, ident.Generation, []uint32{d.number}, sealedOf(rec))
	})
	if err != nil {
		return rec, errors.Join(err, next.Close()) // committed or not, it is found again
	}
	s.replace(d, next)
	return rec, nil
}

// replace serves another generation. Calls under way end on the former one,
// which goes by the same delete log; it is closed when they have.
func (s *Server) replace(d *disk, next *volume.Volume) {
	v := next.Identity().Volume
	at := where{d.number, v}
	closed := make(chan struct{})
	s.mu.Lock()
	if d.removed.Load() {
		s.mu.Unlock()
		s.bury(next)
		return
	}
	old := s.volumes[at]
	s.volumes[at] = &handle{disk: d, vol: next, gate: old.gate}
	before := s.closing[at] // one that is held even longer
	s.closing[at] = closed
	s.mu.Unlock()
	s.n.compactions.Add(1)
	s.o.Events(Event{Kind: EventCompacted, Dir: d.dir, Volume: v})
	idle := old.retire()
	s.retiring.Go(func() {
		<-idle
		if err := old.vol.Close(); err != nil {
			s.o.Events(Event{Kind: EventUpkeepFailed, Dir: d.dir, Volume: v, Err: err})
		}
		if before != nil {
			<-before
		}
		s.mu.Lock()
		if s.closing[at] == closed {
			delete(s.closing, at)
		}
		s.mu.Unlock()
		close(closed)
		d.kick()
	})
}

// closedOld waits until no former generation of a volume is open.
func (s *Server) closedOld(ctx context.Context, d *disk, v volume.ID) error {
	s.mu.RLock()
	closed := s.closing[where{d.number, v}]
	s.mu.RUnlock()
	if closed == nil {
		return nil
	}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.life.Done():
		return ErrClosed
	}
}

// catchUp serves the committed generation in place of an older one: the answer
// to a commit was lost. The engine reads the file back once more.
func (s *Server) catchUp(ctx context.Context, d *disk, j *job, h *handle, row Row) (volume.SealRecord, error) {
	rec, _ := h.vol.Sealed()
	if next := s.made.take(where{d.number, j.v}, row.Volume.Generation); next != nil {
		made, _ := next.Sealed()
		if made.Digest == row.Seal.Digest {
			s.replace(d, next)
			return made, nil
		}
		return rec, errors.Join(fmt.Errorf("%w: what was made of volume %d is not what was committed", volume.ErrConflict, j.v), next.Close())
	}
	if !d.has(row.Volume) {
		return rec, fmt.Errorf("%w: generation %d of volume %d is not on the disk", volume.ErrNoVolume, row.Volume.Generation, j.v)
	}
	next, err := h.vol.Compact(ctx, volume.CompactOptions{Generation: row.Volume.Generation, Deletes: row.Seal.Deletes,
		Seal: sealInfo(row), Throttle: j.throttle(d)})
	if err != nil {
		return rec, err
	}
	rec, _ = next.Sealed()
	if rec.Digest != row.Seal.Digest {
		err := fmt.Errorf("%w: generation %d of volume %d is not the one that was committed", volume.ErrConflict, row.Volume.Generation, j.v)
		return rec, errors.Join(err, next.Close())
	}
	s.replace(d, next)
	return rec, nil
}

// commitServed has the generation that is served committed: its source is not on
// the disk any more, and it is the attempt the directory knows.
func (s *Server) commitServed(ctx context.Context, d *disk, h *handle, row Row) error {
	ident := h.vol.Identity()
	rec, _ := h.vol.Sealed()
	a := row.Attempt
	if a == nil || a.Generation != ident.Generation || rec.Source != row.Volume.Generation || row.Seal != nil && rec.SourceDigest != row.Seal.Digest {
		return fmt.Errorf("%w: the disk has generation %d of volume %d, the directory %d", volume.ErrConflict, ident.Generation, ident.Volume, row.Volume.Generation)
	}
	digest, _, findings, err := h.vol.Inventory(ctx)
	switch {
	case err != nil:
		return err
	case len(findings) > 0:
		return findings[0].Err
	case digest != rec.Digest:
		return fmt.Errorf("%w: generation %d of volume %d does not hold what was sealed", volume.ErrCorrupt, ident.Generation, ident.Volume)
	}
	_, err = s.decide(ctx, func(ctx context.Context) (Row, error) {
		return s.o.Directory.CommitCompaction(ctx, ident.Volume, ident.Generation, []uint32{d.number}, sealedOf(rec))
	})
	return err
}

// abandon gives up an attempt whose file got its name and cannot be used. One
// that left no file is taken up again under its number.
func (s *Server) abandon(ctx context.Context, d *disk, row Row) error {
	ident := row.Volume
	ident.Generation = row.Attempt.Generation
	if ctx.Err() != nil || !d.has(ident) {
		return nil
	}
	row, err := s.decide(ctx, func(ctx context.Context) (Row, error) {
		return s.o.Directory.AbandonCompaction(ctx, ident.Volume, ident.Generation)
	})
	if err != nil {
		return err
	}
	return s.removeVoid(ctx, d, row)
}

// removeVoid removes generations that the directory gave up: above the one that
// is committed, and not under way. A row that is older than a file says nothing about
// it: a replica may be told at any moment to make the next generation. So files are
// listed first, and the row is asked for after that.
func (s *Server) removeVoid(ctx context.Context, d *disk, row Row) error {
	at := where{d.number, row.Volume.Volume}
	var made uint32
	if next := s.made.get(at); next != nil {
		made = next.Identity().Generation
	}
	all, err := d.generations(at.vol)
	if err != nil {
		return err
	}
	known := func(e volume.Entry) bool { return e.Generation <= row.Volume.Generation }
	if all = slices.DeleteFunc(all, known); len(all) == 0 && made == 0 {
		return ctx.Err()
	}
	if row, err = s.fresh(ctx, at.vol); err != nil {
		return err
	}
	counts := func(generation uint32) bool {
		return generation == row.Volume.Generation || row.Attempt != nil && row.Attempt.Generation == generation
	}
	if !counts(made) {
		if next := s.made.take(at, made); next != nil {
			if err := next.Close(); err != nil {
				return err
			}
		}
	}
	for _, e := range all {
		if known(e) || counts(e.Generation) {
			continue
		}
		if err := volume.RemoveVoid(d.volumesDir(), e, row.Volume.Generation, s.volumeOptions(d)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// removeOld is the job: remove what the committed generation, which is served
// and read back once more, has replaced.
func (s *Server) removeOld(ctx context.Context, d *disk, j *job) error {
	if s.closingOld(where{d.number, j.v}) {
		return nil // replaced once more: when that is closed, the upkeep removes both
	}
	row, err := s.freshOn(ctx, d, j.v)
	if err != nil || row.State != StateSealed {
		return err
	}
	h, err := s.served(d, j.v)
	if err != nil {
		return err
	}
	defer h.unpin()
	if h.vol.Identity() != row.Volume {
		return nil // the directory went on meanwhile: a compaction takes up what it committed, first
	}
	if err := s.removeVoid(ctx, d, row); err != nil {
		return err
	}
	j.total.Store(row.Seal.Bytes)
	return volume.RemoveSuperseded(ctx, d.volumesDir(), j.v, row.Volume.Generation, s.volumeOptions(d), j.throttle(d))
}

// has reports whether the file of a generation is on the disk.
func (d *disk) has(i volume.Identity) bool {
	_, err := d.fs.Stat(filepath.Join(d.volumesDir(), volume.FileName(i.Volume, i.Generation)))
	return err == nil
}

// generations lists the files of one volume.
func (d *disk) generations(v volume.ID) (out []volume.Entry, err error) {
	all, err := volume.List(d.fs, d.volumesDir())
	for _, e := range all {
		if e.Volume == v {
			out = append(out, e)
		}
	}
	return out, err
}
