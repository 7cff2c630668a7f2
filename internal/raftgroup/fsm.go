package raftgroup

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// fsm is the three-method adapter between Raft and the Machine. Its methods run
// on Raft's apply goroutine, but for pending.Persist.
type fsm struct{ g *Group }

var _ raft.BatchingFSM = fsm{}

// result is the answer to one command.
type result struct {
	value any
	err   error
	again bool // err says why the command had no effect; another leader may take it
}

// Apply implements raft.FSM.
func (f fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. Proposals are answered by their tickets,
// on the member that made them. Raft gets the term of each entry that was applied,
// for logEntry.
func (f fsm) ApplyBatch(logs []*raft.Log) (terms []any) {
	g := f.g
	terms = make([]any, len(logs))
	done := false
	defer func() {
		if !done {
			g.raftDied() // Pebble ended the goroutine after a fatal error
		}
	}()
	for next := 0; next < len(logs) && g.stoppedErr() == nil; {
		n, err := g.applySome(logs[next:])
		if err != nil {
			g.fail(err)
		}
		for range n {
			terms[next] = logs[next].Term
			next++
		}
	}
	done = true
	return terms
}

// applySome applies entries until the batch is large enough, commits it and
// tells the Machine. On an error nothing of it is applied; zero entries without an
// error means that the state was lost with its disk and the next one is to be
// tried.
func (g *Group) applySome(logs []*raft.Log) (n int, err error) {
	in, err := g.states.await(nil)
	if err != nil {
		return 0, err
	}
	defer g.states.release(in)
	g.applyMu.Lock()
	defer g.applyMu.Unlock()
	if in.place.isGone() {
		return 0, nil
	}
	defer func() {
		// Pebble panics when its log cannot be written. Its locks may be held:
		// it is given up.
		if r := recover(); r != nil {
			disk := diskPanic(r)
			if disk == nil {
				panic(r) // a fault of the Machine, not of the disk
			}
			g.states.giveUp(in, disk)
			n, err = 0, fmt.Errorf("write the state: %w", disk)
			if g.nextState(in, err) {
				err = nil
			}
		}
	}()
	n, err = g.applyTo(in, logs)
	if err != nil && (in.place.isGone() || in.failed(err)) && g.nextState(in, err) {
		return 0, nil
	}
	return n, err
}

// outcome is what one entry came to.
type outcome struct {
	id  ticketID
	res []result
}

func (g *Group) applyTo(in *instance, logs []*raft.Log) (n int, err error) {
	applied, term := g.applied.Load(), uint64(0)
	b := in.db.NewIndexedBatch()
	var commands, bytes int
	var outcomes []outcome
	for n < len(logs) && b.Len() < maxBatchBytes {
		l := logs[n]
		bytes += len(l.Data)
		if l.Type == raft.LogConfiguration {
			g.conf.Store(&confAt{l.Index, raft.DecodeConfiguration(l.Data).Servers})
		}
		if l.Index > applied {
			if l.Type == raft.LogCommand {
				o, err := applyEntry(g.opts.Machine, b, l)
				if err != nil {
					return 0, errors.Join(fmt.Errorf("apply entry %d: %w", l.Index, err), b.Close())
				}
				if len(o.res) > 0 {
					outcomes = append(outcomes, o)
					commands += len(o.res)
				}
			}
			applied = l.Index
			term = l.Term
		}
		n++
	}
	if applied > g.applied.Load() {
		if err := g.states.commit(in, b, applied); err != nil {
			return 0, err
		}
		g.setApplied(applied)
		g.opts.Machine.Applied(in.db, applied)
	} else if err := b.Close(); err != nil {
		return 0, err
	}
	for _, o := range outcomes {
		g.tickets.applied(o.id, o.res)
	}
	if term > g.lastTerm.Load() { // what was logged in earlier terms has come before it
		g.lastTerm.Store(term)
		g.tickets.passed(term)
	}
	g.noteApplied(n, commands, bytes)
	return n, nil
}

// applyEntry runs the commands of one entry.
func applyEntry(m Machine, b *pebble.Batch, l *raft.Log) (o outcome, err error) {
	e, err := unpack(l.Data)
	if err != nil || e.void(l.Term) {
		return o, err
	}
	o = outcome{id: e.id, res: make([]result, len(e.cmds))}
	for i, cmd := range e.cmds {
		before := b.Count()
		v, err := m.Apply(b, cmd)
		if errors.Is(err, ErrUnsupported) || errors.Is(err, ErrBroken) {
			return o, err
		}
		if err != nil && b.Count() != before {
			return o, fmt.Errorf("command %d was refused after it wrote: %w", i, err)
		}
		o.res[i] = result{value: v, err: err}
	}
	return o, nil
}

// Snapshot implements raft.FSM. A stopped group takes none: Raft counts entries
// as applied that were not.
func (f fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.g.stoppedErr(); err != nil {
		return nil, err
	}
	return pending(f), nil
}

// pending is a snapshot that was asked for. The checkpoint is made in Persist,
// beside the apply goroutine: it may hold later entries too, all committed,
// which Apply skips by their index.
type pending struct{ g *Group }

// Persist implements raft.FSMSnapshot.
func (p pending) Persist(s raft.SnapshotSink) error {
	k, ok := s.(*sink)
	if !ok {
		return fmt.Errorf("raftgroup: foreign snapshot sink %T", s)
	}
	in, err := p.g.states.acquire()
	if err != nil {
		return err
	}
	defer p.g.states.release(in)
	index, err := readApplied(in.db)
	if err != nil {
		return err
	}
	return k.checkpoint(in, index)
}

// Release implements raft.FSMSnapshot.
func (pending) Release() {}

// Restore implements raft.FSM: the leader sent a snapshot.
func (f fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := f.g.stoppedErr(); err != nil {
		return err
	}
	if err := f.g.restoreSent(r); err != nil {
		f.g.fail(fmt.Errorf("restore a snapshot: %w", err))
		return err
	}
	return nil
}
