package directory

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// maxGap bounds how far a restored volume's number may lie above the last one.
const maxGap = 1 << 20

// restoreVolume puts a row that the disks told into a table that does not know
// the volume.
type restoreVolume struct {
	now id.Millis
	row Volume
}

func (c *restoreVolume) encode(e *enc) { c.encodeOf(e, syncRowVersion) }

func (c *restoreVolume) encodeOf(e *enc, version uint8) {
	e.millis(c.now)
	e.u32(uint32(c.row.ID))
	e.bytes(c.row.valueOf(version))
}

func (c *restoreVolume) decode(d *dec) { c.decodeOf(d, syncRowVersion) }

func (c *restoreVolume) decodeOf(d *dec, version uint8) {
	c.now = d.millis()
	n := VolumeID(d.u32())
	if d.u8() != version {
		d.bad = true
		return
	}
	c.row = readVolume(n, version, d)
}

// restoreOld is the command from before rows told which replicas are in sync.
type restoreOld restoreVolume

func (c *restoreOld) encode(e *enc) { (*restoreVolume)(c).encodeOf(e, soleRowVersion) }

func (c *restoreOld) decode(d *dec) { (*restoreVolume)(c).decodeOf(d, soleRowVersion) }

func (c *restoreOld) apply(t *table) (any, error) { return t.restore(c.now, c.row) }

func (c *restoreVolume) apply(t *table) (any, error) {
	if n := len(c.row.Replicas); n > maxReplicas || c.row.Target > maxReplicas || c.row.Sync > maxRestoredSync {
		return nil, fmt.Errorf("%w: volume %d with %d replicas of %d, sync epoch %d", ErrInvalid, c.row.ID, n, c.row.Target, c.row.Sync)
	}
	return t.restore(c.now, c.row)
}

// maxRestoredSync leaves a restored volume room for more sync epochs.
const maxRestoredSync = 1 << 31

func (t *table) restore(now id.Millis, v Volume) (any, error) {
	if have, ok := t.Volume(v.ID); ok {
		if !bytes.Equal(have.value(), v.value()) {
			return nil, fmt.Errorf("%w: volume %d is known, with other contents", ErrInvalid, v.ID)
		}
		return have, nil // a repetition
	}
	if err := v.restorable(t.lastVolume); err != nil {
		return nil, err
	}
	if err := t.knownDisks(v); err != nil {
		return nil, err
	}
	w := t.Window(v.Slot)
	if w.From < v.To && w != (id.Window{}) && !w.Over(now) {
		return nil, fmt.Errorf("%w: slot %d is leased until %d", ErrInvalid, v.Slot, w.To)
	}
	for _, tile := range t.Tiles(v.Slot) {
		if tile.From < v.To && (tile.To == 0 || v.From < tile.To) {
			return nil, fmt.Errorf("%w: volume %d has [%d, %d) of slot %d, volume %d [%d, %d)",
				ErrInvalid, tile.Volume, tile.From, tile.To, v.Slot, v.ID, v.From, v.To)
		}
	}
	if w.From < v.To { // whoever minted there is gone, and nobody will again
		w.To, w.Released = max(w.To, v.To), true
		t.setWindow(v.Slot, w)
	}
	if v.From < v.To {
		t.setTile(Tile{Slot: v.Slot, From: v.From, To: v.To, Volume: v.ID})
	}
	t.setVolume(v)
	return v, nil
}

// restorable says what is wrong with a row by itself, which readVolume has read.
func (v Volume) restorable(last VolumeID) error {
	class := KindOf(v.Slot).Class()
	switch {
	case v.ID == 0 || v.ID > last && v.ID-last > maxGap:
		return fmt.Errorf("%w: volume %d, the last one is %d", ErrInvalid, v.ID, last)
	case v.State != StateClosing && v.State != StateSealed, v.Unconfirmed, v.Compaction != nil, v.Coding.Run != nil:
		return fmt.Errorf("%w: volume %d, state %d, has work under way", ErrInvalid, v.ID, v.State)
	case (v.State == StateSealed) != (v.Seal != nil) || v.Seal != nil && v.Coding.Source.Bytes <= 0:
		return fmt.Errorf("%w: seal of volume %d, state %d", ErrInvalid, v.ID, v.State)
	case v.Class != class || class == None:
		return fmt.Errorf("%w: class %d of volume %d on slot %d", ErrInvalid, v.Class, v.ID, v.Slot)
	case v.Generation == 0 || v.Closed == 0 || v.To == 0 || v.To < v.From:
		return fmt.Errorf("%w: generation %d of volume %d, tile [%d, %d) closed at %d", ErrInvalid, v.Generation, v.ID, v.From, v.To, v.Closed)
	}
	return nil
}

// knownDisks refuses a row that names a disk twice or one that is not known, or
// whose file lies nowhere though it serves.
func (t *table) knownDisks(v Volume) error {
	homes := []lifecycle.Disk{}
	for i, d := range v.Replicas {
		if slices.Contains(v.Replicas[:i], d) {
			return fmt.Errorf("%w: disk %d has volume %d twice", ErrInvalid, d, v.ID)
		}
		homes = append(homes, lifecycle.Disk(d))
	}
	if len(v.Replicas) == 0 && v.Coding.State() != lifecycle.Released {
		return fmt.Errorf("%w: volume %d is on no disk", ErrInvalid, v.ID)
	}
	for _, c := range []*lifecycle.Commit{v.Coding.Committed, v.Coding.Before} {
		if c != nil {
			homes = append(homes, c.Homes...)
		}
	}
	return t.knownHomes(homes...)
}

// RestoreVolume puts a whole row into a directory that does not know the volume's
// number, as it was made again from what lies on the disks: a closing volume, or a
// sealed one, with a committed epoch if it has one, and without work under way.
// Its disks are registered before. v.Coding.Source follows from the seal. Numbers
// of volumes, generations and epochs above those of the row are given out from then
// on, so they must not be below those of any file that was found. When the volume is
// there with other contents, its tile overlaps another one, or somebody may mint
// inside it, it is ErrInvalid. A zero Sync or Target is 1.
func (d *Directory) RestoreVolume(ctx context.Context, v Volume) (Volume, error) {
	v.Coding.Source = lifecycle.Source{}
	if v.Seal != nil {
		v.Coding.Source = v.Seal.source(v.Generation)
	}
	if err := v.Coding.Validate(); err != nil {
		return Volume{}, refusal(v.ID, err)
	}
	for _, c := range []*lifecycle.Commit{v.Coding.Committed, v.Coding.Before} {
		if c != nil {
			if err := encodable(v.ID, c.Run); err != nil {
				return Volume{}, err
			}
		}
	}
	v.Sync, v.Target = max(v.Sync, 1), max(v.Target, 1)
	if len(v.Replicas) > maxReplicas || !v.syncedInOrder() || v.Coding.Run != nil {
		return Volume{}, fmt.Errorf("%w: volume %d with replicas %v, of which %v are in sync, or work under way", ErrInvalid, v.ID, v.Replicas, v.InSync)
	}
	row, _, err := propose[Volume](ctx, d, opRestoreVolume, &restoreVolume{d.now(), v})
	return row, err
}
