package disk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/volume/server"
)

// Options of Run. The zero value but for Dirs and Writer works.
type Options struct {
	// Dirs are the directories to measure, one per disk. The whole table is
	// made on the first; with several, the reads and writes of 64 KiB run on
	// all at once besides.
	Dirs []string
	// Quick takes less of everything: a first look, within a minute.
	Quick bool
	// Full adds the restart with ten million needles (3.5 GB).
	Full bool
	// Rounds is how often each side is measured; 0 means 5, quick 3.
	Rounds int
	// Slice is how long one side is measured in one round; 0 means 1 s, quick
	// 250 ms.
	Slice time.Duration
	// Bytes is the size of the volumes that are read; 0 means 1.5 GiB, quick
	// 400 MiB. It must be more than the disk delivers in a slice, or slices
	// end early.
	Bytes int64
	// Needles is how many the restart is measured with in place of one
	// million; 0 means 1,000,000, quick 100,000. The names of the results
	// follow it.
	Needles int
	// ReadCount is over how many cold needles the engine's read calls are
	// counted; 0 means 10,000, quick 2,000.
	ReadCount int
	// Sealed is how many needles the sealed index is measured with; 0 means
	// 200,000, quick 40,000.
	Sealed int
	// Maintenance is the budget of the compaction beside which reads are
	// measured, in bytes per second read and written; 0 means a server's
	// default. As a server does, it takes a share of that beside the reads.
	Maintenance int64
	// Writer is the command of the process that is killed before a restart. Run
	// adds --dir DIR --from N --size N; it must call Writer.
	Writer []string
	// Fio runs fio with arguments and returns what it prints; nil when fio is
	// not installed.
	Fio func(ctx context.Context, args ...string) ([]byte, error)
	// Progress is told what is being measured; nil tells nobody. It is called
	// from one goroutine.
	Progress func(string)
}

// Validate reports everything that is wrong with the options at once.
func (o Options) Validate() error {
	var errs []error
	if len(o.Dirs) == 0 {
		errs = append(errs, errors.New("no directory is given"))
	}
	if len(o.Writer) == 0 {
		errs = append(errs, errors.New("the command of the writer is not given"))
	}
	if o.Rounds < 0 || o.Slice < 0 || o.Bytes < 0 || o.Needles < 0 || o.ReadCount < 0 || o.Sealed < 0 || o.Maintenance < 0 {
		errs = append(errs, errors.New("counts, sizes and times must not be negative"))
	}
	if o.Bytes > 0 && o.Bytes < minBytes {
		errs = append(errs, fmt.Errorf("the volumes must hold at least %d bytes", int64(minBytes)))
	}
	return errors.Join(errs...)
}

// minBytes leaves a few dozen needles of the largest size to choose from.
const minBytes = 4 << 20

func (o Options) withDefaults() Options {
	quick := func(full, quick int64) int64 {
		if o.Quick {
			return quick
		}
		return full
	}
	if o.Rounds == 0 {
		o.Rounds = int(quick(5, 3))
	}
	if o.Slice == 0 {
		o.Slice = time.Duration(quick(int64(time.Second), int64(250*time.Millisecond)))
	}
	if o.Bytes == 0 {
		o.Bytes = quick(1536<<20, 400<<20)
	}
	if o.Needles == 0 {
		o.Needles = int(quick(1_000_000, 100_000))
	}
	if o.ReadCount == 0 {
		o.ReadCount = int(quick(10_000, 2_000))
	}
	if o.Sealed == 0 {
		o.Sealed = int(quick(200_000, 40_000))
	}
	if o.Maintenance == 0 {
		o.Maintenance = server.DefaultMaintenance
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}
