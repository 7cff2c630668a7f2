package directory

import (
	"fmt"
	"slices"
	"time"

	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// NodeID, DiskID and VolumeID number what the directory knows, from 1.
type (
	NodeID   uint32
	DiskID   uint32
	VolumeID uint32
)

// Kind is a range of slots: what ids minted there are for.
type Kind uint8

// The kinds.
const (
	IDs       Kind = 1 // users, posts, comments: no volumes
	Variants  Kind = 2
	Originals Kind = 3
)

// Slots returns the range lo ≤ slot < hi of a kind, an empty one when it is none.
func (k Kind) Slots() (lo, hi id.Slot) {
	switch k {
	case IDs:
		return 0, 64
	case Variants:
		return 64, 544
	case Originals:
		return 544, id.Slots
	}
	return 0, 0
}

// KindOf returns the kind of a slot.
func KindOf(s id.Slot) Kind {
	switch {
	case s < 64:
		return IDs
	case s < 544:
		return Variants
	}
	return Originals
}

// Class is the storage class of a volume.
type Class uint8

// The classes, numbered as in the volume format. None is that of kind IDs.
const (
	None           Class = 0
	ClassVariants  Class = 1
	ClassOriginals Class = 2
)

// Class returns the class of the kind's volumes.
func (k Kind) Class() Class {
	switch k {
	case Variants:
		return ClassVariants
	case Originals:
		return ClassOriginals
	}
	return None
}

// State is where a volume is in its life.
type State uint8

// The states of this version. A greater one is of a later version and is kept.
const (
	StateOpen    State = 1 // blobs are appended
	StateClosing State = 2 // its tile is closed, its replicas are not yet equal and fixed
	StateSealed  State = 3 // its contents are fixed, but for deletes
	StateVoid    State = 4 // it never held anything and never will: nobody confirmed it
)

// Volume is one row per volume; the blobs in it have none.
type Volume struct {
	ID         VolumeID
	Class      Class
	State      State
	Generation uint32 // that is served
	Opened     id.Millis
	Opener     uint64 // incarnation
	// Replicas are the disks that should hold its file, in order; none when the shards
	// alone serve. InSync are those of them, in their order, that have everything that
	// was acknowledged; the first is the primary. Both are not to be changed.
	Replicas, InSync []DiskID
	Sync             uint32 // the sync epoch: raised by every change of Replicas or InSync
	Target           uint8  // how many replicas it should have, at least 1
	// Unconfirmed: it is open, and nobody has said yet that its file is there.
	// It holds nothing.
	Unconfirmed bool

	// Slot × [From, To) is its tile; To is zero while that is open. A tile that
	// was closed empty has From = To and no row of its own.
	Slot     id.Slot
	From, To id.Millis
	Closed   id.Millis // when the tile was closed, zero while it is open
	// LastGeneration is the greatest number given out, for an abandoned
	// compaction too.
	LastGeneration uint32
	Seal           *Seal       // of Generation; nil before the volume is sealed; not to be changed
	Compaction     *Compaction // under way, or nil; not to be changed
	// Coding is what became of a sealed volume's coding, zero before it is sealed.
	// Its Source is Generation as Seal has it. Once that is released the volume has no
	// replica.
	Coding lifecycle.Row
	// Keeper is the disk whose node serves the volume out of its shards, 0 before
	// anybody does; Term counts its changes.
	Keeper DiskID
	Term   uint32
}

// Seal says what a generation of a sealed volume holds.
type Seal struct {
	Digest    [32]byte // over the sorted set of needles
	Needles   uint64
	Bytes     uint64 // of the file
	DataBytes uint64 // of the needles
	Sealed    id.Millis
	Deletes   uint32 // the delete number up to which deletes are applied to the file
}

// Compaction is a generation that was given a number and is not committed.
type Compaction struct {
	Generation  uint32
	Secret      [32]byte // of the file
	Time        id.Millis
	Deletes     uint32 // the delete number it is made over
	Incarnation uint64 // of who began it
}

// String keeps the secret out of logs.
func (c *Compaction) String() string {
	if c == nil {
		return "no compaction"
	}
	return fmt.Sprintf("generation %d over delete %d", c.Generation, c.Deletes)
}

// GoString keeps the secret out of logs too.
func (c *Compaction) GoString() string { return c.String() }

// On reports whether disk d should hold a replica of v.
func (v Volume) On(d DiskID) bool { return slices.Contains(v.Replicas, d) }

// Synced reports whether the replica on disk d has everything that was acknowledged.
func (v Volume) Synced(d DiskID) bool { return slices.Contains(v.InSync, d) }

// Primary returns the disk of the replica that numbers deletes and sees to the
// volume's life; there is none when the shards alone serve.
func (v Volume) Primary() (DiskID, bool) {
	if len(v.InSync) == 0 {
		return 0, false
	}
	return v.InSync[0], true
}

// Missing is how many replicas in sync it has too few of. A volume that is served out
// of shards misses none.
func (v Volume) Missing() int {
	if v.Coding.Committed != nil {
		return 0
	}
	return max(int(v.Target)-len(v.InSync), 0)
}

// Tile is the rectangle Slot × [From, To) whose blobs lie in Volume.
type Tile struct {
	Slot     id.Slot
	From, To id.Millis // To is zero while the tile is open
	Volume   VolumeID
}

// Holds reports whether the tile holds ids of time t.
func (t Tile) Holds(at id.Millis) bool { return at >= t.From && (t.To == 0 || at < t.To) }

// Lease is the last window of a slot, as the table shows it.
type Lease struct {
	Slot id.Slot
	id.Window
}

// Key is one version of a secret.
type Key struct {
	Purpose   string
	Version   uint32
	Secret    [32]byte
	CreatedAt time.Time
}

// String keeps the secret out of logs.
func (k Key) String() string { return fmt.Sprintf("key %s version %d", k.Purpose, k.Version) }

// GoString keeps the secret out of logs too.
func (k Key) GoString() string { return k.String() }
