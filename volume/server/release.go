package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"hayloft/volume"
	"hayloft/volume/coded"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
)

// release is the job: read every shard of the committed epoch from its device, and
// the volume out of them, and have the directory let the source go. What is found
// is rebuilt first.
func (c *coder) release(ctx context.Context, j *job) error {
	row, err := c.fresh(ctx, j.v)
	if err != nil || row.Coding.State() != lifecycle.Coded {
		return err
	}
	h, err := c.served(j.v)
	if err != nil {
		return err
	}
	defer h.unpin()
	cv := h.coded
	for i := range cv.c.Shards() {
		if err := c.proven(ctx, j, cv, i); err != nil {
			return err
		}
	}
	digest, _, findings, err := h.vol.Inventory(ctx)
	switch {
	case err != nil:
		return err
	case len(findings) > 0:
		return findings[0].Err
	case digest != row.Seal.Digest:
		return fmt.Errorf("%w: the shards of epoch %d of volume %d do not hold what was sealed", volume.ErrCorrupt, cv.c.Epoch, j.v)
	}
	_, err = c.s.decide(ctx, func(ctx context.Context) (Row, error) {
		return c.s.o.Directory.ReleaseSource(ctx, j.v, cv.c.Epoch, row.Coding.Committed.Digests, c.s.o.SourceGrace, cv.term)
	})
	if err == nil {
		c.s.n.released.Add(1)
		c.s.o.Events(Event{Kind: EventReleased, Volume: j.v})
	}
	return err
}

// proven reads a shard from its device. What is wrong with it is noted for the
// rebuild, and is the error.
func (c *coder) proven(ctx context.Context, j *job, cv *codedVolume, i int) error {
	p := cv.places()[i]
	at, ok := c.siteOf(p.home)
	if p.file == nil || !ok {
		return unavailable("shard %d of volume %d is away: %w", i, j.v, p.why)
	}
	found, err := c.checkShard(ctx, at, cv, i, c.codingOptions(j))
	if err == nil && found > 0 {
		err = fmt.Errorf("%w: shard %d of volume %d has %d damaged places", volume.ErrCorrupt, i, j.v, found)
	}
	return err
}

// checkShard reads a shard from its device, notes what is wrong, and returns how
// many places that is.
func (c *coder) checkShard(ctx context.Context, at site, cv *codedVolume, i int, o coding.Options) (found int, err error) {
	home, err := c.workplace(ctx, at, cv.c.Volume, cv.c.Epoch, cv.term)
	if err != nil {
		return 0, err
	}
	err = coding.Check(ctx, home, cv.c.Plan, i, cv.c.Digests[i], o, func(f coding.Finding) {
		found++
		cv.found(f)
	})
	return found, err
}

// revoke is the job: an epoch whose shards are lost before its source was released
// is void, and the source, or the epoch before, goes on. It gets the deletes that
// are known of the epoch first. When it is not known whether the epoch was revoked,
// deletes wait until that is known.
func (c *coder) revoke(ctx context.Context, j *job) error {
	row, err := c.fresh(ctx, j.v)
	if err != nil || row.Coding.State() != lifecycle.Coded {
		return err
	}
	h := c.s.codedHandle(j.v)
	if h == nil || h.vol == nil && !c.outlasts(h.sickSince) || h.vol != nil && !h.void.Load() && !c.hopeless(h.coded) {
		return nil
	}
	h.gate.close(func() error {
		if err = c.returnDeletes(ctx, row, h); err != nil {
			return nil
		}
		h.void.Store(true)
		epoch := row.Coding.Committed.Epoch
		row, err = c.s.decide(ctx, func(ctx context.Context) (Row, error) {
			return c.s.o.Directory.RevokeCoding(ctx, j.v, epoch, h.coded.term)
		})
		if err != nil {
			return unavailable("volume %d: whether epoch %d was revoked is not known: %w", j.v, epoch, err)
		}
		return errElsewhere
	})
	if err != nil {
		return err
	}
	why := h.sick
	if why == nil {
		why = fmt.Errorf("%w: more shards than others make up for", coding.ErrLost)
	}
	if row.Coding.Committed != nil {
		err = c.install(ctx, row).sick
	} else {
		c.drop(row)
	}
	c.s.n.revoked.Add(1)
	c.s.o.Events(Event{Kind: EventRevoked, Volume: j.v, Err: why})
	return err
}

