package raftgroup

import (
	"errors"
	"net"
	"sync"
	"time"

	"hayloft/internal/clock"

	"github.com/hashicorp/raft"
)

// Transport carries Raft's messages between members. See NewTransport.
type Transport = raft.Transport

const (
	ioTimeout     = 5 * time.Second // one message; more for a snapshot
	snapshotScale = 64 << 10        // ioTimeout for each so many bytes of a snapshot
	pooledConns   = 3               // kept open per member
)

// NewTransport returns a Transport over streams. self is this member's name and
// address; l accepts what other members dial; dial connects to another by its
// name. Streams must tell whom they lead to: what comes out of l is believed. The
// group closes the transport, and the transport closes l and every stream.
// events, when set, is told what goes wrong.
func NewTransport(self string, l net.Listener, dial func(member string, timeout time.Duration) (net.Conn, error), events func(Event)) Transport {
	if events == nil {
		events = func(Event) {}
	}
	t := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                  &streams{l: l, dial: dial, self: self, open: map[*stream]bool{}},
		MaxPool:                 pooledConns,
		Timeout:                 ioTimeout,
		Logger:                  raftLogger(events, clock.Real{}),
		MsgpackUseNewTimeFormat: true,
	})
	t.TimeoutScale = snapshotScale
	return persistent{t}
}

// streams is the raft.StreamLayer: it closes what it opened.
type streams struct {
	l    net.Listener
	dial func(member string, timeout time.Duration) (net.Conn, error)
	self string

	mu   sync.Mutex // guards the fields below
	over bool
	open map[*stream]bool
}

// stream is a connection that is known to its streams.
type stream struct {
	net.Conn
	s *streams
}

// Close implements net.Conn.
func (c *stream) Close() error {
	c.s.mu.Lock()
	delete(c.s.open, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

func (s *streams) add(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	st := &stream{c, s}
	s.open[st] = true
	s.mu.Unlock()
	return st, nil
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	c, err := s.l.Accept()
	if err != nil {
		return nil, err
	}
	return s.add(c)
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	if over {
		return nil, net.ErrClosed
	}
	c, err := s.dial(string(to), timeout)
	if err != nil {
		return nil, err
	}
	return s.add(c)
}

// Close implements net.Listener.
func (s *streams) Close() error {
	s.mu.Lock()
	s.over = true
	open := s.open
	s.open = map[*stream]bool{}
	s.mu.Unlock()
	err := s.l.Close()
	for c := range open {
		_ = c.Conn.Close() // nobody waits for it
	}
	return err
}

// Addr implements net.Listener: members are known by their names.
func (s *streams) Addr() net.Addr { return memberAddr(s.self) }

type memberAddr string

// Network implements net.Addr.
func (memberAddr) Network() string { return "member" }

// String implements net.Addr.
func (a memberAddr) String() string { return string(a) }
