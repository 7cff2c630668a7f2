package e2e

import (
	"context"
	"sync"
	"testing"
	"time"
)

// TestClusterKillNode kills a node under load and starts it again.
func TestClusterKillNode(t *testing.T) {
	f := newFleet(t)
	o := &oracle{}
	b := newBlobLoad(f, o)
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	b.run(ctx, &work)
	pause(ctx, 2*time.Second)
	f.rig.Nodes[1].Kill()
	pause(ctx, 3*time.Second)
	f.startNode(1)
	pause(ctx, 2*time.Second)
	stop()
	work.Wait()
	f.calm()
	b.verify(0, 1, 2)
	t.Log(b)
	for _, v := range o.violations() {
		t.Error(v)
	}
}
