package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
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
	Disks    []uint32 // that hold a replica
	Slot     id.Slot
	From, To id.Millis // of the tile, To exclusive; 0: the tile is open
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
	Unconfirmed bool       // it is open, and nobody has said that its file is there: it holds nothing
	Disks       []uint32   // that hold a replica; none when the shards serve alone
	Replicas    [][16]byte // the uuids of Disks
	Slot        id.Slot
	From, To    id.Millis // of the tile, To exclusive; 0: the tile is open
	Opened      id.Millis
	Closed      id.Millis // when the tile was closed; 0: it is open, or nobody knows
	Seal        *Sealed   // of the generation; nil before the volume is sealed
	Attempt     *Attempt  // the compaction under way, or nil
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
	// on with a volume on disk. worker is the writer's number in this process.
	Leaser(class volume.Class, worker uint16, disk uint32) id.Leaser
	// OpenVolume ends the slot's open tile at from, the holder's fence, opens
	// the next one with a new volume on disk, unconfirmed, and returns when Locate
	// on this node shows it.
	OpenVolume(ctx context.Context, l id.Lease, disk uint32, from id.Millis) (volume.Identity, error)
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
	// ConfirmVolume says that the file of a volume that a writer of this process
	// opened is on its disk for good. One whose tile has ended is refused.
	ConfirmVolume(ctx context.Context, v volume.ID, generation uint32) (Row, error)
	// AbandonVolume makes an unconfirmed volume void. One that was confirmed stays as
	// it is.
	AbandonVolume(ctx context.Context, v volume.ID) (Row, error)
	// CloseVolume ends the open tile of a volume whose slot no writer of this
	// process holds: an earlier process of this node did, or the lease is over.
	CloseVolume(ctx context.Context, v volume.ID) (Row, error)
	// SealVolume commits what the replica on disk of a closing volume holds.
	SealVolume(ctx context.Context, v volume.ID, generation, disk uint32, s Sealed) (Row, error)
	// BeginCompaction gives out the number of the generation to make from a
	// sealed one, over the deletes up to a number. An attempt that is under way
	// is the answer.
	BeginCompaction(ctx context.Context, v volume.ID, generation uint32, digest volume.Digest, deletes uint32) (Row, error)
	// BeginSalvage gives out the number of the generation to make from a closing
	// one on disk that is poisoned. An attempt that is under way is the answer.
	BeginSalvage(ctx context.Context, v volume.ID, generation, disk uint32) (Row, error)
	// CommitCompaction makes a generation that was begun the volume's, and seals
	// it if it was closing. disk is that of the replica; for a volume that has a
	// committed epoch it is any, and becomes the one of the replica.
	CommitCompaction(ctx context.Context, v volume.ID, generation, disk uint32, s Sealed) (Row, error)
	// AbandonCompaction says that a generation will never be committed.
	AbandonCompaction(ctx context.Context, v volume.ID, generation uint32) (Row, error)

	Coder
}

// Coder is how the directory decides over the coding of sealed volumes, by the
// rules of package lifecycle. Each change answers the row as it is then, and may be
// repeated. What the row does not allow, or not yet, wraps lifecycle.ErrRefused;
// what makes no sense for any row wraps lifecycle.ErrInvalid.
type Coder interface {
	// CodedRows returns the volumes that have shards, or a run that makes some, on a
	// disk of this node, as this node knows them. What lies on a disk beside them is
	// of a void epoch or of a shard that was moved: Row tells.
	CodedRows() []Row
	// BeginCoding gives run.Epoch, the one after the largest, to one encoder. A run
	// that was under way is void. Refused while a compaction is under way.
	BeginCoding(ctx context.Context, v volume.ID, run lifecycle.Run) (Row, error)
	// CommitCoding makes the epoch of a run count. digests are those of all shards,
	// each read back from its disk.
	CommitCoding(ctx context.Context, v volume.ID, epoch uint32, encoder uint64, digests []lifecycle.Digest) (Row, error)
	// AbortCoding ends a run: its epoch is void.
	AbortCoding(ctx context.Context, v volume.ID, epoch uint32, encoder uint64) (Row, error)
	// RevokeCoding makes a committed epoch void whose source is not released.
	RevokeCoding(ctx context.Context, v volume.ID, epoch uint32) (Row, error)
	// ReleaseSource lets the source of the committed epoch go when grace has passed
	// since the commit. verified are the digests of all shards, read from their disks
	// since then.
	ReleaseSource(ctx context.Context, v volume.ID, epoch uint32, verified []lifecycle.Digest, grace time.Duration) (Row, error)
	// MoveShard gives a shard of the committed epoch another home, disk to, which has
	// it already, read back.
	MoveShard(ctx context.Context, v volume.ID, epoch uint32, shard int, to uint32, verified lifecycle.Digest) (Row, error)
}

