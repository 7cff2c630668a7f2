package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

const (
	logName   = "raft.db"
	snapsName = "snapshots"
)

// Open opens the group that is kept in o.Dirs, bootstraps it when none of them
// ever held it, makes mirrors that are missing anew, and rebuilds the working
// state from snapshot and log when it is missing or behind. The only voter of a
// group is its leader, with everything applied, when Open returns; a member of a
// larger group has to wait for Ready. ctx bounds Open alone.
//
// Open fails with ErrCorrupt when no mirror is intact, naming what is wrong with
// each; with a *MissingError when the directories given are not those, or not all
// of those, that hold the group; with ErrForeign when one holds another group.
func Open(ctx context.Context, o Options) (*Group, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	g := &Group{
		opts: o, moved: make(chan struct{}), queue: make(chan *proposal, queueLength), slots: make(chan struct{}, maxInFlight),
		stop: make(chan struct{}), died: make(chan struct{}), packerDone: make(chan struct{}), closed: make(chan struct{}),
		wantSnap: make(chan struct{}, 1), pending: newInflight(), mend: make(chan struct{}, 1), mended: make(chan struct{}),
		tickets: newTickets(), seen: make(chan raft.Observation, 1), resume: make(chan struct{}, 1),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.leads.ask, g.asks.ask = g.leadIndex, g.askIndex
	g.freshAt.Store(neverFresh)
	if err := g.start(); err != nil {
		return nil, fmt.Errorf("open group %s: %w", o.Name, err)
	}
	g.raft.RegisterObserver(raft.NewObserver(g.seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	g.loops.Add(3)
	go g.lead()
	go g.snapshotLoop()
	go g.watch()
	if o.Peers != nil {
		g.loops.Add(2)
		go g.pulseLoop()
		go g.hintLoop()
	}
	go g.pack()
	go g.supervise()
	if g.alone() {
		if err := g.takeLead(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("open group %s: %w", o.Name, err), g.Close())
		}
	}
	return g, nil
}

// start opens everything up to Raft. What it has opened it closes again when it
// fails.
func (g *Group) start() (err error) {
	g.states = newStates(&g.opts, g.stop, g.stateFault, g.emit)
	if g.mirrors, err = newMirrors(&g.opts, g.emit); err != nil {
		return err
	}
	g.mirrors.kick, g.mirrors.moved = g.wantMend, g.states.retire
	g.snaps = &snapshots{mirrors: g.mirrors, home: g.states.home, stop: g.stop, sending: g.sending}
	conf, err := g.prepare()
	if err == nil {
		g.loops.Add(1)
		go g.mendLoop()
		g.wantMend()
		select { // what is acknowledged from now on should be on all mirrors
		case <-g.mended:
		case <-g.opts.Clock.After(mendFirst):
		}
		err = g.startRaft(conf)
	}
	if err != nil {
		if stopped := g.stoppedErr(); stopped == nil {
			g.stopOnce.Do(func() { close(g.stop) })
		}
		g.cancel()
		g.loops.Wait()
		g.states.close()
		err = errors.Join(err, g.mirrors.Close())
		if g.wire != nil {
			_ = g.wire.Close() // nothing was sent
		}
	}
	return err
}

// mendFirst is how long Open waits for mirrors that are being made.
const mendFirst = 2 * time.Second

// prepare opens log, snapshots and state and makes them agree.
func (g *Group) prepare() (*raft.Config, error) {
	conf := g.raftConfig()
	if err := g.openTransport(); err != nil {
		return nil, err
	}
	found, err := g.openMirrors(conf)
	if err != nil {
		return nil, err
	}
	g.log = &logStore{under: g.mirrors, fail: g.fail, dead: g.raftDied, now: g.opts.Clock.Elapsed}
	g.log.hints.kick = make(chan struct{}, 1)
	if err := g.openState(found); err != nil {
		return nil, err
	}
	g.wire.blank.Store(g.withoutLog(found))
	if err := g.goesOnCatchingUp(conf); err != nil {
		return nil, err
	}
	for _, m := range g.mirrors.healthy() {
		p := m.place
		err := writeIdentity(p.disk, p.dir, g.opts.Name, g.opts.NodeID)
		if err != nil && !g.mirrors.lose(p, err) {
			return nil, err
		}
	}
	return conf, nil
}

func (g *Group) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(g.opts.NodeID)
	c.Logger = raftLogger(g.emit, g.opts.Clock)
	c.NoSnapshotRestoreOnStart = true // the state has its own applied index
	c.BatchApplyCh = true
	c.ShutdownOnRemove = false // it may be added again
	c.MaxAppendEntries = maxAppend
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = electionTime, electionTime, electionTime
	c.TrailingLogs = g.opts.TrailingLogs
	c.SnapshotThreshold = math.MaxUint64 // snapshotLoop decides, by entries and bytes
	c.SnapshotInterval = 24 * time.Hour
	c.NoLegacyTelemetry = true
	return c
}

// electionTime is how long a follower does without its leader, a candidate waits
// for votes, and a leader does without a majority. A follower notices after one to
// three of it. Heartbeats go out every tenth of it and wait for the former's
// answer: a link of 200 ms each way leaves half of it to spare.
const electionTime = 900 * time.Millisecond

// maxAppend bounds the entries of one message.
const maxAppend = 32

func (g *Group) openTransport() (err error) {
	t := g.opts.Transport
	if t == nil {
		_, t = raft.NewInmemTransportWithTimeout(raft.ServerAddress(g.opts.NodeID), time.Second)
	}
	if g.wire, err = newWire(t, g.admitted, g.sole); err != nil {
		closeTransport(t)
	}
	return err
}

// withoutLog reports whether this member waits to be added and holds nothing of
// the group.
func (g *Group) withoutLog(found []*finding) bool {
	for _, f := range found {
		if f.member && (f.last > 0 || f.snap.ID != "") {
			return false
		}
	}
	return g.opts.Join
}

func (g *Group) firstVoters() raft.Configuration {
	voters := g.opts.Bootstrap
	if len(voters) == 0 {
		voters = []Voter{{ID: g.opts.NodeID, Addr: string(g.wire.LocalAddr())}}
	}
	var c raft.Configuration
	for _, v := range voters {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(v.ID), Address: raft.ServerAddress(v.Addr)})
	}
	return c
}

