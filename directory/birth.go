package directory

import (
	"fmt"

	"hayloft/internal/id"
)

type confirmVolume struct {
	volume      VolumeID
	generation  uint32
	incarnation uint64
}

func (c *confirmVolume) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.generation)
	e.u64(c.incarnation)
}

func (c *confirmVolume) decode(d *dec) { *c = confirmVolume{VolumeID(d.u32()), d.u32(), d.u64()} }

func (c *confirmVolume) apply(t *table) (any, error) {
	v, err := t.volumeFor(c.volume)
	if err != nil {
		return nil, err
	}
	w := t.Window(v.Slot)
	switch {
	case c.generation != v.Generation && !v.Unconfirmed:
		return nil, fmt.Errorf("%w: volume %d has generation %d, not %d", ErrStale, v.ID, v.Generation, c.generation)
	case c.generation != v.Generation:
		return nil, fmt.Errorf("%w: generation %d of volume %d, which has generation %d", ErrInvalid, c.generation, v.ID, v.Generation)
	case !v.Unconfirmed:
		return v, nil // a repetition
	case w.Holder != c.incarnation || w.Released:
		return nil, fmt.Errorf("slot %d: %w", v.Slot, id.ErrLeaseLost)
	}
	v.Unconfirmed = false
	t.setVolume(v)
	return v, nil
}

type abandonVolume struct {
	volume VolumeID
	now    id.Millis
}

func (c *abandonVolume) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.millis(c.now)
}

func (c *abandonVolume) decode(d *dec) { *c = abandonVolume{VolumeID(d.u32()), d.millis()} }

func (c *abandonVolume) apply(t *table) (any, error) {
	v, ok := t.Volume(c.volume)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: volume %d", ErrUnknown, c.volume)
	case v.State != StateOpen || !v.Unconfirmed:
		return v, nil // void already, or its file was there in time
	}
	tile, ok := t.OpenTile(v.Slot)
	if !ok || tile.Volume != v.ID {
		return nil, fmt.Errorf("%w: volume %d has no open tile", ErrInvalid, v.ID)
	}
	t.abandon(tile, v, c.now)
	v, _ = t.Volume(v.ID)
	return v, nil
}

// abandon ends a volume that nobody confirmed, and takes its open tile away:
// nothing was ever written there, and from now on nothing can be.
func (t *table) abandon(tile Tile, v Volume, now id.Millis) {
	t.dropTile(tile.Slot)
	t.put(keyTile(tile.Slot, tile.From), nil)
	v.State, v.Unconfirmed, v.To, v.Closed = StateVoid, false, tile.From, max(now, 1)
	t.setVolume(v)
}
