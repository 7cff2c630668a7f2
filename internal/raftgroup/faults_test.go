package raftgroup

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// gatedStore lets an append through only when the gate is open, and fails when
// told.
type gatedStore struct {
	store
	gate    <-chan struct{}
	entered chan struct{} // one token per append that has come to the gate

	mu       sync.Mutex
	appends  int
	failAt   int // the append that fails, 1 for the first; 0: none
	setFails bool
	getFails bool
}

var errDisk = errors.New("input/output error")

func (s *gatedStore) StoreLogs(l []*raft.Log) error {
	if s.entered != nil {
		s.entered <- struct{}{}
	}
	<-s.gate
	s.mu.Lock()
	s.appends++
	fails := s.appends == s.failAt
	s.mu.Unlock()
	if fails {
		return errDisk
	}
	return s.store.StoreLogs(l)
}

func (s *gatedStore) SetUint64(key []byte, v uint64) error {
	s.mu.Lock()
	fails := s.setFails
	s.mu.Unlock()
	if fails {
		return errDisk
	}
	return s.store.SetUint64(key, v)
}

func (s *gatedStore) GetLog(i uint64, l *raft.Log) error {
	s.mu.Lock()
	fails := s.getFails
	s.mu.Unlock()
	if fails {
		return errDisk
	}
	return s.store.GetLog(i, l)
}

func openGate() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// TestFirstFailedSyncStops is fault 6 for the log: the proposal's outcome is
// unknown, everything later is refused, and the log is never written again.
func TestFirstFailedSyncStops(t *testing.T) {
	dir := t.TempDir()
	var events []Event
	var mu sync.Mutex
	gs := &gatedStore{gate: openGate()}
	o := options(dir, newLedger())
	o.Events = func(e Event) { mu.Lock(); events = append(events, e); mu.Unlock() }
	o.wrapStore = func(_ string, s store) store { gs.store = s; return gs }
	g := mustOpen(t, o)
	mustAdd(t, g, "a", 1, 1)
	gs.mu.Lock()
	gs.failAt = gs.appends + 1
	gs.mu.Unlock()
	if _, err := g.Propose(t.Context(), addCmd("a", 1)); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("%v", err)
	}
	for range 3 {
		if _, err := g.Propose(t.Context(), addCmd("a", 1)); !errors.Is(err, ErrStopped) || !errors.Is(err, errDisk) {
			t.Fatalf("later: %v", err)
		}
	}
	if err := g.Fresh(t.Context()); !errors.Is(err, ErrStopped) {
		t.Fatalf("fresh: %v", err)
	}
	if got := stateOf(t, g); got["a"] != 1 { // what was durable can still be read
		t.Fatalf("%v", got)
	}
	mustClose(t, g)
	if gs.appends != gs.failAt {
		t.Errorf("%d appends, the %dth failed", gs.appends, gs.failAt)
	}
	stopped := 0
	mu.Lock()
	for _, e := range events {
		if e.Kind == EventStopped {
			stopped++
		}
	}
	mu.Unlock()
	if stopped != 1 {
		t.Errorf("%d events of the stop", stopped)
	}
	g = mustOpen(t, options(dir, newLedger()))
	mustAdd(t, g, "a", 1, 2)
	mustClose(t, g)
}

// TestTermNotSaved: Raft would panic.
func TestTermNotSaved(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, options(dir, newLedger())))
	o := options(dir, newLedger())
	o.wrapStore = func(_ string, s store) store { return &gatedStore{store: s, gate: openGate(), setFails: true} }
	if _, err := Open(t.Context(), o); !errors.Is(err, errDisk) {
		t.Fatalf("%v", err)
	}
	mustClose(t, mustOpen(t, options(dir, newLedger())))
}

