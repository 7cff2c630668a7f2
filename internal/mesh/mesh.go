package mesh

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/mesh/certs"
)

// Bounds of what a Mesh does at a time.
const (
	maxHandshakes  = 256              // of those who have connected; more wait in the kernel
	maxPerPeer     = 512              // see Options
	handshakeLimit = 2 * time.Second  // TLS and greeting
	connectLimit   = time.Second      // TCP
	checkEvery     = 30 * time.Second // of the certificates
	acceptPause    = time.Second      // after the listener has failed
)

// Options are for Open.
type Options struct {
	Identity  *Identity
	Listener  net.Listener // the node listener, the Mesh's from now on; nil: nobody can connect
	Advertise string       // host:port under which others find the listener; "": they are not told
	Clock     clock.Clock
	Events    func(Event) // or nil
	// MaxPerPeer is how many connections one peer may have open here; 0: 512.
	MaxPerPeer int
}

// Stats are counters since Open, but for Open itself.
type Stats struct {
	Accepted uint64 // connections of others
	Refused  uint64 // handshakes of others that failed
	Dialed   uint64 // connections of ours
	Failed   uint64 // dials that failed
	Open     int    // connections now
}

// Mesh connects this node with the others. Close it.
type Mesh struct {
	o        Options
	instance uint64
	book     book

	ctx       context.Context // of everything that runs; ends late in Close
	cancel    context.CancelFunc
	accepting context.Context // of the listener; ends first
	refuse    context.CancelFunc
	work      sync.WaitGroup // everything that runs

	accepted, refused, dialed, failed atomic.Uint64

	mu      sync.Mutex // guards what follows
	closed  bool
	layers  map[string]*Layer  // by protocol
	clients map[string]*Client // by protocol
	servers []*server
	conns   map[*Conn]struct{}
	perPeer map[Peer]int // of conns, those that the peer dialed
}

// Open begins to take connections. Protocols are known as they are opened.
func Open(o Options) (*Mesh, error) {
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.MaxPerPeer == 0 {
		o.MaxPerPeer = maxPerPeer
	}
	if len(o.Advertise) > maxAddr {
		return nil, fmt.Errorf("%q is too long for an address", o.Advertise)
	}
	if o.Listener != nil && o.Identity.Self().Role != certs.Node {
		return nil, fmt.Errorf("%s can't listen: only a node can", o.Identity.Self())
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	m := &Mesh{
		o: o, instance: binary.LittleEndian.Uint64(b[:]), book: book{nodes: map[string]entry{}},
		layers: map[string]*Layer{}, clients: map[string]*Client{},
		conns: map[*Conn]struct{}{}, perPeer: map[Peer]int{},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.accepting, m.refuse = context.WithCancel(m.ctx)
	if o.Listener != nil {
		m.work.Go(m.accept)
	}
	m.work.Go(m.watch)
	return m, nil
}

// Name is this process's name.
func (m *Mesh) Name() string { return m.o.Identity.Self().Name }

// Until is when this process's certificate ends.
func (m *Mesh) Until() time.Time { return m.o.Identity.Until() }

// SetAddr says where a node is, as its row in the directory has it: host:port.
func (m *Mesh) SetAddr(node, addr string) { m.book.set(node, addr) }

// Pin says by what address a node is reached from here: host:port. What the node
// advertises does not count then; the next Pin or Forget does.
func (m *Mesh) Pin(node, addr string) { m.book.pin(node, addr) }

// Addr is where a node is, as far as anybody has said.
func (m *Mesh) Addr(node string) (addr string, ok bool) { return m.book.addr(node) }

// Forget drops the node's address, its row is gone. Connections stay.
func (m *Mesh) Forget(node string) { m.book.forget(node) }

// Stats returns the counters.
func (m *Mesh) Stats() Stats {
	m.mu.Lock()
	open := len(m.conns)
	m.mu.Unlock()
	return Stats{m.accepted.Load(), m.refused.Load(), m.dialed.Load(), m.failed.Load(), open}
}

// watch looks at the certificates now and then.
func (m *Mesh) watch() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.o.Clock.After(checkEvery):
			m.Check()
		}
	}
}

// Check looks at the certificates now, takes new ones into use, and closes
// connections whose peers' certificates do not count any more.
func (m *Mesh) Check() {
	m.o.Identity.Check()
	c, now := m.o.Identity.use.Load(), m.o.Clock.Now()
	m.mu.Lock()
	var gone []*Conn
	var why []error
	for conn := range m.conns {
		if _, err := certs.Verify(conn.ConnectionState().PeerCertificates, c.roots, now, !conn.serving); err != nil {
			gone, why = append(gone, conn), append(why, err)
		}
	}
	m.mu.Unlock()
	for i, conn := range gone {
		m.o.Events(Event{Kind: EventCutOff, Addr: conn.RemoteAddr().String(), Peer: conn.peer, Proto: conn.proto, Err: why[i]})
		_ = conn.Close() // it is dead to us, whatever that says
	}
}

// accept takes connections until the listener is closed.
func (m *Mesh) accept() {
	places := make(chan struct{}, maxHandshakes)
	for {
		places <- struct{}{}
		raw, err := m.o.Listener.Accept()
		if err != nil {
			<-places
			if m.accepting.Err() != nil {
				return
			}
			m.o.Events(Event{Kind: EventAcceptFail, Err: err})
			select { // out of file descriptors, for one: that passes
			case <-m.accepting.Done():
				return
			case <-m.o.Clock.After(acceptPause):
			}
			continue
		}
		m.work.Go(func() {
			defer func() { <-places }()
			c, err := m.admit(raw)
			if err == nil {
				err = m.deliver(c)
			}
			if err != nil && m.ctx.Err() == nil {
				m.refused.Add(1)
				if c != nil {
					m.o.Events(Event{Kind: EventRefused, Addr: raw.RemoteAddr().String(), Peer: c.peer, Proto: c.proto, Err: err})
				}
			}
		})
	}
}

