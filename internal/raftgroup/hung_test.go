package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// hangStore is a log whose disk hangs while it is told to.
type hangStore struct {
	store
	mu   sync.Mutex // guards hang
	hang chan struct{}
}

func (s *hangStore) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = make(chan struct{})
}

func (s *hangStore) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.hang)
	s.hang = nil
}

func (s *hangStore) wait() {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
}

func (s *hangStore) StoreLogs(l []*raft.Log) error { s.wait(); return s.store.StoreLogs(l) }

// TestHungLogDisk is fault 28: a leader whose log disk hangs leaves the lead to
// another, and follows when the disk answers again.
func TestHungLogDisk(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, c *cluster) {
		stores := hangable(c)
		c.voters("n1", "n2", "n3")
		old := c.leader()
		mustAdd(t, c.open[old], "a", 1, 1)
		stores[old].stop()
		// On the hanging leader: it comes about once, whoever leads then.
		late := make(chan error, 1)
		go func() { _, err := c.open[old].Propose(c.in(60*time.Second), addCmd("late", 1)); late <- err }()
		begin := time.Now()
		if _, err := c.open[c.other(old)].Propose(c.in(60*time.Second), addCmd("a", 1)); err != nil {
			t.Fatal(err)
		}
		t.Logf("another leader worked %v after the disk hung", time.Since(begin))
		if err := c.open[old].Working(); !errors.Is(err, ErrNotLeader) {
			t.Errorf("the hanging one works: %v", err)
		}
		stores[old].goOn()
		if err := <-late; err != nil {
			t.Errorf("late: %v", err)
		}
		c.until("it works again", func() bool { return c.open[old].Working() == nil })
		if got := c.same(); got["a"] != 2 || got["late"] != 1 {
			t.Errorf("%v", got)
		}
	})
}

// hangable lets the logs of a cluster hang. Patience is short.
func hangable(c *cluster) map[string]*hangStore {
	stores := map[string]*hangStore{}
	c.tune = func(id string, o *Options) {
		o.Patience = 500 * time.Millisecond
		o.wrapStore = func(_ string, s store) store {
			stores[id] = &hangStore{store: s}
			return stores[id]
		}
	}
	return stores
}

// TestHungForGood: a disk that never answers stops the group, and lets it close.
func TestHungForGood(t *testing.T) {
	t.Parallel()
	c := newCluster(t, false)
	stores := hangable(c)
	c.voters("n1", "n2", "n3")
	old := c.leader()
	stores[old].stop()
	ctx := c.in(60 * time.Second)
	if _, err := c.open[old].Propose(ctx, addCmd("a", 1)); !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrStopped) {
		t.Errorf("%v", err)
	}
	if err := c.open[old].Working(); !errors.Is(err, ErrStopped) {
		c.until("it stops", func() bool { return errors.Is(c.open[old].Working(), ErrStopped) })
	}
	if err := c.open[old].Close(); !errors.Is(err, errHangs) {
		t.Errorf("close: %v", err)
	}
	c.forget(old)
	stores[old].goOn() // what was left behind ends
	rest := c.other(old)
	if _, err := c.open[rest].Propose(ctx, addCmd("b", 1)); err != nil {
		t.Error(err)
	}
}

// TestHungAlone: a group of one waits for its disk, however long that takes.
func TestHungAlone(t *testing.T) {
	var s *hangStore
	o := options(t.TempDir(), newLedger())
	o.Patience = 20 * time.Millisecond
	o.wrapStore = func(_ string, under store) store { s = &hangStore{store: under}; return s }
	g := mustOpen(t, o)
	s.stop()
	done := make(chan error, 1)
	go func() { _, err := g.Propose(context.Background(), addCmd("a", 1)); done <- err }()
	for g.log.watch.waited() < 2*givenTicks {
		yield()
	}
	if err := g.Working(); !errors.Is(err, ErrNotLeader) {
		t.Errorf("it works: %v", err)
	}
	s.goOn()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := g.Working(); err != nil {
		t.Error(err)
	}
	mustClose(t, g)
}