// TestEntryUnreadableLater: an entry that was fine at the check cannot be read
// when it is to be applied. Raft would panic.
func TestEntryUnreadableLater(t *testing.T) {
	dir := t.TempDir()
	g := mustOpen(t, options(dir, newLedger()))
	mustAdd(t, g, "a", 1, 1)
	mustClose(t, g)
	gs := &gatedStore{gate: openGate()}
	o := options(dir, restoredHook{newLedger(), func() { gs.mu.Lock(); gs.getFails = true; gs.mu.Unlock() }})
	o.wrapStore = func(_ string, s store) store { gs.store = s; return gs }
	if _, err := Open(t.Context(), o); !errors.Is(err, errDisk) {
		t.Fatalf("%v", err)
	}
}

type restoredHook struct {
	Machine
	f func()
}

func (r restoredHook) Restored(db *pebble.DB) error {
	defer r.f()
	return r.Machine.Restored(db)
}

func TestContextEnds(t *testing.T) {
	gate := make(chan struct{})
	gs := &gatedStore{}
	o := options(t.TempDir(), newLedger())
	o.wrapStore = func(_ string, s store) store { gs.store = s; gs.gate = openGate(); return gs }
	g := mustOpen(t, o)
	gs.gate, gs.entered = gate, make(chan struct{}, 16) // nothing is in flight
	ended, end := context.WithCancel(t.Context())
	inFlight := make(chan error, 1)
	go func() { _, err := g.Propose(ended, addCmd("a", 1)); inFlight <- err }()
	<-gs.entered
	// One more fills the second slot; what comes then waits in the queue, behind
	// the one that the packer holds.
	second := make(chan error, 1)
	go func() { _, err := g.Propose(context.Background(), addCmd("b", 1)); second <- err }()
	for len(g.slots) < maxInFlight {
		yield()
	}
	third := make(chan error, 1)
	go func() { _, err := g.Propose(context.Background(), addCmd("c", 1)); third <- err }()
	queued := make(chan error, 1)
	go func() { _, err := g.Propose(ended, addCmd("d", 1)); queued <- err }()
	for len(g.queue) < 1 {
		yield()
	}
	end()
	if err := <-inFlight; !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("in flight: %v", err)
	}
	// Either c or d is held by the packer; if it is d, its outcome counts as unknown.
	err := <-queued
	if !errors.Is(err, context.Canceled) {
		t.Errorf("queued: %v", err)
	}
	close(gate)
	if err := errors.Join(<-second, <-third); err != nil {
		t.Error(err)
	}
	mustAdd(t, g, "e", 1, 1)
	want := map[string]uint64{"a": 1, "b": 1, "c": 1, "e": 1}
	got := stateOf(t, g)
	if errors.Is(err, ErrOutcomeUnknown) {
		delete(got, "d")
	}
	if !maps.Equal(got, want) {
		t.Errorf("state %v, want %v", got, want)
	}
	mustClose(t, g)
}

func yield() { time.Sleep(0) }

// TestUnsupportedStops: a command of a later version, or one the machine cannot
// apply here, stops the group before it, and is applied by a machine that can.
func TestUnsupportedStops(t *testing.T) {
	for name, cmd := range map[string]string{"unsupported": "x", "refused after it wrote": "w", "broken": "b"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			g := mustOpen(t, options(dir, newLedger()))
			mustAdd(t, g, "a", 1, 1)
			before := g.AppliedIndex()
			if _, err := g.Propose(t.Context(), []byte(cmd)); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, ErrStopped) {
				t.Fatalf("%v", err)
			}
			if _, err := g.Propose(t.Context(), addCmd("a", 1)); !errors.Is(err, ErrStopped) {
				t.Fatalf("%v", err)
			}
			if err := g.Checkpoint(); !errors.Is(err, ErrStopped) {
				t.Fatalf("a stopped group took a snapshot: %v", err)
			}
			if got := stateOf(t, g); g.AppliedIndex() != before || !maps.Equal(got, map[string]uint64{"a": 1}) {
				t.Fatalf("%v at %d", got, g.AppliedIndex())
			}
			mustClose(t, g)
			if _, err := Open(t.Context(), options(dir, newLedger())); !errors.Is(err, ErrStopped) {
				t.Fatalf("open again: %v", err)
			}
			g = mustOpen(t, options(dir, upgraded{newLedger()}))
			mustAdd(t, g, "a", 1, 2)
			mustClose(t, g)
		})
	}
}

