package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// members is a group of three in one process.
type members struct {
	t     *testing.T
	ids   []string
	dirs  map[string]string
	trans map[string]*raft.InmemTransport
	open  map[string]*Group
	mach  map[string]*ledger

	mu     sync.Mutex
	events map[string][]Event
}

func newMembers(t *testing.T, n int) *members {
	m := &members{t: t, dirs: map[string]string{}, trans: map[string]*raft.InmemTransport{}, open: map[string]*Group{},
		mach: map[string]*ledger{}, events: map[string][]Event{}}
	for i := range n {
		id := fmt.Sprintf("n%d", i+1)
		m.ids = append(m.ids, id)
		m.dirs[id] = t.TempDir()
	}
	return m
}

func (m *members) start(id string) {
	m.t.Helper()
	_, tr := raft.NewInmemTransportWithTimeout(raft.ServerAddress(id), 500*time.Millisecond)
	for other, o := range m.trans {
		tr.Connect(raft.ServerAddress(other), o)
		o.Connect(raft.ServerAddress(id), tr)
	}
	m.trans[id] = tr
	var boot []Voter
	for _, v := range m.ids {
		boot = append(boot, Voter{ID: v, Addr: v})
	}
	m.mach[id] = newLedger()
	g, err := Open(m.t.Context(), Options{
		Dirs: []string{m.dirs[id]}, Name: "test", NodeID: id, Machine: m.mach[id], Transport: tr, Bootstrap: boot, TrailingLogs: 1,
		Events: func(e Event) { m.mu.Lock(); m.events[id] = append(m.events[id], e); m.mu.Unlock() },
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.open[id] = g
}

func (m *members) stop(id string) {
	m.t.Helper()
	for other, o := range m.trans {
		if other != id {
			o.Disconnect(raft.ServerAddress(id))
		}
	}
	delete(m.trans, id)
	mustClose(m.t, m.open[id])
	delete(m.open, id)
}

// leader waits for one that is ready.
func (m *members) leader() (string, *Group) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	found := make(chan string, len(m.open))
	for id, g := range m.open {
		go func() {
			if g.Ready(ctx) == nil {
				found <- id
			}
		}()
	}
	select {
	case id := <-found:
		return id, m.open[id]
	case <-ctx.Done():
		m.t.Fatal("no leader")
	}
	return "", nil
}

func (m *members) saw(id string, k EventKind) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events[id] {
		if e.Kind == k {
			return true
		}
	}
	return false
}

// TestThreeVoters walks through what one voter never needs: replication, a
// follower that is too late for the log and gets the snapshot while a reader
// holds its former state, a change of leader, and the refusal of a minority.
func TestThreeVoters(t *testing.T) {
	m := newMembers(t, 3)
	for _, id := range m.ids {
		m.start(id)
	}
	defer func() {
		for id := range m.open {
			m.stop(id)
		}
	}()
	lead, g := m.leader()
	for i := range uint64(20) {
		mustAdd(t, g, "a", 1, i+1)
	}
	var late string
	for _, id := range m.ids {
		if id == lead {
			continue
		}
		f := m.open[id]
		if err := f.WaitApplied(t.Context(), g.AppliedIndex()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Propose(t.Context(), addCmd("a", 1)); !errors.Is(err, ErrNotLeader) {
			t.Fatalf("a follower took a command: %v", err)
		}
		if err := f.Leading(); !errors.Is(err, ErrNotLeader) {
			t.Errorf("%v", err)
		}
		if err := f.Fresh(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Fatalf("a follower is fresh: %v", err)
		}
		late = id
	}
	// late misses entries that are not in the log any more.
	m.stop(late)
	for i := range uint64(20) {
		mustAdd(t, g, "b", 1, i+1)
	}
	if err := g.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, g, "c", 1, 1)
	m.start(late)
	f := m.open[late]
	old, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.WaitApplied(t.Context(), g.AppliedIndex()); err != nil {
		t.Fatal(err)
	}
	if !m.saw(late, EventRestored) {
		t.Error("the late follower did not get a snapshot")
	}
	want := map[string]uint64{"a": 20, "b": 20, "c": 1}
	if got := stateOf(t, f); !maps.Equal(got, want) {
		t.Errorf("the late follower has %v", got)
	}
	if got := m.mach[late].snapshot(); !maps.Equal(got, want) {
		t.Errorf("the late follower's machine has %v", got)
	}
	if got, err := contents(old); err != nil || len(got) > 1 {
		t.Errorf("the former state shows %v, %v", got, err)
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	// The leader goes: another takes over, with everything.
	m.stop(lead)
	second, g := m.leader()
	mustAdd(t, g, "c", 1, 2)
	if err := g.Leading(); err != nil {
		t.Error(err)
	}
	if err := g.Fresh(t.Context()); err != nil {
		t.Errorf("the new leader is not fresh: %v", err)
	}
	// Of two members one goes: the other is a minority.
	for id := range m.open {
		if id != second {
			m.stop(id)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := g.Propose(ctx, addCmd("c", 1)); !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("a minority took a command: %v", err)
	}
	if err := g.Fresh(ctx); err == nil {
		t.Errorf("a minority is fresh")
	}
}

// TestJoinWaits: a node that is to be added makes no group of its own.
func TestJoinWaits(t *testing.T) {
	_, tr := raft.NewInmemTransport("n9")
	g, err := Open(t.Context(), Options{Dirs: []string{t.TempDir()}, Name: "test", NodeID: "n9", Machine: newLedger(), Transport: tr, Peers: nobody{}, Join: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Propose(ctx, addCmd("a", 1)); !errors.Is(err, ErrNotLeader) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := g.Working(); !errors.Is(err, ErrNotLeader) {
		t.Errorf("it works: %v", err)
	}
	if m, err := g.Members(); err != nil || len(m) != 0 {
		t.Errorf("%v, %v", m, err)
	}
	if err := g.Ready(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	mustClose(t, g)
}

// nobody is Peers without a way to anybody.
type nobody struct{}

func (nobody) Call(context.Context, string, []byte) ([]byte, error) {
	return nil, errors.New("nobody there")
}
