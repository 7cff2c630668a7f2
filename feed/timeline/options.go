package timeline

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/clock"
)

// Options are what Open needs. The zero value works but for Dirs and Source.
type Options struct {
	Dirs   []string // one of them holds the timelines; in order of preference, each on a disk of its own
	Source Source
	Clock  clock.Clock // default: the machine's
	FS     vfs.FS      // default: the machine's; tests crash it

	Cap          int           // entries kept per reader; default 500
	ActiveWindow time.Duration // a reader not seen for longer receives no pushes; default 30 days
	MaxFollowees int           // a reader with more pulls everything; default 2,000
	Segment      int           // entries that a page below the floor merges for those after it too; default 500
	CacheBytes   int64         // of blocks held in memory; default 64 MiB
	MemoryBytes  int64         // of writes held in memory before they go to disk; default 64 MiB

	// Notify is called for what an operator should know. It must not block and
	// may be called by several goroutines at once. May be nil.
	Notify func(Notice)

	tune tuning
}

// tuning are the bounds on one step of work. Tests make them small.
type tuning struct {
	chunk       int           // deliveries in one batch
	events      int           // events read at once
	openFanouts int           // fan-outs under way at once
	requests    int           // readers waiting to be built, touched or dropped
	pending     int           // events beyond the cursor that a page merges
	examine     int           // posts that a page looks at
	fetch       int           // posts read at once from one author
	known       int           // posts that pages have looked up and that are remembered
	pullers     int           // authors of whom is known whether they have pull posts
	segments    int           // readers whose deep pages are kept
	changes     int           // changes to segments that are remembered
	flushEvery  time.Duration // after the first write that is not durable
	flushCount  int           // deliveries that are not durable
}

// Tighten draws small bounds for each step of work, so that short histories meet what
// otherwise only long ones do. It is for tests; draw(n) is a number below n.
func (o *Options) Tighten(draw func(n int) int) {
	o.tune = tuning{
		chunk: 1 + draw(3), events: 1 + draw(4), openFanouts: 1 + draw(3), requests: 1 + draw(4),
		pending: 1 + draw(8), examine: 2 + draw(8), fetch: 1 + draw(4), known: 1 + draw(8), pullers: 1 + draw(8),
		segments: 1 + draw(4), changes: 1 + draw(12), flushEvery: time.Hour, flushCount: 1 + draw(20),
	}
}

// NoticeKind says what a Notice is about.
type NoticeKind uint8

// The kinds of notices.
const (
	// Wiped: the instance was useless (Err says why) and starts empty; readers'
	// timelines are built again as they come.
	Wiped NoticeKind = iota + 1
	// StorageFailed: Pebble reports a failed background write, which it tries
	// again.
	StorageFailed
	// ReadFailed: a page could not read its timeline and pulled everything.
	ReadFailed
	// Homeless: no directory is left for timelines (Err says why), and every page
	// is pulled whole.
	Homeless
)

// Notice tells an operator what happened.
type Notice struct {
	Kind NoticeKind
	Err  error
}

// Validate reports every fault of o.
func (o Options) Validate() error {
	var errs []error
	if len(o.Dirs) == 0 || slices.Contains(o.Dirs, "") {
		errs = append(errs, errors.New("no Dirs"))
	}
	if o.Source == nil {
		errs = append(errs, errors.New("no Source"))
	}
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"Cap", int64(o.Cap)}, {"ActiveWindow", int64(o.ActiveWindow)}, {"MaxFollowees", int64(o.MaxFollowees)},
		{"Segment", int64(o.Segment)}, {"CacheBytes", o.CacheBytes}, {"MemoryBytes", o.MemoryBytes},
	} {
		if v.value < 0 {
			errs = append(errs, fmt.Errorf("negative %s", v.name))
		}
	}
	if o.Cap > maxCap {
		errs = append(errs, fmt.Errorf("a Cap above %d", maxCap))
	}
	if o.Segment > maxCap {
		errs = append(errs, fmt.Errorf("a Segment above %d", maxCap))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("timeline options: %w", err)
	}
	return nil
}

// maxCap bounds the value that a merge rewrites, and what a segment holds.
const maxCap = 100_000

func orElse[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Notify == nil {
		o.Notify = func(Notice) {}
	}
	orElse(&o.Cap, 500)
	orElse(&o.ActiveWindow, 30*24*time.Hour)
	orElse(&o.MaxFollowees, 2000)
	orElse(&o.Segment, 500)
	orElse(&o.CacheBytes, 64<<20)
	orElse(&o.MemoryBytes, 64<<20)
	t := &o.tune
	orElse(&t.chunk, 4096)
	orElse(&t.events, 256)
	orElse(&t.openFanouts, 32)
	orElse(&t.requests, 65536)
	orElse(&t.pending, 2048)
	orElse(&t.examine, 2048)
	orElse(&t.fetch, 16)
	orElse(&t.known, 1<<17)
	orElse(&t.pullers, 1<<20)
	orElse(&t.segments, 2048)
	orElse(&t.changes, 1<<16)
	orElse(&t.flushEvery, 30*time.Second)
	orElse(&t.flushCount, 1<<20)
	return o
}