// upgraded is a machine that applies the commands ledger does not.
type upgraded struct{ *ledger }

func (u upgraded) Apply(b *pebble.Batch, cmd []byte) (any, error) {
	if cmd[0] == 'x' || cmd[0] == 'w' || cmd[0] == 'b' {
		return nil, nil
	}
	return u.ledger.Apply(b, cmd)
}

// closedGroup makes a group with a snapshot and a few entries behind it.
func closedGroup(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	o := options(dir, newLedger())
	o.TrailingLogs = 2
	g := mustOpen(t, o)
	for i := range uint64(10) {
		mustAdd(t, g, "a", 1, i+1)
	}
	if err := g.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(5) {
		mustAdd(t, g, "b", 1, i+1)
	}
	mustClose(t, g)
	return dir
}

// one returns the only match of a pattern below dir.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += int64(len(b))
	}
	b[at] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// withLog opens the log of a closed group and changes it.
func withLog(t *testing.T, dir string, f func(s store) error) {
	t.Helper()
	b, err := openBolt(filepath.Join(dir, logName))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f(boltStore{b}), b.Close()); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// TestDamageIsRefused is fault 27: what is durable and damaged stops the node
// with an error that names it, and nothing is dropped or made anew.
func TestDamageIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		says   string
	}{
		"bit flip in a log entry": {func(t *testing.T, dir string) {
			withLog(t, dir, func(s store) error {
				last, err := s.LastIndex()
				if err != nil {
					return err
				}
				var l raft.Log
				if err := s.GetLog(last-1, &l); err != nil {
					return err
				}
				l.Data[len(l.Data)-1] ^= 1
				return s.StoreLog(&l)
			})
		}, "checksum"},
		"log entry without a checksum": {func(t *testing.T, dir string) {
			withLog(t, dir, func(s store) error {
				last, err := s.LastIndex()
				if err != nil {
					return err
				}
				return s.StoreLog(&raft.Log{Index: last + 1, Term: 1, Data: []byte{1, 1, 1, 'r'}})
			})
		}, "checksum"},
		"missing log entry": {func(t *testing.T, dir string) {
			withLog(t, dir, func(s store) error {
				last, err := s.LastIndex()
				return errors.Join(err, s.DeleteRange(last-1, last-1))
			})
		}, "missing"},
		"log shorter than the state": {func(t *testing.T, dir string) {
			withLog(t, dir, func(s store) error {
				last, err := s.LastIndex()
				return errors.Join(err, s.DeleteRange(last-2, last))
			})
		}, "the log ends"},
		"log gone": {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, logName)) }, "gone"},
		"log and identity gone": {func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, logName))
			remove(t, filepath.Join(dir, identityName))
			remove(t, filepath.Join(dir, snapsName))
		}, "not new"},
		"log is no database": {func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, logName), make([]byte, 64<<10), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "invalid database"},
		"log file cut": {func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, logName), 12<<10); err != nil {
				t.Fatal(err)
			}
		}, "12288 bytes of"},
		"snapshot gone":         {func(t *testing.T, dir string) { remove(t, one(t, dir, "snapshots/*")) }, "the newest snapshot ends at 0"},
		"snapshot meta damaged": {func(t *testing.T, dir string) { flip(t, one(t, dir, "snapshots/*/meta"), 30) }, "checksum"},
		"snapshot meta cut": {func(t *testing.T, dir string) {
			if err := os.Truncate(one(t, dir, "snapshots/*/meta"), 10); err != nil {
				t.Fatal(err)
			}
		}, "meta"},
		"snapshot file gone": {func(t *testing.T, dir string) { remove(t, one(t, dir, "snapshots/*/state/MANIFEST-*")) }, "MANIFEST"},
		"identity damaged":   {func(t *testing.T, dir string) { flip(t, filepath.Join(dir, identityName), -1) }, "identity"},
		"snapshot damaged, state lost": {func(t *testing.T, dir string) {
			remove(t, one(t, dir, "state-*"))
			flip(t, one(t, dir, "snapshots/*/state/MANIFEST-*"), 20)
		}, "restore snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := closedGroup(t)
			c.damage(t, dir)
			o := options(dir, newLedger())
			o.TrailingLogs = 2
			_, err := Open(t.Context(), o)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v; it should be corrupt and say %q", err, c.says)
			}
		})
	}
}

