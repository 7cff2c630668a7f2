package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"hayloft/internal/mesh/certs"
)

// dial connects to a node by name. It takes a second to find out that nothing
// answers there, and two more when somebody does and says nothing.
func (m *Mesh) dial(ctx context.Context, proto, node string) (*Conn, error) {
	addr, ok := m.book.addr(node)
	if !ok {
		m.failed.Add(1)
		return nil, &UnreachableError{Node: node, Err: ErrNoAddress}
	}
	c, _, err := m.dialAddr(ctx, proto, addr, node)
	if err != nil {
		return nil, &UnreachableError{Node: node, Err: err}
	}
	return c, nil
}

// Hello connects to a bare address and returns who answers there and what address
// it advertises, which the book has from then on. ErrSelf: it is this process.
func (m *Mesh) Hello(ctx context.Context, addr string) (node, advertised string, err error) {
	c, g, err := m.dialAddr(ctx, helloProto, addr, "")
	if err != nil {
		return "", "", &UnreachableError{Node: addr, Err: err}
	}
	if g.addr == "" {
		m.book.learn(c.peer.Name, addr) // it was there a moment ago
	}
	return c.peer.Name, g.addr, c.Close()
}

// dialAddr connects, finds out who is there, and greets. Without an error the
// connection is tracked.
func (m *Mesh) dialAddr(ctx context.Context, proto, addr, want string) (c *Conn, g greeting, err error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, g, ErrClosed
	}
	m.work.Add(1) // under mu: Close waits for it
	m.mu.Unlock()
	defer m.work.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()

	d := net.Dialer{Timeout: connectLimit, KeepAliveConfig: keepAlive}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err == nil {
		if c, g, err = m.introduce(ctx, raw, proto, want); err != nil {
			_ = raw.Close() // nothing of ours was on it
			if told := (*mistaken)(nil); errors.As(err, &told) {
				m.o.Events(Event{Kind: EventMistaken, Addr: addr, Peer: Peer{Role: certs.Node, Name: want}, Proto: proto, Err: told.error})
				err = told.error
			}
		}
	}
	if err != nil {
		m.failed.Add(1)
		if m.ctx.Err() != nil {
			err = ErrClosed
		}
		return nil, g, err
	}
	m.dialed.Add(1)
	return c, g, nil
}

// mistaken is an error that an operator should see: it does not pass by itself.
type mistaken struct{ error }

func (e *mistaken) Unwrap() error { return e.error }

// introduce makes a connection of one that is only TCP.
func (m *Mesh) introduce(ctx context.Context, raw net.Conn, proto, want string) (*Conn, greeting, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeLimit, errSlow)
	defer cancel()
	var g greeting
	if err := watchful(raw); err != nil {
		return nil, g, err
	}
	c := &Conn{m: m, proto: proto}
	cred := m.o.Identity.use.Load()
	c.Conn = tls.Client(raw, cred.clientTLS(m.o.Clock, alpnPrefix+proto, func(p Peer) error {
		c.peer = p
		if want != "" && p.Name != want {
			return fmt.Errorf("%w: %s", ErrMistaken, p.Name)
		}
		return nil
	}))
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, g, ofTLS(clearer(ctx, err))
	}
	err := within(ctx, raw, func() (err error) {
		if g, err = readGreeting(c.Conn); err != nil {
			return err
		}
		_, err = c.Write(greeting{m.instance, m.o.Advertise}.append(nil))
		return errors.Join(err, m.another(c.peer, g))
	})
	if err != nil {
		if errors.Is(err, ErrDuplicate) {
			err = &mistaken{err}
		}
		return nil, g, ofTLS(err)
	}
	m.book.learn(c.peer.Name, g.addr)
	if !m.track(c) {
		return nil, g, ErrClosed
	}
	return c, g, nil
}

// ofTLS marks errors that do not pass by themselves: the other end refuses what it
// was shown, or does not speak TLS.
func ofTLS(err error) error {
	var op *net.OpError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &op) && op.Op == "remote error":
		return &mistaken{fmt.Errorf("it refuses this node's certificate, or the protocol: %w", err)}
	case errors.As(err, &noTLS):
		return &mistaken{fmt.Errorf("no node listener is there: %w", err)}
	}
	return err
}

// Layer is a listener and a dialer of one protocol: the shape of a stream layer of
// Raft. Addresses are names of nodes.
type Layer struct {
	m     *Mesh
	proto string
	roles []certs.Role // besides nodes
	queue chan *Conn
	done  chan struct{}
}

// waiting is how many connections may wait for Accept.
const waiting = 128

// Layer opens a protocol for nodes: its name is 1 to 32 bytes. It panics when the
// protocol is open: two parts of a process would take each other's connections.
func (m *Mesh) Layer(proto string) *Layer { return m.layer(proto, nil) }

func (m *Mesh) layer(proto string, roles []certs.Role) *Layer {
	if proto == "" || len(proto) > 32 || proto == helloProto {
		panic(fmt.Sprintf("mesh: %q is no name for a protocol", proto))
	}
	l := &Layer{m: m, proto: proto, roles: roles, queue: make(chan *Conn, waiting), done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.layers[proto] != nil {
		panic(fmt.Sprintf("mesh: protocol %q is open", proto))
	}
	if m.closed {
		close(l.done)
		return l
	}
	m.layers[proto] = l
	return l
}

// push gives the connection to whoever accepts. It returns false when nobody will.
func (l *Layer) push(c *Conn) bool {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.m.layers[l.proto] != l {
		return false
	}
	select {
	case l.queue <- c:
		return true
	default:
		return false
	}
}

// Accept implements net.Listener. What it returns is a *Conn.
func (l *Layer) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: the protocol is not open any more. Connections
// that were accepted or dialed stay.
func (l *Layer) Close() error {
	l.m.mu.Lock()
	mine := l.m.layers[l.proto] == l
	if mine {
		delete(l.m.layers, l.proto)
	}
	l.m.mu.Unlock()
	if mine {
		l.shut()
	}
	return nil
}

// shut ends Accept and drops what waits for it. It is called once, when no push
// can come any more.
func (l *Layer) shut() {
	close(l.done)
	for {
		select {
		case c := <-l.queue:
			_ = c.Close() // nobody has used it
		default:
			return
		}
	}
}

// Addr implements net.Listener: the name of this node.
func (l *Layer) Addr() net.Addr { return nodeAddr(l.m.Name()) }

type nodeAddr string

func (nodeAddr) Network() string  { return "mesh" }
func (a nodeAddr) String() string { return string(a) }

// Dial connects to a node by name, within the timeout.
func (l *Layer) Dial(node string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.m.ctx, timeout)
	defer cancel()
	c, err := l.m.dial(ctx, l.proto, node)
	if err != nil {
		return nil, err
	}
	return c, nil
}