// admit finds out who has connected. It returns no connection for an end about
// which there is nothing to tell: one that only looked whether somebody listens, or
// this process itself. Without an error the connection is tracked; with one it is
// closed.
func (m *Mesh) admit(raw net.Conn) (c *Conn, err error) {
	c = &Conn{m: m, serving: true}
	cred := m.o.Identity.use.Load()
	c.Conn = tls.Server(raw, cred.serverTLS(m.o.Clock, m.protos(), func(p Peer, alpn string) error {
		c.peer, c.proto = p, strings.TrimPrefix(alpn, alpnPrefix)
		return m.mayUse(p, c.proto)
	}))
	ctx, cancel := context.WithTimeoutCause(m.ctx, handshakeLimit, errSlow)
	defer cancel()
	if err = watchful(raw); err == nil {
		err = clearer(ctx, c.HandshakeContext(ctx))
	}
	if err == nil {
		err = within(ctx, raw, func() error { return m.receive(c) })
	}
	if err != nil {
		m.untrack(c)
		_ = raw.Close() // what it might say is worth nothing
		if c.peer == (Peer{}) && gone(err) || errors.Is(err, ErrSelf) {
			return nil, err
		}
	}
	return c, err
}

// gone reports whether an error is only the end of a connection.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

var errSlow = errors.New("no handshake in time")

// clearer replaces the error of a connection that was closed because ctx ended.
func clearer(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// receive greets whoever has connected, and is greeted.
func (m *Mesh) receive(c *Conn) error {
	if !m.track(c) {
		_, err := c.Write([]byte{busy})
		return errors.Join(ErrBusy, err)
	}
	if _, err := c.Write(greeting{m.instance, m.o.Advertise}.append(nil)); err != nil {
		return err
	}
	g, err := readGreeting(c.Conn)
	if err == nil {
		err = m.another(c.peer, g)
	}
	if err == nil && c.peer.Role == certs.Node {
		m.book.learn(c.peer.Name, g.addr)
	}
	return err
}

// another returns nil when the greeting comes from another node.
func (m *Mesh) another(p Peer, g greeting) error {
	switch {
	case p != m.o.Identity.Self():
		return nil
	case g.instance == m.instance:
		return ErrSelf
	default:
		return ErrDuplicate
	}
}

// protos are the names of what can be asked for here.
func (m *Mesh) protos() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []string{alpnPrefix + helloProto}
	for p := range m.layers {
		list = append(list, alpnPrefix+p)
	}
	return list
}

// mayUse returns nil when the peer may use the protocol.
func (m *Mesh) mayUse(p Peer, proto string) error {
	if proto == helloProto {
		return nil
	}
	m.mu.Lock()
	l := m.layers[proto]
	m.mu.Unlock()
	switch {
	case l == nil:
		return fmt.Errorf("there is no protocol %q", proto)
	case p.Role != certs.Node && !slices.Contains(l.roles, p.Role):
		return fmt.Errorf("%s %w, and %s is for nodes", p, errNotNode, proto)
	}
	return nil
}

// deliver hands a connection to its layer.
func (m *Mesh) deliver(c *Conn) error {
	m.accepted.Add(1)
	if c.proto == helloProto {
		return c.Close()
	}
	m.mu.Lock()
	l := m.layers[c.proto]
	m.mu.Unlock()
	if l == nil || !l.push(c) {
		return errors.Join(fmt.Errorf("%s takes no connections now", c.proto), c.Close())
	}
	return nil
}

// track keeps the connection among those that are open. It returns false when the
// mesh is closed, or the peer has too many.
func (m *Mesh) track(c *Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || c.serving && m.perPeer[c.peer] >= m.o.MaxPerPeer {
		return false
	}
	m.conns[c] = struct{}{}
	if c.serving {
		m.perPeer[c.peer]++
	}
	return true
}

func (m *Mesh) untrack(c *Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.conns[c]; !ok {
		return
	}
	delete(m.conns, c)
	if c.serving {
		if m.perPeer[c.peer]--; m.perPeer[c.peer] == 0 {
			delete(m.perPeer, c.peer)
		}
	}
}

// Close stops listening, has handlers until ctx ends, then closes every connection
// and waits for everything that runs. Handlers end when their context does.
func (m *Mesh) Close(ctx context.Context) error {
	m.refuse()
	var err error
	if m.o.Listener != nil {
		if err = m.o.Listener.Close(); errors.Is(err, net.ErrClosed) {
			err = nil
		}
	}
	m.mu.Lock()
	servers := m.servers
	m.servers = nil
	m.mu.Unlock()
	for _, s := range servers {
		s.drain(ctx)
	}
	m.mu.Lock()
	m.closed = true
	conns := make([]*Conn, 0, len(m.conns))
	for c := range m.conns {
		conns = append(conns, c)
	}
	layers, clients := m.layers, m.clients
	m.layers, m.clients = map[string]*Layer{}, map[string]*Client{}
	m.mu.Unlock()
	m.cancel()
	for _, c := range conns {
		_ = c.Close() // the other end sees it
	}
	for _, l := range layers {
		l.shut()
	}
	for _, c := range clients {
		c.transport.CloseIdleConnections()
	}
	m.work.Wait()
	return err
}
