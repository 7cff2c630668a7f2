package raftgroup

import (
	"fmt"
	"sync"
	"time"
)

// A leader whose log disk hangs goes on sending heartbeats: they come from other
// goroutines than the one that waits for the disk. Nobody would take over. So a
// leader that waits for its log too long falls silent; the others choose another
// one. When the disk answers again, this member goes on as a follower.
//
// Time is counted in ticks that this process has lived through, because one that
// was stopped for a while must not blame its disk.
const (
	hungTicks  = 5  // of a fifth of Options.Patience: then a leader falls silent, and a member does not work
	givenTicks = 60 // then the group stops, if it has other voters
)

func (g *Group) watchTick() time.Duration { return g.opts.Patience / hungTicks }

// logWatch counts how long the log has been waited for.
type logWatch struct {
	mu    sync.Mutex // guards all below
	next  uint64
	open  map[uint64]int // ticks seen by each call that has not returned
	ticks int            // of the oldest
}

// call notes that the log is waited for until the returned function is called.
func (w *logWatch) call() (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[uint64]int{}
	}
	n := w.next
	w.next++
	w.open[n] = 0
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.open, n)
		w.ticks = 0
		for _, t := range w.open {
			w.ticks = max(w.ticks, t)
		}
	}
}

// tick returns for how many ticks the oldest call has waited.
func (w *logWatch) tick() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range w.open {
		w.open[n]++
		w.ticks = max(w.ticks, w.open[n])
	}
	return w.ticks
}

// busy reports whether the log is waited for now.
func (w *logWatch) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.open) > 0
}

func (w *logWatch) waited() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ticks
}

// hung says that the log does not answer; nil: it does.
func (g *Group) hung() error {
	if n := g.log.watch.waited(); n >= hungTicks {
		return fmt.Errorf("%w: the log has not answered for %v", ErrNotLeader, time.Duration(n)*g.watchTick())
	}
	return nil
}

// watch is the goroutine that watches the log.
func (g *Group) watch() {
	defer g.loops.Done()
	for {
		select {
		case <-g.opts.Clock.After(g.watchTick()):
		case <-g.stop:
			return
		}
		n := g.log.watch.tick()
		others, self := g.voters()
		if self {
			others--
		}
		if others < 1 {
			continue // nobody could take over
		}
		silent := n >= hungTicks
		if silent != g.wire.silent.Swap(silent) {
			g.toldSilent(silent)
		}
		if n >= givenTicks {
			g.fail(fmt.Errorf("the log has not answered for %v", time.Duration(n)*g.watchTick()))
			g.mirrors.giveUp()
			return
		}
	}
}

func (g *Group) toldSilent(silent bool) {
	if silent {
		g.ready.Store(0)
		g.wake()
		g.emit(Event{Kind: EventLog, Level: Error, Text: "the log disk hangs: this member leads no more", Err: errHangs})
		return
	}
	select {
	case g.resume <- struct{}{}: // nobody may have taken over
	default:
	}
	g.emit(Event{Kind: EventLog, Level: Warn, Text: "the log disk answers again"})
}
