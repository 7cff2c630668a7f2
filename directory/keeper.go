package directory

import (
	"context"
	"fmt"
	"time"

	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// A coded volume is served by the node of one disk, its keeper. What that asks of the
// directory names the term under which it is the keeper, so that one that has been
// replaced and does not know it changes nothing (decision 164).

// KeepCoded makes disk the keeper of a volume with a committed epoch, under the term
// after term, which is the row's. Under another one it is ErrStale, unless it is so
// already: then the row is the answer.
func (d *Directory) KeepCoded(ctx context.Context, v VolumeID, disk DiskID, term uint32) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opKeepCoded, &keepCoded{v, disk, term})
	return row, err
}

// asTerm proposes a command of the keeper under its term. Volumes that never had one
// are changed by the command alone, as ever.
func (d *Directory) asTerm(ctx context.Context, op uint8, c ofKeeper, term uint32) (Volume, error) {
	var wrapped command = c
	if term != 0 {
		op, wrapped = opAsKeeper, &asKeeper{term, op, c}
	}
	row, _, err := propose[Volume](ctx, d, op, wrapped)
	return row, err
}

type keepCoded struct {
	volume VolumeID
	disk   DiskID
	term   uint32
}

func (c *keepCoded) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(uint32(c.disk))
	e.u32(c.term)
}

func (c *keepCoded) decode(d *dec) { *c = keepCoded{VolumeID(d.u32()), DiskID(d.u32()), d.u32()} }

func (c *keepCoded) apply(t *table) (any, error) {
	v, err := t.volumeFor(c.volume)
	if err != nil {
		return nil, err
	}
	if err := t.knownHomes(lifecycle.Disk(c.disk)); err != nil {
		return nil, err
	}
	switch {
	case v.Keeper == c.disk && v.Term == c.term+1:
		return v, nil // a repetition
	case v.Term != c.term:
		return nil, fmt.Errorf("%w: %w: volume %d is kept under term %d, not %d", ErrStale, lifecycle.ErrRefused, v.ID, v.Term, c.term)
	case v.Coding.Committed == nil:
		return nil, fmt.Errorf("%w: %w: volume %d is not coded", ErrStale, lifecycle.ErrRefused, v.ID)
	}
	v.Keeper, v.Term = c.disk, c.term+1
	t.setVolume(v)
	return v, nil
}

// ofKeeper is a command that a keeper gives. apply is that of a volume without one.
type ofKeeper interface {
	command
	applyAs(t *table, term uint32) (any, error)
}

// asKeeper is a command of the keeper, under its term, which is not 0.
type asKeeper struct {
	term uint32
	op   uint8
	of   ofKeeper
}

func (c *asKeeper) encode(e *enc) {
	e.u32(c.term)
	e.u8(c.op)
	c.of.encode(e)
}

func (c *asKeeper) decode(d *dec) {
	c.term, c.op = d.u32(), d.u8()
	switch c.op {
	case opCommitCoding, opRevokeCoding, opReleaseSource, opMoveShard:
		c.of = makers[c.op]().(ofKeeper)
	default:
		c.of = new(revokeCoding)
		d.bad = true
	}
	d.bad = d.bad || c.term == 0
	c.of.decode(d)
}

func (c *asKeeper) apply(t *table) (any, error) { return c.of.applyAs(t, c.term) }

// span is a grace in id time, rounded up.
func span(grace time.Duration) id.Millis {
	n := millis(grace)
	if grace > 0 && grace%time.Millisecond != 0 {
		n++
	}
	return min(n, id.MaxMillis)
}
