package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

const (
	logName   = "raft.db"
	snapsName = "snapshots"
)

// Open opens the group in o.Dir, bootstraps it when there is no state at all,
// and rebuilds the working state from snapshot and log when it is missing or
// behind. The only voter of a group is its leader, with everything applied, when
// Open returns; a member of a larger group has to wait for Ready. ctx bounds
// Open alone.
func Open(ctx context.Context, o Options) (*Group, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	g := &Group{
		opts: o, moved: make(chan struct{}), queue: make(chan *proposal, queueLength), slots: make(chan struct{}, maxInFlight),
		stop: make(chan struct{}), died: make(chan struct{}), packerDone: make(chan struct{}), closed: make(chan struct{}),
		wantSnap: make(chan struct{}, 1), pending: newInflight(),
	}
	g.states = newStates(o, g.fail, g.emit)
	conf, err := g.prepare()
	if err == nil {
		err = g.startRaft(conf)
	}
	if err != nil {
		g.states.close()
		if g.log != nil {
			err = errors.Join(err, g.log.under.Close())
		}
		if g.trans != nil {
			closeTransport(g.trans)
		}
		return nil, fmt.Errorf("open group %s: %w", o.Name, err)
	}
	g.loops.Add(2)
	go g.lead()
	go g.snapshotLoop()
	go g.pack()
	go g.supervise()
	if g.soleVoter() {
		if err := g.takeLead(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("open group %s: %w", o.Name, err), g.Close())
		}
	}
	return g, nil
}

// prepare opens log, snapshots and state and makes them agree.
func (g *Group) prepare() (*raft.Config, error) {
	o := &g.opts
	if err := makeDir(o.disk, o.Dir); err != nil {
		return nil, err
	}
	if err := makeDir(o.FS, o.Dir); err != nil { // another one when FS is not the machine's
		return nil, err
	}
	known, err := checkIdentity(o.Dir, o.Name, o.NodeID)
	if err != nil {
		return nil, err
	}
	if g.snaps, err = openSnapshots(o.FS, o.FS.PathJoin(o.Dir, snapsName)); err != nil {
		return nil, err
	}
	conf := g.raftConfig()
	if err := g.openTransport(); err != nil {
		return nil, err
	}
	if err := g.openLog(conf, known); err != nil {
		return nil, err
	}
	first, last, err := g.log.verify()
	if err != nil {
		return nil, err
	}
	if err := g.openState(first, last); err != nil {
		return nil, err
	}
	return conf, writeIdentity(o.disk, o.Dir, o.Name, o.NodeID)
}

func (g *Group) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(g.opts.NodeID)
	c.Logger = raftLogger(g.emit)
	c.NoSnapshotRestoreOnStart = true // the state has its own applied index
	c.BatchApplyCh = true
	c.MaxAppendEntries = 64
	c.TrailingLogs = g.opts.TrailingLogs
	c.SnapshotThreshold = math.MaxUint64 // snapshotLoop decides, by entries and bytes
	c.SnapshotInterval = 24 * time.Hour
	c.NoLegacyTelemetry = true
	return c
}

func (g *Group) openTransport() error {
	g.trans = g.opts.Transport
	if g.trans == nil {
		addr := raft.ServerAddress(g.opts.NodeID)
		_, t := raft.NewInmemTransportWithTimeout(addr, electionKick)
		t.Connect(addr, t) // for takeLead
		g.trans = t
	}
	return nil
}

// openLog opens the log file, a new one when the directory holds nothing.
func (g *Group) openLog(conf *raft.Config, known bool) error {
	path := filepath.Join(g.opts.Dir, logName)
	_, err := g.opts.disk.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		if err = g.mustBeNew(known); err == nil {
			err = g.createLog(conf, path)
		}
	}
	if err == nil && !known {
		err = g.syncNames()
	}
	if err != nil {
		return err
	}
	g.log, err = g.openStore(path)
	return err
}

// syncNames makes the names of the log and of its directory durable before
// anything is made that depends on them. An earlier start may have given them
// and died.
func (g *Group) syncNames() error {
	dir := filepath.Clean(g.opts.Dir)
	return errors.Join(syncDir(g.opts.disk, dir), syncDir(g.opts.disk, filepath.Dir(dir)))
}

