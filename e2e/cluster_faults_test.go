package e2e

import (
	"context"
	"strings"
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
	if v := p.o.violations(); len(v) > 0 {
		p.f.t.Errorf("%d times what was acknowledged did not hold:\n%s", len(v), strings.Join(v[:min(len(v), 40)], "\n"))
	}
}

// progress has the load go on for a while, and demands that it gets on.
func (p *pressure) progress(length time.Duration) {
	p.f.t.Helper()
	puts, changes := p.blobs.puts.Load(), p.posts.changes.Load()
	pause(context.Background(), length)
	if p.blobs.puts.Load() == puts || p.posts.changes.Load() == changes {
		p.f.t.Errorf("%d blobs and %d changes were acknowledged in %v", p.blobs.puts.Load()-puts, p.posts.changes.Load()-changes, length)
	}
}

// TestClusterKillNode kills a node under load and starts it again: no call fails that
// is tried elsewhere.
func TestClusterKillNode(t *testing.T) {
	f := newFleet(t)
	p := newPressure(f)
	p.during(func() {
		f.rig.Nodes[1].Kill()
		p.progress(3 * time.Second)
		f.startNode(1)
	})
	p.judge()
	if n := p.blobs.failedPuts.Load() + p.blobs.failedDeletes.Load() + p.posts.failed.Load(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}

// TestClusterKillLoop kills one node after the other with -9, the leader first, under
// load, without waiting for the cluster to be whole in between.
func TestClusterKillLoop(t *testing.T) {
	f := newFleet(t)
	p := newPressure(f)
	p.during(func() {
		lead := f.mustLead()
		for i := range 6 {
			node := (lead + i) % 3
			f.rig.Nodes[node].Kill()
			pause(context.Background(), time.Second)
			f.startNode(node)
		}
		p.progress(electionTime)
	})
	p.judge()
}

// TestClusterPausedLeader stops the leader's process for longer than any lease between
// nodes lasts and lets it run again: it says nothing that is stale, and takes nothing.
func TestClusterPausedLeader(t *testing.T) {
	f := newFleet(t)
	p := newPressure(f)
	p.during(func() {
		lead := f.mustLead()
		f.rig.Nodes[lead].Pause()
		f.awaitLeaders(lead)
		p.progress(staleTime - 2*time.Second)
		f.rig.Nodes[lead].Resume()
	})
	p.judge()
}

// TestClusterSlowNetwork delays everything between nodes by 200 ms. Nobody takes that
// for a failure.
func TestClusterSlowNetwork(t *testing.T) {
	f := newFleet(t)
	p := newPressure(f)
	p.during(func() {
		f.net.delay(200*time.Millisecond, func(node int) int { return 7002 + 3*node })
		pause(context.Background(), 3*time.Second) // connections are made anew
		before := f.term("directory") + f.term("feed")
		p.progress(3 * time.Second)
		if after := f.term("directory") + f.term("feed"); after != before {
			t.Errorf("%v elections with 200 ms between nodes", after-before)
		}
		f.net.heal()
	})
	p.judge()
}

// TestClusterClocks has the clock of one node be an hour ahead, then an hour behind.
func TestClusterClocks(t *testing.T) {
	f := newFleet(t)
	p := newPressure(f)
	p.during(func() {
		for _, offset := range []string{"1h", "-1h", "0s"} {
			if err := f.rig.Nodes[1].Stop(); err != nil {
				t.Error(err)
			}
			f.env[1] = []string{"HAYLOFT_CLOCK_OFFSET=" + offset}
			f.startNode(1)
			p.progress(2 * time.Second)
		}
	})
	p.judge()
	ids := map[string]bool{}
	for _, r := range p.blobs.l.all() {
		if ids[r.ref.ID] {
			t.Errorf("the id %s was given to two blobs", r.ref.ID)
		}
		ids[r.ref.ID] = true
	}
}

// TestClusterReplacedNode replaces a node by an empty one under load: everything has
// all its copies again by itself, which are read with each of the other nodes away.
func TestClusterReplacedNode(t *testing.T) {
	f := newFleet(t)
	p := newPressure(f)
	p.during(func() {
		pause(context.Background(), time.Second)
		f.rig.Nodes[2].Kill()
		if err := f.rig.Nodes[2].Erase(); err != nil {
			t.Fatal(err)
		}
		p.progress(time.Second)
		f.startNode(2)
	})
	p.judge()
	for away := range 3 {
		f.rig.Nodes[away].Kill()
		p.blobs.verify((away+1)%3, (away+2)%3)
		f.startNode(away)
	}
	for _, v := range p.o.violations() {
		t.Error(v)
	}
}
