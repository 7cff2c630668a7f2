package derived

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/clock"
	"hayloft/internal/cutfs"
)

// newDisk returns dir as one that can be used.
func newDisk(under vfs.FS, dir string) *disk {
	return &disk{dir: dir, fs: cutfs.New(under), gone: make(chan struct{})}
}

// disk is one of Options.Dirs as long as it can be used.
type disk struct {
	dir  string
	fs   *cutfs.FS
	gone chan struct{} // closed when it is lost
	why  error         // valid after gone
}

func (d *disk) isGone() bool {
	select {
	case <-d.gone:
		return true
	default:
		return false
	}
}

// instance is an open Pebble instance.
type instance struct {
	db      *pebble.DB
	on      *disk
	clock   clock.Clock
	closing chan struct{} // closed when it is being closed

	mu     sync.Mutex // guards broken
	broken error      // Pebble met a fatal error: its locks may be held, so it stays open
}

var (
	errFatal     = errors.New("derived: pebble cannot go on")
	errAbandoned = errors.New("derived: the disk does not answer")
)

func (in *instance) fail(why error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.broken == nil {
		in.broken = why
	}
}

// lost is why the instance cannot be used any more, nil while it can.
func (in *instance) lost() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.on.isGone() {
		return in.on.why
	}
	return in.broken
}

// abandonAfter is how long a call may take to notice that its disk was lost.
const abandonAfter = time.Second

// guard runs f, which writes, on a goroutine that Pebble may end or a disk may keep.
func (in *instance) guard(f func() error) error {
	type ended struct {
		err   error
		panic any
	}
	done := make(chan ended, 1)
	go func() {
		e := ended{err: errFatal} // what is left when Pebble ends the goroutine
		defer func() {
			e.panic = recover()
			done <- e
		}()
		e.err = f()
	}()
	var e ended
	select {
	case e = <-done:
	case <-in.on.gone:
		select {
		case e = <-done:
		case <-in.clock.After(abandonAfter):
			in.fail(errAbandoned)
			return errAbandoned
		}
	}
	if e.panic == nil {
		return e.err
	}
	err, ok := e.panic.(error)
	var fault interface{ RuntimeError() }
	if !ok || errors.As(err, &fault) {
		panic(e.panic) // not the disk's fault
	}
	in.fail(err)
	return fmt.Errorf("%w: %w", errFatal, err)
}

// close closes an instance that is whole, and leaves another to itself.
func (in *instance) close() error {
	in.mu.Lock()
	broken := in.broken
	in.mu.Unlock()
	switch {
	case broken != nil:
		return nil
	case in.on.isGone():
		close(in.closing)
		go in.db.Close() // it may hang, and nobody needs what it returns
		return nil
	}
	close(in.closing)
	return in.guard(in.db.Close)
}

// logger keeps Pebble quiet: errors come by the event listener.
type logger struct{ fatal func(error) }

func (logger) Infof(string, ...any)  {}
func (logger) Errorf(string, ...any) {}

// Fatalf is called when Pebble's state in memory can no longer be trusted. It must not
// return: the goroutine ends, and the instance is given up.
func (l logger) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf("%w: "+format, append([]any{errFatal}, args...)...))
	runtime.Goexit()
}
