package server

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// Options configure a Server. Dirs and Directory must be given; the zero value
// of the rest works.
type Options struct {
	Dirs      []string // data directories, one for each disk; none only with Peers
	Directory Directory
	Node      string // name of this node, for others; may be empty without Peers
	// Peers are the disks of all nodes. nil: there is no disk but one in this process, or
	// nobody ever has a volume on several, or empties one.
	Peers Peers
	// Replicas is how many each new volume should have. It has fewer, and two at
	// least, while there are fewer failure domains. 0: 1.
	Replicas int
	// MaxStale is how old what this node knows of the directory may be for its replicas
	// to answer; Heard says how old it is, and false before the first word since the
	// start. MaxStale 0: 5 minutes; Heard nil: always fresh.
	MaxStale time.Duration
	Heard    func() (age time.Duration, ok bool)

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
	add(len(o.Dirs) == 0 && o.Peers == nil, "no data directory")
	add(o.Replicas < 0 || o.Replicas > MaxReplicas, "Replicas is %d, must be 0 to %d", o.Replicas, MaxReplicas)
	add(o.Replicas > 1 && o.Peers == nil, "Replicas is %d, and there are no other nodes", o.Replicas)
	add(o.MaxStale < 0, "MaxStale is negative")
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

// MaxReplicas is how many a volume may have.
const MaxReplicas = 8

const (
	maxDisks       = 1024
	maxOpenPerDisk = 64
	defaultSealAge = 30 * 24 * time.Hour
	defaultCodeAge = 90 * 24 * time.Hour
	defaultGrace   = time.Hour
	defaultRepair  = 10 * time.Minute

	defaultMaxStale = 5 * time.Minute
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
	o.Replicas = cmp.Or(o.Replicas, 1)
	o.MaxStale = cmp.Or(o.MaxStale, defaultMaxStale)
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
	o.CodeAfter = cmp.Or(o.CodeAfter, defaultCodeAge)
	o.SourceGrace = cmp.Or(o.SourceGrace, defaultGrace)
	o.RepairDelay = cmp.Or(o.RepairDelay, defaultRepair)
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.DiskChanged == nil {
		o.DiskChanged = func(string, error) {}
	}
	return o
}
