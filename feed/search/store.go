package search

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/feed/derived"
	"hayloft/internal/clock"
)

// ErrBuilding is returned while the index has not yet seen all that there is.
var ErrBuilding = errors.New("search: the index is being built")

// ErrHomeless is returned while there is no directory for the index.
var ErrHomeless = derived.ErrHomeless

// Options are what Open needs. The zero value works but for Dirs and Source.
type Options struct {
	Dirs   []string // one of them holds the index; in order of preference, each on a disk of its own
	Source Source
	Clock  clock.Clock // default: the machine's
	FS     vfs.FS      // default: the machine's; tests crash it

	CacheBytes  int64 // of blocks held in memory; default 32 MiB
	MemoryBytes int64 // of writes held in memory before they go to disk; default 16 MiB

	// Notify is called for what an operator should know. It must not block and may be
	// called by several goroutines at once. May be nil.
	Notify func(derived.Notice)

	tune tuning
}

// tuning are the bounds on one step of work. Tests make them small.
type tuning struct {
	changes int // in one batch
	pending int // beyond the cursor that a query joins
	examine int // rows that one call of an Index looks at
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	orElse(&o.CacheBytes, 32<<20)
	orElse(&o.MemoryBytes, 16<<20)
	orElse(&o.tune.changes, 512)
	orElse(&o.tune.pending, 2048)
	orElse(&o.tune.examine, 2048)
	return o
}

func orElse[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Store is the index. See the package comment for threads.
type Store struct {
	o     Options
	home  *derived.Home
	cache *pebble.Cache
	poked chan struct{} // holds one when there may be something to do
	state state         // as committed; Run's

	running  atomic.Bool
	counters counters

	askMu sync.Mutex      // guards asked
	asked []chan struct{} // who waits for a rebuild that has not begun
	under []chan struct{} // who waits for the one that is under way; Run's
}

type counters struct{ cursor, processed, rebuilds, wipes atomic.Uint64 }

// Stats is the state of a Store since it was opened.
type Stats struct {
	Cursor    uint64 // the last change processed
	Processed uint64 // changes
	Rebuilds  uint64 // asked for and done
	Wipes     uint64 // times that the index was thrown away
	DiskBytes uint64
}

// Open opens the index, an empty one if what is there is of no use.
func Open(o Options) (*Store, error) {
	if len(o.Dirs) == 0 || o.Source == nil {
		return nil, errors.New("search: Dirs or Source is missing")
	}
	s := &Store{o: o.withDefaults(), poked: make(chan struct{}, 1)}
	s.cache = pebble.NewCache(s.o.CacheBytes)
	home, err := derived.Open(derived.Options{
		Name: "hayloft-search", Dirs: o.Dirs, FS: o.FS, Clock: s.o.Clock, Pebble: s.pebbleOptions, Check: check,
		Poke: s.poke, Notify: s.notice,
	})
	if err == nil {
		s.home = home
		err = s.load()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("search: %w", err), s.Close())
	}
	return s, nil
}

func (s *Store) pebbleOptions(o *pebble.Options) {
	o.Cache = s.cache
	o.MemTableSize = uint64(s.o.MemoryBytes)
	o.MemTableStopWritesThreshold = 3
	o.CompactionConcurrencyRange = func() (int, int) { return 1, 1 } // reads and uploads go first
}

func (s *Store) notice(n derived.Notice) {
	if n.Kind == derived.Wiped {
		s.counters.wipes.Add(1)
	}
	if s.o.Notify != nil {
		s.o.Notify(n)
	}
}

// check makes a new instance one of this format, and refuses others.
func check(db *pebble.DB) error {
	b, closer, err := db.Get(keyFormat)
	if errors.Is(err, pebble.ErrNotFound) {
		return errors.Join(db.Set(keyFormat, []byte{formatVersion}, pebble.NoSync), db.Set(keyState, state{gen: 1}.encode(), pebble.NoSync))
	}
	if err != nil {
		return err
	}
	version := fmt.Sprintf("%x", b)
	if err := closer.Close(); err != nil {
		return err
	}
	if version != fmt.Sprintf("%02x", formatVersion) {
		return fmt.Errorf("search: format %s", version)
	}
	_, err = readState(db)
	return err
}

func readState(r pebble.Reader) (st state, err error) {
	b, closer, err := r.Get(keyState)
	if err != nil {
		return st, err
	}
	st, err = decodeState(b)
	return st, errors.Join(err, closer.Close())
}

// load reads the state of the instance that there is.
func (s *Store) load() error {
	var st state
	err := s.home.View(func(db *pebble.DB) (err error) {
		st, err = readState(db)
		return err
	})
	if errors.Is(err, ErrHomeless) {
		st, err = state{gen: 1}, nil
	}
	if err == nil {
		s.state = st
		s.counters.cursor.Store(st.cursor)
	}
	return err
}

func (s *Store) poke() {
	select {
	case s.poked <- struct{}{}:
	default: // it has been told
	}
}

// Rebuild derives the index anew, beside the one that goes on answering, and returns
// when the new one has taken its place.
func (s *Store) Rebuild(ctx context.Context) error {
	done := make(chan struct{})
	s.askMu.Lock()
	s.asked = append(s.asked, done)
	s.askMu.Unlock()
	s.poke()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats returns the present numbers.
func (s *Store) Stats() Stats {
	c := &s.counters
	return Stats{
		Cursor: c.cursor.Load(), Processed: c.processed.Load(), Rebuilds: c.rebuilds.Load(), Wipes: c.wipes.Load(),
		DiskBytes: s.home.DiskBytes(),
	}
}

// Lost tells that the disk of one of Options.Dirs is gone. The index begins anew in
// another.
func (s *Store) Lost(dir string, why error) { s.home.Take(dir, why) }

// Usable tells that one of Options.Dirs may be used again.
func (s *Store) Usable(dir string) { s.home.Give(dir) }

// Close makes everything durable and closes the index. Run must have returned.
func (s *Store) Close() error {
	var err error
	if s.home != nil {
		err = s.home.Close()
	}
	s.cache.Unref()
	return err
}
