package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// proposal is one command on its way. Exactly one side takes it: the packer, or
// the proposer whose context ended.
type proposal struct {
	cmd   []byte
	taken atomic.Bool
	done  chan result // buffered
}

// How long things may take.
const (
	leaderWait  = 10 * time.Second       // Propose and Fresh wait that long for a leader
	leaderPause = 50 * time.Millisecond  // before a leader that refused is asked again
	doubtWait   = 15 * time.Second       // until an entry that may be in the log is given up
	askAgain    = 250 * time.Millisecond // before an answer that was lost is asked for again
	callTime    = 5 * time.Second        // one call to another member
)

// Propose hands cmd to the group and returns the Machine's answer after the
// command is durable in the logs of a majority and applied here. Any member may
// call it: one that does not lead hands the command to the leader (Options.Peers)
// and answers when it applies the entry itself. While there is no leader it waits
// for one, at most 10 seconds. cmd belongs to the group from then on and must not
// be changed. It is applied at most once.
//
// An error of the Machine is its refusal: the command had no effect. Otherwise
// the error is one of
//
//   - ErrTooLarge, ErrNotLeader, ErrNotMember, ErrStopped: the command had no effect;
//   - the context's error alone: the command had no effect;
//   - ErrOutcomeUnknown, wrapping the cause: the command was in flight and may
//     have been applied, or may yet be. Commands that may be repeated need an id
//     of their own by which the Machine knows them again.
func (g *Group) Propose(ctx context.Context, cmd []byte) (any, error) {
	if len(cmd) > MaxCommandBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(cmd))
	}
	var w waiting
	for {
		if err := g.awaitLeader(ctx, &w); err != nil {
			return nil, err
		}
		r := g.proposeOnce(ctx, cmd)
		if !r.again {
			return r.value, r.err
		}
		if err := w.pause(ctx, g, r.err); err != nil {
			return nil, err
		}
	}
}

// proposeOnce hands a command to the packer and waits for its answer.
func (g *Group) proposeOnce(ctx context.Context, cmd []byte) result {
	if err := ctx.Err(); err != nil {
		return result{err: err}
	}
	p := &proposal{cmd: cmd, done: make(chan result, 1)}
	select {
	case g.queue <- p:
	case <-ctx.Done():
		return result{err: ctx.Err()}
	case <-g.stop:
		return result{err: g.stoppedErr()}
	}
	select {
	case r := <-p.done:
		return r
	case <-ctx.Done():
		if p.taken.CompareAndSwap(false, true) {
			return result{err: ctx.Err()}
		}
		return result{err: unknown(ctx.Err())}
	case <-g.packerDone: // nobody takes from the queue any more
		if p.taken.CompareAndSwap(false, true) {
			return result{err: g.stoppedErr()}
		}
		select {
		case r := <-p.done:
			return r
		case <-g.closed: // the answer was lost with Raft's goroutines
			select {
			case r := <-p.done:
				return r
			default:
				return result{err: unknown(g.stoppedErr())}
			}
		}
	}
}

func unknown(cause error) error { return fmt.Errorf("%w: %w", ErrOutcomeUnknown, cause) }

// pack is the goroutine that turns queued commands into entries. At most
// maxInFlight entries are on their way; what arrives meanwhile waits in the
// queue and becomes the next entry.
func (g *Group) pack() {
	defer close(g.packerDone)
	var carried *proposal // did not fit in the last entry
	for {
		first := carried
		carried = nil
		if first == nil {
			select {
			case first = <-g.queue:
			case <-g.stop:
				return
			}
			if !first.taken.CompareAndSwap(false, true) {
				continue
			}
		}
		select {
		case g.slots <- struct{}{}:
		case <-g.stop:
			first.done <- result{err: g.stoppedErr()}
			return
		}
		var p packer
		batch := []*proposal{first}
		p.add(first.cmd)
		batch, carried = g.fillEntry(&p, batch)
		err := g.stoppedErr()
		if err == nil && !g.pending.begin() {
			err = ErrStopped
		}
		if err != nil {
			for _, q := range append(batch, carried) {
				if q != nil {
					q.done <- result{err: err}
				}
			}
			<-g.slots
			return
		}
		r, _ := g.route() // none: it is refused
		go g.carry(g.tickets.add(r, &p, batch))
	}
}

