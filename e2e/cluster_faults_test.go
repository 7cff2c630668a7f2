package e2e

import (
	"context"
	"sync"
	"testing"
	"time"
)

// pressure is the mixed load of these tests, and what it must not see.
type pressure struct {
	f     *fleet
	o     *oracle
	blobs *blobLoad
	posts *social
}

// newPressure makes the users. Nothing runs yet.
func newPressure(f *fleet) *pressure {
	f.t.Helper()
	p := &pressure{f: f, o: &oracle{}}
	p.blobs = newBlobLoad(f, p.o)
	p.posts = newSocial(f, p.o, 5, 12)
	return p
}

// during runs the load while fault does what it does, and a moment longer.
func (p *pressure) during(fault func()) {
	p.f.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	p.blobs.run(ctx, &work)
	p.posts.run(ctx, &work)
	defer func() { // a fault that ends the test too
		stop()
		work.Wait()
	}()
	pause(ctx, time.Second)
	fault()
	pause(ctx, time.Second)
}

// judge waits until the cluster is whole and compares it with what clients were told.
func (p *pressure) judge() {
	p.f.t.Helper()
	p.f.calm()
	began := time.Now()
	p.blobs.verify(0, 1, 2)
	p.posts.verify()
	p.f.t.Logf("blobs: %v\nposts: %v\nverified in %.1f s", p.blobs, p.posts, time.Since(began).Seconds())
	p.o.tell(p.f.t)
}

// progress has the load go on for a while, and demands that it gets on: a client may
// just have begun to wait for a node that does not answer.
func (p *pressure) progress(length time.Duration) {
	p.f.t.Helper()
	puts, changes := p.blobs.puts.Load(), p.posts.changes.Load()
	pause(context.Background(), length)
	if !eventually(2*attemptTime, func() bool { return p.blobs.puts.Load() > puts && p.posts.changes.Load() > changes }) {
		p.f.t.Errorf("%d blobs and %d changes were acknowledged in %v", p.blobs.puts.Load()-puts, p.posts.changes.Load()-changes, length+2*attemptTime)
	}
}

// kill ends a node with -9, as many times as it says, each time another one.
func (p *pressure) kill(node, times int) {
	p.f.t.Helper()
	for i := range times {
		victim := (node + i) % len(p.f.rig.Nodes)
		p.f.rig.Nodes[victim].Kill()
		pause(context.Background(), time.Second)
		p.f.startNode(victim)
	}
	p.progress(electionTime)
}

// stopRunning has a node's process not run for a while.
func (p *pressure) stopRunning(node int, length time.Duration) {
	p.f.t.Helper()
	n := p.f.rig.Nodes[node]
	n.Pause()
	p.f.awaitLeaders(node)
	p.progress(length)
	n.Resume()
}

// delay makes the way between nodes long.
func (p *pressure) delay(roundTrip, length time.Duration) {
	p.f.t.Helper()
	p.f.net.delay(roundTrip, func(node int) int { return 7002 + 3*node })
	pause(context.Background(), 3*time.Second) // connections are made anew
	before := p.f.term("directory") + p.f.term("feed")
	p.progress(length)
	if after := p.f.term("directory") + p.f.term("feed"); after-before > mostElections {
		p.f.t.Errorf("%v elections with %v between nodes", after-before, roundTrip)
	}
	p.f.net.heal()
}

// lose has a share of all packets between nodes lost.
func (p *pressure) lose(share float64, length time.Duration) {
	p.f.t.Helper()
	p.f.net.lose(share)
	p.progress(length)
	p.f.net.heal()
}

// clock starts a node again with a clock that is wrong.
func (p *pressure) clock(node int, offset string, length time.Duration) {
	p.f.t.Helper()
	if err := p.f.rig.Nodes[node].Stop(); err != nil {
		p.f.t.Error(err)
	}
	p.f.env[node] = []string{"HAYLOFT_CLOCK_OFFSET=" + offset}
	p.f.startNode(node)
	p.progress(length)
}

// replace has an empty node take the place of one.
func (p *pressure) replace(node int) {
	p.f.t.Helper()
	n := p.f.rig.Nodes[node]
	n.Kill()
	if err := n.Erase(); err != nil {
		p.f.t.Error(err)
	}
	pause(context.Background(), time.Second)
	p.f.startNode(node)
	p.progress(electionTime)
}

// TestClusterKilledNode kills a node under load and starts it again: no call fails that
// is tried elsewhere.
func TestClusterKilledNode(t *testing.T) {
	t.Parallel()
	p := newPressure(newFleet(t))
	p.during(func() { p.kill(1, 1) })
	p.judge()
	if n := p.blobs.failedPuts.Load() + p.blobs.failedDeletes.Load() + p.posts.failed.Load(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}

// TestClusterKillLoop kills one node after the other, the leader first, under load,
// without waiting for the cluster to be whole in between.
func TestClusterKillLoop(t *testing.T) {
	t.Parallel()
	p := newPressure(newFleet(t))
	p.during(func() { p.kill(p.f.mustLead(), 5) })
	p.judge()
}

// TestClusterPausedLeader stops the leader's process for longer than any lease between
// nodes lasts and lets it run again: it says nothing that is stale, and takes nothing.
func TestClusterPausedLeader(t *testing.T) {
	t.Parallel()
	p := newPressure(newFleet(t))
	p.during(func() { p.stopRunning(p.f.mustLead(), staleTime-2*time.Second) })
	p.judge()
}

// TestClusterSlowNetwork delays everything between nodes by 200 ms. Nobody takes that
// for a failure, and blobs are stored.
func TestClusterSlowNetwork(t *testing.T) {
	t.Parallel()
	p := newPressure(newFleet(t))
	p.during(func() { p.delay(200*time.Millisecond, 5*time.Second) })
	p.judge()
}

// TestClusterClocks has the clock of one node be an hour ahead, then an hour behind.
func TestClusterClocks(t *testing.T) {
	t.Parallel()
	p := newPressure(newFleet(t))
	p.during(func() {
		for _, offset := range []string{"1h", "-1h", "0s"} {
			p.clock(1, offset, 2*time.Second)
		}
	})
	p.judge()
	p.uniqueIDs()
}

// uniqueIDs checks that no id was given out twice.
func (p *pressure) uniqueIDs() {
	p.f.t.Helper()
	ids := map[string]bool{}
	for _, r := range p.blobs.l.all() {
		if ids[r.ref.ID] {
			p.f.t.Errorf("the id %s was given to two blobs", r.ref.ID)
		}
		ids[r.ref.ID] = true
	}
}

// TestClusterReplacedNode replaces a node by an empty one under load: everything has
// all its copies again by itself, which are read with each of the nodes away.
func TestClusterReplacedNode(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	p := newPressure(f)
	p.during(func() { p.replace(2) })
	p.judge()
	for away := range 3 {
		f.rig.Nodes[away].Kill()
		p.blobs.verify((away+1)%3, (away+2)%3)
		f.startNode(away)
	}
	p.o.tell(t)
}
