package directory

import (
	"errors"
	"fmt"

	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// source is a sealed generation as the rules of coding see it.
func (s *Seal) source(generation uint32) lifecycle.Source {
	return lifecycle.Source{Generation: generation, Digest: s.Digest, Bytes: int64(s.Bytes)}
}

// refusal names a refusal of package lifecycle as the directory does.
func refusal(n VolumeID, err error) error {
	kind := ErrInvalid
	if errors.Is(err, lifecycle.ErrRefused) {
		kind = ErrStale
	}
	return fmt.Errorf("%w: volume %d: %w", kind, n, err)
}

// codeAs changes the coding of a volume by one of the rules of package lifecycle.
// It is the keeper's to do that has the term, when there is a keeper.
func (t *table) codeAs(term uint32, n VolumeID, rule func(lifecycle.Row) (lifecycle.Row, error)) (any, error) {
	v, err := t.volumeFor(n)
	switch {
	case err != nil:
		return nil, err
	case v.Term != term:
		return nil, fmt.Errorf("%w: %w: volume %d is kept under term %d, not %d", ErrStale, lifecycle.ErrRefused, n, v.Term, term)
	}
	return t.code(n, rule)
}

// code changes the coding of a volume by one of the rules of package lifecycle,
// which returns the row it was given when there is nothing to do.
func (t *table) code(n VolumeID, rule func(lifecycle.Row) (lifecycle.Row, error)) (any, error) {
	v, err := t.volumeFor(n)
	if err != nil {
		return nil, err
	}
	next, err := rule(v.Coding)
	switch {
	case err != nil:
		return nil, refusal(n, err)
	case next == v.Coding:
		return v, nil // a repetition
	}
	v.Coding = next
	if v.Generation <= next.Released {
		v = v.placed(nil, nil) // the shards serve, its files may go
	}
	t.setVolume(v)
	return v, nil
}

// knownHomes refuses disks that are not registered.
func (t *table) knownHomes(homes ...lifecycle.Disk) error {
	for _, d := range homes {
		if _, ok := t.Disk(DiskID(d)); !ok {
			return fmt.Errorf("%w: disk %d", ErrUnknown, d)
		}
	}
	return nil
}

type beginCoding struct {
	volume VolumeID
	run    lifecycle.Run
}

func (c *beginCoding) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.run.Epoch)
	e.source(c.run.Source)
	e.run(c.run)
}

func (c *beginCoding) decode(d *dec) {
	c.volume = VolumeID(d.u32())
	c.run = d.run(d.u32(), d.source())
}

func (c *beginCoding) apply(t *table) (any, error) {
	if err := t.knownHomes(c.run.Homes...); err != nil {
		return nil, err
	}
	if v, _ := t.Volume(c.volume); v.State == StateSealed && v.Compaction != nil {
		return nil, fmt.Errorf("%w: %w: generation %d of volume %d is being made", ErrStale, lifecycle.ErrRefused, v.Compaction.Generation, v.ID)
	}
	return t.code(c.volume, func(r lifecycle.Row) (lifecycle.Row, error) { return r.Begin(c.run) })
}

type commitCoding struct {
	volume  VolumeID
	epoch   uint32
	encoder uint64
	digests []lifecycle.Digest
	now     id.Millis
}

func (c *commitCoding) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.epoch)
	e.u64(c.encoder)
	e.digests(c.digests)
	e.millis(c.now)
}

func (c *commitCoding) decode(d *dec) {
	*c = commitCoding{VolumeID(d.u32()), d.u32(), d.u64(), d.digests(), d.millis()}
}

func (c *commitCoding) apply(t *table) (any, error) { return c.applyAs(t, 0) }

func (c *commitCoding) applyAs(t *table, term uint32) (any, error) {
	return t.codeAs(term, c.volume, func(r lifecycle.Row) (lifecycle.Row, error) {
		return r.Commit(c.epoch, c.encoder, c.digests, c.now.Time())
	})
}

