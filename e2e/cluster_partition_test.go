package e2e

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/client"
)

// electionTime bounds how long a group that has a majority is without a leader, on a
// machine where everything shares two processors.
const electionTime = 10 * time.Second

// leads reads who leads a group (directory or feed) by its members' own word, left out
// some.
func (f *fleet) leads(group string, but ...int) (who []int) {
	for _, i := range f.others(but...) {
		if v, err := f.rig.Nodes[i].Metric(context.Background(), "hayloft_"+group+"_leads"); err == nil && v == 1 {
			who = append(who, i)
		}
	}
	return who
}

// others are all nodes that run but some.
func (f *fleet) others(but ...int) (rest []int) {
	for i, n := range f.rig.Nodes {
		left := !n.Running()
		for _, b := range but {
			left = left || b == i
		}
		if !left {
			rest = append(rest, i)
		}
	}
	return rest
}

// term is the greatest term of a group that a node knows.
func (f *fleet) term(group string) (most float64) {
	for _, n := range f.rig.Nodes {
		if v, err := n.Metric(context.Background(), "hayloft_"+group+"_term"); err == nil {
			most = max(most, v)
		}
	}
	return most
}

// awaitLeaders waits until both groups have a leader among the others.
func (f *fleet) awaitLeaders(but ...int) {
	f.t.Helper()
	began := time.Now()
	if !eventually(electionTime, func() bool { return len(f.leads("directory", but...)) == 1 && len(f.leads("feed", but...)) == 1 }) {
		f.t.Errorf("no leaders among the others %v after nodes %v went", electionTime, but)
	}
	f.t.Logf("leaders after %.1f s without nodes %v", time.Since(began).Seconds(), but)
}

// refusals counts what a node that can know nothing new was asked, and must refuse.
type refusals struct {
	writes, reads atomic.Int64
}

// refuses asks a node that is in no majority for changes and fresh reads until ctx
// ends. It must take none. The calls that are under way when ctx ends may succeed: the
// network is whole by then.
func (p *pressure) refuses(ctx context.Context, node int, work *sync.WaitGroup) *refusals {
	r := &refusals{}
	name := p.f.rig.Nodes[node].Name
	user, other := p.posts.people[0], p.posts.people[1]
	alone := p.f.client(node, user.at[node].Token(), p.f.http)
	try := func(what string, n *atomic.Int64, call func(ctx context.Context) error) {
		work.Go(func() {
			for ctx.Err() == nil {
				one, cancel := context.WithTimeout(ctx, time.Second)
				err := call(one)
				cancel()
				switch {
				case ctx.Err() != nil:
				case err == nil, definite(err):
					p.o.violated("two leaders: %s reaches no majority and answers %s: %v", name, what, err)
				default:
					n.Add(1)
				}
				pause(ctx, 100*time.Millisecond)
			}
		})
	}
	try("a change", &r.writes, func(ctx context.Context) error {
		_, err := alone.UploadURL(ctx, client.UploadRequest{FileSize: 1000, ContentType: "image/jpeg"})
		return err
	})
	try("a fresh read", &r.reads, func(ctx context.Context) error {
		_, err := alone.User(client.Fresh(ctx), other.handle)
		return err
	})
	return r
}

// cutOff isolates a node for a while under load, has it asked meanwhile, and heals.
func (p *pressure) cutOff(node int, length time.Duration) {
	p.f.t.Helper()
	puts, changes := p.blobs.puts.Load(), p.posts.changes.Load()
	p.f.net.isolate(node)
	// What was under way when the cable was cut may have been acknowledged.
	pause(context.Background(), 200*time.Millisecond)
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	r := p.refuses(ctx, node, &work)
	p.f.awaitLeaders(node)
	p.progress(length)
	stop()
	work.Wait()
	p.f.net.heal()
	p.f.t.Logf("%s cut off: it refused %d changes and %d fresh reads; the others took %d blobs and %d changes",
		p.f.rig.Nodes[node].Name, r.writes.Load(), r.reads.Load(), p.blobs.puts.Load()-puts, p.posts.changes.Load()-changes)
	if r.writes.Load() == 0 || r.reads.Load() == 0 {
		p.f.t.Error("the node that was cut off was hardly asked: this says nothing")
	}
}

