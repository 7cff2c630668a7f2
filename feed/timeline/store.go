package timeline

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/id"
)

// ErrClosed is returned by a Store that was closed.
var ErrClosed = errors.New("timeline: closed")

// Why an instance is wiped.
var (
	errStale  = errors.New("the instance does not follow from the source")
	errFormat = errors.New("another format version")
)

// Names in each of Options.Dirs. The marker is written before the instance, so that
// only a directory that was made by this package is ever wiped.
const (
	markerName   = "hayloft-timeline"
	instanceName = "db"
	discardName  = "db.discarded"
)

// Store holds the timelines. See the package comment for threads.
type Store struct {
	o       Options
	places  places
	merger  *pebble.Merger
	cache   *pebble.Cache
	corrupt atomic.Pointer[error] // what Pebble found, until the writer has wiped

	// dbMu guards db against being replaced or closed: pages hold it for
	// reading while they use db. The writer, who alone replaces it, needs no
	// lock to read it.
	dbMu   sync.RWMutex
	in     *instance // nil: closed, or no directory is left
	closed bool

	// readersMu guards readers for those who are not the writer. Only the
	// writer changes it, and needs no lock to read it.
	readersMu sync.RWMutex
	readers   map[id.ID]seconds // those with a built timeline → last seen

	requests requests
	known    known
	pullers  pullers
	segments segments
	counters counters
	running  atomic.Bool
	w        *writer // owned by Run
}

