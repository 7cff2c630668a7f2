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
	// ErrNotLeader means that nobody leads who can be asked, or, of Leading, that
	// this member does not, or has not yet applied what was committed before it did.
	ErrNotLeader = errors.New("raftgroup: not the leader")
	// ErrStopped means the group was closed or stopped for good. It wraps the
	// cause, if there is one.
	ErrStopped = errors.New("raftgroup: stopped")
	// ErrNotMember is an ErrNotLeader: this member is not, or not any more, one of
	// those that the leader answers.
	ErrNotMember = fmt.Errorf("%w: and not a member of the group", ErrNotLeader)
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
	wire    *wire // the transport

	applied atomic.Uint64
	ready   atomic.Uint64 // the term this node leads in with everything before applied, or 0
	freshAt atomic.Int64  // Elapsed of the last time this member was sure to be up to date, or neverFresh
	conf    atomic.Pointer[confAt]

	soleTold atomic.Int64  // Elapsed when sole last said something
	catching atomic.Uint64 // the entry that catchup.go waits for; 0: none

	// applyMu is held while the Machine is called or the state replaced.
	applyMu  sync.Mutex
	lastTerm atomic.Uint64 // of the last entry applied, whose proposals and all earlier ones are answered

	mu     sync.Mutex    // guards the fields below
	moved  chan struct{} // closed and replaced when applied or ready moves, or the group stops
	reason error         // why the group stopped

	ctx        context.Context // ends with stop
	cancel     context.CancelFunc
	tickets    *tickets
	desk       desk
	leads      rounds // read indexes of a leader
	asks       rounds // and of others
	seen       chan raft.Observation
	resume     chan struct{} // holds one when this member is silent no more
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
		g.cancel()
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

// lead is the goroutine that follows Raft's leadership.
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
			g.beginTerm()
		case <-g.resume:
			if g.raft.State() == raft.Leader && g.ready.Load() == 0 {
				g.beginTerm()
			}
		case <-g.seen: // another leader
			g.wake()
		case <-g.stop:
			return
		}
	}
}

// beginTerm makes a new leader ready: when it has applied a mark, an entry of its
// own term without commands, then everything committed before is applied. The mark
// also tells every member that nothing of an earlier term will come any more.
func (g *Group) beginTerm() {
	term := g.raft.CurrentTerm()
	if !g.pending.begin() {
		return
	}
	err := g.raft.Apply(pack(term, ticketID{origin: g.tickets.origin}, (&packer{}).counted()), 0).Error()
	g.pending.end()
	if err != nil || g.raft.CurrentTerm() != term || g.stoppedErr() != nil {
		return // lost again: LeaderCh will tell, or the group stops
	}
	g.ready.Store(term)
	if g.wire.silent.Load() { // resume will tell
		g.ready.Store(0)
		return
	}
	g.wake()
	g.emit(Event{Kind: EventLeader, Index: g.applied.Load()})
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
	g.trail(g.sinceSnap.Swap(0), g.sinceBytes.Swap(0))
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

// trail sets how many entries stay in the log behind a snapshot: TrailingLogs, but
// no more than have SnapshotBytes, going by the size of the last ones.
func (g *Group) trail(entries uint64, bytes int64) {
	keep := g.opts.TrailingLogs
	if bytes > 0 && entries > 0 {
		fit := uint64(float64(g.opts.SnapshotBytes) / (float64(bytes) / float64(entries)))
		keep = min(keep, max(fit, maxAppend))
	}
	c := g.raft.ReloadableConfig()
	if c.TrailingLogs == keep {
		return
	}
	c.TrailingLogs = keep
	if err := g.raft.ReloadConfig(c); err != nil {
		g.emit(Event{Kind: EventLog, Level: Error, Text: "entries to keep: " + err.Error(), Err: err})
	}
}

// supervise is the goroutine that takes Raft down after the group stopped.
func (g *Group) supervise() {
	<-g.stop
	<-g.packerDone
	drained := g.pending.drain()
	for waits := true; waits; {
		select {
		case <-drained: // Raft answers what it has taken,
			waits = false
		case <-g.died: // unless its goroutines are gone
			waits = false
		case <-g.opts.Clock.After(g.opts.Patience): // or wait for a disk
			if g.log.watch.busy() {
				g.mirrors.giveUp()
			}
		}
	}
	_ = g.raft.Shutdown().Error() // closes the transport
	g.loops.Wait()
	close(g.closed)
}

// Close stops the group, waits for every Snapshot and View to end and closes
// the files. A leader has another voter lead first. What was proposed before is
// answered.
func (g *Group) Close() error {
	g.handLead()
	g.fail(ErrStopped)
	<-g.closed
	g.states.close()
	return g.mirrors.Close()
}

// handLead gives leadership away before a stop, so that nobody has to miss the
// leader first.
func (g *Group) handLead() {
	if g.stoppedErr() != nil || g.ready.Load() == 0 || g.alone() {
		return
	}
	ctx, cancel := context.WithTimeout(g.ctx, handLeadTime)
	defer cancel()
	if err := g.transferHere(ctx, ""); err != nil {
		g.emit(Event{Kind: EventLog, Level: Warn, Text: "nobody takes the lead: " + err.Error()})
	}
}

// handLeadTime bounds how long a stop waits for another leader.
const handLeadTime = 3 * time.Second

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
