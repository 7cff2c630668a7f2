package timeline

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/clock"
	"hayloft/internal/cutfs"
)

// place is one of Options.Dirs as long as it can be used.
type place struct {
	dir  string
	fs   *cutfs.FS
	gone chan struct{} // closed when it is lost
	why  error         // valid after gone
}

func (p *place) isGone() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// places are the directories in which the instance may lie.
type places struct {
	under vfs.FS
	dirs  []string

	mu     sync.Mutex        // guards usable, and why of each place
	usable map[string]*place // by directory; a lost one is not in it
}

func (ps *places) init(fs vfs.FS, dirs []string) {
	ps.under, ps.dirs, ps.usable = fs, dirs, map[string]*place{}
	for _, d := range dirs {
		ps.take(d)
	}
}

// take makes a directory usable, if it is one of ours.
func (ps *places) take(dir string) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, d := range ps.dirs {
		if filepath.Clean(d) == filepath.Clean(dir) && ps.usable[d] == nil {
			ps.usable[d] = &place{dir: d, fs: cutfs.New(ps.under), gone: make(chan struct{})}
		}
	}
}

// lose gives a place up.
func (ps *places) lose(p *place, why error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.isGone() {
		return
	}
	p.why = fmt.Errorf("%s: %w", p.dir, why)
	delete(ps.usable, p.dir)
	close(p.gone)
	p.fs.Cut(p.why)
}

// list returns those that can be used, in order of preference.
func (ps *places) list() []*place {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var out []*place
	for _, d := range ps.dirs {
		if p := ps.usable[d]; p != nil {
			out = append(out, p)
		}
	}
	return out
}

// Lost tells the Store that the disk of one of Options.Dirs is gone or must not
// be used any more. Timelines that were there start empty in another directory;
// pages stay right meanwhile. It may be called at any time and does not wait.
func (s *Store) Lost(dir string, why error) {
	for _, p := range s.places.list() {
		if filepath.Clean(p.dir) == filepath.Clean(dir) {
			s.places.lose(p, why)
		}
	}
	s.requests.poke()
}

// Usable tells the Store that a directory that was lost may be used again. It may
// be called at any time and does not wait.
func (s *Store) Usable(dir string) {
	s.places.take(dir)
	s.requests.poke()
}

// instance is an open Pebble instance.
type instance struct {
	db      *pebble.DB
	place   *place
	clock   clock.Clock
	closing chan struct{} // closed when it is being closed

	// shown is the state row in memory, nil while there is none. It is stored once the
	// batch is committed, so who takes it and then looks into db finds that batch there.
	shown atomic.Pointer[state]

	mu     sync.Mutex // guards broken
	broken error      // Pebble met a fatal error: its locks may be held, so it stays open
}

// errFatal marks what Pebble cannot go on after.
var errFatal = errors.New("timeline: pebble cannot go on")

// errAbandoned marks a call that a lost disk keeps.
var errAbandoned = errors.New("timeline: the disk does not answer")

func (in *instance) fail(why error) {
	in.mu.Lock()
	if in.broken == nil {
		in.broken = why
	}
	in.mu.Unlock()
}

// lost is why the instance cannot be used any more, nil while it can.
func (in *instance) lost() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.place.isGone() {
		return in.place.why
	}
	return in.broken
}

// abandonAfter is how long a call may take to notice that its disk was lost.
const abandonAfter = time.Second

// guard runs f, which writes to the instance, on a goroutine that Pebble may end
// or a disk may keep.
func (in *instance) guard(f func() error) error {
	type ended struct {
		err   error
		panic any
	}
	done := make(chan ended, 1)
	go func() {
		e := ended{err: errFatal}
		defer func() {
			e.panic = recover()
			done <- e
		}()
		e.err = f()
	}()
	var e ended
	select {
	case e = <-done:
	case <-in.place.gone:
		select {
		case e = <-done:
		case <-in.clock.After(abandonAfter):
			in.fail(errAbandoned)
			return errAbandoned
		}
	}
	if e.panic != nil {
		err, ok := e.panic.(error)
		var fault interface{ RuntimeError() }
		if !ok || errors.As(err, &fault) {
			panic(e.panic) // not the disk's fault
		}
		in.fail(err)
		return fmt.Errorf("%w: %w", errFatal, err)
	}
	return e.err
}

// close closes an instance that is whole, and leaves another to itself.
func (in *instance) close() error {
	in.mu.Lock()
	broken := in.broken
	in.mu.Unlock()
	if broken != nil {
		return nil
	}
	close(in.closing)
	if in.place.isGone() {
		go in.db.Close() // it may hang, and nobody needs what it returns
		return nil
	}
	return in.guard(in.db.Close)
}