func (g *Group) openStore(path string) (*logStore, error) {
	b, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	return &logStore{under: g.opts.wrapStore(boltStore{b}), fail: g.fail, dead: g.raftDied}, nil
}

// mustBeNew refuses to make a log beside what can only stem from a lost one: the
// log comes into being before everything else.
func (g *Group) mustBeNew(known bool) error {
	dirs, err := g.states.find()
	if err != nil {
		return err
	}
	metas, err := g.snaps.metas()
	if err != nil {
		return err
	}
	if known || len(dirs) > 0 || len(metas) > 0 {
		return fmt.Errorf("%w: %s is gone, but the directory is not new", ErrCorrupt, logName)
	}
	return nil
}

// createLog makes the log file of a new directory, with the first configuration
// in it. Raft saves its term and the configuration one after the other, and a
// log with only the first is neither new nor of any use. So all of it happens
// under another name, each step synced, and the file gets its own when it is
// whole: a crash before that leaves a directory that is still new. The caller
// syncs the name.
func (g *Group) createLog(conf *raft.Config, path string) error {
	disk, tmp := g.opts.disk, path+tmpSuffix
	if err := disk.RemoveAll(tmp); err != nil {
		return err
	}
	s, err := g.openStore(tmp)
	if err != nil {
		return err
	}
	if !g.opts.Join {
		err = raft.BootstrapCluster(conf, s, s, g.snaps, g.trans, g.firstVoters())
	}
	if p := s.poisoned(); p != nil {
		err = p // Raft's error does not wrap it
	}
	if err = errors.Join(err, s.under.Close()); err != nil {
		return err
	}
	return disk.Rename(tmp, path)
}

func (g *Group) firstVoters() raft.Configuration {
	voters := g.opts.Bootstrap
	if len(voters) == 0 {
		voters = []Voter{{ID: g.opts.NodeID, Addr: string(g.trans.LocalAddr())}}
	}
	var c raft.Configuration
	for _, v := range voters {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(v.ID), Address: raft.ServerAddress(v.Addr)})
	}
	return c
}

// openState opens the working state, or rebuilds it. Before that it makes sure
// that snapshot and log hold everything: first and last bound the log.
func (g *Group) openState(first, last uint64) error {
	metas, err := g.snaps.metas()
	if err != nil {
		return err
	}
	var snap snapMeta
	if len(metas) > 0 {
		snap = metas[0]
	}
	if last == 0 && snap.ID == "" && !g.opts.Join { // a log begins its life with a configuration
		return fmt.Errorf("%w: the log is empty", ErrCorrupt)
	}
	if first > snap.Index+1 {
		return fmt.Errorf("%w: the log begins at entry %d, the newest snapshot ends at %d", ErrCorrupt, first, snap.Index)
	}
	dirs, err := g.states.find()
	if err != nil {
		return err
	}
	if len(dirs) == 0 {
		return g.rebuild(snap, 0, nil)
	}
	slices.Sort(dirs)
	newest := dirs[len(dirs)-1]
	for _, old := range dirs[:len(dirs)-1] { // replaced by a restore that was made current
		if err := g.opts.FS.RemoveAll(g.states.dirOf(old)); err != nil {
			return err
		}
	}
	in, err := g.states.openDir(g.states.dirOf(newest), true)
	if errors.Is(err, pebble.ErrDBDoesNotExist) || pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) {
		return g.rebuild(snap, newest, err)
	}
	if err != nil {
		return err
	}
	applied, err := readApplied(in.db)
	if err != nil {
		return errors.Join(err, in.db.Close())
	}
	if applied > max(last, snap.StateIndex) {
		return errors.Join(fmt.Errorf("%w: the state has applied entry %d, the log ends at %d", ErrCorrupt, applied, last), in.db.Close())
	}
	if applied < snap.StateIndex {
		if err := in.db.Close(); err != nil {
			return err
		}
		return g.rebuild(snap, newest, fmt.Errorf("it ends at entry %d, before the snapshot", applied))
	}
	return g.adopt(in, newest, applied)
}

