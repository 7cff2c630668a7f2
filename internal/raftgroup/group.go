package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Errors of a Group. Each may come wrapped.
var (
	// ErrNotLeader means this node does not lead, or has not yet applied what
	// was committed before it did. Another member, or this one later, will.
	ErrNotLeader = errors.New("raftgroup: not the leader")
	// ErrStopped means the group was closed or stopped for good. It wraps the
	// cause, if there is one.
	ErrStopped = errors.New("raftgroup: stopped")
	// ErrTooLarge means a command of more than MaxCommandBytes.
	ErrTooLarge = errors.New("raftgroup: command too large")
	// ErrOutcomeUnknown means a command may or may not have been applied.
	ErrOutcomeUnknown = errors.New("raftgroup: outcome unknown")
	// ErrCorrupt means that log, snapshot or identity does not match its
	// checksum or contradicts the others.
	ErrCorrupt = errors.New("raftgroup: corrupt")
	// ErrForeign means that a directory holds another group, or another member's.
	ErrForeign = errors.New("raftgroup: not this group")
)

// MissingError is returned by Open when directories that hold the group are not
// among those it was given, or hold nothing of it any more.
type MissingError struct {
	Dirs []string // where the group was kept, as absolute paths
	Text string   // what is wrong, on one line
}

func (e *MissingError) Error() string { return e.Text }

// Group is one member of a Raft group. Use Open.
type Group struct {
	opts    Options
	log     *logStore
	mirrors *mirrors
	snaps   *snapshots
	states  *states
	raft    *raft.Raft
	trans   raft.Transport

	applied atomic.Uint64
	ready   atomic.Uint64 // the term this node leads in with everything before applied, or 0

	// applyMu is held while the Machine is called or the state replaced.
	applyMu sync.Mutex

	mu     sync.Mutex    // guards the fields below
	moved  chan struct{} // closed and replaced when applied or ready moves, or the group stops
	reason error         // why the group stopped

	queue      chan *proposal
	slots      chan struct{} // one token per entry in flight
	pending    *inflight
	stop       chan struct{} // closed by the first fail
	stopOnce   sync.Once
	died       chan struct{} // closed when one of Raft's goroutines ended early
	diedOnce   sync.Once
	packerDone chan struct{}
	closed     chan struct{} // closed when Raft is down and nothing of the group runs
	wantSnap   chan struct{}
	mend       chan struct{} // holds one when a directory was lost or found
	mended     chan struct{} // closed when mend was seen to once
	loops      sync.WaitGroup

	stats      counters
	sinceSnap  atomic.Uint64 // entries applied since the last snapshot was begun
	sinceBytes atomic.Int64
}

type counters struct{ entries, commands, bytes, snapshots atomic.Uint64 }

// fail stops the group for good; the first reason counts.
func (g *Group) fail(err error) {
	g.stopOnce.Do(func() {
		if !errors.Is(err, ErrStopped) {
			err = fmt.Errorf("%w: %w", ErrStopped, err)
		}
		g.mu.Lock()
		g.reason = err
		g.mu.Unlock()
		g.ready.Store(0)
		close(g.stop)
		g.wake()
		g.emit(Event{Kind: EventStopped, Err: err})
	})
}

// stoppedErr is nil while the group works.
func (g *Group) stoppedErr() error {
	select {
	case <-g.stop:
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.reason
	default:
		return nil
	}
}

func (g *Group) raftDied() { g.diedOnce.Do(func() { close(g.died) }) }

func (g *Group) emit(e Event) {
	e.Group = g.opts.Name
	g.opts.Events(e)
}

// wake tells everybody who waits that something moved.
func (g *Group) wake() {
	g.mu.Lock()
	close(g.moved)
	g.moved = make(chan struct{})
	g.mu.Unlock()
}

func (g *Group) movedChan() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.moved
}

func (g *Group) setApplied(index uint64) {
	g.applied.Store(index)
	g.wake()
}

// noteApplied counts and asks for a snapshot when it is time.
func (g *Group) noteApplied(entries, commands, bytes int) {
	g.stats.entries.Add(uint64(entries))
	g.stats.commands.Add(uint64(commands))
	g.stats.bytes.Add(uint64(bytes))
	n, b := g.sinceSnap.Add(uint64(entries)), g.sinceBytes.Add(int64(bytes))
	if n >= g.opts.SnapshotEntries || b >= g.opts.SnapshotBytes {
		select {
		case g.wantSnap <- struct{}{}:
		default:
		}
	}
}

// lead is the goroutine that follows Raft's leadership. A new leader is ready
// when a barrier has passed: then everything committed before is applied.
func (g *Group) lead() {
	defer g.loops.Done()
	for {
		select {
		case leads := <-g.raft.LeaderCh():
			g.ready.Store(0)
			if !leads {
				g.wake()
				g.emit(Event{Kind: EventFollower})
				continue
			}
			term := g.raft.CurrentTerm()
			if !g.pending.begin() {
				return
			}
			err := g.raft.Barrier(0).Error()
			g.pending.end()
			if err != nil || g.raft.CurrentTerm() != term || g.stoppedErr() != nil {
				continue // lost again: LeaderCh will tell, or the group stops
			}
			g.ready.Store(term)
			g.wake()
			g.emit(Event{Kind: EventLeader, Index: g.applied.Load()})
		case <-g.stop:
			return
		}
	}
}