// returnDeletes tells what goes on when an epoch is revoked, the source or the epoch
// before, of every delete that is known of the epoch. Nobody deletes meanwhile.
func (c *coder) returnDeletes(ctx context.Context, row Row, h *handle) error {
	v := row.Volume.Volume
	keys, err := c.deletesOf(ctx, row, h)
	if err != nil {
		return err
	}
	if before := row.Coding.Before; before != nil {
		row.Coding.Committed = before
		to := c.s.openCoded(ctx, row)
		if to.sick != nil {
			return to.sick
		}
		for _, d := range keys {
			if err := to.vol.Delete(ctx, d.Key); err != nil {
				return errors.Join(err, to.coded.close())
			}
		}
		return to.coded.close()
	}
	for _, n := range row.InSync {
		src := c.s.pin(n, v)
		if src == nil || src.vol == nil {
			continue
		}
		defer src.unpin()
		for _, d := range keys {
			if err := src.vol.Delete(ctx, d.Key); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("volume %d: its shards are lost and its source is away: %w", v, c.s.nowhere(v, 0))
}

// deletesOf returns every delete of the committed epoch: what its handle knows, or else
// what any copy of its log has. It refuses when so many copies are away that deletes may
// be missing.
func (c *coder) deletesOf(ctx context.Context, row Row, h *handle) (all []volume.Delete, err error) {
	if h.vol != nil {
		_, err = h.vol.Deletes(ctx, 0, func(d volume.Delete) error {
			all = append(all, d)
			return nil
		})
		return all, err
	}
	v, commit := row.Volume.Volume, row.Coding.Committed
	homes := homesOf(commit.Homes)
	copies := c.s.logCopies(ctx, committedOf(v, commit), homes, h.coded.term)
	read := 0
	var errs []error
	for _, l := range copies {
		some, err := coded.ReadLog(l.Home.FS, l.Home.Dir, v)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		read++
		all = append(all, some...)
	}
	if need := len(copies) - c.tolerance(homes, commit.Parity); read < max(need, 1) {
		return nil, fmt.Errorf("%w: volume %d: %d of %d copies of the delete log of epoch %d can be read, deletes may be missing: %w",
			volume.ErrCorrupt, v, read, len(copies), commit.Epoch, errors.Join(errs...))
	}
	return all, nil
}

// lying is what lies on a disk, by volume.
type lying struct {
	d       *disk
	epochs  map[volume.ID][]uint32
	sources map[volume.ID][]volume.Entry
	err     error // why some of it is not known
}

// lying lists what lies on the disks in service.
func (c *coder) lying() (out []lying) {
	for _, d := range c.s.all() {
		if d.usable() != nil {
			continue
		}
		l := lying{d: d, sources: make(map[volume.ID][]volume.Entry)}
		l.epochs, l.err = d.epochs()
		all, err := volume.List(impatient{d: d}, d.volumesDir())
		for _, e := range all {
			l.sources[e.Volume] = append(l.sources[e.Volume], e)
		}
		l.err = errors.Join(l.err, err)
		out = append(out, l)
	}
	return out
}

// dead reports whether files are among those that lie on the disks that the directory
// has given up.
func (r Row) dead(on []lying) bool {
	found := false
	r.eachDead(on, func(*disk, uint32) error { found = true; return nil }, func(*disk, volume.Entry) error { found = true; return nil })
	return found
}

// neverCommitted reports whether a generation of a coded volume was given up. A
// number that is given out later is one under way, in a later r.
func (r Row) neverCommitted(generation uint32) bool {
	return generation > r.Volume.Generation && (r.Attempt == nil || r.Attempt.Generation != generation)
}

// eachDead calls epoch for every folder of an epoch that is void, and source for
// every file of a generation that was released or given up. An epoch that the row
// does not know is younger than the row, and is left alone.
func (r Row) eachDead(on []lying, epoch func(*disk, uint32) error, source func(*disk, volume.Entry) error) error {
	var errs []error
	for _, l := range on {
		errs = append(errs, l.err)
		for _, e := range l.epochs[r.Volume.Volume] {
			if r.Coding.MayRemoveShards(e) {
				errs = append(errs, epoch(l.d, e))
			}
		}
		if !r.coded() {
			continue
		}
		for _, e := range l.sources[r.Volume.Volume] {
			if r.Coding.MayRemoveSource(e.Generation) || r.neverCommitted(e.Generation) {
				errs = append(errs, source(l.d, e))
			}
		}
	}
	return errors.Join(errs...)
}

// clear is the job: remove the files that the directory has given up.
func (c *coder) clear(ctx context.Context, j *job) error {
	row, err := c.fresh(ctx, j.v)
	if err != nil {
		return err
	}
	return c.clearDead(ctx, row)
}

func (c *coder) clearDead(ctx context.Context, row Row) error {
	v := row.Volume.Volume
	return row.eachDead(c.lying(), func(d *disk, epoch uint32) error {
		if h := c.s.codedHandle(v); h != nil && h.coded.c.Epoch == epoch {
			return nil // it is closed first
		}
		if err := c.s.clearShelf(ctx, d, v, epoch); err != nil {
			return err
		}
		return d.removeEpoch(v, epoch)
	}, func(d *disk, e volume.Entry) error {
		if err := c.s.closeSource(ctx, d, e); err != nil {
			return err
		}
		return volume.RemoveReleased(d.volumesDir(), e, c.s.volumeOptions(d))
	})
}

// closeSource takes a released generation out of service. It may have been made here and
// never served: the volume was coded before this replica came to that.
func (s *Server) closeSource(ctx context.Context, d *disk, e volume.Entry) error {
	at := where{d.number, e.Volume}
	if made := s.made.take(at, e.Generation); made != nil {
		if err := made.Close(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	h := s.volumes[at]
	if h == nil || h.vol != nil && h.vol.Identity().Generation != e.Generation {
		s.mu.Unlock()
		return s.closedOld(ctx, d, e.Volume)
	}
	delete(s.volumes, at)
	s.mu.Unlock()
	if h.vol == nil {
		return nil
	}
	idle := h.retire()
	select {
	case <-idle:
		return h.vol.Close()
	case <-ctx.Done():
		// Nobody would know of it any more.
		s.retiring.Go(func() {
			<-idle
			_ = h.vol.Close() // the next start removes it
		})
		return ctx.Err()
	}
}

// removeEpoch removes the folder of a void epoch with the files that are ours.
func (d *disk) removeEpoch(v volume.ID, epoch uint32) error {
	fsys, dir := impatient{d: d}, d.epochDir(v, epoch)
	entries, err := coding.List(fsys, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Volume == v && e.Epoch == epoch {
			err = errors.Join(err, fsys.Remove(filepath.Join(dir, e.Name)))
		}
	}
	if err = errors.Join(err, volume.RemoveDeleteLog(d.s.volumeOptions(d), dir, v)); err != nil {
		return err
	}
	left, err := fsys.ReadDir(dir)
	if err != nil || len(left) > 0 {
		return errors.Join(err, foreign(d, dir, left))
	}
	if err := fsys.Remove(dir); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Join(d.dir, shardsName))
}

// foreign is the error for files that are not ours in a folder that is to go.
func foreign(d *disk, dir string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%s holds files that are not Hayloft's (%s, …): they are left alone, and so is the folder", dir, names[0])
}
