package raftgroup

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// wire stands between Raft and its transport. It keeps a member without a log out
// (admit.go), keeps other groups away from a group's only voter (sole.go), and it
// silences a leader whose log disk hangs (watchdog.go).
type wire struct {
	raft.Transport
	preVote raft.WithPreVote
	admit   func(cmd any) error
	sole    func(cmd any) error
	started chan struct{} // closed when Raft runs: nothing is handed on before
	rpcs    chan raft.RPC
	done    chan struct{}
	over    sync.Once

	blank  atomic.Bool   // this member has no log and was not admitted yet
	least  atomic.Uint64 // messages of the leader of an earlier term are refused
	silent atomic.Bool   // nothing is sent
}

var (
	errSilent   = errors.New("raftgroup: this member's log disk does not answer")
	errTooEarly = errors.New("raftgroup: of an earlier term than the leader that admitted this member")
	errClosed   = errors.New("raftgroup: closed")
)

// newWire wraps t, which must be able to carry pre-votes.
func newWire(t raft.Transport, admit, sole func(any) error) (*wire, error) {
	p, ok := t.(raft.WithPreVote)
	if !ok {
		return nil, errors.New("raftgroup: the transport cannot carry pre-votes")
	}
	w := &wire{Transport: t, preVote: p, admit: admit, sole: sole, started: make(chan struct{}), rpcs: make(chan raft.RPC), done: make(chan struct{})}
	go w.pump()
	return w, nil
}

// pump is the goroutine that hands messages on.
func (w *wire) pump() {
	in := w.Transport.Consumer()
	select {
	case <-w.started:
	case <-w.done:
		return
	}
	for {
		var rpc raft.RPC
		select {
		case rpc = <-in:
		case <-w.done:
			return
		}
		if err := w.refuses(rpc.Command); err != nil {
			if rpc.Reader != nil {
				_, _ = io.Copy(io.Discard, rpc.Reader) // the answer comes behind the snapshot
			}
			rpc.Respond(refusalOf(rpc.Command), err)
			continue
		}
		select {
		case w.rpcs <- rpc:
		case <-w.done:
			rpc.Respond(refusalOf(rpc.Command), errClosed)
			return
		}
	}
}

// refusalOf returns an empty answer of the type that belongs to a message:
// transports copy it even beside an error.
func refusalOf(cmd any) any {
	switch cmd.(type) {
	case *raft.AppendEntriesRequest:
		return &raft.AppendEntriesResponse{}
	case *raft.RequestVoteRequest:
		return &raft.RequestVoteResponse{}
	case *raft.RequestPreVoteRequest:
		return &raft.RequestPreVoteResponse{}
	case *raft.InstallSnapshotRequest:
		return &raft.InstallSnapshotResponse{}
	}
	return &raft.TimeoutNowResponse{}
}

func (w *wire) refuses(cmd any) error {
	if w.blank.Load() {
		if err := w.admit(cmd); err != nil {
			return err
		}
	}
	if err := w.sole(cmd); err != nil {
		return err
	}
	least := w.least.Load()
	if least == 0 {
		return nil
	}
	var term uint64
	switch c := cmd.(type) {
	case *raft.AppendEntriesRequest:
		term = c.Term
	case *raft.InstallSnapshotRequest:
		term = c.Term
	case *raft.RequestVoteRequest:
		term = c.Term
	case *raft.RequestPreVoteRequest:
		term = c.Term
	default:
		return nil
	}
	if term < least {
		return errTooEarly
	}
	return nil
}

// local hands a message of this member to itself.
func (w *wire) local(cmd any, stop <-chan struct{}) error {
	answer := make(chan raft.RPCResponse, 1)
	select {
	case w.rpcs <- raft.RPC{Command: cmd, RespChan: answer}:
	case <-stop:
		return errClosed
	}
	select {
	case r := <-answer:
		return r.Error
	case <-stop:
		return errClosed
	}
}

// Consumer implements raft.Transport.
func (w *wire) Consumer() <-chan raft.RPC { return w.rpcs }

// SetHeartbeatHandler implements raft.Transport.
func (w *wire) SetHeartbeatHandler(f func(raft.RPC)) {
	w.Transport.SetHeartbeatHandler(func(rpc raft.RPC) {
		select {
		case <-w.started:
		default:
			rpc.Respond(refusalOf(rpc.Command), errors.New("raftgroup: not started yet"))
			return
		}
		if w.blank.Load() {
			rpc.Respond(refusalOf(rpc.Command), errors.New("raftgroup: no log yet")) // the next entry asks to be admitted
			return
		}
		if err := w.refuses(rpc.Command); err != nil {
			rpc.Respond(refusalOf(rpc.Command), err)
			return
		}
		f(rpc)
	})
}

// AppendEntries implements raft.Transport.
func (w *wire) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if w.silent.Load() {
		return errSilent
	}
	return w.Transport.AppendEntries(id, to, req, resp)
}

// AppendEntriesPipeline implements raft.Transport.
func (w *wire) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if w.silent.Load() {
		return nil, errSilent
	}
	p, err := w.Transport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return &pipeline{p, w}, nil
}

// pipeline is a pipeline that falls silent with its wire.
type pipeline struct {
	raft.AppendPipeline
	w *wire
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.w.silent.Load() {
		return nil, errSilent
	}
	return p.AppendPipeline.AppendEntries(req, resp)
}

// RequestVote implements raft.Transport.
func (w *wire) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if w.silent.Load() {
		return errSilent
	}
	return w.Transport.RequestVote(id, to, req, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (w *wire) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if w.silent.Load() {
		return errSilent
	}
	return w.preVote.RequestPreVote(id, to, req, resp)
}

// InstallSnapshot implements raft.Transport.
func (w *wire) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if w.silent.Load() {
		return errSilent
	}
	return w.Transport.InstallSnapshot(id, to, req, resp, data)
}

// Close implements raft.WithClose.
func (w *wire) Close() error {
	w.over.Do(func() { close(w.done) })
	if c, ok := w.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}