// rebuild makes a new state directory behind number old: from snap, or empty
// when there is none, for the log to be replayed into. The old directory, if
// any, is removed afterwards; all it held is in snapshot and log.
func (g *Group) rebuild(snap snapMeta, old uint64, why error) error {
	if snap.ID == "" && old == 0 {
		in, err := g.states.openDir(g.states.dirOf(1), false)
		if err != nil {
			return err
		}
		return g.adopt(in, 1, 0)
	}
	g.emit(Event{Kind: EventRebuilding, Index: snap.Index, Err: why})
	g.states.seq = old
	if snap.ID == "" {
		in, err := g.states.openDir(g.states.dirOf(old+1), false)
		if err != nil {
			return err
		}
		if err := g.adopt(in, old+1, 0); err != nil {
			return err
		}
	} else {
		_, r, err := g.snaps.Open(snap.ID)
		if err != nil {
			return err
		}
		defer r.Close()
		if err := g.restore(r); err != nil {
			return fmt.Errorf("restore snapshot %s: %w", snap.ID, err)
		}
	}
	if old == 0 {
		return nil
	}
	return g.opts.FS.RemoveAll(g.states.dirOf(old))
}

// restore replaces the state by a snapshot stream. The new directory becomes
// current by its rename; until then the old one is untouched.
func (g *Group) restore(r io.Reader) error {
	s := g.states
	seq := s.seq + 1
	dir := s.dirOf(seq)
	tmp := dir + tmpSuffix
	if err := s.fs.RemoveAll(tmp); err != nil {
		return err
	}
	index, _, err := readStream(r, s.fs, tmp)
	if err == nil {
		err = g.checkDir(tmp, index)
	}
	if err != nil {
		return errors.Join(err, s.fs.RemoveAll(tmp))
	}
	if err := s.fs.Rename(tmp, dir); err != nil {
		return err
	}
	if err := syncDir(s.fs, s.parent); err != nil {
		return err
	}
	in, err := s.openDir(dir, true)
	if err != nil {
		return err
	}
	applied, err := readApplied(in.db)
	if err != nil {
		return errors.Join(err, in.db.Close())
	}
	if err := g.adopt(in, seq, applied); err != nil {
		return err
	}
	g.emit(Event{Kind: EventRestored, Index: applied})
	return nil
}

// checkDir reads a whole state once, so that Pebble checks every block, and
// makes sure it holds what it claims.
func (g *Group) checkDir(dir string, index uint64) error {
	in, err := g.states.openDir(dir, true)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	err = func() error {
		it, err := in.db.NewIter(nil)
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			if _, err := it.ValueAndErr(); err != nil {
				return errors.Join(err, it.Close())
			}
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		applied, err := readApplied(in.db)
		if err == nil && applied < index {
			err = fmt.Errorf("%w: a snapshot of entry %d ends at %d", ErrCorrupt, index, applied)
		}
		return err
	}()
	return errors.Join(err, in.db.Close())
}

// adopt makes in the current state and lets the Machine load it.
func (g *Group) adopt(in *instance, seq, applied uint64) error {
	if err := g.opts.Machine.Restored(in.db); err != nil {
		return errors.Join(err, in.db.Close())
	}
	g.states.install(in, seq)
	g.setApplied(applied)
	return nil
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
		s.r, s.err = raft.NewRaft(conf, fsm{g}, g.log, g.log, g.snaps, g.trans)
	}()
	s := <-done
	g.raft = s.r
	if s.err != nil && g.log.poisoned() != nil {
		return g.log.poisoned()
	}
	return s.err
}

func (g *Group) soleVoter() bool {
	f := g.raft.GetConfiguration()
	if f.Error() != nil {
		return false
	}
	voters, self := 0, false
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || s.ID == raft.ServerID(g.opts.NodeID)
		}
	}
	return voters == 1 && self
}

// takeLead makes the only voter leader without waiting for a heartbeat that
// nobody will send: it asks itself to stand for election now, the way a leader
// asks its successor. The timeouts stay those of a larger group.
func (g *Group) takeLead(ctx context.Context) error {
	self, addr := raft.ServerID(g.opts.NodeID), g.trans.LocalAddr()
	req := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: g.trans.EncodePeer(self, addr),
	}}
	// A failure costs no more than the ordinary election timeout.
	if err := g.trans.TimeoutNow(self, addr, &req, new(raft.TimeoutNowResponse)); err != nil {
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