// Open opens the instance in the first of o.Dirs that has one, or makes an empty
// one in the first that can be used. An instance that is damaged or of another
// format is wiped: nothing in it is a first copy.
func Open(o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s := &Store{o: o, merger: newMerger(o.Cap), readers: map[id.ID]seconds{}}
	s.w = &writer{s: s}
	s.places.init(o.FS, o.Dirs)
	s.requests.init(o.tune.requests)
	s.known.init(o.tune.known)
	s.pullers.init(o.tune.pullers)
	s.segments.init(o.tune.segments, o.tune.changes)
	s.cache = pebble.NewCache(o.CacheBytes)
	if err := s.openFirst(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openFirst opens the instance that is there, and removes those of other
// directories, which were current once.
func (s *Store) openFirst() error {
	all := s.places.list()
	has := func(p *place) bool {
		_, err := p.fs.Stat(p.fs.PathJoin(p.dir, instanceName))
		return err == nil
	}
	slices.SortStableFunc(all, func(a, b *place) int {
		switch {
		case has(a) == has(b):
			return 0
		case has(a):
			return -1
		}
		return 1
	})
	var errs []error
	for i, p := range all {
		err := s.openIn(p)
		if err != nil {
			err = fmt.Errorf("timeline: open %s: %w", p.dir, err)
			s.places.lose(p, err)
			errs = append(errs, err)
			continue
		}
		for _, other := range all[i+1:] {
			if has(other) && s.mark(other) == nil {
				_ = other.fs.RemoveAll(other.fs.PathJoin(other.dir, instanceName)) // it costs room, no more
			}
		}
		return nil
	}
	return errors.Join(errs...)
}

// openIn opens the instance in p, an empty one when there is none or it is of no
// use.
func (s *Store) openIn(p *place) error {
	if err := s.mark(p); err != nil {
		return err
	}
	in, err := s.openInstance(p)
	if err == nil {
		err = s.load(in)
	}
	if damaged(err) {
		if in != nil {
			_ = in.close() // one that is thrown away may fail to close
		}
		return s.renew(p, err)
	}
	if err != nil && in != nil {
		err = errors.Join(err, in.close())
	}
	return err
}

// mark makes the directory with its marker and finishes an interrupted wipe.
func (s *Store) mark(p *place) error {
	fsys, dir := p.fs, p.dir
	marker := fsys.PathJoin(dir, markerName)
	if _, err := fsys.Stat(marker); err == nil {
		return fsys.RemoveAll(fsys.PathJoin(dir, discardName))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(fsys, dir); err != nil {
		return err
	}
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("directory holds %q but no %s", names[0], markerName)
	}
	f, err := fsys.Create(marker, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(fsys, dir)
}

// makeDir makes dir and what is missing above it, all of it durable.
func makeDir(fsys vfs.FS, dir string) error {
	if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := fsys.PathDir(dir)
	if parent != dir && parent != "." {
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fsys, parent)
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openInstance opens Pebble and checks the format row. With an error an instance
// may be returned that is to be closed.
func (s *Store) openInstance(p *place) (*instance, error) {
	in := &instance{place: p, clock: s.o.Clock, closing: make(chan struct{})}
	err := in.guard(func() (err error) {
		in.db, err = pebble.Open(p.fs.PathJoin(p.dir, instanceName), s.pebbleOptions(in))
		return err
	})
	if err != nil {
		return nil, err
	}
	format, ok, err := getU64(in.db, key1(keyFormat))
	if err != nil {
		return in, err
	}
	if !ok { // new, or lost before its first flush, in which case it is empty
		return in, in.guard(func() error { return in.db.Set(key1(keyFormat), encodeU64(formatVersion), pebble.NoSync) })
	}
	if format != formatVersion {
		return in, fmt.Errorf("%w: %d", errFormat, format)
	}
	return in, nil
}

// damaged reports whether err says that the instance itself is useless, as
// against that it cannot be reached.
func damaged(err error) bool {
	var source *sourceError
	if errors.As(err, &source) {
		return false
	}
	return errors.Is(err, errFormat) || errors.Is(err, errStale) || errors.Is(err, errCorrupt) ||
		pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist)
}

// wipe replaces the instance by an empty one, in the same directory if that can be
// used. Without any directory there is none for now. Nobody else may use the
// Store, or the writer holds dbMu.
func (s *Store) wipe(why error) {
	old := s.in
	s.in = nil
	if old != nil {
		if lost := old.lost(); lost != nil {
			s.places.lose(old.place, lost)
		}
		_ = old.close() // an instance that is thrown away may fail to close
	}
	order := s.places.list()
	if old != nil {
		if i := slices.Index(order, old.place); i > 0 {
			order = slices.Insert(slices.Delete(order, i, i+1), 0, old.place)
		}
	}
	for _, p := range order {
		err := s.mark(p)
		if err == nil {
			err = s.renew(p, why)
		}
		if err == nil {
			return
		}
		why = err
		s.places.lose(p, err)
	}
	s.readersMu.Lock()
	s.readers = map[id.ID]seconds{}
	s.readersMu.Unlock()
	s.corrupt.Store(nil)
	s.o.Notify(Notice{Kind: Homeless, Err: why})
}

// renew makes an empty instance in p; the one before is closed.
func (s *Store) renew(p *place, why error) error {
	fsys := p.fs
	dir, discard := fsys.PathJoin(p.dir, instanceName), fsys.PathJoin(p.dir, discardName)
	if err := fsys.RemoveAll(discard); err != nil {
		return err
	}
	if err := fsys.Rename(dir, discard); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.RemoveAll(discard); err != nil {
		return err
	}
	in, err := s.openInstance(p)
	if err == nil {
		err = s.load(in)
	}
	if err != nil {
		if in != nil {
			err = errors.Join(err, in.close())
		}
		return err
	}
	s.corrupt.Store(nil)
	s.counters.wipes.Add(1)
	s.o.Notify(Notice{Kind: Wiped, Err: why})
	return nil
}

// load makes in the instance, and reads into memory what the writer needs: the
// cursor, the fan-outs under way and who has a timeline.
func (s *Store) load(in *instance) error {
	w := &writer{s: s, in: in, db: in.db}
	var err error
	if w.state, w.started, err = readState(in.db); err != nil {
		return err
	}
	readers, err := readReaders(in.db)
	if err != nil {
		return err
	}
	w.publish()
	s.counters.durable.Store(w.cursor)
	s.w, s.in = w, in
	s.known.reset()
	s.pullers.reset()
	s.segments.reset(w.cursor)
	s.readersMu.Lock()
	s.readers = readers
	s.readersMu.Unlock()
	return nil
}

// Close makes everything durable and closes the instance. Run must have
// returned; pages in progress are waited for.
func (s *Store) Close() error {
	s.dbMu.Lock()
	defer s.dbMu.Unlock()
	var errs []error
	if in := s.in; in != nil {
		if in.lost() == nil {
			errs = append(errs, in.guard(in.db.Flush))
		}
		errs = append(errs, in.close())
	}
	s.in, s.closed = nil, true
	if s.cache != nil {
		s.cache.Unref()
		s.cache = nil
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("timeline: close: %w", err)
	}
	return nil
}

// Cursor is the number of the last event that was processed, or is a fan-out under
// way.
func (s *Store) Cursor() uint64 { return s.counters.cursor.Load() }

// DurableCursor is the sequence number of an event: it and all before it will
// never be asked for again, not even after a crash.
func (s *Store) DurableCursor() uint64 { return s.counters.durable.Load() }
