package directory

import (
	"slices"

	"hayloft/volume/coding/lifecycle"
)

func (v Volume) value() []byte { return v.valueOf(volumeRowVersion) }

// soleRowVersion is that of rows that do not tell which replicas are in sync.
const soleRowVersion = 4

// syncRowVersion is that of rows that do not tell who keeps the shards.
const syncRowVersion = 5

// valueOf is the row's value in version soleRowVersion or a later one.
func (v Volume) valueOf(version uint8) []byte {
	e := &enc{b: []byte{version}}
	e.u8(uint8(v.Class))
	e.u8(uint8(v.State))
	e.u32(v.Generation)
	e.millis(v.Opened)
	e.u64(v.Opener)
	e.u8(uint8(len(v.Replicas)))
	for _, d := range v.Replicas {
		e.u32(uint32(d))
	}
	e.u16(uint16(v.Slot))
	e.millis(v.From)
	e.millis(v.To)
	e.millis(v.Closed)
	e.u32(v.LastGeneration)
	e.bool(v.Seal != nil)
	if v.Seal != nil {
		v.Seal.encode(e)
	}
	e.bool(v.Compaction != nil)
	if v.Compaction != nil {
		v.Compaction.encode(e)
	}
	e.bool(v.Unconfirmed)
	e.coding(v.Coding)
	if version > soleRowVersion {
		e.u32(v.Sync)
		e.u8(v.Target)
		e.u8(uint8(len(v.InSync)))
		for _, d := range v.InSync {
			e.u32(uint32(d))
		}
	}
	if version > syncRowVersion {
		e.u32(uint32(v.Keeper))
		e.u32(v.Term)
	}
	return e.b
}

// readVolume reads a row of any version. Where the tile of one of the first
// version lies, the tiles tell: placeOldRows. Volumes of the first two count as
// confirmed, replicas of the first four as in sync; nobody keeps those of the first five.
func readVolume(n VolumeID, version uint8, v *dec) Volume {
	row := Volume{ID: n, Class: Class(v.u8()), State: State(v.u8()), Generation: v.u32(), Opened: v.millis(), Opener: v.u64()}
	for range v.u8() {
		row.Replicas = append(row.Replicas, DiskID(v.u32()))
	}
	row.InSync, row.Sync, row.Target = row.Replicas, 1, 1
	if version == rowVersion {
		row.LastGeneration = row.Generation
		return row
	}
	row.Slot, row.From, row.To, row.Closed, row.LastGeneration = v.slot(), v.millis(), v.millis(), v.millis(), v.u32()
	if v.bool() {
		row.Seal = readSeal(v)
	}
	if v.bool() {
		row.Compaction = readCompaction(v)
	}
	row.Unconfirmed = version > 2 && v.bool()
	if row.Seal != nil {
		row.Coding.Source = row.Seal.source(row.Generation)
	}
	if version > 3 {
		row.Coding = v.coding(row.Coding.Source)
	}
	if version > soleRowVersion {
		row.Sync, row.Target, row.InSync = v.u32(), v.u8(), nil
		for range v.u8() {
			row.InSync = append(row.InSync, DiskID(v.u32()))
		}
	}
	if version > syncRowVersion {
		row.Keeper, row.Term = DiskID(v.u32()), v.u32()
	}
	v.bad = v.bad || row.State == StateSealed && row.Seal == nil || row.LastGeneration < row.Generation ||
		row.Unconfirmed && row.State != StateOpen && row.State <= StateVoid ||
		row.Coding.Validate() != nil || row.Compaction != nil && row.Coding.Busy() ||
		len(row.Replicas) > 0 && row.Coding.State() == lifecycle.Released ||
		row.Sync == 0 || row.Target == 0 || !row.syncedInOrder() || (row.Keeper == 0) != (row.Term == 0)
	return row
}

// syncedInOrder reports whether the in-sync set is a part of the replicas, in their
// order, and not empty when there are any.
func (v Volume) syncedInOrder() bool {
	return slices.Equal(v.InSync, common(v.Replicas, v.InSync)) && (len(v.InSync) == 0) == (len(v.Replicas) == 0)
}

// placeOldRows gives volumes of rows of the first version the tiles that name
// them. One whose tile was closed empty has none and stays at zero.
func (l *loader) placeOldRows() {
	for _, ts := range l.tiles {
		for _, t := range ts {
			if v := l.volumes.at(int(t.Volume)); v.From == 0 && v.To == 0 {
				v.Slot, v.From, v.To = t.Slot, t.From, t.To
			}
		}
	}
}

func (s *Seal) encode(e *enc) {
	e.bytes(s.Digest[:])
	e.u64(s.Needles)
	e.u64(s.Bytes)
	e.u64(s.DataBytes)
	e.millis(s.Sealed)
	e.u32(s.Deletes)
}

func readSeal(d *dec) *Seal {
	return &Seal{[32]byte(d.take(32)), d.u64(), d.u64(), d.u64(), d.millis(), d.u32()}
}

func (c *Compaction) encode(e *enc) {
	e.u32(c.Generation)
	e.bytes(c.Secret[:])
	e.millis(c.Time)
	e.u32(c.Deletes)
	e.u64(c.Incarnation)
}

func readCompaction(d *dec) *Compaction {
	return &Compaction{d.u32(), [32]byte(d.take(32)), d.millis(), d.u32(), d.u64()}
}

// disks writes at most maxReplicas of them.
func (e *enc) disks(ds []DiskID) {
	e.u8(uint8(len(ds)))
	for _, x := range ds {
		e.u32(uint32(x))
	}
}

func (d *dec) disks() (out []DiskID) {
	n := int(d.u8())
	for range min(n, maxReplicas) {
		x := DiskID(d.u32())
		d.bad = d.bad || slices.Contains(out, x)
		out = append(out, x)
	}
	d.bad = d.bad || n > maxReplicas
	return out
}

func (e *enc) bool(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

func (d *dec) bool() bool {
	v := d.u8()
	d.bad = d.bad || v > 1
	return v == 1
}
