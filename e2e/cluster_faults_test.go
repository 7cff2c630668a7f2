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

// TestClusterKillNode kills a node under load and starts it again.
func TestClusterKillNode(t *testing.T) {
	f := newFleet(t)
	p := newPressure(f)
	p.during(func() {
		f.rig.Nodes[1].Kill()
		pause(context.Background(), 3*time.Second)
		f.startNode(1)
	})
	p.judge()
}
