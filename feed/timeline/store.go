package timeline

import (
	"errors"
	"fmt"
	"io/fs"
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

// Names in Options.Dir. The marker is written before the instance, so that
// only a directory that was made by this package is ever wiped.
const (
	markerName   = "hayloft-timeline"
	instanceName = "db"
	discardName  = "db.discarded"
)

// Store holds the timelines. See the package comment for threads.
type Store struct {
	o       Options
	dir     string // of the instance
	merger  *pebble.Merger
	cache   *pebble.Cache
	corrupt atomic.Pointer[error] // what Pebble found, until the writer has wiped

	// dbMu guards db against being replaced or closed: pages hold it for
	// reading while they use db. The writer, who alone replaces it, needs no
	// lock to read it.
	dbMu sync.RWMutex
	db   *pebble.DB // nil: closed

	// readersMu guards readers for those who are not the writer. Only the
	// writer changes it, and needs no lock to read it.
	readersMu sync.RWMutex
	readers   map[id.ID]seconds // those with a built timeline → last seen

	requests requests
	counters counters
	running  atomic.Bool
	w        *writer // owned by Run
}

// Open opens the instance in o.Dir, or makes an empty one. An instance that is
// damaged or of another format is wiped: nothing in it is a first copy.
func Open(o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s := &Store{o: o, dir: o.FS.PathJoin(o.Dir, instanceName), merger: newMerger(o.Cap)}
	s.requests.init(o.tune.requests)
	if err := s.mark(); err != nil {
		return nil, fmt.Errorf("timeline: mark %s: %w", o.Dir, err)
	}
	s.cache = pebble.NewCache(o.CacheBytes)
	err := s.openInstance()
	if err == nil {
		err = s.load()
	}
	if damaged(err) {
		err = s.wipe(err)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("timeline: open %s: %w", o.Dir, err), s.Close())
	}
	return s, nil
}

// mark makes the directory with its marker and finishes an interrupted wipe.
func (s *Store) mark() error {
	fsys, dir := s.o.FS, s.o.Dir
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

// openInstance opens Pebble and checks the format row.
func (s *Store) openInstance() error {
	db, err := pebble.Open(s.dir, s.pebbleOptions())
	if err != nil {
		return err
	}
	s.db = db
	format, ok, err := getU64(db, key1(keyFormat))
	if err != nil {
		return err
	}
	if !ok { // new, or lost before its first flush, in which case it is empty
		return db.Set(key1(keyFormat), encodeU64(formatVersion), pebble.NoSync)
	}
	if format != formatVersion {
		return fmt.Errorf("%w: %d", errFormat, format)
	}
	return nil
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

// wipe replaces the instance by an empty one. Nobody else may use the Store,
// or the writer holds dbMu.
func (s *Store) wipe(why error) error {
	if s.db != nil {
		// An instance that is thrown away may fail to close.
		_ = s.db.Close()
		s.db = nil
	}
	fsys := s.o.FS
	discard := fsys.PathJoin(s.o.Dir, discardName)
	if err := fsys.RemoveAll(discard); err != nil {
		return err
	}
	if err := fsys.Rename(s.dir, discard); err != nil {
		return err
	}
	if err := fsys.RemoveAll(discard); err != nil {
		return err
	}
	if err := s.openInstance(); err != nil {
		return err
	}
	s.corrupt.Store(nil)
	s.counters.wipes.Add(1)
	s.o.Notify(Notice{Kind: Wiped, Err: why})
	return s.load()
}

// load reads into memory what the writer needs: the cursor, the fan-outs under
// way and who has a timeline.
func (s *Store) load() error {
	w := &writer{s: s, db: s.db}
	var err error
	if w.state, w.started, err = readState(s.db); err != nil {
		return err
	}
	w.publish()
	s.counters.durable.Store(w.cursor)
	s.w = w
	readers, err := readReaders(s.db)
	if err != nil {
		return err
	}
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
	if s.db != nil {
		errs = append(errs, s.db.Flush(), s.db.Close())
		s.db = nil
	}
	if s.cache != nil {
		s.cache.Unref()
		s.cache = nil
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("timeline: close: %w", err)
	}
	return nil
}

// DurableCursor is the sequence number of an event: it and all before it will
// never be asked for again, not even after a crash.
func (s *Store) DurableCursor() uint64 { return s.counters.durable.Load() }
