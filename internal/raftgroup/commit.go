package raftgroup

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// How a write to the state fails: Pebble returns an error, panics with one, or
// calls its logger's Fatalf, which must not return and ends the goroutine. Locks
// may be held afterwards.

// commitLeft is how long a commit to a lost disk may take to notice.
const commitLeft = time.Second

// errCommit marks what went wrong in a write to the state.
var errCommit = errors.New("commit to the state")

// panicked is what a goroutine of ours panicked with.
type panicked struct{ value any }

func (p panicked) Error() string { return fmt.Sprint(p.value) }

// commit writes b and its applied index to in, and closes it. It runs on a
// goroutine of its own, which Pebble may end, or keep when the disk hangs.
func (s *states) commit(in *instance, b *pebble.Batch, applied uint64) error {
	if err := b.Set(appliedKey, appliedValue(applied), nil); err != nil {
		return errors.Join(err, b.Close())
	}
	done := make(chan error, 1)
	go func() {
		err := errors.New("pebble ended the commit")
		defer func() {
			if r := recover(); r != nil {
				err = panicked{r}
			}
			done <- err
		}()
		err = b.Commit(pebble.NoSync)
	}()
	var err error
	select {
	case err = <-done:
	case <-in.place.gone:
		select {
		case err = <-done:
		case <-s.clock.After(commitLeft):
			err = errHangs
			s.giveUp(in, err) // the goroutine still has it
			return err
		}
	}
	s.mu.Lock()
	fatal := in.broken
	s.mu.Unlock()
	var p panicked
	switch {
	case errors.As(err, &p):
		panic(p.value) // where it would have been
	case fatal != nil:
		return fmt.Errorf("%w: %w", errCommit, fatal)
	case err != nil:
		return errors.Join(fmt.Errorf("%w: %w", errCommit, err), b.Close())
	}
	return b.Close()
}

// giveUp notes that an instance must not be closed.
func (s *states) giveUp(in *instance, why error) {
	s.mu.Lock()
	if in.broken == nil {
		in.broken = why
	}
	s.mu.Unlock()
}

// diskPanic returns the error that Pebble panicked with, nil when the panic is no
// fault of a disk.
func diskPanic(r any) error {
	err, ok := r.(error)
	var rt interface{ RuntimeError() }
	if !ok || errors.As(err, &rt) {
		return nil
	}
	return err
}

// failed reports whether err, met while applying, is the disk's fault.
func (in *instance) failed(err error) bool {
	return errors.Is(err, errCommit) || in.place.fs.Failed() != nil || pebble.IsCorruptionError(err)
}

// nextState is called when in cannot go on, and reports whether the state will be
// made anew in another directory.
func (g *Group) nextState(in *instance, why error) bool {
	return in.place.isGone() && len(g.mirrors.healthy()) > 0 || g.mirrors.lose(in.place, why)
}

// stateFault is nextState for what happened behind the apply goroutine's back.
func (g *Group) stateFault(in *instance, err error) {
	if err = fmt.Errorf("write the state: %w", err); !g.nextState(in, err) {
		g.states.mu.Lock()
		fatal := in.broken != nil
		g.states.mu.Unlock()
		if fatal { // a background error is tried again
			g.fail(err)
		}
	}
}
