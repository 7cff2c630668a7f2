package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Member is one of those that hold the group.
type Member struct {
	ID     string
	Voter  bool // else a learner: it has everything and does not count for majorities
	Leader bool // as far as the member asked knows
}

// change is what is done to the configuration.
type change uint8

const (
	changeVoter change = iota + 1
	changeLearner
	changeDemote
	changeRemove
	changeTakeIn
)

const (
	caughtUp    = 128                    // a learner may be this many entries behind when it becomes a voter
	learnPause  = 100 * time.Millisecond // before a learner is asked again
	enqueueTime = 5 * time.Second        // Raft makes one change at a time
)

// servers returns the latest configuration that this member knows.
func (g *Group) servers() []raft.Server {
	f := g.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

func (g *Group) server(id string) (raft.Server, bool) {
	s := g.servers()
	i := slices.IndexFunc(s, func(s raft.Server) bool { return string(s.ID) == id })
	if i < 0 {
		return raft.Server{}, false
	}
	return s[i], true
}

func (g *Group) listed(id string) bool {
	_, ok := g.server(id)
	return ok
}

// voters counts them, and says whether this member is one.
func (g *Group) voters() (n int, self bool) {
	for _, s := range g.servers() {
		if s.Suffrage == raft.Voter {
			n++
			self = self || string(s.ID) == g.opts.NodeID
		}
	}
	return n, self
}

// Members returns the members as this one knows them, by ID. A member that waits
// to be added knows none.
func (g *Group) Members() ([]Member, error) {
	if err := g.stoppedErr(); err != nil {
		return nil, err
	}
	lead, _ := g.Leader()
	var out []Member
	for _, s := range g.servers() {
		out = append(out, Member{ID: string(s.ID), Voter: s.Suffrage == raft.Voter, Leader: string(s.ID) == lead})
	}
	slices.SortFunc(out, func(a, b Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out, nil
}

// AddVoter makes id a voter. A member that is new becomes a learner first, and a
// voter when it answers and has caught up: until then AddVoter waits. It may be
// called on any member, and again. A member that lost its log must be removed
// before it is added.
func (g *Group) AddVoter(ctx context.Context, id string) error {
	return g.change(ctx, changeVoter, id)
}

// AddLearner makes id a member without a vote; a voter stays one. It may be called
// on any member, and again.
func (g *Group) AddLearner(ctx context.Context, id string) error {
	return g.change(ctx, changeLearner, id)
}

// Demote makes a voter a learner. The last voter stays one. It may be called on
// any member, and again.
func (g *Group) Demote(ctx context.Context, id string) error {
	return g.change(ctx, changeDemote, id)
}

// Remove takes a member out of the group. The last voter stays in it. It may be
// called on any member, and again.
func (g *Group) Remove(ctx context.Context, id string) error {
	return g.change(ctx, changeRemove, id)
}

// TakeIn makes id, which says that it waits to be added, a learner. One that is a
// voter and says of itself that it has no log loses its vote first: it is removed, and
// added again. One that is a member otherwise stays what it is, so that a request
// which comes late or twice does no harm. It may be called on any member, and again.
func (g *Group) TakeIn(ctx context.Context, id string) error {
	return g.change(ctx, changeTakeIn, id)
}

func (g *Group) change(ctx context.Context, c change, id string) error {
	if id == "" || len(id) >= maxName {
		return fmt.Errorf("raftgroup: %q is no name of a member", id)
	}
	return g.atLeader(ctx, func(r route) error {
		if r.leader == g.opts.NodeID {
			return g.changeHere(ctx, c, id)
		}
		return g.asked(ctx, r, kindChange, append([]byte{byte(c)}, id...))
	})
}

// TransferLeadership has another voter lead: to, or the one that is most up to
// date when to is empty. It may be called on any member.
func (g *Group) TransferLeadership(ctx context.Context, to string) error {
	return g.atLeader(ctx, func(r route) error {
		switch {
		case to != "" && r.leader == to:
			return nil
		case r.leader == g.opts.NodeID:
			return g.transferHere(ctx, to)
		}
		return g.asked(ctx, r, kindTransfer, []byte(to))
	})
}

// asked asks the leader for what may be done twice.
func (g *Group) asked(ctx context.Context, r route, k kind, body []byte) error {
	a, err := g.call(ctx, r.leader, k, body)
	if err != nil {
		return fmt.Errorf("%w: ask %s: %w", ErrNotLeader, r.leader, err)
	}
	if a.status == statusUnknown {
		return ErrNotLeader
	}
	return a.err()
}

// atLeader calls f, which may be called again, until a leader has done it or has
// refused.
func (g *Group) atLeader(ctx context.Context, f func(route) error) error {
	var w waiting
	for {
		if err := g.awaitLeader(ctx, &w); err != nil {
			return err
		}
		r, ok := g.route()
		if !ok {
			continue
		}
		err := f(r)
		if err == nil || !errors.Is(err, ErrNotLeader) || g.stoppedErr() != nil {
			return err
		}
		if err := w.pause(ctx, g, err); err != nil {
			return err
		}
	}
}

// changeHere changes the configuration on the leader. ErrNotLeader means that it
// is not known whether that happened.
func (g *Group) changeHere(ctx context.Context, c change, id string) error {
	if g.ready.Load() == 0 {
		return ErrNotLeader
	}
	s, there := g.server(id)
	voter := there && s.Suffrage == raft.Voter
	sid, addr := raft.ServerID(id), raft.ServerAddress(id)
	if c == changeTakeIn {
		return g.takeIn(ctx, id)
	}
	if voters, _ := g.voters(); voter && voters == 1 && (c == changeDemote || c == changeRemove) {
		return refusal(id + " is the last voter")
	}
	switch {
	case c == changeVoter && voter, c == changeLearner && there, c == changeDemote && !voter, c == changeRemove && !there:
		return nil
	case id == g.opts.NodeID && g.transferHere(ctx, "") == nil:
		return ErrNotLeader // the next leader does it, so that nobody has to miss one
	case c == changeDemote:
		return g.configure(ctx, func() raft.IndexFuture { return g.raft.DemoteVoter(sid, 0, enqueueTime) })
	case c == changeRemove:
		return g.configure(ctx, func() raft.IndexFuture { return g.raft.RemoveServer(sid, 0, enqueueTime) })
	case c != changeVoter && c != changeLearner:
		return refusal("a change that is not known")
	}
	if !there {
		if err := g.configure(ctx, func() raft.IndexFuture { return g.raft.AddNonvoter(sid, addr, 0, enqueueTime) }); err != nil {
			return err
		}
	}
	if c == changeLearner {
		return nil
	}
	if err := g.awaitLearner(ctx, id); err != nil {
		return err
	}
	return g.configure(ctx, func() raft.IndexFuture { return g.raft.AddVoter(sid, addr, 0, enqueueTime) })
}

// takeIn is TakeIn on the leader.
func (g *Group) takeIn(ctx context.Context, id string) error {
	conf := g.committed()
	i := slices.IndexFunc(conf.servers, func(s raft.Server) bool { return string(s.ID) == id })
	if id != g.opts.NodeID && i >= 0 && conf.servers[i].Suffrage == raft.Voter {
		r, err := g.call(ctx, id, kindBlank, nil)
		if err == nil {
			err = r.err()
		}
		if err != nil {
			return refusal(fmt.Sprintf("%s does not say whether it has a log: %v", id, err))
		}
		if has, err := r.number(); err != nil || has != 0 {
			return err
		}
		// It had none while this configuration was the last one, and gets none under
		// it. If another one has come since, Raft refuses.
		if err := g.configure(ctx, func() raft.IndexFuture { return g.raft.RemoveServer(raft.ServerID(id), conf.index, enqueueTime) }); err != nil {
			return err
		}
	}
	return g.changeHere(ctx, changeLearner, id)
}

// awaitLearner waits until a learner answers and has nearly everything. A voter
// that is not there would count for majorities all the same.
func (g *Group) awaitLearner(ctx context.Context, id string) error {
	for {
		if g.ready.Load() == 0 {
			return ErrNotLeader
		}
		commit := g.raft.CommitIndex()
		has, err := g.progress(ctx, id)
		if err == nil && has+caughtUp >= commit && has > 0 {
			return nil
		}
		select {
		case <-g.opts.Clock.After(learnPause):
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("it has applied entry %d of %d", has, commit)
			}
			return fmt.Errorf("raftgroup: %s has not caught up: %w: %w", id, err, ctx.Err())
		case <-g.stop:
			return g.stoppedErr()
		}
	}
}

// Progress is the index up to which a member has applied the log, as it says itself.
// It may be called on any member.
func (g *Group) Progress(ctx context.Context, id string) (uint64, error) {
	if id == g.opts.NodeID {
		return g.applied.Load(), g.stoppedErr()
	}
	return g.progress(ctx, id)
}

// progress asks a member for the index it has applied.
func (g *Group) progress(ctx context.Context, id string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	r, err := g.call(ctx, id, kindProgress, nil)
	if err == nil {
		err = r.err()
	}
	if err != nil {
		return 0, err
	}
	return r.number()
}

// configure makes one change and waits until it is committed.
func (g *Group) configure(ctx context.Context, f func() raft.IndexFuture) error {
	return g.ofRaft(ctx, func() error { return f().Error() })
}

// ofRaft waits for an answer of Raft's goroutines.
func (g *Group) ofRaft(ctx context.Context, f func() error) error {
	if !g.pending.begin() {
		return g.stoppedErr()
	}
	done := make(chan error, 1)
	go func() {
		defer g.pending.end()
		done <- f()
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		return ctx.Err()
	case <-g.stop:
		return g.stoppedErr()
	}
	for _, again := range []error{raft.ErrNotLeader, raft.ErrLeadershipLost, raft.ErrLeadershipTransferInProgress, raft.ErrEnqueueTimeout, raft.ErrRaftShutdown} {
		if errors.Is(err, again) {
			return fmt.Errorf("%w: %w", ErrNotLeader, err)
		}
	}
	if err != nil {
		return refusal(err.Error())
	}
	return nil
}

// transferHere gives up leadership.
func (g *Group) transferHere(ctx context.Context, to string) error {
	if g.ready.Load() == 0 {
		return ErrNotLeader
	}
	if to == "" {
		var err error
		if to, err = g.successor(ctx); err != nil {
			return err
		}
	}
	s, there := g.server(to)
	switch {
	case to == g.opts.NodeID:
		return nil
	case !there || s.Suffrage != raft.Voter:
		return refusal(to + " is no voter")
	}
	return g.ofRaft(ctx, func() error { return g.raft.LeadershipTransferToServer(s.ID, s.Address).Error() })
}

// successor picks the voter that has applied most among those that answer. Raft
// would pick by what it has sent, also to one that is down.
func (g *Group) successor(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	type said struct {
		id  string
		has uint64
		err error
	}
	answers := make(chan said)
	asked := 0
	for _, s := range g.servers() {
		if id := string(s.ID); s.Suffrage == raft.Voter && id != g.opts.NodeID {
			asked++
			go func() {
				has, err := g.progress(ctx, id)
				answers <- said{id, has, err}
			}()
		}
	}
	var best said
	for range asked {
		if a := <-answers; a.err == nil && (best.id == "" || a.has > best.has) {
			best = a
		}
	}
	if best.id == "" {
		return "", refusal("no other voter answers")
	}
	return best.id, nil
}