// TestLateFollowerUnderLoad is fault 29: a follower whose log ended before the
// leader's begins catches up while commands arrive and snapshots are taken all the
// time, with one snapshot, at most another.
func TestLateFollowerUnderLoad(t *testing.T) {
	transports(t, func(t *testing.T, c *cluster) {
		c.tune = func(_ string, o *Options) { o.SnapshotEntries, o.TrailingLogs = 10, 15 }
		c.voters("n1", "n2", "n3")
		lead := c.leader()
		late := c.other(lead)
		mustAdd(t, c.open[lead], "a", 1, 1)
		c.stop(late)
		r := rand.New(rand.NewPCG(3, 3))
		for range 60 { // it takes a while to send and to check
			if _, err := c.open[lead].Propose(t.Context(), addCmd(random(r, 256<<10), 1)); err != nil {
				t.Fatal(err)
			}
		}
		stop := make(chan struct{})
		var added atomic.Uint64
		var wg sync.WaitGroup
		leader := c.open[lead] // the map is written to meanwhile
		for w := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := leader.Propose(t.Context(), addCmd(fmt.Sprintf("w%d", w), 1)); err != nil {
						t.Errorf("under load: %v", err)
						return
					}
					added.Add(1)
				}
			})
		}
		before := c.open[lead].Stats()
		restoredBefore := c.count(late, EventRestored)
		g := c.start(late)
		begin := time.Now()
		var sent int
		var since uint64 // applied after the last snapshot
		c.until("the late follower follows the log under load", func() bool {
			if n := c.count(late, EventRestored) - restoredBefore; n != sent {
				sent, since = n, g.AppliedIndex()
			}
			return sent > 0 && g.Staleness() < hearing && g.AppliedIndex() > since+100
		})
		after := c.open[lead].Stats()
		close(stop)
		wg.Wait()
		t.Logf("caught up in %v, with %d snapshots sent, while %d were taken over %d entries", time.Since(begin), sent, after.Snapshots-before.Snapshots, after.Applied-before.Applied)
		if sent > 2 {
			t.Errorf("%d snapshots were sent", sent)
		}
		if after.Snapshots-before.Snapshots < 2 {
			t.Errorf("only %d snapshots were taken meanwhile: the test proves nothing", after.Snapshots-before.Snapshots)
		}
		c.same()
	})
}

func random(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32() | 1) // keys of ours do not begin with zero
	}
	return string(b)
}

// TestLinks: a group over slow or lossy links keeps its leader.
func TestLinks(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(n *network){
		"200 ms each way": func(n *network) { n.delay = 200 * time.Millisecond },
		"5 % lost":        func(n *network) { n.loss = 5 },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, true)
			set(c.net)
			c.voters("n1", "n2", "n3")
			lead := c.leader()
			term := c.open[lead].raft.CurrentTerm()
			begin := time.Now()
			n := uint64(0)
			for time.Since(begin) < 8*time.Second {
				n++
				mustAdd(t, c.open[c.ids[n%3]], "a", 1, n)
			}
			t.Logf("%d commands one after the other in %v", n, time.Since(begin))
			if got := c.leader(); got != lead || c.open[lead].raft.CurrentTerm() != term {
				t.Errorf("%s leads in term %d, %s did in term %d", got, c.open[lead].raft.CurrentTerm(), lead, term)
			}
		})
	}
}

// TestLeaderDies measures how long commands wait when a leader vanishes.
func TestLeaderDies(t *testing.T) {
	t.Parallel()
	var took []time.Duration
	c := newCluster(t, true)
	c.voters("n1", "n2", "n3")
	for range 5 {
		old := c.leader()
		c.net.isolate(true, old, c.ids)
		begin := time.Now()
		if _, err := c.open[c.other(old)].Propose(c.in(30*time.Second), addCmd("a", 1)); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
		c.net.isolate(false, old, c.ids)
		c.leader()
	}
	slices.Sort(took)
	t.Logf("from the cut to the next acknowledgement: %v", took)
	if took[2] > 5*time.Second {
		t.Errorf("the median is %v", took[2])
	}
}
