package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// appliedKey holds the index of the last applied entry: a version byte and the
// index, big-endian. It is written in the batch of that entry's effects.
var appliedKey = []byte("\x00applied")

const appliedVersion = 1

func appliedValue(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{appliedVersion}, index)
}

// readApplied returns the applied index of a state, zero for a new one.
func readApplied(r pebble.Reader) (uint64, error) {
	v, closer, err := r.Get(appliedKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	if len(v) != 9 {
		return 0, fmt.Errorf("%w: applied index of %d bytes", ErrCorrupt, len(v))
	}
	if v[0] != appliedVersion {
		return 0, fmt.Errorf("%w: applied index version %d", ErrUnsupported, v[0])
	}
	return binary.BigEndian.Uint64(v[1:]), nil
}

// instance is one open Pebble directory. Readers hold references, so that a
// restore can put another in its place and close it when the last one is gone.
type instance struct {
	db     *pebble.DB
	dir    string
	refs   int  // guarded by states.mu; the current instance holds one itself
	remove bool // the directory goes with the last reference
	broken bool // Pebble met a fatal error: its locks may be held, so it is left open
}

// states keeps the current instance.
type states struct {
	fs     vfs.FS
	emit   func(Event)
	fatal  func(error)
	tune   func(*pebble.Options)
	parent string

	mu   sync.Mutex // guards cur, seq and each instance's refs, remove, broken
	idle *sync.Cond // signalled when an instance is let go
	cur  *instance
	seq  uint64 // number of the current directory
	open int    // instances not yet let go
}

func newStates(o Options, fatal func(error), emit func(Event)) *states {
	s := &states{fs: o.FS, emit: emit, fatal: fatal, tune: o.Tune, parent: o.Dir}
	s.idle = sync.NewCond(&s.mu)
	return s
}

const (
	statePrefix = "state-"
	tmpSuffix   = ".tmp"
)

func (s *states) dirOf(seq uint64) string {
	return s.fs.PathJoin(s.parent, fmt.Sprintf("%s%06d", statePrefix, seq))
}

// find returns the numbers of the complete state directories and removes
// unfinished ones: a ".tmp" was never made current, so it is redundant.
func (s *states) find() ([]uint64, error) {
	names, err := s.fs.List(s.parent)
	if err != nil {
		return nil, err
	}
	var found []uint64
	for _, name := range names {
		num, ok := strings.CutPrefix(name, statePrefix)
		if !ok {
			continue
		}
		if strings.HasSuffix(num, tmpSuffix) {
			if err := s.fs.RemoveAll(s.fs.PathJoin(s.parent, name)); err != nil {
				return nil, err
			}
			continue
		}
		if seq, err := strconv.ParseUint(num, 10, 64); err == nil {
			found = append(found, seq)
		}
	}
	return found, nil
}

// openDir opens a state directory.
func (s *states) openDir(dir string, mustExist bool) (*instance, error) {
	in := &instance{dir: dir, refs: 1}
	opts := &pebble.Options{
		FS:                 s.fs,
		FormatMajorVersion: pebble.FormatValueSeparation,
		ErrorIfNotExists:   mustExist,
		Logger: pebbleLogger{emit: s.emit, fatal: func(err error) {
			s.mu.Lock()
			in.broken = true
			s.mu.Unlock()
			s.fatal(err)
		}},
	}
	if s.tune != nil {
		s.tune(opts)
	}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, err
	}
	in.db = db
	return in, nil
}

// install makes in, whose directory has number seq, the current instance. The
// former one and its directory go when their last reader does.
func (s *states) install(in *instance, seq uint64) {
	s.mu.Lock()
	old := s.cur
	s.cur, s.seq = in, seq
	s.open++
	s.mu.Unlock()
	if old != nil {
		s.mu.Lock()
		old.remove = true
		s.mu.Unlock()
		s.release(old)
	}
}

// acquire returns the current instance with a reference.
func (s *states) acquire() (*instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return nil, ErrStopped
	}
	s.cur.refs++
	return s.cur, nil
}

// release gives a reference back and closes the instance with the last one.
func (s *states) release(in *instance) {
	s.mu.Lock()
	in.refs--
	last, broken := in.refs == 0, in.broken
	s.mu.Unlock()
	if !last {
		return
	}
	if !broken {
		if err := in.db.Close(); err != nil {
			s.emit(Event{Kind: EventLog, Level: Error, Text: "close state: " + err.Error(), Err: err})
		}
	}
	if in.remove {
		if err := s.fs.RemoveAll(in.dir); err != nil {
			s.emit(Event{Kind: EventLog, Level: Error, Text: "remove old state: " + err.Error(), Err: err})
		}
	}
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	s.idle.Broadcast()
}

// close lets go of the current instance and waits for the readers of all.
func (s *states) close() {
	s.mu.Lock()
	cur := s.cur
	s.cur = nil
	s.mu.Unlock()
	if cur != nil {
		s.release(cur)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.open > 0 {
		s.idle.Wait()
	}
}

// Snapshot is a consistent view of the state. It outlives a restore; it must be
// closed before Group.Close can return.
type Snapshot struct {
	*pebble.Snapshot
	in *instance
	st *states
}

// Close gives the view back. It must be called once.
func (s *Snapshot) Close() error {
	err := s.Snapshot.Close()
	s.st.release(s.in)
	return err
}

// Snapshot returns a view of the state as of now. Use AppliedIn to learn the
// index it shows.
func (g *Group) Snapshot() (*Snapshot, error) {
	in, err := g.states.acquire()
	if err != nil {
		return nil, err
	}
	return &Snapshot{Snapshot: in.db.NewSnapshot(), in: in, st: g.states}, nil
}

// View calls f with the live state. r shows every entry that is applied when it
// is read, so two reads may differ; it must not be used after f returns.
func (g *Group) View(f func(r pebble.Reader) error) error {
	in, err := g.states.acquire()
	if err != nil {
		return err
	}
	defer g.states.release(in)
	return f(in.db)
}

// AppliedIn returns the applied index that r, a Snapshot or the reader of a
// View, shows.
func AppliedIn(r pebble.Reader) (uint64, error) { return readApplied(r) }
