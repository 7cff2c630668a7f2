package server

import (
	"context"

	"hayloft/internal/id"
	"hayloft/volume"
)

// Peers finds the nodes that hold replicas which this node does not. It is asked
// on every write and read, and answers from memory.
type Peers interface {
	// Of returns the node of a disk; nil when it is this node's, or nobody knows whose.
	Of(disk uint32) Peer
	// Disks describes every disk of the cluster as it was last heard of, this node's too.
	Disks() []FleetDisk
	// Choose names disks for a new volume's replicas, want of them if there are as many
	// healthy failure domains, never fewer than the floor: the first is home when that
	// is not 0 and fits. avoid are not taken. Too few are ErrPlacement.
	Choose(class volume.Class, home uint32, want int, avoid []uint32) ([]uint32, error)
}

// FleetDisk is a disk of the cluster as this node last heard of it.
type FleetDisk struct {
	Disk     uint32
	Node     string
	Up       bool // its node was heard of just now, and the disk is in service
	Taking   bool // new replicas may be put there: not draining
	Distance int  // from this node: 0 here, 1 same host, 2 same rack, 3 same zone, 4 elsewhere
	Free     int64
	Capacity int64 // bytes
}

// Peer is the blob server of another node, as far as its replicas go: what it has
// on one of its disks. Server.Replicas is one for the disks of this process. The
// errors are those of a Server and of package volume, whatever lies between.
// ErrUnavailable is for everything that says nothing about the replica: no answer,
// another node's disk, a row that the node does not know yet.
//
// Nothing is forwarded: a peer answers for its own disks.
type Peer interface {
	// Node is the node's name.
	Node() string

	PeerWriter
	PeerReader
	PeerLife
	PeerShelves
}

// PeerWriter is what writers ask of a replica.
type PeerWriter interface {
	// Create makes the file of a new volume, which the directory has opened with that
	// disk. It may be repeated as long as nothing was written.
	Create(ctx context.Context, disk uint32, ident volume.Identity) error
	// Append stores a group and returns when it is durable there. The data is the
	// caller's again then, and when ctx ends.
	Append(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error
	// Entomb deletes in an open volume. One that is fenced is volume.ErrSealed: its
	// deletes go through its primary.
	Entomb(ctx context.Context, disk uint32, v volume.ID, key id.ID) error
	// Delete asks the primary of a closing or sealed volume, on disk, to delete there
	// and on all in-sync replicas. One that is not the primary says ErrMoved.
	Delete(ctx context.Context, disk uint32, v volume.ID, key id.ID) error
	// LogDeletes appends deletes to the delete log behind number after, as the primary
	// has numbered them under the sync epoch. It returns the number of the newest one
	// there; when that is below after, nothing was appended and the caller sends what
	// is missing.
	LogDeletes(ctx context.Context, disk uint32, v volume.ID, sync, after uint32, keys []id.ID) (newest uint32, err error)
}

// PeerReader is what readers ask of a replica. A replica that is not in sync, by
// the table of its node, answers ErrUnavailable.
type PeerReader interface {
	Read(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie) (volume.Blob, error)
	ReadRange(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie, off, n int64) (volume.Range, error)
	Probe(ctx context.Context, disk uint32, v volume.ID, blob id.ID) (volume.Probed, error)
}

// Standing is how far a replica is.
type Standing struct {
	Generation uint32 // that the disk serves; 0: there is no file
	Fenced     bool
	Poisoned   bool
	Sealed     *Sealed // of the generation, or nil
	Deletes    uint32  // number of the newest entry of its delete log
	Made       *Sealed // of the compaction under way: the new generation lies there, read back; or nil
}

// Holding is one needle, or one tombstone, in the file of a replica.
type Holding = volume.Holding

// PeerLife is what the coordinator of a volume asks of its replicas, and a replica
// that is behind of one in sync.
type PeerLife interface {
	Standing(ctx context.Context, disk uint32, v volume.ID) (Standing, error)
	// Fence refuses puts from now on, durably.
	Fence(ctx context.Context, disk uint32, v volume.ID) (Standing, error)
	// Holdings calls fn for all that the file of a fenced volume holds, by key and
	// alt, a key's tombstone first; an error of fn ends it. Damaged needles are left out.
	Holdings(ctx context.Context, disk uint32, v volume.ID, fn func(Holding) error) error
	// Fetch calls fn for the live needles of some keys, verified. Data is fn's until it
	// returns. A key that is not there, deleted or damaged is left out.
	Fetch(ctx context.Context, disk uint32, v volume.ID, keys []id.ID, fn func(volume.Needle) error) error
	// Fill stores needles that other replicas of a fenced volume hold, Bury the
	// tombstones.
	Fill(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error
	Bury(ctx context.Context, disk uint32, v volume.ID, keys []id.ID) error
	// Seal seals the file of a fenced volume and says what it holds.
	Seal(ctx context.Context, disk uint32, v volume.ID, info volume.SealInfo) (Sealed, error)
	// Make makes the generation of the attempt that the directory has given out, and
	// reads it back. It is not served before it is committed.
	Make(ctx context.Context, disk uint32, v volume.ID, generation uint32) (Sealed, error)
	// Copy gives fn the file of the sealed generation that is served, piece by piece;
	// the bytes are fn's until it returns. It is volume.ErrNoVolume when another one is.
	Copy(ctx context.Context, disk uint32, v volume.ID, generation uint32, fn func([]byte) error) (Sealed, error)
	// Deletes returns entries of the delete log with numbers above after, in order, at
	// most limit, and the number of the newest one.
	Deletes(ctx context.Context, disk uint32, v volume.ID, after uint32, limit int) (list []volume.Delete, newest uint32, err error)
	// Admit asks the primary, on disk, to let the replica on another disk into the
	// in-sync set, which has the committed generation and the delete log up to some
	// number: it sends what is missing and has the directory commit it.
	Admit(ctx context.Context, disk uint32, v volume.ID, joining uint32) error
}

// Replication is how the directory decides over the replicas of a volume. Each
// change names the sync epoch of the row it builds on; when the row has moved on it
// is refused, and the caller looks again. Each may be repeated.
type Replication interface {
	// LeaveSync takes a replica out of the in-sync set, never the last one.
	LeaveSync(ctx context.Context, v volume.ID, disk, sync uint32) (Row, error)
	// JoinSync puts one in that has the generation and all deletes.
	JoinSync(ctx context.Context, v volume.ID, disk, generation, sync uint32) (Row, error)
	// AddReplica has another disk fill itself; RemoveReplica gives one up.
	AddReplica(ctx context.Context, v volume.ID, disk, sync uint32) (Row, error)
	RemoveReplica(ctx context.Context, v volume.ID, disk, sync uint32) (Row, error)
}
