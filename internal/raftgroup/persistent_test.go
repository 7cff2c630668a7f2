package raftgroup

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A member that was started again hears the first message to it, though every
// connection in the pool led to its former process; one that is away is tried once.
func TestMessagesReachARestartedMember(t *testing.T) {
	t.Parallel()
	var address string
	var dials atomic.Int32
	from := NewTransport("a", listen(t), func(string, time.Duration) (net.Conn, error) {
		dials.Add(1)
		return net.Dial("tcp", address)
	}, nil)
	defer closeTransport(from)
	answer := func() (stop func()) {
		l := listen(t)
		address = l.Addr().String()
		to, over := NewTransport("b", l, nil, nil), make(chan struct{})
		go func() {
			for {
				select {
				case <-over:
					return
				case q := <-to.Consumer():
					q.Respond(answerTo(q.Command), nil)
				}
			}
		}()
		return func() {
			closeTransport(to)
			close(over)
		}
	}
	pre := from.(raft.WithPreVote)
	sends := map[string]func() error{
		"vote": func() error {
			return from.RequestVote("b", "b", &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{})
		},
		"pre-vote": func() error {
			return pre.RequestPreVote("b", "b", &raft.RequestPreVoteRequest{}, &raft.RequestPreVoteResponse{})
		},
		"take over": func() error {
			return from.TimeoutNow("b", "b", &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
		},
	}
	for name, send := range sends {
		stop := answer()
		var all sync.WaitGroup
		for range 20 { // fills the pool
			all.Go(func() {
				if err := send(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		stop()
		stop = answer()
		if err := send(); err != nil {
			t.Errorf("%s, to a process that has just begun: %v", name, err)
		}
		stop()
		for range pooledConns + 1 {
			_ = send() // empties the pool
		}
		dials.Store(0)
		if err := send(); err == nil || errors.Is(err, net.ErrClosed) || dials.Load() != 1 {
			t.Errorf("%s, to nobody: %v, %d attempts", name, err, dials.Load())
		}
	}
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func answerTo(command any) any {
	switch command.(type) {
	case *raft.TimeoutNowRequest:
		return &raft.TimeoutNowResponse{}
	case *raft.RequestPreVoteRequest:
		return &raft.RequestPreVoteResponse{Granted: true}
	}
	return &raft.RequestVoteResponse{Granted: true}
}
