package raftgroup

import (
	"errors"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestVoidEntry: an entry that is logged in another term than it is for has no
// effect, and its leader says so; nobody takes it for committed in its own term.
func TestVoidEntry(t *testing.T) {
	g := mustOpen(t, options(t.TempDir(), newLedger()))
	mustAdd(t, g, "a", 1, 1)
	var p packer
	p.add(addCmd("a", 1))
	term := g.raft.CurrentTerm()
	for _, other := range []uint64{term - 1, term + 1} {
		if st, index := g.logEntry(other, ticketID{newTag(), 1}, p.counted()); st != statusNotLeader || index != 0 {
			t.Errorf("for term %d in term %d: %d, %d", other, term, st, index)
		}
	}
	if st, index := g.logEntry(term, ticketID{newTag(), 1}, p.counted()); st != statusDone || index != g.AppliedIndex() {
		t.Errorf("%d, %d", st, index)
	}
	if got := stateOf(t, g); got["a"] != 2 {
		t.Errorf("%v", got)
	}
	mustClose(t, g)
}

// TestFormerEntries: logs with entries of version 1 are read.
func TestFormerEntries(t *testing.T) {
	dir := t.TempDir()
	g := mustOpen(t, options(dir, newLedger()))
	mustAdd(t, g, "a", 1, 1)
	last, term := g.raft.LastIndex(), g.raft.CurrentTerm()
	mustClose(t, g)
	b, err := openBolt(filepath.Join(dir, logName))
	if err != nil {
		t.Fatal(err)
	}
	cmd := addCmd("old", 3)
	l := raft.Log{Index: last + 1, Term: term, Type: raft.LogCommand, Data: append([]byte{1, 1, byte(len(cmd))}, cmd...)}
	l.Extensions = seal(&l)
	if err := errors.Join(b.StoreLog(&l), b.Close()); err != nil {
		t.Fatal(err)
	}
	g = mustOpen(t, options(dir, newLedger()))
	mustAdd(t, g, "old", 1, 4)
	if got := stateOf(t, g); !maps.Equal(got, map[string]uint64{"a": 1, "old": 4}) {
		t.Errorf("%v", got)
	}
	mustClose(t, g)
}

// TestTickets walks through what can become of an entry on its way.
func TestTickets(t *testing.T) {
	s := newTickets()
	add := func(term uint64) (*ticket, *proposal) {
		p := &proposal{done: make(chan result, 1)}
		return s.add(route{"x", term}, &packer{}, []*proposal{p}), p
	}
	answered, pa := add(1)
	s.applied(ticketID{newTag(), answered.id.number}, []result{{value: 1}}) // of another origin
	if answered.answered() {
		t.Fatal("another member's answer was taken")
	}
	s.applied(answered.id, []result{{value: 2}})
	s.applied(answered.id, []result{{value: 3}}) // nobody waits
	if r := <-pa.done; r.value != 2 || !answered.answered() {
		t.Errorf("%+v", r)
	}
	former, pf := add(1)
	current, pc := add(2)
	s.passed(2)
	if r := <-pf.done; !r.again || !errors.Is(r.err, ErrNotLeader) || !former.answered() || current.answered() {
		t.Errorf("%+v", r)
	}
	s.jumped()
	if r := <-pc.done; r.again || !errors.Is(r.err, ErrOutcomeUnknown) {
		t.Errorf("%+v", r)
	}
	s.end(current, result{}) // answered before: must not block
	if len(s.open) != 0 {
		t.Errorf("%d are open", len(s.open))
	}
}

// TestDesk: what arrives twice in a term is one attempt, unless it certainly did
// not reach the log.
func TestDesk(t *testing.T) {
	var d desk
	id := ticketID{newTag(), 1}
	a, mine := d.take(5, id)
	if b, again := d.take(5, id); !mine || again || a != b {
		t.Fatal("two attempts")
	}
	d.finish(5, id, a, statusNotLeader, 0)
	b, mine := d.take(5, id)
	if !mine || a == b {
		t.Fatal("a refused attempt is remembered")
	}
	d.finish(5, id, b, statusDone, 7)
	if c, mine := d.take(5, id); mine || c != b || c.index != 7 {
		t.Fatal("a done attempt is forgotten")
	}
	if _, mine := d.take(5, ticketID{id.origin, 1 + deskNumbers}); !mine {
		t.Fatal("a new number is refused")
	}
	if c, mine := d.take(5, id); c != nil || mine {
		t.Fatal("a number that was forgotten is taken again")
	}
	if c, mine := d.take(6, id); c == nil || !mine {
		t.Fatal("a later term does not begin anew")
	}
	if c, mine := d.take(5, id); c != nil || mine {
		t.Fatal("an earlier term is taken")
	}
	d.finish(5, id, &attempt{done: make(chan struct{})}, statusNotLeader, 0) // of the former term
	if _, mine := d.take(6, id); mine {
		t.Error("the end of a former term's attempt was taken for the current one's")
	}
}

// TestSuspended: a process that was stopped for long does not blame its disk.
func TestSuspended(t *testing.T) {
	var w logWatch
	done := w.call()
	for range hungTicks - 1 {
		w.tick()
	}
	if n := w.tick(); n != hungTicks {
		t.Errorf("%d ticks", n)
	}
	done()
	if w.busy() || w.waited() != 0 || w.tick() != 0 {
		t.Error("it still waits")
	}
	a, b := w.call(), w.call()
	w.tick()
	a()
	if w.waited() != 1 {
		t.Errorf("%d ticks", w.waited())
	}
	b()
}

// TestHoldsEnd: what is kept for a follower is kept for a while and not for ever.
func TestHoldsEnd(t *testing.T) {
	h := holds{by: map[int]hold{1: {index: 50}, 2: {index: 30, until: time.Minute}}}
	for _, tt := range []struct {
		now  time.Duration
		want uint64
	}{{0, 29}, {time.Minute, 49}, {time.Hour, 49}} {
		if got := h.limit(tt.now, 100); got != tt.want {
			t.Errorf("at %v: %d, want %d", tt.now, got, tt.want)
		}
	}
	if got := h.limit(time.Hour, 20); got != 20 {
		t.Errorf("%d", got)
	}
}