// fillEntry adds to an entry what is queued, as long as it fits.
func (g *Group) fillEntry(p *packer, batch []*proposal) (_ []*proposal, carried *proposal) {
	for {
		select {
		case next := <-g.queue:
			if !next.taken.CompareAndSwap(false, true) {
				continue
			}
			if !p.fits(next.cmd) {
				return batch, next
			}
			p.add(next.cmd)
			batch = append(batch, next)
		default:
			return batch, nil
		}
	}
}

// carry brings one entry into the log, wherever the leader is, and sees to it
// that its proposals are answered. In its term it may be handed over again and
// again: the leader knows it by its number, and in any other term it is void.
func (g *Group) carry(t *ticket) {
	defer func() { <-g.slots }()
	defer g.pending.end()
	for !t.answered() {
		st := statusNotLeader
		if t.leader == g.opts.NodeID {
			if !t.doubt {
				st, _ = g.logEntry(t.term, t.id, t.body)
			}
		} else if r, ok := g.route(); ok && r == t.route && !t.logged {
			st = g.handOver(t)
		}
		t.logged = t.logged || st == statusDone
		switch {
		case st == statusNotLeader && !t.doubt:
			g.tickets.end(t, result{err: ErrNotLeader, again: true})
		case st == statusNotMember && !t.doubt:
			g.tickets.end(t, result{err: ErrNotMember})
		case !t.doubt:
			t.doubt, t.since = true, g.opts.Clock.Elapsed()
		}
		if !t.answered() && g.lastTerm.Load() > t.term {
			g.tickets.end(t, result{err: ErrNotLeader, again: true}) // nothing of its term will come any more
		}
		g.doubtful(t)
	}
}

// doubtful waits a while for the answer of an entry that may be in the log, and
// gives it up when that took too long.
func (g *Group) doubtful(t *ticket) {
	if t.answered() {
		return
	}
	select {
	case <-t.done:
	case <-g.stop:
		g.tickets.end(t, result{err: unknown(g.stoppedErr())})
	case <-g.opts.Clock.After(askAgain):
		if g.opts.Clock.Elapsed()-t.since > doubtWait {
			g.tickets.end(t, result{err: unknown(ErrNotLeader)})
		}
	}
}

// logEntry appends an entry of this member or of another to the log here. Done
// means that it was applied here, in its term.
func (g *Group) logEntry(term uint64, id ticketID, counted []byte) (st status, index uint64) {
	f := g.raft.Apply(pack(term, id, counted), 0)
	err := f.Error()
	switch {
	case err == nil && f.Response() == any(term):
		return statusDone, f.Index()
	case err == nil && f.Response() != nil:
		return statusNotLeader, 0 // in another term: it is void
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return statusNotLeader, 0 // before it reached the log
	}
	return statusUnknown, 0 // the append failed, or another leads: what became of it is not known
}

// waiting bounds how long a call waits for a leader.
type waiting struct{ limit <-chan time.Time }

func (w *waiting) start(g *Group) {
	if w.limit == nil {
		w.limit = g.opts.Clock.After(leaderWait)
	}
}

// pause is called when a leader refused. The error says that the wait is over.
func (w *waiting) pause(ctx context.Context, g *Group, why error) error {
	w.start(g)
	select {
	case <-g.opts.Clock.After(leaderPause):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", why, ctx.Err())
	case <-w.limit:
		return why
	case <-g.stop:
		return g.stoppedErr()
	}
}

// route says who leads. ok is false when nobody does that this member knows and
// can reach.
func (g *Group) route() (r route, ok bool) {
	if term := g.ready.Load(); term != 0 {
		return route{g.opts.NodeID, term}, true
	}
	_, id := g.raft.LeaderWithID()
	if id == "" || string(id) == g.opts.NodeID || g.opts.Peers == nil {
		return route{}, false
	}
	return route{string(id), g.raft.CurrentTerm()}, true
}

// awaitLeader waits until somebody leads who can be asked.
func (g *Group) awaitLeader(ctx context.Context, w *waiting) error {
	for {
		moved := g.movedChan()
		if err := g.stoppedErr(); err != nil {
			return err
		}
		if _, ok := g.route(); ok {
			return nil
		}
		if _, id := g.raft.LeaderWithID(); id != "" && string(id) != g.opts.NodeID {
			return fmt.Errorf("%w: %s does, and cannot be asked", ErrNotLeader, id)
		}
		w.start(g)
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNotLeader, ctx.Err())
		case <-w.limit:
			return ErrNotLeader
		case <-g.stop:
		}
	}
}
