package server

import (
	"context"
	"errors"
	"fmt"

	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
)

// reclaim is the job: write the next generation of a coded volume, without what is
// deleted, out of its shards, as an ordinary sealed file on one disk. That is then
// coded like any other. The epoch there is serves on until the source of the new
// one is released, so there is no moment with less than the policy.
func (c *coder) reclaim(ctx context.Context, j *job) (rec volume.SealRecord, err error) {
	row, err := c.fresh(ctx, j.v)
	if err != nil || row.Coding.State() != lifecycle.Released {
		return rec, err
	}
	h, err := c.served(j.v)
	if err != nil {
		return rec, err
	}
	defer h.unpin()
	// A source that was released may still have the name of a log that is made here.
	if err := c.clearDead(ctx, row); err != nil {
		return rec, err
	}
	d, err := c.roomiest(row, h.vol.Stats().LiveBytes)
	if err != nil {
		return rec, err
	}
	deletes, err := h.vol.Deletes(ctx, ^uint32(0), func(volume.Delete) error { return nil })
	if err != nil {
		return rec, err
	}
	row, err = c.s.decide(ctx, func(ctx context.Context) (Row, error) {
		return c.s.o.Directory.BeginCompaction(ctx, j.v, row.Volume.Generation, row.Seal.Digest, deletes)
	})
	if err != nil {
		return rec, err
	}
	j.total.Store(3 * h.vol.Stats().LiveBytes) // read, written, read back
	a := row.Attempt
	// A start may have opened the file of an attempt that was cut short.
	if err := c.s.closeSource(ctx, d, volume.Entry{Volume: j.v, Generation: a.Generation}); err != nil {
		return rec, err
	}
	rec, err = h.coded.v.Compact(ctx, coding.Home{FS: impatient{d: d}, Dir: d.volumesDir()}, volume.CompactOptions{
		Generation: a.Generation, Deletes: a.Deletes, Secret: a.Secret, Time: a.Time, Throttle: j.throttle(d),
	})
	if err != nil {
		return rec, errors.Join(err, c.abandon(ctx, row, err))
	}
	// The file is opened as any sealed one; the log that counts is the shards'.
	if err := c.carryLog(ctx, h.vol, j.v, coding.Home{FS: impatient{d: d}, Dir: d.volumesDir()}); err != nil {
		return rec, err
	}
	row, err = c.s.decide(ctx, func(ctx context.Context) (Row, error) {
		return c.s.o.Directory.CommitCompaction(ctx, j.v, a.Generation, []uint32{d.number}, sealedOf(rec))
	})
	if err != nil {
		return rec, err
	}
	vol, err := volume.OpenGeneration(d.volumesDir(), j.v, a.Generation, c.s.volumeOptions(d))
	c.s.serve(d, j.v, vol, err)
	if err == nil {
		c.s.n.reclaimed.Add(1)
		c.s.o.Events(Event{Kind: EventReclaimed, Dir: d.dir, Volume: j.v})
	}
	return rec, err
}

// roomiest returns the disk that has the file of an attempt, or else the one with
// the most room.
func (c *coder) roomiest(row Row, n int64) (best *disk, err error) {
	for _, d := range c.s.all() {
		if d.usable() != nil || d.takesWrites(n) != nil {
			continue
		}
		if a := row.Attempt; a != nil && d.has(volume.Identity{Volume: row.Volume.Volume, Generation: a.Generation}) {
			return d, nil
		}
		if best == nil || d.left() > best.left() {
			best = d
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: the next generation of volume %d takes %d bytes", ErrNoSpace, row.Volume.Volume, n)
	}
	return best, nil
}

// abandon gives up an attempt that failed for a reason of its own, so that the
// next one begins over the deletes there are then.
func (c *coder) abandon(ctx context.Context, row Row, why error) error {
	if ctx.Err() != nil || errors.Is(why, ErrUnavailable) {
		return nil
	}
	_, err := c.s.decide(ctx, func(ctx context.Context) (Row, error) {
		return c.s.o.Directory.AbandonCompaction(ctx, row.Volume.Volume, row.Attempt.Generation)
	})
	return err
}