// Space is what a file system says of itself, in bytes.
type Space struct{ Free, Capacity int64 }

// Options configure a Server. Dirs and Directory must be given; the zero value
// of the rest works.
type Options struct {
	Dirs      []string // data directories, one for each disk
	Directory Directory

	FS    vfs.FS      // nil: the machine's
	Clock clock.Clock // nil: the machine's
	// Space tells the room of a data directory. nil: the file system's answer
	// for the machine's files, boundless for any other FS.
	Space func(dir string) (Space, error)

	VolumeBytes int64 // largest volume; 0: the engine's 32 GiB
	AllocChunk  int64 // see volume.Options
	// KeepFree is what is left free on each disk: for deletes, which need room
	// too, and for whoever else lives there. 0: 256 MiB.
	KeepFree int64
	// MaxWriteBytes bounds the data of all Writes under way; more wait. 0: 256 MiB.
	MaxWriteBytes int64
	// MaxReads bounds the reads of each disk under way; more wait. 0: 128.
	MaxReads int
	// MaxReadBytes bounds the memory that reads hold, from before the disk is
	// asked until Release. Every disk has the same share of it, so that one that
	// hangs takes no other's; a needle larger than the share is read when the
	// disk's other reads are over. 0: 256 MiB.
	MaxReadBytes int64
	// ReadTimeout bounds each read. 0: 30 s.
	ReadTimeout time.Duration
	// DirectoryTimeout bounds each wait for the directory. 0: 5 s.
	DirectoryTimeout time.Duration
	// LeaseEvery is the time between lease renewals. 0: see id.Keeper.
	LeaseEvery time.Duration

	// OpenPerDisk is how many volumes of a class each disk has open at a time.
	// 0: 1.
	OpenPerDisk int
	// SealAfter is the age at which an open volume that holds something is
	// closed and sealed though it is not full. 0: 30 days.
	SealAfter time.Duration
	// Maintenance bounds what sealing, compaction and the removal of what they
	// replace read and write, in bytes per second and disk, a quarter of it
	// while there is traffic. 0: DefaultMaintenance.
	Maintenance int64
	// CompactShare is the share of a sealed file that must be dead for it to be
	// compacted by itself, CompactBytes how much that must be. 0: 0.25, 64 MiB.
	CompactShare float64
	CompactBytes int64
	// Coding is how volumes are coded; the zero policy is not to. CodeAfter is the
	// age, since they were sealed, at which volumes of originals are coded by
	// themselves; 0: 90 days. Those of variants are when somebody asks.
	Coding    coding.Policy
	CodeAfter time.Duration
	// SourceGrace is how long the source of a coded volume is kept beside the shards;
	// then they are read once more, and it goes. 0: an hour.
	SourceGrace time.Duration
	// RepairDelay is how long a disk may be away before its shards are made again
	// elsewhere. One whose directory was emptied or taken by another disk will not
	// come back: its shards are made again at once. 0: 10 minutes.
	RepairDelay time.Duration
	// LogTimeout is how long a write of one copy of a coded volume's delete log may
	// take before it is done without that copy. 0: 1 s.
	LogTimeout time.Duration
	// ScrubEvery is the time in which everything on each disk is read from the device
	// once, verified, and repaired if it can be; the reading is spread over it. 0:
	// DefaultScrub. A negative one: only when somebody asks (ScrubNow).
	ScrubEvery time.Duration
	// UpkeepEvery is the time between two looks for such work when nothing
	// gives cause for one. 0: a minute.
	UpkeepEvery time.Duration
	// NoUpkeep leaves all such work to those who ask for it. Then no disk is taken
	// into use after Open either.
	NoUpkeep bool
	Events   func(Event)
	// WatchEvery is the time between two looks at the health of each disk. 0: a
	// second. A negative one: nobody looks, and no disk is ever taken out. The
	// times after which one is taken to hang are many looks.
	WatchEvery time.Duration
	// Neighbours are the names that others of this program have in a data directory: a
	// directory that holds nothing else is empty.
	Neighbours []string
	// DiskChanged is told when a data directory goes out of service, and why, and
	// with nil when it is in service again. Those that are in service when Open
	// returns are not told of. It is called on the server's goroutines, for one
	// directory in the order in which things happen, and must not block.
	DiskChanged func(dir string, out error)
}