// TestStateDamageIsRepaired: the working state is derived, so damage to it is
// repaired from snapshot and log.
func TestStateDamageIsRepaired(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"gone":                 func(t *testing.T, dir string) { remove(t, dir) },
		"no marker":            func(t *testing.T, dir string) { remove(t, one(t, dir, "marker.manifest.*")) },
		"manifest damaged":     func(t *testing.T, dir string) { flip(t, one(t, dir, "MANIFEST-*"), 20) },
		"manifest gone":        func(t *testing.T, dir string) { remove(t, one(t, dir, "MANIFEST-*")) },
		"unfinished directory": func(t *testing.T, dir string) { _ = os.Rename(dir, dir+tmpSuffix) },
		"older than the snapshot": func(t *testing.T, dir string) {
			remove(t, dir)
			db, err := pebble.Open(dir, &pebble.Options{Logger: pebbleLogger{emit: func(Event) {}}})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Set(appliedKey, appliedValue(3), pebble.Sync), db.Set([]byte("a"), make([]byte, 8), pebble.Sync), db.Close()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := closedGroup(t)
			damage(t, filepath.Join(dir, "state-000001"))
			for range 2 { // the second time it is there
				l := newLedger()
				g := mustOpen(t, options(dir, l))
				want := map[string]uint64{"a": 10, "b": 5}
				if got := stateOf(t, g); !maps.Equal(got, want) {
					t.Fatalf("state %v", got)
				}
				if got := l.snapshot(); !maps.Equal(got, want) {
					t.Fatalf("in memory %v", got)
				}
				mustClose(t, g)
			}
			if found, err := filepath.Glob(filepath.Join(dir, "state-*")); err != nil || len(found) != 1 {
				t.Errorf("left behind: %v, %v", found, err)
			}
		})
	}
}

func TestForeignDirectory(t *testing.T) {
	dir := closedGroup(t)
	for _, o := range []Options{
		{Dirs: []string{dir}, Name: "other", NodeID: "n1", Machine: newLedger()},
		{Dirs: []string{dir}, Name: "test", NodeID: "n2", Machine: newLedger()},
	} {
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "belongs to") {
			t.Errorf("%v", err)
		}
	}
	g := mustOpen(t, options(dir, newLedger()))
	if _, err := Open(t.Context(), options(dir, newLedger())); err == nil {
		t.Error("a directory was opened twice")
	}
	mustClose(t, g)
}

// TestCloseWaitsForReaders holds a snapshot across Close.
func TestCloseWaitsForReaders(t *testing.T) {
	g := mustOpen(t, options(t.TempDir(), newLedger()))
	mustAdd(t, g, "a", 1, 1)
	s, err := g.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	mustAdd(t, g, "a", 1, 2)
	closed := make(chan error, 1)
	go func() { closed <- g.Close() }()
	<-g.closed
	if got, err := contents(s); err != nil || got["a"] != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if i, err := AppliedIn(s); err != nil || i == 0 || i >= g.AppliedIndex() {
		t.Errorf("the view is of entry %d, %v; applied is %d", i, err, g.AppliedIndex())
	}
	select {
	case err := <-closed:
		t.Fatalf("closed under a reader: %v", err)
	default:
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if _, err := g.Snapshot(); !errors.Is(err, ErrStopped) {
		t.Fatalf("%v", err)
	}
}