// startRaft starts Raft's goroutines. It reads the log once more; a failure
// there must end as an error, not as a panic.
func (g *Group) startRaft(conf *raft.Config) error {
	type started struct {
		r   *raft.Raft
		err error
	}
	done := make(chan started, 1)
	go func() {
		s := started{err: errors.New("raft did not start")}
		defer func() {
			if r := recover(); r != nil {
				s.err = fmt.Errorf("raft did not start: %v", r)
			}
			done <- s
		}()
		g.log.armed.Store(true)
		s.r, s.err = raft.NewRaft(conf, fsm{g}, g.log, g.log, g.snaps, g.wire)
	}()
	s := <-done
	g.raft = s.r
	if s.err != nil && g.log.poisoned() != nil {
		return g.log.poisoned()
	}
	if s.err == nil {
		if index := g.catching.Load(); index != 0 {
			g.loops.Add(1)
			go g.awaitConfiguration(index)
		}
		close(g.wire.started)
	}
	return s.err
}

// takeLead makes the only voter leader without waiting for a heartbeat that
// nobody will send: it asks itself to stand for election now, the way a leader
// asks its successor. The timeouts stay those of a larger group.
func (g *Group) takeLead(ctx context.Context) error {
	self, addr := raft.ServerID(g.opts.NodeID), g.wire.LocalAddr()
	req := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: g.wire.EncodePeer(self, addr),
	}}
	// A failure costs no more than the ordinary election timeout.
	if err := g.wire.local(&req, ctx.Done()); err != nil {
		g.emit(Event{Kind: EventLog, Level: Warn, Text: "no election at once", Err: err})
	}
	return g.Ready(ctx)
}

func closeTransport(t raft.Transport) {
	if c, ok := t.(raft.WithClose); ok {
		_ = c.Close() // nothing was sent
	}
}

// boltStore adds what Stats tells.
type boltStore struct{ *raftboltdb.BoltStore }

func (b boltStore) freePages() int {
	s := b.Stats()
	return s.FreePageN + s.PendingPageN
}
