package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// proposal is one command on its way. Exactly one side takes it: the packer, or
// the proposer whose context ended.
type proposal struct {
	cmd   []byte
	taken atomic.Bool
	done  chan result // buffered
}

// Propose hands cmd to the group and returns the Machine's answer after the
// command is durable in the log and applied here. cmd belongs to the group from
// then on and must not be changed.
//
// An error of the Machine is its refusal: the command had no effect. Otherwise
// the error is one of
//
//   - ErrTooLarge, ErrNotLeader, ErrStopped: the command had no effect;
//   - the context's error alone: the command had no effect;
//   - ErrOutcomeUnknown, wrapping the cause: the command was in flight and may
//     have been applied, or may yet be. Commands that may be repeated need an id
//     of their own by which the Machine knows them again.
func (g *Group) Propose(ctx context.Context, cmd []byte) (any, error) {
	if len(cmd) > MaxCommandBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(cmd))
	}
	if err := g.stoppedErr(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := &proposal{cmd: cmd, done: make(chan result, 1)}
	select {
	case g.queue <- p:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-g.stop:
		return nil, g.stoppedErr()
	}
	select {
	case r := <-p.done:
		return r.value, r.err
	case <-ctx.Done():
		if p.taken.CompareAndSwap(false, true) {
			return nil, ctx.Err()
		}
		return nil, unknown(ctx.Err())
	case <-g.packerDone: // nobody takes from the queue any more
		if p.taken.CompareAndSwap(false, true) {
			return nil, g.stoppedErr()
		}
		select {
		case r := <-p.done:
			return r.value, r.err
		case <-g.closed: // the answer was lost with Raft's goroutines
			select {
			case r := <-p.done:
				return r.value, r.err
			default:
				return nil, unknown(g.stoppedErr())
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
		p.add(first.cmd)
		batch := []*proposal{first}
	fill:
		for {
			select {
			case next := <-g.queue:
				if !next.taken.CompareAndSwap(false, true) {
					continue
				}
				if !p.fits(next.cmd) {
					carried = next
					break fill
				}
				p.add(next.cmd)
				batch = append(batch, next)
			default:
				break fill
			}
		}
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
		go g.await(g.raft.Apply(p.envelope(), 0), batch)
	}
}

// await hands the answers of one entry to its proposers.
func (g *Group) await(f raft.ApplyFuture, batch []*proposal) {
	defer g.pending.end()
	err := f.Error()
	<-g.slots
	var res []result
	if err == nil {
		switch r := f.Response().(type) {
		case []result:
			res = r
		case error:
			err = unknown(r) // in the log, not applied
		}
	} else {
		err = applyErr(err)
	}
	if err == nil && len(res) != len(batch) {
		err = unknown(fmt.Errorf("raftgroup: %d answers to %d commands", len(res), len(batch)))
	}
	for i, p := range batch {
		if err != nil {
			p.done <- result{err: err}
		} else {
			p.done <- res[i]
		}
	}
}

// applyErr says what Raft's error means for the commands of an entry. Only when
// the entry was refused before it reached the log is it known to be without
// effect.
func applyErr(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return ErrNotLeader
	case errors.Is(err, raft.ErrRaftShutdown):
		return unknown(ErrStopped)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return unknown(ErrNotLeader)
	}
	return unknown(err) // the append failed: what reached the disk is not known
}