type abortCoding struct {
	volume  VolumeID
	epoch   uint32
	encoder uint64
}

func (c *abortCoding) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.epoch)
	e.u64(c.encoder)
}

func (c *abortCoding) decode(d *dec) { *c = abortCoding{VolumeID(d.u32()), d.u32(), d.u64()} }

func (c *abortCoding) apply(t *table) (any, error) {
	return t.code(c.volume, func(r lifecycle.Row) (lifecycle.Row, error) { return r.Abort(c.epoch, c.encoder) })
}

type revokeCoding struct {
	volume VolumeID
	epoch  uint32
}

func (c *revokeCoding) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.epoch)
}

func (c *revokeCoding) decode(d *dec) { *c = revokeCoding{VolumeID(d.u32()), d.u32()} }

func (c *revokeCoding) apply(t *table) (any, error) { return c.applyAs(t, 0) }

func (c *revokeCoding) applyAs(t *table, term uint32) (any, error) {
	return t.codeAs(term, c.volume, func(r lifecycle.Row) (lifecycle.Row, error) { return r.Revoke(c.epoch) })
}

type releaseSource struct {
	volume   VolumeID
	epoch    uint32
	verified []lifecycle.Digest
	now      id.Millis
	grace    id.Millis // a span
}

func (c *releaseSource) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.epoch)
	e.digests(c.verified)
	e.millis(c.now)
	e.millis(c.grace)
}

func (c *releaseSource) decode(d *dec) {
	*c = releaseSource{VolumeID(d.u32()), d.u32(), d.digests(), d.millis(), d.millis()}
}

func (c *releaseSource) apply(t *table) (any, error) { return c.applyAs(t, 0) }

func (c *releaseSource) applyAs(t *table, term uint32) (any, error) {
	return t.codeAs(term, c.volume, func(r lifecycle.Row) (lifecycle.Row, error) {
		return r.Release(c.epoch, c.verified, c.now.Time(), c.grace.Time().Sub(id.Epoch))
	})
}

type moveShard struct {
	volume   VolumeID
	epoch    uint32
	shard    uint8
	to       DiskID
	verified lifecycle.Digest
}

func (c *moveShard) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.epoch)
	e.u8(c.shard)
	e.u32(uint32(c.to))
	e.bytes(c.verified[:])
}

func (c *moveShard) decode(d *dec) {
	*c = moveShard{VolumeID(d.u32()), d.u32(), d.u8(), DiskID(d.u32()), lifecycle.Digest(d.take(32))}
}

func (c *moveShard) apply(t *table) (any, error) { return c.applyAs(t, 0) }

func (c *moveShard) applyAs(t *table, term uint32) (any, error) {
	if err := t.knownHomes(lifecycle.Disk(c.to)); err != nil {
		return nil, err
	}
	return t.codeAs(term, c.volume, func(r lifecycle.Row) (lifecycle.Row, error) {
		return r.Move(c.epoch, int(c.shard), lifecycle.Disk(c.to), c.verified)
	})
}

// encodable refuses a run that has no place in a command.
func encodable(n VolumeID, r lifecycle.Run) error {
	if r.Data < 1 || r.Data > maxData || r.Parity < 1 || r.Parity > maxParity || len(r.Homes) != r.Data+r.Parity {
		return fmt.Errorf("%w: volume %d in %d+%d shards with %d homes; 1 to %d and 1 to %d, each with a home",
			ErrInvalid, n, r.Data, r.Parity, len(r.Homes), maxData, maxParity)
	}
	return nil
}

func encodableDigests(n VolumeID, ds []lifecycle.Digest) error {
	if len(ds) > maxData+maxParity {
		return fmt.Errorf("%w: volume %d with %d shards, at most %d", ErrInvalid, n, len(ds), maxData+maxParity)
	}
	return nil
}
