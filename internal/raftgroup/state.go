package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hayloft/internal/clock"

	"github.com/cockroachdb/pebble/v2"
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
	db    *pebble.DB
	dir   string
	place *place

	// Guarded by states.mu.
	refs   int   // the current instance holds one itself
	remove bool  // the directory goes with the last reference
	broken error // Pebble met a fatal error: its locks may be held, so it is left open
}

// states keeps the current instance.
type states struct {
	emit  func(Event)
	fault func(*instance, error) // a write failed behind the back of the apply goroutine
	tune  func(*pebble.Options)
	clock clock.Clock
	stop  <-chan struct{}

	mu     sync.Mutex // guards the fields below and those of each instance
	idle   *sync.Cond // signalled when an instance is let go
	cur    *instance
	seq    uint64        // number of the current directory
	open   int           // instances not yet let go
	moving chan struct{} // closed when there is an instance again; nil: nobody makes one
}

// moveWait bounds how long a reader waits for a state that is made anew.
const moveWait = 30 * time.Second

// ErrMoving means that the state was lost with its disk and is still being made
// anew in another directory.
var ErrMoving = errors.New("raftgroup: the state is being made anew")

func newStates(o *Options, stop <-chan struct{}, fault func(*instance, error), emit func(Event)) *states {
	s := &states{emit: emit, fault: fault, tune: o.Tune, clock: o.Clock, stop: stop}
	s.idle = sync.NewCond(&s.mu)
	return s
}

const (
	statePrefix = "state-"
	tmpSuffix   = ".tmp"
)

func stateDir(p *place, seq uint64) string {
	return p.fs.PathJoin(p.dir, fmt.Sprintf("%s%06d", statePrefix, seq))
}

// findStates returns the numbers of the complete state directories of a place,
// ascending, and removes unfinished ones: a ".tmp" was never made current, so it
// is redundant.
func findStates(p *place) ([]uint64, error) {
	names, err := p.fs.List(p.dir)
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
			if err := p.fs.RemoveAll(p.fs.PathJoin(p.dir, name)); err != nil {
				return nil, err
			}
			continue
		}
		if seq, err := strconv.ParseUint(num, 10, 64); err == nil {
			found = append(found, seq)
		}
	}
	slices.Sort(found)
	return found, nil
}

// openDir opens a state directory.
func (s *states) openDir(p *place, dir string, mustExist bool) (*instance, error) {
	in := &instance{dir: dir, place: p, refs: 1}
	opts := &pebble.Options{
		FS:                 p.fs,
		FormatMajorVersion: pebble.FormatValueSeparation,
		ErrorIfNotExists:   mustExist,
		Logger: pebbleLogger{emit: s.emit, fatal: func(err error) {
			s.mu.Lock()
			in.broken = err
			s.mu.Unlock()
			s.fault(in, err)
		}},
		EventListener: &pebble.EventListener{BackgroundError: func(err error) { s.background(in, err) }},
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

// background is told of a flush or compaction that failed; Pebble tries again at
// once, and for ever.
func (s *states) background(in *instance, err error) {
	if in.place.isGone() {
		<-s.clock.After(50 * time.Millisecond) // until its last reader has gone
		return
	}
	s.emit(Event{Kind: EventLog, Level: Error, Text: "pebble: background error: " + err.Error(), Err: err})
	if in.place.fs.Failed() != nil {
		s.fault(in, err)
	}
}

// install makes in, whose directory has number seq, the current instance. The
// former one and its directory go when their last reader does.
func (s *states) install(in *instance, seq uint64) {
	s.mu.Lock()
	old := s.cur
	s.cur, s.seq = in, seq
	s.open++
	if s.moving != nil {
		close(s.moved())
	}
	if old != nil {
		old.remove = true
	}
	s.mu.Unlock()
	if old != nil {
		s.release(old)
	}
}

// moved ends a move and returns the channel that tells so. mu is held.
func (s *states) moved() chan struct{} {
	c := s.moving
	s.moving = nil
	return c
}

// retire takes the current instance away if it lies in p, which was lost. Whoever
// wants one waits for the next.
func (s *states) retire(p *place) {
	s.mu.Lock()
	old := s.cur
	if old == nil || old.place != p {
		s.mu.Unlock()
		return
	}
	s.cur, s.moving = nil, make(chan struct{})
	s.mu.Unlock()
	go s.release(old) // closing it may take its time
}

// wanted reports whether a state has to be made anew.
func (s *states) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moving != nil
}

// next takes the number of another directory.
func (s *states) next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	return s.seq
}

// drop closes an instance that never became current.
func (s *states) drop(in *instance) {
	s.mu.Lock()
	broken := in.broken
	s.mu.Unlock()
	if broken == nil {
		_ = in.db.Close() // the reason is told by who calls
	}
}

// home is where the current instance lies, nil when there is none.
func (s *states) home() *place {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return nil
	}
	return s.cur.place
}

// acquire returns the current instance with a reference. It waits for one that
// is being made.
func (s *states) acquire() (*instance, error) {
	return s.await(s.clock.After)
}

// await is acquire with a bound of its own.
func (s *states) await(after func(time.Duration) <-chan time.Time) (*instance, error) {
	var limit <-chan time.Time
	for {
		s.mu.Lock()
		if s.cur != nil {
			s.cur.refs++
			in := s.cur
			s.mu.Unlock()
			return in, nil
		}
		moving := s.moving
		s.mu.Unlock()
		if moving == nil {
			return nil, ErrStopped
		}
		if limit == nil && after != nil {
			limit = after(moveWait)
		}
		select {
		case <-moving:
		case <-limit:
			return nil, ErrMoving
		case <-s.stop:
			return nil, ErrStopped
		}
	}
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
	switch {
	case broken != nil: // it stays open
	case in.place.isGone():
		go in.db.Close() // nothing of it is needed, and it may hang
	default:
		if err := in.db.Close(); err != nil {
			s.emit(Event{Kind: EventLog, Level: Error, Text: "close state: " + err.Error(), Err: err})
		}
		if in.remove {
			if err := in.place.fs.RemoveAll(in.dir); err != nil {
				s.emit(Event{Kind: EventLog, Level: Error, Text: "remove old state: " + err.Error(), Err: err})
			}
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
	if s.moving != nil {
		close(s.moved())
	}
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
// is read, so two reads may differ; it must not be used after f returns. When the
// state's disk was lost, View and Snapshot wait until it is made anew, at most
// half a minute (ErrMoving); what reads already meets an error.
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
