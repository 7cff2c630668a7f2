package raftgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"hayloft/internal/testenv"
)

// cluster is a group of several members in one process that can ask one another.
type cluster struct {
	t    testing.TB
	net  *network
	tcp  bool
	tune func(id string, o *Options)
	ids  []string
	dirs map[string]string
	open map[string]*Group
	mach map[string]*ledger

	mu     sync.Mutex // guards events
	events map[string][]Event
}

func newCluster(t testing.TB, tcp bool) *cluster {
	c := &cluster{t: t, net: newNetwork(uint64(time.Now().UnixNano())), tcp: tcp, dirs: map[string]string{}, open: map[string]*Group{},
		mach: map[string]*ledger{}, events: map[string][]Event{}}
	t.TempDir() // the first one registers the removal of all: it has to come after stopAll
	t.Cleanup(c.stopAll)
	return c
}

// start opens a member. The first one of all makes the group, the others join.
func (c *cluster) start(id string) *Group {
	c.t.Helper()
	g, err := c.tryStart(id)
	if err != nil {
		c.t.Fatalf("%s: %v", id, err)
	}
	return g
}

func (c *cluster) tryStart(id string) (*Group, error) {
	if !slices.Contains(c.ids, id) {
		c.ids = append(c.ids, id)
		c.dirs[id] = c.t.TempDir()
	}
	events := func(e Event) { c.mu.Lock(); c.events[id] = append(c.events[id], e); c.mu.Unlock() }
	tr := c.net.radio(id)
	if c.tcp {
		var err error
		if tr, err = c.net.wired(id, events); err != nil {
			return nil, err
		}
	}
	c.mach[id] = newLedger()
	o := Options{Dirs: []string{c.dirs[id]}, Name: "test", NodeID: id, Machine: c.mach[id], Scratch: scratch, Transport: tr,
		Peers: caller{c.net, id}, Join: id != c.ids[0], Events: events}
	if c.tune != nil {
		c.tune(id, &o)
	}
	g, err := Open(c.t.Context(), o)
	if err != nil {
		return nil, err
	}
	c.open[id] = g
	c.net.mu.Lock()
	c.net.groups[id] = g
	c.net.mu.Unlock()
	return g, nil
}

func (c *cluster) stop(id string) {
	c.t.Helper()
	if err := c.open[id].Close(); err != nil {
		c.t.Errorf("close %s: %v", id, err)
	}
	c.forget(id)
}

func (c *cluster) forget(id string) {
	delete(c.open, id)
	c.net.mu.Lock()
	delete(c.net.groups, id)
	c.net.mu.Unlock()
}

// stopAll closes every member; nobody is to take the lead any more.
func (c *cluster) stopAll() {
	for _, id := range c.ids {
		c.net.isolate(true, id, c.ids)
	}
	for _, id := range slices.Collect(maps.Keys(c.open)) {
		c.stop(id)
	}
	c.net.again.Wait()
}

// voters starts members and makes them voters.
func (c *cluster) voters(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		g := c.start(id)
		if id == c.ids[0] {
			continue
		}
		asked := c.open[c.ids[len(c.open)/2]] // any that is a member, or becomes one
		if asked == g {
			asked = c.open[c.ids[0]]
		}
		if err := asked.AddVoter(c.in(60*time.Second), id); err != nil {
			c.t.Fatalf("add %s: %v", id, err)
		}
	}
}

func (c *cluster) in(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), d)
	c.t.Cleanup(cancel)
	return ctx
}

// until waits for an effect.
func (c *cluster) until(what string, f func() bool) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(testenv.Patience)
	for !f() {
		select {
		case <-tick.C:
		case <-limit:
			c.t.Fatalf("not in %v: %s", testenv.Patience, what)
		}
	}
}

// leader waits until somebody leads that all of those given agree upon.
func (c *cluster) leader(ids ...string) string {
	c.t.Helper()
	if len(ids) == 0 {
		ids = slices.Sorted(maps.Keys(c.open))
	}
	var lead string
	defer func() {
		if c.t.Failed() {
			for id, g := range c.open {
				got, ok := g.Leader()
				m, _ := g.Members()
				c.mu.Lock()
				ev := c.events[id]
				for _, e := range ev[max(0, len(ev)-25):] {
					c.t.Log(id, e.Kind, e.Text, e.Err)
				}
				c.mu.Unlock()
				c.t.Logf("%s: %s, %v, leading %v, term %d, %+v", id, got, ok, g.Leading(), g.raft.CurrentTerm(), m)
			}
		}
	}()
	c.until("one leader", func() bool {
		lead = ""
		for _, id := range ids {
			got, ok := c.open[id].Leader()
			if !ok || lead != "" && got != lead || !slices.Contains(ids, got) {
				return false
			}
			lead = got
		}
		return c.open[lead].Leading() == nil
	})
	return lead
}

