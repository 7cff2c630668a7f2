package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hayloft/internal/testenv"
)

// trouble is one fault that may befall a cluster under load; a node is drawn for it.
type trouble struct {
	name string
	do   func(p *pressure, node int, r *rand.Rand)
}

// troubles are all of them. Each ends with the network whole and all nodes running.
var troubles = []trouble{
	{"kill -9, one after the other", func(p *pressure, node int, r *rand.Rand) { p.kill(node, 1+r.IntN(6)) }},
	{"cut off", func(p *pressure, node int, r *rand.Rand) { p.cutOff(node, seconds(r, 1, 20)) }},
	{"leader cut off", func(p *pressure, _ int, r *rand.Rand) { p.cutOff(p.f.mustLead(), seconds(r, 1, 20)) }},
	{"one way", func(p *pressure, _ int, r *rand.Rand) { p.oneWay(p.f.mustLead(), seconds(r, 2, 10)) }},
	{"bridge", func(p *pressure, _ int, r *rand.Rand) { p.bridge(p.f.mustLead(), seconds(r, 2, 10)) }},
	{"5 % loss", func(p *pressure, _ int, r *rand.Rand) { p.lose(0.05, seconds(r, 5, 20)) }},
	{"200 ms", func(p *pressure, _ int, r *rand.Rand) { p.delay(200*time.Millisecond, seconds(r, 5, 15)) }},
	{"paused for 30 s", func(p *pressure, node int, _ *rand.Rand) { p.stopRunning(node, 30*time.Second) }},
	{"leader paused for 30 s", func(p *pressure, _ int, _ *rand.Rand) { p.stopRunning(p.f.mustLead(), 30*time.Second) }},
	{"an hour ahead", func(p *pressure, node int, r *rand.Rand) { p.wrongClock(node, "1h", r) }},
	{"an hour behind", func(p *pressure, node int, r *rand.Rand) { p.wrongClock(node, "-1h", r) }},
	{"full disk", func(p *pressure, node int, _ *rand.Rand) { p.full(node) }},
	{"leader's disk hangs", func(p *pressure, _ int, _ *rand.Rand) { p.hung(p.f.mustLead()) }},
	{"slow disk", func(p *pressure, node int, _ *rand.Rand) { p.slow(node) }},
	{"replaced", func(p *pressure, node int, _ *rand.Rand) { p.replace(node) }},
}

func seconds(r *rand.Rand, from, to int) time.Duration {
	return time.Duration(from+r.IntN(to-from)) * time.Second
}

// wrongClock has a node's clock be wrong for a while.
func (p *pressure) wrongClock(node int, offset string, r *rand.Rand) {
	p.f.t.Helper()
	p.clock(node, offset, seconds(r, 2, 10))
	p.clock(node, "0s", time.Second)
}

// TestClusterRandomFaults has fault after fault befall a cluster, in an order drawn from
// a seed, for HAYLOFT_CLUSTER_MINUTES; once, with the first one that is drawn, when that
// says nothing. The cluster has to be whole after each, as clients were told.
func TestClusterRandomFaults(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(seed(t), 21))
	p := newPressure(newFleetOnDisks(t, "--seal-after", "20s", "--compact-garbage", "0.1"))
	minutes := testenv.Times("HAYLOFT_CLUSTER_MINUTES", 0)
	befell := map[string]int{}
	rounds := 0
	for begun := time.Now(); rounds == 0 || time.Since(begun) < time.Duration(minutes)*time.Minute; rounds++ {
		x, node := troubles[r.IntN(len(troubles))], r.IntN(len(p.f.rig.Nodes))
		if minutes == 0 {
			x = trouble{"kill -9", func(p *pressure, node int, _ *rand.Rand) { p.kill(node, 1) }} // all have tests of their own
		}
		t.Logf("%v: %s, %s", time.Since(begun).Round(time.Second), p.f.rig.Nodes[node].Name, x.name)
		p.during(func() { x.do(p, node, r) })
		p.judge()
		if t.Failed() {
			t.Fatalf("after fault %d: %s, %s", rounds+1, p.f.rig.Nodes[node].Name, x.name)
		}
		befell[x.name]++
	}
	p.uniqueIDs()
	testenv.Tell(t, "%d faults of a cluster under load: %s; lost 0, back 0, wrong 0; blobs: %v; posts: %v", rounds, fmt.Sprint(befell), p.blobs, p.posts)
}