// snapshotLoop is the goroutine that takes snapshots when enough was applied.
func (g *Group) snapshotLoop() {
	defer g.loops.Done()
	for {
		select {
		case <-g.wantSnap:
			_ = g.Checkpoint() // the event tells; the next entry asks again
		case <-g.stop:
			return
		}
	}
}

// Checkpoint takes a snapshot now and truncates the log. Nothing new to take is
// no error.
func (g *Group) Checkpoint() error {
	if err := g.stoppedErr(); err != nil {
		return err
	}
	g.sinceSnap.Store(0)
	g.sinceBytes.Store(0)
	err := g.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	if err == nil {
		g.stats.snapshots.Add(1)
	}
	g.emit(Event{Kind: EventSnapshot, Index: g.applied.Load(), Err: err})
	return err
}

// supervise is the goroutine that takes Raft down after the group stopped.
func (g *Group) supervise() {
	<-g.stop
	<-g.packerDone
	select {
	case <-g.pending.drain(): // Raft answers what it has taken,
	case <-g.died: // unless its goroutines are gone
	}
	_ = g.raft.Shutdown().Error() // closes the transport
	g.loops.Wait()
	close(g.closed)
}

// Close stops the group, waits for every Snapshot and View to end and closes
// the files. What was proposed before is answered.
func (g *Group) Close() error {
	g.fail(ErrStopped)
	<-g.closed
	g.states.close()
	return g.mirrors.Close()
}

// Ready waits until this node leads and has applied everything that was
// committed before, or until ctx ends or the group stops.
func (g *Group) Ready(ctx context.Context) error {
	for {
		moved := g.movedChan()
		if err := g.stoppedErr(); err != nil {
			return err
		}
		if g.ready.Load() != 0 {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Leading tells at once, without asking anybody, whether the group works here:
// nil when this node leads, as far as it knows, and has applied everything that
// was committed before; ErrStopped with the reason when it stopped for good;
// ErrNotLeader otherwise.
func (g *Group) Leading() error {
	if err := g.stoppedErr(); err != nil {
		return err
	}
	if g.ready.Load() == 0 {
		return ErrNotLeader
	}
	return nil
}

// Fresh returns nil when this node is certain to lead: a View or Snapshot taken
// after Fresh was called shows every command that was acknowledged, on any node,
// before the call. Otherwise it is ErrNotLeader, ErrStopped or ctx's error.
//
// A reader may as well read first and then call Fresh: if it returns nil the
// reading was fresh as of the time it was made.
func (g *Group) Fresh(ctx context.Context) error {
	if err := g.stoppedErr(); err != nil {
		return err
	}
	term := g.ready.Load()
	if term == 0 || g.raft.CurrentTerm() != term {
		return ErrNotLeader
	}
	if !g.pending.begin() {
		return ErrStopped
	}
	verified := make(chan error, 1)
	go func() {
		defer g.pending.end()
		verified <- g.raft.VerifyLeader().Error()
	}()
	select {
	case err := <-verified:
		if err != nil || g.raft.CurrentTerm() != term {
			if stopped := g.stoppedErr(); stopped != nil {
				return stopped
			}
			return ErrNotLeader
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-g.stop:
		return g.stoppedErr()
	}
}

// AppliedIndex is the log index of the last entry a View shows.
func (g *Group) AppliedIndex() uint64 { return g.applied.Load() }

// WaitApplied waits until AppliedIndex is at least index.
func (g *Group) WaitApplied(ctx context.Context, index uint64) error {
	for {
		moved := g.movedChan()
		if g.applied.Load() >= index {
			return nil
		}
		if err := g.stoppedErr(); err != nil {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Stats describes a group at one moment. Counts begin at Open.
type Stats struct {
	Leader        bool // and ready
	Term          uint64
	Applied       uint64 // log index
	LastIndex     uint64 // of the log
	SnapshotIndex uint64
	Entries       uint64 // applied, or skipped because they were before
	Commands      uint64 // applied
	Bytes         uint64 // of entries
	Snapshots     uint64 // taken
	Queued        int    // proposals waiting for an entry
	LogFreePages  int    // of the log file's freelist
}

// Stats returns what the group is doing.
func (g *Group) Stats() Stats {
	s := Stats{
		Leader: g.ready.Load() != 0, Term: g.raft.CurrentTerm(), Applied: g.applied.Load(), LastIndex: g.raft.LastIndex(),
		Entries: g.stats.entries.Load(), Commands: g.stats.commands.Load(), Bytes: g.stats.bytes.Load(),
		Snapshots: g.stats.snapshots.Load(), Queued: len(g.queue), SnapshotIndex: g.snapshotIndex(),
	}
	s.LogFreePages = g.mirrors.freePages()
	return s
}

func (g *Group) snapshotIndex() uint64 {
	metas, err := g.snaps.metas()
	if err != nil || len(metas) == 0 {
		return 0
	}
	return metas[0].Index
}

// electionKick is how long an attempt to become leader at once may take before
// the ordinary election timeout is left to do it.
const electionKick = time.Second
