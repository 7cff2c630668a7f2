package ssd

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/vfs"
)

// Options configure a Tier. Dir and Size must be given; the zero value of
// everything else works.
type Options struct {
	Dir  string // of the file; made if it is not there
	Size int64  // bytes that the file may take; at least 256 KiB

	// Except are variants that are not kept.
	Except []string

	// Rate bounds what is written, in bytes a second, over seconds: it is what a
	// device can bear for years. Default 16 MiB.
	Rate int64
	// QueueBytes bounds, in bytes of memory, what waits to be written; beyond,
	// what is offered is refused. Default 8 MiB.
	QueueBytes int64
	// ReadTimeout is how long a read may take before it is a miss. Default 100 ms.
	ReadTimeout time.Duration
	MaxReads    int // reads under way at once; beyond: a miss. Default 64

	FS    vfs.FS      // nil: vfs.OS
	Clock clock.Clock // nil: clock.Real

	// Events is called without locks held, by the tier's goroutine or a reader's,
	// and must not block. May be nil.
	Events func(Event)

	regionBytes int  // for tests; 0 chooses
	everything  bool // for tests: what comes first is let in too
}

const minSize = 256 << 10

// Validate lists every fault at once.
func (o Options) Validate() error {
	var errs []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("ssd: "+format, args...))
		}
	}
	add(o.Dir == "", "Dir is missing")
	add(o.Size < minSize, "Size of %d bytes is below %d", o.Size, minSize)
	add(o.Rate < 0, "Rate is negative")
	add(o.QueueBytes < 0, "QueueBytes is negative")
	add(o.ReadTimeout < 0, "ReadTimeout is negative")
	add(o.MaxReads < 0, "MaxReads is negative")
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	o.Rate = cmp.Or(o.Rate, 16<<20)
	o.QueueBytes = cmp.Or(o.QueueBytes, 8<<20)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 100*time.Millisecond)
	o.MaxReads = cmp.Or(o.MaxReads, 64)
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.regionBytes == 0 {
		// 64 regions, so that little is given up at once.
		for o.regionBytes = minRegion; o.regionBytes < maxRegion && int64(o.regionBytes)*64 < o.Size; o.regionBytes *= 2 {
		}
	}
	return o
}

// meanBytes is how large an object is taken to be when tables are sized: below
// the mean of photos' variants (33 KB and more). More objects than Size holds of
// a quarter of it are not indexed, which bounds the memory.
const meanBytes = 16 << 10

func (o Options) indexLimit() int64 { return max(1024, o.Size/(meanBytes/4)) }
func (o Options) generation() int   { return int(max(1024, o.Size/meanBytes)) }

// EventKind is what an Event tells.
type EventKind uint8

// The events.
const (
	Ready   EventKind = iota + 1 // the device is in use; Objects were found on it
	Failed                       // it is not, because of Err; it is looked at again later
	Corrupt                      // a record was not what was written; it is dropped
)

// Event is something an operator may want to know.
type Event struct {
	Kind    EventKind
	Objects int64
	Err     error
}

// Stats are counters since Open, and gauges where noted.
type Stats struct {
	Hits     uint64 // read and verified
	Misses   uint64 // not there, or not to be had
	Timeouts uint64 // of the misses: the device took too long, or too many reads are under way
	Corrupt  uint64 // of the misses: the record was not what was written
	Errors   uint64 // calls of the file system that failed

	Offered  uint64
	Admitted uint64 // taken for writing
	Known    uint64 // offered and there already
	First    uint64 // refused: offered for the first time
	Refused  uint64 // refused: too large, too many waiting, no device, index full
	Written  uint64 // bytes, administration included
	Purged   uint64 // objects that purges dropped

	Up         bool  // gauge: the device is in use
	Objects    int64 // gauge
	IndexBytes int64 // gauge: memory of the index
	FileBytes  int64 // gauge: what the file takes
}
