package raftgroup

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	pulse     = 500 * time.Millisecond // how often a member makes sure that it is fresh
	hearing   = 5 * time.Second        // a member that was not fresh for that long does not work
	leadTrust = time.Second            // a leader that was verified this recently calls its view current
)

// round is one question for the index that a fresh reading has to show. It
// answers everybody who asked before it began.
type round struct {
	done  chan struct{}
	began time.Duration // of the clock's Elapsed
	index uint64
	term  uint64 // that the leader is in
	err   error
}

// rounds makes one round at a time. Who asks while one runs waits for the next:
// the running one may have begun too early.
type rounds struct {
	ask func(ctx context.Context) (index, term uint64, err error)

	mu      sync.Mutex // guards the fields below
	next    *round     // not begun
	running bool
}

// join waits for a round that begins after the call.
func (s *rounds) join(ctx context.Context, g *Group) (*round, error) {
	s.mu.Lock()
	r := s.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		s.next = r
		if !s.running {
			if !g.pending.begin() {
				s.next = nil
				s.mu.Unlock()
				return nil, ErrStopped
			}
			s.running = true
			go s.run(g)
		}
	}
	s.mu.Unlock()
	select {
	case <-r.done:
		return r, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-g.stop:
		return nil, g.stoppedErr()
	}
}

// run makes rounds until nobody waits for one.
func (s *rounds) run(g *Group) {
	defer g.pending.end()
	for {
		s.mu.Lock()
		r := s.next
		s.next = nil
		s.running = r != nil
		s.mu.Unlock()
		if r == nil {
			return
		}
		r.began = g.opts.Clock.Elapsed()
		ctx, cancel := context.WithTimeout(g.ctx, callTime)
		r.index, r.term, r.err = s.ask(ctx)
		cancel()
		close(r.done)
	}
}

// Fresh returns nil when this member is certain to be up to date: a View or
// Snapshot taken after Fresh returned shows every command that was acknowledged,
// by any member, before Fresh was called. A member that does not lead asks the
// leader for the index that it has to have applied (Options.Peers). While there
// is no leader it waits for one, at most 10 seconds. Otherwise the error is
// ErrNotLeader, ErrNotMember, ErrStopped or ctx's.
func (g *Group) Fresh(ctx context.Context) error {
	var w waiting
	for {
		if err := g.awaitLeader(ctx, &w); err != nil {
			return err
		}
		err := g.freshOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := w.pause(ctx, g, err); err != nil {
			return err
		}
	}
}

func (g *Group) freshOnce(ctx context.Context) error {
	s := &g.asks
	if g.ready.Load() != 0 {
		s = &g.leads
	}
	r, err := s.join(ctx, g)
	if err != nil {
		return err
	}
	if err := g.WaitApplied(ctx, r.index); err != nil {
		return err
	}
	g.noteFresh(r.began)
	return nil
}

// askIndex asks the leader for a read index.
func (g *Group) askIndex(ctx context.Context) (index, term uint64, err error) {
	r, ok := g.route()
	if !ok || r.leader == g.opts.NodeID {
		return 0, 0, ErrNotLeader
	}
	a, err := g.call(ctx, r.leader, kindIndex, nil)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: ask %s: %w", ErrNotLeader, r.leader, err)
	}
	if err := a.err(); err != nil {
		if a.status == statusUnknown {
			err = ErrNotLeader
		}
		return 0, 0, err
	}
	if len(a.body) != 16 {
		return 0, 0, fmt.Errorf("%w: read index of %d bytes", ErrUnsupported, len(a.body))
	}
	index, term = binary.LittleEndian.Uint64(a.body), binary.LittleEndian.Uint64(a.body[8:])
	g.log.hints.heard(route{r.leader, term}, index)
	return index, term, nil
}

// leadIndex returns the read index of a leader. The order counts: the commit
// index first, then the proof that nobody else has committed anything since.
func (g *Group) leadIndex(ctx context.Context) (index, term uint64, err error) {
	if term = g.ready.Load(); term == 0 {
		return 0, 0, ErrNotLeader
	}
	index = g.raft.CommitIndex()
	if err := g.stillLeads(ctx, term); err != nil {
		return 0, 0, err
	}
	// A leader that is ready began its term with a mark. What is committed after it
	// are commands and configurations, which all come to the state.
	if err := g.WaitApplied(ctx, index); err != nil {
		return 0, 0, err
	}
	return index, term, nil
}

