package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/internal/mesh/certs"
)

// Bounds of HTTP between nodes. The client forgets an idle connection before the
// server does, so that a call does not meet one that is being closed.
const (
	maxConnsPerNode = 256 // of one Client; more calls wait for one of them
	maxIdlePerNode  = 64
	clientIdle      = 60 * time.Second
	serverIdle      = 120 * time.Second
	headerLimit     = 5 * time.Second
	maxHeaderBytes  = 64 << 10
	bufferBytes     = 16 << 10 // of a connection, each way; larger reads and writes pass it by
)

type peerKey struct{}

// PeerOf returns who asks, of the context of a request that Handle serves.
func PeerOf(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

// server serves one protocol.
type server struct {
	http  *http.Server
	layer *Layer
	ctx   context.Context // of requests
	cut   context.CancelFunc

	mu      sync.Mutex // guards what follows
	fresh   map[net.Conn]struct{}
	running int           // handlers
	ended   chan struct{} // closed when none runs, and none will; nil before drain
}

// Handle serves a protocol over HTTP/1.1 until Close, to nodes and whatever roles
// are named besides. The context of a request ends when the peer is gone, if the
// handler has read its body, and when Close has waited long enough.
func (m *Mesh) Handle(proto string, h http.Handler, roles ...certs.Role) {
	s := &server{layer: m.layer(proto, roles), fresh: map[net.Conn]struct{}{}}
	s.ctx, s.cut = context.WithCancel(m.ctx)
	s.http = &http.Server{
		Handler: s.guard(h), ReadHeaderTimeout: headerLimit, IdleTimeout: serverIdle, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, c.(*Conn).peer)
		},
		ConnState: s.state, ErrorLog: log.New(notes{m, proto}, "", 0),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.servers = append(m.servers, s)
	m.work.Go(func() { _ = s.http.Serve(s.layer) }) // it ends with the layer
}

// state keeps the connections on which nothing was asked yet. Shutdown waits seconds
// for them, and clients keep some.
func (s *server) state(c net.Conn, st http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st == http.StateNew {
		s.fresh[c] = struct{}{}
	} else {
		delete(s.fresh, c)
	}
}

// notes makes events of what the HTTP server would log.
type notes struct {
	m     *Mesh
	proto string
}

func (n notes) Write(b []byte) (int, error) {
	n.m.o.Events(Event{Kind: EventServer, Proto: n.proto, Err: errors.New(string(bytes.TrimSpace(b)))})
	return len(b), nil
}

// guard counts the handlers that run, and makes an event of a panic.
func (s *server) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.begin() {
			panic(http.ErrAbortHandler)
		}
		defer s.end()
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v != http.ErrAbortHandler {
				p, _ := PeerOf(r.Context())
				s.layer.m.o.Events(Event{Kind: EventPanic, Addr: r.RemoteAddr, Peer: p, Proto: s.layer.proto, Err: fmt.Errorf("%v\n%s", v, debug.Stack())})
			}
			panic(http.ErrAbortHandler) // the peer must not take half an answer for one
		}()
		h.ServeHTTP(w, r)
	})
}

func (s *server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return false
	}
	s.running++
	return true
}

func (s *server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running--; s.running == 0 && s.ended != nil {
		close(s.ended)
	}
}

// drain lets requests end until ctx does, then cuts them off and waits.
func (s *server) drain(ctx context.Context) {
	_ = s.layer.Close() // no error of its own
	s.mu.Lock()
	fresh := s.fresh
	s.fresh = map[net.Conn]struct{}{}
	s.mu.Unlock()
	for c := range fresh {
		_ = c.Close() // nobody waits for anything on it
	}
	if err := s.http.Shutdown(ctx); err != nil {
		s.cut()
		_ = s.http.Close() // what fails is cut off too
	}
	s.mu.Lock()
	ended := make(chan struct{})
	if s.running == 0 {
		close(ended)
	}
	s.ended = ended
	s.mu.Unlock()
	<-ended
	s.cut()
}

// Client asks nodes over one protocol. It keeps connections to each.
type Client struct {
	m         *Mesh
	proto     string
	transport *http.Transport
}

// Client returns the one client of a protocol.
func (m *Mesh) Client(proto string) *Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.clients[proto]; c != nil {
		return c
	}
	c := &Client{m: m, proto: proto}
	c.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return m.dial(ctx, proto, node)
		},
		MaxConnsPerHost: maxConnsPerNode, MaxIdleConnsPerHost: maxIdlePerNode, IdleConnTimeout: clientIdle,
		ReadBufferSize: bufferBytes, WriteBufferSize: bufferBytes, MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression: true,
	}
	if !m.closed {
		m.clients[proto] = c
	}
	return c
}

// Do asks a node. Only path and query of the request's URL count. The answer is
// as of http.Client.Do, without redirects: its body has to be closed. An error is
// an UnreachableError. As of HTTP, a request of a method that changes nothing (GET),
// or with the header Idempotency-Key, may be sent again when a kept connection
// turns out to be dead; others never are.
//
// A node that hangs keeps the call until ctx ends: give it a deadline.
func (c *Client) Do(ctx context.Context, node string, r *http.Request) (*http.Response, error) {
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	})
	r = r.WithContext(ctx)
	u := *r.URL
	u.Scheme, u.Host = "http", node // inside of TLS
	r.URL, r.Host = &u, node
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return nil, unreachable(node, sent.Load(), err)
	}
	return resp, nil
}

func unreachable(node string, sent bool, err error) error {
	var u *UnreachableError
	if errors.As(err, &u) {
		return u // of the dial
	}
	return &UnreachableError{Node: node, Sent: sent, Err: err}
}

// CloseIdle closes kept connections that nothing is asked over, of every node. A
// call that hung for a node that is gone leaves none.
func (c *Client) CloseIdle() { c.transport.CloseIdleConnections() }