// Validate lists every fault at once.
func (o Options) Validate() error {
	var errs []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("server: "+format, args...))
		}
	}
	add(len(o.Dirs) == 0, "no data directory")
	seen := make(map[string]bool)
	for _, d := range o.Dirs {
		add(d == "", "a data directory has an empty name")
		add(seen[d], "data directory %s is named twice", d)
		seen[d] = true
	}
	add(len(o.Dirs) > maxDisks, "%d data directories, at most %d", len(o.Dirs), maxDisks)
	add(o.Directory == nil, "Directory is missing")
	add(o.KeepFree < 0, "KeepFree is negative")
	add(o.MaxWriteBytes < 0, "MaxWriteBytes is negative")
	add(o.MaxReads < 0, "MaxReads is negative")
	add(o.MaxReadBytes < 0, "MaxReadBytes is negative")
	add(o.ReadTimeout < 0, "ReadTimeout is negative")
	add(o.OpenPerDisk < 0 || o.OpenPerDisk > maxOpenPerDisk, "OpenPerDisk is %d, must be 0 to %d", o.OpenPerDisk, maxOpenPerDisk)
	add(o.SealAfter < 0, "SealAfter is negative")
	add(o.Maintenance < 0, "Maintenance is negative")
	add(!(o.CompactShare >= 0 && o.CompactShare <= 1), "CompactShare is %v, must be 0 to 1", o.CompactShare)
	add(o.CompactBytes < 0, "CompactBytes is negative")
	add(o.UpkeepEvery < 0, "UpkeepEvery is negative")
	add(o.CodeAfter < 0, "CodeAfter is negative")
	add(o.SourceGrace < 0, "SourceGrace is negative")
	add(o.RepairDelay < 0, "RepairDelay is negative")
	add(o.LogTimeout < 0, "LogTimeout is negative")
	if o.Coding != (coding.Policy{}) {
		if err := o.Coding.Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	if err := (volume.Options{MaxBytes: o.VolumeBytes, AllocChunk: o.AllocChunk}).Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

const (
	maxDisks       = 1024
	maxOpenPerDisk = 64
	defaultSealAge = 30 * 24 * time.Hour
	defaultCodeAge = 90 * 24 * time.Hour
	defaultGrace   = time.Hour
	defaultRepair  = 10 * time.Minute
)

// DefaultScrub is the time of Options.ScrubEvery.
const DefaultScrub = 14 * 24 * time.Hour

// DefaultMaintenance is the rate of Options.Maintenance, in bytes per second.
const DefaultMaintenance = 64 << 20

// TrafficShare is what that rate is divided by while the disk is read or written
// by others.
const TrafficShare = 4

// CodingStripe is how many bytes of all shards a job of coding has under way at once,
// at its rate: what is larger arrives in bursts that reads beside it wait for.
const CodingStripe = 1 << 20

func (o Options) withDefaults() Options {
	if o.Space == nil {
		o.Space = spaceOf(o.FS)
	}
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.VolumeBytes == 0 {
		o.VolumeBytes = 32 << 30
	}
	if o.KeepFree == 0 {
		o.KeepFree = 256 << 20
	}
	if o.MaxWriteBytes == 0 {
		o.MaxWriteBytes = 256 << 20
	}
	if o.MaxReads == 0 {
		o.MaxReads = 128
	}
	if o.MaxReadBytes == 0 {
		o.MaxReadBytes = 256 << 20
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = 30 * time.Second
	}
	if o.DirectoryTimeout == 0 {
		o.DirectoryTimeout = 5 * time.Second
	}
	if o.OpenPerDisk == 0 {
		o.OpenPerDisk = 1
	}
	if o.SealAfter == 0 {
		o.SealAfter = defaultSealAge
	}
	if o.Maintenance == 0 {
		o.Maintenance = DefaultMaintenance
	}
	if o.CompactShare == 0 {
		o.CompactShare = 0.25
	}
	if o.CompactBytes == 0 {
		o.CompactBytes = 64 << 20
	}
	o.ScrubEvery = cmp.Or(o.ScrubEvery, DefaultScrub)
	if o.UpkeepEvery == 0 {
		o.UpkeepEvery = time.Minute
	}
	if o.WatchEvery == 0 {
		o.WatchEvery = time.Second
	}
	if o.CodeAfter == 0 {
		o.CodeAfter = defaultCodeAge
	}
	if o.SourceGrace == 0 {
		o.SourceGrace = defaultGrace
	}
	if o.RepairDelay == 0 {
		o.RepairDelay = defaultRepair
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.DiskChanged == nil {
		o.DiskChanged = func(string, error) {}
	}
	return o
}

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
)

// Event is something an operator should know.
type Event struct {
	Kind   EventKind
	Dir    string // data directory
	Volume volume.ID
	File   string // with EventUnknownFile and those of the scrub: below Dir
	Work   string // with EventUpkeepFailed: what VolumeInfo.Work says
	Err    error
	Reason Reason       // of a change of a disk's health; with EventDiskBack what it was out for
	Engine volume.Event // with EventVolume
	Scrub  ScrubFinding // with the events of the scrub
}