// TestClusterPartitions cuts cables under load: the leader's, one way, a bridge, and has
// packets lost.
func TestClusterPartitions(t *testing.T) {
	t.Parallel()
	p := newPressure(newFleet(t))
	for _, fault := range []struct {
		name string
		do   func()
	}{
		{"leader", func() { p.cutOff(p.f.mustLead(), time.Second) }},
		{"one way", func() { p.oneWay(p.f.mustLead(), 2*time.Second) }},
		{"bridge", func() { p.bridge(p.f.mustLead(), 2*time.Second) }},
		{"loss", func() { p.lose(0.05, 3*time.Second) }},
	} {
		begun := time.Now()
		p.during(fault.do)
		p.f.calm()
		t.Logf("%s: %.1f s", fault.name, time.Since(begun).Seconds())
	}
	p.judge()
}

// mostElections is how many terms a group may go through in one fault: some are needed,
// and a machine that has no time for anybody costs some more. Without an end there are
// several in each second.
const mostElections = 6

// flaps has fault go on for a while and counts the terms of both groups: they must
// come to rest.
func (p *pressure) flaps(fault func(), length time.Duration) {
	p.f.t.Helper()
	before := [...]float64{p.f.term("directory"), p.f.term("feed")}
	fault()
	p.progress(length)
	p.f.net.heal()
	for i, group := range []string{"directory", "feed"} {
		if grown := p.f.term(group) - before[i]; grown > mostElections {
			p.f.t.Errorf("the %s has had %v elections in %v", group, grown, length)
		}
	}
}

// oneWay: the leader is heard by nobody and hears everybody; then one follower hears
// nobody.
func (p *pressure) oneWay(lead int, length time.Duration) {
	p.f.t.Helper()
	p.flaps(func() {
		for _, i := range p.f.others(lead) {
			p.f.net.oneWay(lead, i)
		}
		p.f.awaitLeaders(lead)
	}, length)
	deaf := (p.f.mustLead() + 1) % 3
	p.flaps(func() {
		for _, i := range p.f.others(deaf) {
			p.f.net.oneWay(i, deaf)
		}
	}, length)
}

// bridge: both followers reach one another or the leader through one node alone.
func (p *pressure) bridge(lead int, length time.Duration) {
	p.f.t.Helper()
	a, b := (lead+1)%3, (lead+2)%3
	p.flaps(func() { p.f.net.cut(a, b) }, length) // the leader is the bridge
	p.flaps(func() { p.f.net.cut(lead, b) }, length)
}

// TestClusterMinorityGoesStale cuts a node off for longer than --max-stale: it answers
// reads for that time, from what it knew, and refuses everything after it.
func TestClusterMinorityGoesStale(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	p := newPressure(f)
	ctx := context.Background()
	for range 20 {
		if err := p.blobs.put(ctx, 1000); err != nil {
			t.Fatal(err)
		}
	}
	victim := (f.mustLead() + 1) % 3
	user := p.posts.people[0]
	ask := func() (blobs int64, account error) {
		var read atomic.Int64
		var work sync.WaitGroup
		for _, r := range p.blobs.l.all() {
			work.Go(func() {
				one, cancel := context.WithTimeout(ctx, attemptTime)
				defer cancel()
				if p.blobs.read(one, r, victim) == nil {
					read.Add(1)
				}
			})
		}
		work.Wait()
		blobs = read.Load()
		_, account = f.client(victim, user.at[0].Token(), f.http).User(ctx, p.posts.people[1].handle)
		return blobs, account
	}
	f.net.isolate(victim)
	cut := time.Now()
	pause(ctx, time.Second)
	if blobs, account := ask(); blobs == 0 || account != nil {
		t.Errorf("%.1f s after it was cut off a node reads %d blobs, and of an account it says %v", time.Since(cut).Seconds(), blobs, account)
	}
	pause(ctx, staleTime+time.Second-time.Since(cut))
	if blobs, account := ask(); blobs > 0 || !client.IsStatus(account, http.StatusServiceUnavailable) {
		t.Errorf("%.1f s after it was cut off a node reads %d blobs, and of an account it says %v", time.Since(cut).Seconds(), blobs, account)
	}
	f.net.heal()
	p.judge()
}
