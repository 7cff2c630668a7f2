package raftgroup

import (
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/hashicorp/raft"
)

// persistent is a transport that asks again when the connection it took from its
// pool was one to a process that has ended. Raft itself takes that for the word of the
// member: it counts no vote from one that has just been started again, and gives up
// handing over to it. Messages that may arrive twice alone are sent again; those that
// carry the log Raft repeats itself.
type persistent struct{ *raft.NetworkTransport }

// RequestVote implements raft.Transport.
func (t persistent) RequestVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, r *raft.RequestVoteResponse) error {
	return again(func() error { return t.NetworkTransport.RequestVote(id, to, q, r) })
}

// RequestPreVote implements raft.WithPreVote.
func (t persistent) RequestPreVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	return again(func() error { return t.NetworkTransport.RequestPreVote(id, to, q, r) })
}

// TimeoutNow implements raft.Transport.
func (t persistent) TimeoutNow(id raft.ServerID, to raft.ServerAddress, q *raft.TimeoutNowRequest, r *raft.TimeoutNowResponse) error {
	return again(func() error { return t.NetworkTransport.TimeoutNow(id, to, q, r) })
}

// again calls send until it has had a new connection: each failure uses one of the
// pool up.
func again(send func() error) error {
	err := send()
	for i := 0; i < pooledConns && ended(err); i++ {
		err = send()
	}
	return err
}

// ended says whether err is of a connection whose other end is gone, rather than of a
// member that is silent, refuses, or cannot be dialled.
func ended(err error) bool {
	var coding interface{ Cause() error } // Raft's codec does not unwrap
	if errors.As(err, &coding) {
		err = coding.Cause()
	}
	for _, of := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}
