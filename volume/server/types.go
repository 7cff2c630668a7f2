package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding/lifecycle"
)

// Errors of a Server beside those of package volume, of which callers meet
// ErrNotFound, ErrCorrupt, ErrConflict, ErrTombstoned, ErrTooLarge, ErrInvalid.
var (
	// ErrMoved: the id's tile has ended. Nothing was written; reserve again.
	ErrMoved = errors.New("server: the id's tile has ended, reserve again")
	// ErrUnavailable: no answer is certain now. The request may be repeated.
	ErrUnavailable = errors.New("server: not available now")
	// ErrNoSpace: no disk can take it. Nothing was written. Outside this is 507.
	ErrNoSpace error = noSpace{}
	// ErrDisk: a data directory is not one this process may use.
	ErrDisk = errors.New("server: data directory refused")
	// ErrMissing: the directory has a replica on a disk, confirmed, and the disk no
	// file.
	ErrMissing = errors.New("server: the disk has no file of the volume")
	// ErrPlacement: a policy needs more disks than there are.
	ErrPlacement = errors.New("server: too few disks")
	// ErrClosed: the server was closed.
	ErrClosed = errors.New("server: closed")
	// ErrDiskOut: the disk is out of service, see DiskStats.
	ErrDiskOut = errors.New("server: the disk is out of service")
	// ErrLate: calls under way did not end before Close was to return.
	ErrLate = errors.New("server: calls on volumes did not end in time")
)

// noSpace is the type of ErrNoSpace: StorageFull lets the API tell it from
// other errors without knowing this package.
type noSpace struct{}

func (noSpace) Error() string     { return "server: no disk has room" }
func (noSpace) StorageFull() bool { return true }

// Place is the row of the directory's table that holds a blob: one tile and its
// volume.
type Place struct {
	Volume   volume.Identity
	Disks    []uint32 // that are to hold a replica
	InSync   []uint32 // those of them that have all that was acknowledged, in the same order: the first is the primary
	Sync     uint32   // number of this state of Disks and InSync
	Target   int      // how many replicas there should be
	Keeper   uint32   // the disk whose node serves the volume out of its shards; 0: it is not coded
	State    State
	Slot     id.Slot
	From, To id.Millis // of the tile, To exclusive; 0: the tile is open
}

// KeeperOf is the disk whose node serves a volume out of its shards, 0 when no epoch of
// it is committed. keeper is what its row says; nobody said anything of those that
// have been coded on one node, and that serves them.
func KeeperOf(r lifecycle.Row, keeper uint32) uint32 {
	switch {
	case r.Committed == nil:
		return 0
	case keeper == 0:
		return uint32(r.Committed.Homes[0])
	}
	return keeper
}

// State is where a volume is in its life, as the directory has it.
type State uint8

// The states. A greater one is of a later version: such a volume is served and
// otherwise left alone.
const (
	StateOpen    State = 1 // its tile is open
	StateClosing State = 2 // its tile is closed
	StateSealed  State = 3 // its contents are fixed, but for deletes
	StateVoid    State = 4 // it never held anything and never will
)