// other returns an open member that is none of those.
func (c *cluster) other(not ...string) string {
	c.t.Helper()
	for _, id := range c.ids {
		if c.open[id] != nil && !slices.Contains(not, id) {
			return id
		}
	}
	c.t.Fatal("no other member")
	return ""
}

// same waits until every open member shows the same, on disk and in memory: what
// is in doubt may still come about.
func (c *cluster) same() (want map[string]uint64) {
	c.t.Helper()
	ids := slices.Sorted(maps.Keys(c.open))
	for _, id := range ids {
		if err := c.open[id].Fresh(c.in(60 * time.Second)); err != nil {
			c.t.Fatalf("%s is not fresh: %v", id, err)
		}
	}
	var got []map[string]uint64
	defer func() {
		if c.t.Failed() {
			c.t.Logf("%s show, on disk and in memory: %v", ids, got)
		}
	}()
	c.until("the same everywhere", func() bool {
		got = nil
		for _, id := range ids {
			got = append(got, stateOf(c.t, c.open[id]), c.mach[id].snapshot())
		}
		want = got[0]
		return !slices.ContainsFunc(got, func(m map[string]uint64) bool { return !maps.Equal(m, want) })
	})
	return want
}

func (c *cluster) count(id string, k EventKind) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events[id] {
		if e.Kind == k {
			n++
		}
	}
	return n
}

func transports(t *testing.T, f func(t *testing.T, c *cluster)) {
	for name, tcp := range map[string]bool{"memory": false, "tcp": true} {
		t.Run(name, func(t *testing.T) { f(t, newCluster(t, tcp)) })
	}
}

// TestEveryMemberProposes: commands go in on every member, a learner too; each is
// applied once, and each proposer gets its own answer, refusals included.
func TestEveryMemberProposes(t *testing.T) {
	transports(t, func(t *testing.T, c *cluster) {
		c.net.doubt = 10
		c.voters("n1", "n2", "n3")
		c.start("n4")
		if err := c.open["n2"].AddLearner(c.in(30*time.Second), "n4"); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		const n = 60
		for _, id := range c.ids {
			for w := range 4 {
				wg.Go(func() {
					key := fmt.Sprintf("%s-%d", id, w)
					for i := range uint64(n) {
						if v, err := c.open[id].Propose(c.in(30*time.Second), addCmd(key, 1)); err != nil || v != i+1 {
							t.Errorf("%s: %v, %v; want %d", key, v, err, i+1)
							return
						}
						if _, err := c.open[id].Propose(c.in(30*time.Second), []byte("rno")); !errors.Is(err, errRefused) {
							t.Errorf("%s: refusal: %v", key, err)
						}
					}
				})
			}
		}
		wg.Wait()
		got := c.same()
		for _, id := range c.ids {
			for w := range 4 {
				if key := fmt.Sprintf("%s-%d", id, w); got[key] != n {
					t.Errorf("%s is %d", key, got[key])
				}
			}
			if err := c.open[id].Working(); err != nil {
				t.Errorf("%s: %v", id, err)
			}
			if s := c.open[id].Staleness(); s > hearing {
				t.Errorf("%s: %v", id, s)
			}
		}
	})
}