// stillLeads makes sure that no later term than this leader's had begun when it
// was called: a majority of the voters says so, asked after that.
func (g *Group) stillLeads(ctx context.Context, term uint64) error {
	var others []string
	votes, voters := 0, 0
	for _, s := range g.servers() {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(s.ID) == g.opts.NodeID {
			votes++
		} else {
			others = append(others, string(s.ID))
		}
	}
	if votes <= voters/2 {
		if g.opts.Peers == nil {
			if err := g.raft.VerifyLeader().Error(); err != nil {
				return ErrNotLeader
			}
		} else if !g.vouched(ctx, term, others, voters/2+1-votes) {
			return ErrNotLeader
		}
	}
	if g.ready.Load() != term || g.raft.CurrentTerm() != term {
		return ErrNotLeader
	}
	return nil
}

// vouched asks voters for their term, until enough are still in this one.
func (g *Group) vouched(ctx context.Context, term uint64, others []string, enough int) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	said := make(chan bool, len(others))
	for _, id := range others {
		go func() {
			r, err := g.call(ctx, id, kindVouch, nil)
			if err == nil {
				err = r.err()
			}
			var has uint64
			if err == nil {
				has, err = r.number()
			}
			said <- err == nil && has == term
		}()
	}
	for left := len(others); left >= enough; left-- {
		if <-said {
			if enough--; enough == 0 {
				return true
			}
		}
	}
	return false
}

// serveVouch tells the term this voter is in. It is known to this process before
// a vote in it leaves, so that who is told an earlier one knows that no vote had
// been given.
func (g *Group) serveVouch() reply {
	term := g.raft.CurrentTerm()
	if term < g.wire.least.Load() || g.wire.blank.Load() {
		return reply{status: statusRefused, body: []byte("it has no log yet")}
	}
	return numberReply(term)
}

// noteFresh remembers that everything acknowledged until then is shown.
func (g *Group) noteFresh(at time.Duration) {
	for {
		was := g.freshAt.Load()
		if int64(at) <= was || g.freshAt.CompareAndSwap(was, int64(at)) {
			return
		}
	}
}

// pulseLoop is the goroutine that keeps Staleness small, and so knows when it
// cannot.
func (g *Group) pulseLoop() {
	defer g.loops.Done()
	for {
		ctx, cancel := context.WithTimeout(g.ctx, callTime)
		_ = g.Fresh(ctx) // Staleness tells
		cancel()
		select {
		case <-g.opts.Clock.After(pulse):
		case <-g.stop:
			return
		}
	}
}

// Staleness is how old what a View shows may be at most: everything that was
// acknowledged longer ago is in it. Zero for the leader, which it makes sure of
// twice a second. A member that has never been fresh says so with the greatest
// duration.
func (g *Group) Staleness() time.Duration {
	now := g.opts.Clock.Elapsed()
	if g.ready.Load() != 0 && g.alone() {
		return 0
	}
	if g.opts.Peers == nil {
		switch last := g.raft.LastContact(); {
		case g.ready.Load() != 0:
			return 0
		case !last.IsZero():
			return g.opts.Clock.Now().Sub(last)
		}
		return maxStale
	}
	at := g.freshAt.Load()
	if at == neverFresh {
		return maxStale
	}
	age := max(now-time.Duration(at), 0)
	if age <= leadTrust && g.ready.Load() != 0 {
		return 0
	}
	return age
}

const (
	maxStale   = time.Duration(1<<63 - 1)
	neverFresh = -1 << 63
)

// alone reports whether this member is the only voter.
func (g *Group) alone() bool {
	if g.catching.Load() != 0 {
		return false
	}
	voters, self := g.voters()
	return voters == 1 && self
}

// Working tells at once whether this member can answer: nil when it leads and is
// ready, or when it follows a leader and was up to date within the last 5
// seconds. It is ErrStopped with the reason when it stopped for good, else
// ErrNotLeader.
func (g *Group) Working() error {
	if err := g.stoppedErr(); err != nil {
		return err
	}
	if hung := g.hung(); hung != nil {
		return hung
	}
	if _, ok := g.Leader(); !ok {
		return fmt.Errorf("%w: no leader is known", ErrNotLeader)
	}
	switch age := g.Staleness(); {
	case age == maxStale:
		return fmt.Errorf("%w: not up to date yet", ErrNotLeader)
	case age > hearing:
		return fmt.Errorf("%w: not up to date for %v", ErrNotLeader, age.Round(time.Second))
	}
	return nil
}

// Leader returns the member that leads, as far as this one knows. ok is false
// while nobody does.
func (g *Group) Leader() (id string, ok bool) {
	if g.stoppedErr() != nil {
		return "", false
	}
	_, lead := g.raft.LeaderWithID()
	if string(lead) == g.opts.NodeID && g.ready.Load() == 0 {
		return "", false // it has not begun
	}
	return string(lead), lead != ""
}
