package directory

import (
	"context"
	"fmt"
	"slices"

	"hayloft/internal/id"
)

// maxReplicas is how many replicas a volume may have, and its target.
const maxReplicas = 8

// openVolume is the command from before a volume had several replicas.
type openVolume struct {
	slot        id.Slot
	incarnation uint64
	leased      id.Millis
	disk        DiskID
	from, now   id.Millis
}

func (c *openVolume) encode(e *enc) {
	e.u16(uint16(c.slot))
	e.u64(c.incarnation)
	e.millis(c.leased)
	e.u32(uint32(c.disk))
	e.millis(c.from)
	e.millis(c.now)
}

func (c *openVolume) decode(d *dec) {
	*c = openVolume{d.slot(), d.u64(), d.millis(), DiskID(d.u32()), d.millis(), d.millis()}
}

func (c *openVolume) apply(t *table) (any, error) {
	if err := t.mayOpen(c.slot, c.incarnation, c.leased); err != nil {
		return nil, err
	}
	node := t.Window(c.slot).Node
	disk, ok := t.Disk(c.disk)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: disk %d", ErrUnknown, c.disk)
	case uint32(disk.Node) != node:
		return nil, fmt.Errorf("%w: disk %d is not of node %d", ErrInvalid, c.disk, node)
	}
	return t.openAt(c.slot, c.from, c.now, []DiskID{c.disk}, 1)
}

// openReplicated is openVolume for several disks, of whichever nodes.
type openReplicated struct {
	slot        id.Slot
	incarnation uint64
	leased      id.Millis
	disks       []DiskID
	target      uint8
	from, now   id.Millis
}

func (c *openReplicated) encode(e *enc) {
	e.u16(uint16(c.slot))
	e.u64(c.incarnation)
	e.millis(c.leased)
	e.disks(c.disks)
	e.u8(c.target)
	e.millis(c.from)
	e.millis(c.now)
}

func (c *openReplicated) decode(d *dec) {
	*c = openReplicated{d.slot(), d.u64(), d.millis(), d.disks(), d.u8(), d.millis(), d.millis()}
}

func (c *openReplicated) apply(t *table) (any, error) {
	if err := t.mayOpen(c.slot, c.incarnation, c.leased); err != nil {
		return nil, err
	}
	if len(c.disks) == 0 || len(c.disks) > int(c.target) || c.target > maxReplicas {
		return nil, fmt.Errorf("%w: a volume on %d disks, with a target of %d; at most %d", ErrInvalid, len(c.disks), c.target, maxReplicas)
	}
	if err := t.usable(c.disks...); err != nil {
		return nil, err
	}
	return t.openAt(c.slot, c.from, c.now, c.disks, c.target)
}

// mayOpen refuses whoever does not hold the slot, or a slot without volumes.
func (t *table) mayOpen(s id.Slot, incarnation uint64, leased id.Millis) error {
	switch {
	case !t.Window(s).HeldBy(incarnation, leased):
		return fmt.Errorf("slot %d: %w", s, id.ErrLeaseLost)
	case KindOf(s).Class() == None:
		return fmt.Errorf("%w: slot %d carries no volumes", ErrInvalid, s)
	}
	return nil
}

// usable refuses disks that are not known, or gone.
func (t *table) usable(disks ...DiskID) error {
	for _, d := range disks {
		if _, ok := t.Disk(d); !ok {
			return fmt.Errorf("%w: disk %d", ErrUnknown, d)
		}
		if t.StateOf(d) == Gone {
			return fmt.Errorf("%w: disk %d is gone", ErrInvalid, d)
		}
	}
	return nil
}

// openAt opens a volume at a fence of the slot's holder, or finds it open there.
func (t *table) openAt(slot id.Slot, from, now id.Millis, disks []DiskID, target uint8) (any, error) {
	w := t.Window(slot)
	if from < w.From || from > w.To {
		return nil, fmt.Errorf("%w: fence %d is outside the window [%d, %d)", ErrInvalid, from, w.From, w.To)
	}
	if last, ok := t.lastTile(slot); ok {
		v, _ := t.Volume(last.Volume)
		switch {
		case last.To == 0 && last.From == from && slices.Equal(v.Replicas, disks):
			return v, nil // a repetition
		case last.From >= from || last.To > from:
			return nil, fmt.Errorf("%w: fence %d, the slot's last tile is [%d, %d)", ErrInvalid, from, last.From, last.To)
		case last.To == 0:
			t.closeTile(last, from, now)
		}
	}
	v := Volume{
		ID: t.lastVolume + 1, Class: KindOf(slot).Class(), State: StateOpen, Generation: 1,
		Opened: now, Opener: w.Holder, Replicas: disks, InSync: disks, Sync: 1, Target: target,
		Slot: slot, From: from, LastGeneration: 1, Unconfirmed: true,
	}
	t.setVolume(v)
	t.setTile(Tile{Slot: slot, From: from, Volume: v.ID})
	return v, nil
}

// OpenVolume makes a new volume, with a replica on each of disks (1 to 8 of them, of
// any nodes), the place of everything that the holder of l mints at or after from,
// which is Minter.Fence: all it minted before lies before from. target is how many
// replicas it should have, not fewer than there are disks and at most 8. The slot's
// former tile ends there and its volume is closing. Repeating the request returns the
// same volume; to be given another one, take a new fence. The volume waits for
// ConfirmVolume. A disk that is gone is ErrInvalid.
func (d *Directory) OpenVolume(ctx context.Context, l id.Lease, disks []DiskID, target int, from id.Millis) (Volume, error) {
	if err := encodableDisks(disks); err != nil {
		return Volume{}, err
	}
	if target < 1 || target > maxReplicas {
		return Volume{}, fmt.Errorf("%w: a target of %d replicas, 1 to %d", ErrInvalid, target, maxReplicas)
	}
	v, _, err := propose[Volume](ctx, d, opOpenReplicated, &openReplicated{l.Slot, l.Holder, l.From, disks, uint8(target), from, d.now()})
	return v, err
}