// TestGrowsAndShrinks: a group that was alone becomes one of five over TCP, with
// its files as they are, and changes its members while it works.
func TestGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	c := newCluster(t, true)
	dir := t.TempDir()
	g := mustOpen(t, options(dir, newLedger())) // alone, in memory
	mustAdd(t, g, "old", 7, 7)
	mustClose(t, g)
	c.ids, c.dirs["n1"] = []string{"n1"}, dir
	c.voters("n1", "n2", "n3", "n4", "n5")
	ctx := c.in(60 * time.Second)
	for _, again := range []error{c.open["n4"].AddVoter(ctx, "n3"), c.open["n2"].AddLearner(ctx, "n3")} {
		if again != nil {
			t.Error(again)
		}
	}
	lead := c.leader()
	follower := c.other(lead)
	if err := c.open[follower].TransferLeadership(ctx, follower); err != nil {
		t.Fatal(err)
	}
	if got := c.leader(); got != follower {
		t.Errorf("%s leads", got)
	}
	if err := c.open[lead].TransferLeadership(ctx, ""); err != nil {
		t.Error(err)
	}
	if got := c.leader(); got == follower {
		t.Errorf("%s still leads", got)
	}
	if err := errors.Join(c.open["n5"].Demote(ctx, "n5"), c.open["n2"].Demote(ctx, "n5")); err != nil {
		t.Error(err)
	}
	lead = c.leader()
	gone := c.other(lead, "n5")
	if err := errors.Join(c.open["n5"].Remove(ctx, lead), c.open["n5"].Remove(ctx, lead)); err != nil { // the leader itself
		t.Error(err)
	}
	c.stop(lead)
	if err := c.open["n5"].Remove(ctx, gone); err != nil {
		t.Error(err)
	}
	if _, err := c.open[gone].Propose(c.in(time.Second), addCmd("x", 1)); !errors.Is(err, ErrNotLeader) {
		t.Errorf("one that was removed proposes: %v", err)
	}
	c.stop(gone)
	mustAdd(t, c.open["n5"], "old", 1, 8)
	c.leader()
	members, err := c.open["n5"].Members()
	var voters, leaders int
	for _, m := range members {
		if m.Voter {
			voters++
		}
		if m.Leader {
			leaders++
		}
		if m.ID == gone || m.ID == lead || m.ID == "n5" && m.Voter {
			t.Errorf("%+v", m)
		}
	}
	if err != nil || len(members) != 3 || voters != 2 || leaders != 1 {
		t.Errorf("%v, %v", members, err)
	}
	if got := c.same(); got["old"] != 8 || got["x"] != 0 {
		t.Errorf("%v", got)
	}
	// The last voter stays.
	lead = c.leader()
	for _, m := range members {
		if m.ID != lead && m.Voter {
			if err := c.open[lead].Demote(ctx, m.ID); err != nil {
				t.Error(err)
			}
		}
	}
	var r refusal
	if err := c.open["n5"].Remove(ctx, lead); !errors.As(err, &r) {
		t.Errorf("the last voter was removed: %v", err)
	}
}

// TestStrangers: who is no member learns who leads and nothing else.
func TestStrangers(t *testing.T) {
	c := newCluster(t, false)
	c.voters("n1", "n2", "n3")
	lead := c.leader()
	before := c.open[lead].AppliedIndex()
	b, err := c.open[lead].Serve(t.Context(), "stranger", []byte{callVersion, byte(kindLeader)})
	if err != nil || string(b) != string([]byte{callVersion, 0})+lead {
		t.Errorf("%q, %v", b, err)
	}
	for k := kindPropose; k <= kindAdmit; k++ {
		b, err := c.open[lead].Serve(t.Context(), "stranger", append([]byte{callVersion, byte(k)}, "n1"...))
		if err != nil || string(b) != string([]byte{callVersion, byte(statusNotMember)}) {
			t.Errorf("kind %d: %q, %v", k, b, err)
		}
	}
	for _, bad := range [][]byte{nil, {callVersion}, {9, 1}, {callVersion, 99}, {callVersion, byte(kindPropose), 1, 2}, {callVersion, byte(kindChange)},
		append([]byte{callVersion, byte(kindPropose)}, make([]byte, 40)...), make([]byte, maxRequest+1)} {
		if b, err := c.open[lead].Serve(t.Context(), "n1", bad); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%d bytes: %q, %v", len(bad), b, err)
		}
	}
	if got := c.open[lead].AppliedIndex(); got != before {
		t.Errorf("entries %d to %d were logged", before, got)
	}
}