// String returns the name used by tools and metrics.
func (s State) String() string {
	switch s {
	case StateOpen:
		return "open"
	case StateClosing:
		return "closing"
	case StateSealed:
		return "sealed"
	case StateVoid:
		return "void"
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// Row is the directory's row of a volume.
type Row struct {
	Volume      volume.Identity // with the generation that was committed
	State       State
	Unconfirmed bool     // it is open, and nobody has said that its file is there: it holds nothing
	Disks       []uint32 // that are to hold a replica; none when the shards serve alone
	InSync      []uint32 // see Place
	Sync        uint32
	Target      int
	Replicas    [][16]byte // the uuids of Disks
	Slot        id.Slot
	From, To    id.Millis // of the tile, To exclusive; 0: the tile is open
	Opened      id.Millis
	Closed      id.Millis // when the tile was closed; 0: it is open, or nobody knows
	Seal        *Sealed   // of the generation; nil before the volume is sealed
	Attempt     *Attempt  // the compaction under way, or nil
	Keeper      uint32    // see Place; 0 also when nobody serves it yet
	Term        uint32    // counts the changes of Keeper
	// Coding says which epochs of shards there are and where; its zero value before
	// the volume is sealed. Its slices are not to be changed.
	Coding lifecycle.Row
}

// Sealed is what a sealed generation holds, as the directory keeps it.
type Sealed struct {
	Digest    volume.Digest
	Needles   int64
	Bytes     int64 // of the file
	DataBytes int64
	Sealed    time.Time
	Deletes   uint32
}

// Attempt is a generation that has its number and is not committed.
type Attempt struct {
	Generation uint32
	Secret     [32]byte
	Time       time.Time
	Deletes    uint32
}

// Directory is what the server needs to know of who stores what. Errors that a
// repetition can cure are all errors here: the server answers ErrUnavailable.
type Directory interface {
	// RegisterDisk makes a disk of this node known and returns its number.
	RegisterDisk(ctx context.Context, uuid [16]byte, capacity uint64) (uint32, error)
	// Leaser gives out slots of a class to one writer, preferring one that goes
	// on with a volume on disk; 0: the writer has none of its own. worker is the
	// writer's number in this process.
	Leaser(class volume.Class, worker uint16, disk uint32) id.Leaser
	// OpenVolume ends the slot's open tile at from, the holder's fence, opens
	// the next one with a new volume that has a replica on each of disks, all in sync,
	// of target that it should have, unconfirmed, and returns when Locate on this node
	// shows it.
	OpenVolume(ctx context.Context, l id.Lease, disks []uint32, target int, from id.Millis) (volume.Identity, error)
	// CloseTile ends the slot's open tile at at, the holder's fence.
	CloseTile(ctx context.Context, l id.Lease, at id.Millis) error
	// OpenTile returns the slot's open tile as this node knows it.
	OpenTile(slot id.Slot) (Place, bool)
	// Locate finds a blob's tile in the table as this node knows it.
	Locate(blob id.ID) (Place, bool)
	// LocateFresh does so in a table fetched since the call began.
	LocateFresh(ctx context.Context, blob id.ID) (Place, bool, error)

	Lifecycle
}

// Lifecycle is how the directory decides over the life of volumes. Each change
// answers the row as it is then, and may be repeated; one that builds on a
// generation the volume has left behind is refused.
type Lifecycle interface {
	// NodeDisks returns the disks of this node, as this node knows them.
	NodeDisks() []NodeDisk
	// Rows returns the volumes with a replica on disk, as this node knows them.
	Rows(disk uint32) []Row
	// Row returns one volume, as this node knows it.
	Row(v volume.ID) (Row, bool)
	// FreshRow does so from a table fetched since the call began.
	FreshRow(ctx context.Context, v volume.ID) (Row, bool, error)
	// ConfirmVolume says that the files of a volume that a writer of this process
	// opened are on its disks for good. One whose tile has ended is refused.
	ConfirmVolume(ctx context.Context, v volume.ID, generation uint32) (Row, error)
	// AbandonVolume makes an unconfirmed volume void. One that was confirmed stays as
	// it is.
	AbandonVolume(ctx context.Context, v volume.ID) (Row, error)
	// CloseVolume ends the open tile of a volume whose slot no writer of this
	// process holds: an earlier process of this node did, or the lease is over.
	CloseVolume(ctx context.Context, v volume.ID) (Row, error)
	// SealVolume commits what the replicas of a closing volume hold that were read
	// back, on disks: they are its replicas then, all in sync.
	SealVolume(ctx context.Context, v volume.ID, generation uint32, disks []uint32, s Sealed) (Row, error)
	// BeginCompaction gives out the number of the generation to make from a
	// sealed one, over the deletes up to a number. An attempt that is under way
	// is the answer.
	BeginCompaction(ctx context.Context, v volume.ID, generation uint32, digest volume.Digest, deletes uint32) (Row, error)
	// BeginSalvage gives out the number of the generation to make from a closing
	// one on disk that is poisoned. An attempt that is under way is the answer.
	BeginSalvage(ctx context.Context, v volume.ID, generation, disk uint32) (Row, error)
	// CommitCompaction makes a generation that was begun the volume's, and seals
	// it if it was closing. disks are those that have it, and only they stay in sync;
	// for a volume that has a committed epoch it is any, and becomes the one of the replica.
	CommitCompaction(ctx context.Context, v volume.ID, generation uint32, disks []uint32, s Sealed) (Row, error)
	// AbandonCompaction says that a generation will never be committed.
	AbandonCompaction(ctx context.Context, v volume.ID, generation uint32) (Row, error)

	Replication
	Coder
}

// Coder is how the directory decides over the coding of sealed volumes, by the
// rules of package lifecycle. Each change answers the row as it is then, and may be
// repeated. What the row does not allow, or not yet, wraps lifecycle.ErrRefused;
// what makes no sense for any row wraps lifecycle.ErrInvalid. Those that name a term
// are the keeper's, and refused under another one than the row's.
type Coder interface {
	// CodedRows returns the volumes that have shards, or a run that makes some, on a
	// disk of this node, or that this node keeps, as this node knows them. What lies on
	// a disk beside them is of a void epoch or of a shard that was moved: Row tells.
	CodedRows() []Row
	// BeginCoding gives run.Epoch, the one after the largest, to one encoder. A run
	// that was under way is void. Refused while a compaction is under way.
	BeginCoding(ctx context.Context, v volume.ID, run lifecycle.Run) (Row, error)
	// CommitCoding makes the epoch of a run count. digests are those of all shards,
	// each read back from its disk.
	CommitCoding(ctx context.Context, v volume.ID, epoch uint32, encoder uint64, digests []lifecycle.Digest, term uint32) (Row, error)
	// AbortCoding ends a run: its epoch is void.
	AbortCoding(ctx context.Context, v volume.ID, epoch uint32, encoder uint64) (Row, error)
	// RevokeCoding makes a committed epoch void whose source is not released.
	RevokeCoding(ctx context.Context, v volume.ID, epoch, term uint32) (Row, error)
	// ReleaseSource lets the source of the committed epoch go when grace has passed
	// since the commit. verified are the digests of all shards, read from their disks
	// since then.
	ReleaseSource(ctx context.Context, v volume.ID, epoch uint32, verified []lifecycle.Digest, grace time.Duration, term uint32) (Row, error)
	// MoveShard gives a shard of the committed epoch another home, disk to, which has
	// it already, read back.
	MoveShard(ctx context.Context, v volume.ID, epoch uint32, shard int, to uint32, verified lifecycle.Digest, term uint32) (Row, error)
	// KeepCoded makes a disk the keeper of a coded volume, under the term after term.
	KeepCoded(ctx context.Context, v volume.ID, disk, term uint32) (Row, error)
}

// Space is what a file system says of itself, in bytes.
type Space struct{ Free, Capacity int64 }

// EventKind says what an Event reports.
type EventKind uint8

// What the server reports.
const (
	EventVolume            EventKind = iota + 1 // the engine's: see Engine
	EventVolumeSick                             // a volume cannot be opened and is out of service
	EventUnknownFile                            // a file that is not ours; it is left alone
	EventDiskFailing                            // no volume can be opened on the disk for now
	EventDiskFull                               // the disk has no room above KeepFree
	EventRolled                                 // a writer left its volume and opens another
	EventLease                                  // the directory gave no slot; tried again
	EventSealed                                 // a volume was sealed and the directory knows it
	EventCompacted                              // a new generation was committed and is served
	EventUpkeepFailed                           // a seal or compaction failed; tried again later
	EventGeneration                             // of several generations on the disk not the committed one is served
	EventDiskMissing                            // a disk of this node that has volumes is in none of the data directories, or dead
	EventDiskHangs                              // so many reads hang that the disk is not asked until it answers them
	EventDiskSuspect                            // the disk is not as it should be, and still in service
	EventDiskOut                                // the disk is out of service
	EventDiskBack                               // the disk is in service again, or a new one in its directory
	EventDiskRefused                            // what lies in the directory of a disk that is out is not taken into use
	EventCoded                                  // an epoch of a volume was committed and is served
	EventReleased                               // the source of a coded volume was let go
	EventRevoked                                // the shards of an epoch are lost, and its source goes on
	EventReclaimed                              // a coded volume was written anew without what was dead
	EventShardDamaged                           // a place in a shard is not what it should be
	EventRepaired                               // damaged places of a shard were written again
	EventRebuilt                                // a lost shard was made again
	EventScrubFound                             // the scrub found something: see Scrub
	EventScrubRepaired                          // what it found is right again
	EventScrubUnrepairable                      // what it found cannot be repaired now
	EventDeleteLog                              // a copy of a delete log does not count any more, or they were united
	EventLeftSync                               // a replica, on Disk, is not in sync any more
	EventFilled                                 // the replica on Disk is in sync again
	EventReplicaRepaired                        // damage in a replica was restored from another one
	EventQuarantined                            // a file was put aside: it is not what it should be, and is kept
	EventDropped                                // a file was removed that the directory does not list there
	EventKept                                   // this node keeps a coded volume whose keeper, of before, is away
)

// Event is something an operator should know.
type Event struct {
	Kind   EventKind
	Dir    string // data directory
	Volume volume.ID
	File   string // with EventUnknownFile and those of the scrub: below Dir
	Work   string // with EventUpkeepFailed: what VolumeInfo.Work says
	Err    error
	Disk   uint32       // with EventLeftSync and EventFilled: the directory's number
	Reason Reason       // of a change of a disk's health; with EventDiskBack what it was out for
	Engine volume.Event // with EventVolume
	Scrub  ScrubFinding // with the events of the scrub
}
