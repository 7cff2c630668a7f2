package raftgroup

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"
)

// TestErasedMemberThatDoesNotJoin: a voter whose directories were emptied is started as
// if it were the first of all. It has forgotten what it promised: it must not count in
// the group that it was in, nor take what that group says over what it was told itself,
// and it stops when it hears of that group.
func TestErasedMemberThatDoesNotJoin(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, c *cluster) {
		c.voters("n1", "n2", "n3")
		for i := range uint64(20) {
			mustAdd(t, c.open["n1"], "a", 1, i+1)
		}
		c.stop("n1")
		lead := c.leader("n2", "n3")
		mustAdd(t, c.open[lead], "a", 1, 21)
		other := c.other("n1", lead)
		// Without the other one there is no majority: its vote must not make one.
		c.net.isolate(true, other, c.ids)
		if err := os.RemoveAll(c.dirs["n1"]); err != nil {
			t.Fatal(err)
		}
		g := c.start("n1")
		if v, err := c.open[lead].Propose(c.in(4*time.Second), addCmd("b", 1)); err == nil {
			t.Errorf("a member that has forgotten everything made a majority: %v", v)
		}
		if sum := c.mach["n1"].snapshot()["a"]; sum != 0 {
			t.Errorf("it follows the group that it has forgotten: %d", sum)
		}
		c.net.isolate(false, other, c.ids)
		c.until("it stops", func() bool { return errors.Is(g.Working(), ErrForeign) })
		c.leader(lead, other)
		mustAdd(t, c.open[lead], "a", 1, 22)
		_ = g.Close() // it has stopped with an error
		c.forget("n1")
		// As one that joins it comes back.
		if err := os.RemoveAll(c.dirs["n1"]); err != nil {
			t.Fatal(err)
		}
		c.tune = func(_ string, o *Options) { o.Join = true }
		c.start("n1")
		if err := c.open[other].TakeIn(c.in(30*time.Second), "n1"); err != nil {
			t.Fatal(err)
		}
		if err := c.open[other].AddVoter(c.in(60*time.Second), "n1"); err != nil {
			t.Fatal(err)
		}
		if got := c.same(); got["a"] != 22 {
			t.Errorf("%v", got)
		}
	})
}

// TestTakeIn: one that is new becomes a learner, a voter without a log loses its vote
// first, and whoever is a member otherwise stays what it is: requests come late.
func TestTakeIn(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, c *cluster) {
		c.voters("n1", "n2", "n3")
		mustAdd(t, c.open["n1"], "a", 1, 1)
		sure := []string{"n1", "n2", "n3"} // members that know who leads
		voter := func(id string) bool {
			members, err := c.open[c.leader(sure...)].Members()
			i := slices.IndexFunc(members, func(m Member) bool { return m.ID == id })
			return err == nil && i >= 0 && members[i].Voter
		}
		take := func(id string) error {
			lead := c.leader(sure...)
			asked := sure[(slices.Index(sure, lead)+1)%len(sure)]
			return c.open[asked].TakeIn(c.in(30*time.Second), id)
		}
		for _, id := range sure { // the leader too
			if err := take(id); err != nil || !voter(id) {
				t.Errorf("a late request of %s: %v, it votes: %v", id, err, voter(id))
			}
		}
		c.start("n4")
		for range 2 {
			if err := take("n4"); err != nil || voter("n4") {
				t.Errorf("a new one: %v", err)
			}
		}
		lost := c.other(c.leader(sure...), "n4")
		c.stop(lost)
		sure = slices.DeleteFunc(sure, func(id string) bool { return id == lost })
		if err := take(lost); err == nil || !voter(lost) {
			t.Errorf("a voter that is away: %v, it votes: %v", err, voter(lost))
		}
		if err := os.RemoveAll(c.dirs[lost]); err != nil {
			t.Fatal(err)
		}
		c.tune = func(_ string, o *Options) { o.Join = true }
		c.start(lost)
		if err := take(lost); err != nil || voter(lost) {
			t.Errorf("a voter without a log: %v, it votes: %v", err, voter(lost))
		}
		if err := c.open[c.leader(sure...)].AddVoter(c.in(60*time.Second), lost); err != nil {
			t.Fatal(err)
		}
		if err := take(lost); err != nil || !voter(lost) {
			t.Errorf("its request again, late: %v, it votes: %v", err, voter(lost))
		}
		if got := c.same(); got["a"] != 1 {
			t.Errorf("%v", got)
		}
	})
}

// TestErasedFirstMemberComesBack: the one that began a group alone is erased, and added
// again. Its log begins where it was the only voter: on its way through that it must
// not take the lead, which would undo what was acknowledged since; also not when it
// stands still there for long, or is started again.
func TestErasedFirstMemberComesBack(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, c *cluster) {
		c.start("n1")
		for i := range uint64(3 * maxAppend) {
			mustAdd(t, c.open["n1"], "a", 1, i+1)
		}
		c.tune = func(_ string, o *Options) { o.Join = true }
		for _, id := range []string{"n2", "n3"} {
			c.start(id)
			if err := c.open["n1"].AddVoter(c.in(60*time.Second), id); err != nil {
				t.Fatal(err)
			}
		}
		for i := range uint64(3 * maxAppend) {
			mustAdd(t, c.open["n1"], "a", 1, 3*maxAppend+i+1)
		}
		c.stop("n1")
		lead := c.leader("n2", "n3")
		mustAdd(t, c.open[lead], "a", 1, 6*maxAppend+1)
		if err := os.RemoveAll(c.dirs["n1"]); err != nil {
			t.Fatal(err)
		}
		g := c.start("n1")
		if err := c.open[lead].TakeIn(c.in(30*time.Second), "n1"); err != nil {
			t.Fatal(err)
		}
		// It is cut off in the middle, for longer than anybody waits for a leader.
		c.until("it has something", func() bool { return g.AppliedIndex() > 0 })
		c.net.isolate(true, "n1", c.ids)
		term := c.open[lead].Stats().Term
		c.stop("n1")
		g = c.start("n1")
		time.AfterFunc(4*electionTime, func() { c.net.isolate(false, "n1", c.ids) })
		c.until("it has everything", func() bool { return g.AppliedIndex() >= c.open[lead].AppliedIndex() })
		if err := c.open[lead].AddVoter(c.in(60*time.Second), "n1"); err != nil {
			t.Fatal(err)
		}
		if got := c.same(); got["a"] != 6*maxAppend+1 {
			t.Errorf("%v", got)
		}
		if now := c.open[c.leader()].Stats().Term; now != term {
			t.Errorf("there was an election: term %d, then %d", term, now)
		}
		c.until("it does without a leader no longer than others", func() bool {
			return g.catching.Load() == 0 && g.raft.ReloadableConfig().HeartbeatTimeout == electionTime
		})
		// It votes and leads like any other, also after a restart.
		c.stop("n1")
		c.start("n1")
		if err := c.open["n2"].TransferLeadership(c.in(30*time.Second), "n1"); err != nil {
			t.Fatal(err)
		}
		mustAdd(t, c.open["n2"], "a", 1, 6*maxAppend+2)
	})
}
