package e2e

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// command runs the command on a node, in its network.
func (f *fleet) command(node int, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	n := f.rig.Nodes[node]
	all := slices.Concat(f.net.wrap(node)[1:], []string{hayloft(f.t)}, args, []string{"--admin", n.Admin})
	return exec.CommandContext(ctx, "ip", all...).Output()
}

// coded is how many coded volumes the nodes that run keep, and how many of them are
// served with all that their policy promises.
func (f *fleet) coded() (all, whole int) {
	for i, n := range f.rig.Nodes {
		if !n.Running() {
			continue
		}
		out, err := f.command(i, "ec", "status", "--json")
		var s struct{ Coded, Redundant int }
		if bad := json.Unmarshal(out, &s); bad != nil { // it exits with 1 when something is amiss
			f.t.Logf("%s: %v\n%s", n.Name, err, out)
			return 0, 0
		}
		all, whole = all+s.Coded, whole+s.Redundant
	}
	return all, whole
}

// TestClusterCodedVolumes codes what a cluster stores, with a shard on each node, and
// loses one node after the other: what was acknowledged is read and stays deleted through
// those that are left.
func TestClusterCodedVolumes(t *testing.T) {
	t.Parallel() // it mostly waits
	f := newFleet(t, "--ec", "2+1", "--ec-grace", "2s", "--volume-size", "64MiB")
	var o oracle
	b := newBlobLoad(f, &o)
	ctx := context.Background()
	for i := range 60 {
		if err := b.put(ctx, 20_000+i*1000); err != nil {
			t.Fatal(err)
		}
	}
	// Each node closes those of its own writers, and is refused the others'.
	all := 0
	for i := range f.rig.Nodes {
		if out, err := f.command(i, "ec", "encode", "--all", "--apply"); err != nil {
			t.Logf("%v\n%s", err, out)
		}
	}
	if !eventually(time.Minute, func() bool {
		var whole int
		all, whole = f.coded()
		return all >= len(f.rig.Nodes) && whole == all
	}) {
		t.Fatalf("%d volumes are coded", all)
	}
	blobs := b.l.all()
	for _, r := range blobs[:10] {
		if err := b.remove(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	b.verify(0, 1, 2)
	for lose := range f.rig.Nodes {
		f.rig.Nodes[lose].Kill()
		left := []int{(lose + 1) % 3, (lose + 2) % 3}
		b.verify(left...)
		for _, r := range blobs[10+5*lose : 15+5*lose] {
			if err := b.remove(ctx, r); err != nil {
				t.Error(err)
			}
		}
		b.verify(left...)
		f.startNode(lose)
		began := time.Now()
		if !eventually(time.Minute, func() bool { n, whole := f.coded(); return n == all && whole == all }) {
			n, whole := f.coded()
			t.Errorf("%d of %d coded volumes are kept, %d whole, when node %d is back", n, all, whole, lose)
		}
		t.Logf("node %d: all is whole again after %.1f s", lose, time.Since(began).Seconds())
		b.verify(0, 1, 2)
	}
	o.tell(t)
	t.Logf("%d coded volumes; %v", all, b)
}