// TestPausedLeader is fault 25: a leader that was cut off serves nothing stale and
// commits nothing, and what was proposed on it comes about once, elsewhere.
func TestPausedLeader(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, c *cluster) {
		c.voters("n1", "n2", "n3")
		old := c.leader()
		mustAdd(t, c.open[old], "a", 1, 1)
		c.net.isolate(true, old, c.ids)
		// In flight on the old leader when it is cut off.
		late := make(chan error, 1)
		go func() {
			v, err := c.open[old].Propose(c.in(60*time.Second), addCmd("late", 1))
			if err == nil && v != uint64(1) {
				err = fmt.Errorf("answer %v", v)
			}
			late <- err
		}()
		begin := time.Now()
		rest := slices.DeleteFunc(slices.Clone(c.ids), func(id string) bool { return id == old })
		if _, err := c.open[rest[0]].Propose(c.in(30*time.Second), addCmd("a", 1)); err != nil {
			t.Fatal(err)
		}
		t.Logf("another leader worked %v after the cut", time.Since(begin))
		if took := time.Since(begin); took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
		if err := c.open[old].Fresh(c.in(300 * time.Millisecond)); err == nil {
			t.Error("the old leader is fresh")
		}
		c.until("the old leader knows", func() bool { return c.open[old].Staleness() > leadTrust && c.open[old].Leading() != nil })
		c.net.isolate(false, old, c.ids)
		if err := <-late; err != nil {
			t.Errorf("late: %v", err)
		}
		if got := c.same(); got["a"] != 2 || got["late"] != 1 {
			t.Errorf("%v", got)
		}
	})
}

// TestLostMember is fault 27, and a node that comes back empty under its name: a
// member with a damaged log does not start, the others go on; when its directory
// was erased it takes part in nothing until it was removed and added again.
func TestLostMember(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, c *cluster) {
		c.tune = func(_ string, o *Options) { o.SnapshotEntries, o.TrailingLogs = 20, 5 }
		c.voters("n1", "n2", "n3")
		lead := c.leader()
		for i := range uint64(50) {
			mustAdd(t, c.open[lead], "a", 1, i+1)
		}
		lost := c.other(lead)
		third := c.other(lead, lost)
		c.stop(lost)
		damage(t, c.dirs[lost]+"/"+logName)
		if _, err := c.tryStart(lost); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a damaged log: %v", err)
		}
		mustAdd(t, c.open[lead], "a", 1, 51)
		// It comes back with nothing. Without the third there is no majority: its vote
		// must not make one.
		if err := os.RemoveAll(c.dirs[lost]); err != nil {
			t.Fatal(err)
		}
		c.net.set(true, lead, third)
		c.net.set(true, third, lead)
		g := c.start(lost)
		if v, err := c.open[lead].Propose(c.in(4*time.Second), addCmd("b", 1)); err == nil {
			t.Errorf("a member without a log made a majority: %v", v)
		}
		if g.AppliedIndex() != 0 || g.Working() == nil {
			t.Errorf("it has applied entry %d, %v", g.AppliedIndex(), g.Working())
		}
		c.net.set(false, lead, third)
		c.net.set(false, third, lead)
		c.leader(lead, third)
		if err := c.open[third].Remove(c.in(30*time.Second), lost); err != nil {
			t.Fatal(err)
		}
		if err := c.open[third].AddVoter(c.in(60*time.Second), lost); err != nil {
			t.Fatal(err)
		}
		if got := c.same(); got["a"] != 51 {
			t.Errorf("%v", got)
		}
		mustAdd(t, g, "a", 1, 52)
		// It is a voter like any other, also after a restart.
		c.stop(lost)
		c.start(lost)
		c.stop(c.leader())
		mustAdd(t, c.open[lost], "a", 1, 53)
	})
}

// damage flips a bit in each command of a log, wherever it was ever written.
func damage(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for {
		at := bytes.Index(b, addCmd("a", 1))
		if at < 0 {
			break
		}
		b[at+8] ^= 4
		found++
	}
	if found == 0 {
		t.Fatal("no command found")
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkThreeMembers measures acknowledged commands of 100 bytes on the leader
// and on a follower of a group of three, all in this process and on one disk.
func BenchmarkThreeMembers(b *testing.B) {
	for _, where := range []string{"leader", "follower"} {
		for _, n := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", where, n), func(b *testing.B) {
				c := newCluster(b, true)
				c.voters("n1", "n2", "n3")
				g := c.open[c.leader()]
				if where == "follower" {
					g = c.open[c.other(c.leader())]
				}
				cmd := addCmd(string(bytes.Repeat([]byte{'k'}, 91)), 1)
				var left sync.WaitGroup
				b.ResetTimer()
				for w := range n {
					left.Go(func() {
						for i := w; i < b.N; i += n {
							if _, err := g.Propose(context.Background(), cmd); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				left.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
			})
		}
	}
}
