package directory

import (
	"context"
	"crypto/rand"
	"fmt"

	"hayloft/internal/id"
)

// beginSalvage is beginCompaction from a closing volume's generation that a
// failed write or sync has ended, and that is never sealed itself.
type beginSalvage struct {
	volume      VolumeID
	generation  uint32
	disk        DiskID
	secret      [32]byte
	incarnation uint64
	now         id.Millis
}

func (c *beginSalvage) encode(e *enc) {
	e.u32(uint32(c.volume))
	e.u32(c.generation)
	e.u32(uint32(c.disk))
	e.bytes(c.secret[:])
	e.u64(c.incarnation)
	e.millis(c.now)
}

func (c *beginSalvage) decode(d *dec) {
	*c = beginSalvage{VolumeID(d.u32()), d.u32(), DiskID(d.u32()), [32]byte(d.take(32)), d.u64(), d.millis()}
}

func (c *beginSalvage) apply(t *table) (any, error) {
	v, err := t.volumeFor(c.volume)
	switch {
	case err != nil:
		return nil, err
	case c.generation < v.Generation:
		return nil, fmt.Errorf("%w: volume %d has generation %d, not %d", ErrStale, v.ID, v.Generation, c.generation)
	case c.generation > v.Generation || v.State != StateClosing || c.secret == [32]byte{} || v.LastGeneration == 1<<32-1:
		return nil, fmt.Errorf("%w: a salvage from generation %d of volume %d, state %d, generation %d",
			ErrInvalid, c.generation, v.ID, v.State, v.Generation)
	case len(v.InSync) != 1 || v.InSync[0] != c.disk:
		return nil, fmt.Errorf("%w: disk %d is not the only replica in sync of volume %d", ErrInvalid, c.disk, v.ID)
	case v.Compaction != nil:
		return v, nil
	}
	v.LastGeneration++
	v.Compaction = &Compaction{Generation: v.LastGeneration, Secret: c.secret, Time: c.now, Incarnation: c.incarnation}
	t.setVolume(v)
	return v, nil
}

// BeginSalvage gives out the number of the generation that is made from a closing
// one, on disk, its only replica in sync, which can never be sealed because a write or
// sync of it failed.
// CommitCompaction of it seals the volume. All else is as with BeginCompaction.
func (d *Directory) BeginSalvage(ctx context.Context, v VolumeID, generation uint32, disk DiskID, incarnation uint64) (Volume, error) {
	c := &beginSalvage{volume: v, generation: generation, disk: disk, incarnation: incarnation, now: d.now()}
	if _, err := rand.Read(c.secret[:]); err != nil {
		return Volume{}, err
	}
	row, _, err := propose[Volume](ctx, d, opBeginSalvage, c)
	return row, err
}
