package raftgroup

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// network connects the members of one test. Each direction of each link can be
// cut; requests may arrive twice, answers may get lost, and streams may be slow.
type network struct {
	mu     sync.Mutex // guards all below
	rand   *rand.Rand
	groups map[string]*Group
	air    map[string]*raft.InmemTransport
	addrs  map[string]string
	cut    map[[2]string]bool
	links  map[*link]bool
	doubt  int           // of 100 calls so many arrive twice or lose their answer
	delay  time.Duration // of each write to a stream
	loss   int           // of 100 writes so many take longer, as after a lost packet
	again  sync.WaitGroup
}

var errCut = errors.New("the link is cut")

func newNetwork(seed uint64) *network {
	return &network{rand: rand.New(rand.NewPCG(seed, 1)), groups: map[string]*Group{}, air: map[string]*raft.InmemTransport{},
		addrs: map[string]string{}, cut: map[[2]string]bool{}, links: map[*link]bool{}}
}

func (n *network) ok(from, to string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]string{from, to}] {
		return errCut
	}
	return nil
}

func (n *network) chance(of100 int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rand.IntN(100) < of100
}

// set cuts or mends what leads from one member to another.
func (n *network) set(cut bool, from, to string) {
	n.mu.Lock()
	n.cut[[2]string{from, to}] = cut
	var broken []*link
	for l := range n.links {
		if cut && (l.from == from && l.to == to || l.from == to && l.to == from) {
			broken = append(broken, l)
		}
	}
	n.mu.Unlock()
	for _, l := range broken {
		_ = l.Close()
	}
}

// isolate cuts a member off, or joins it again.
func (n *network) isolate(cut bool, id string, all []string) {
	for _, o := range all {
		if o != id {
			n.set(cut, id, o)
			n.set(cut, o, id)
		}
	}
}

// caller is the Peers of one member.
type caller struct {
	n    *network
	self string
}

func (c caller) Call(ctx context.Context, to string, req []byte) ([]byte, error) {
	if err := c.n.ok(c.self, to); err != nil {
		return nil, err
	}
	c.n.mu.Lock()
	g, doubt := c.n.groups[to], c.n.doubt
	c.n.mu.Unlock()
	if g == nil {
		return nil, errors.New("nobody there")
	}
	if c.n.chance(doubt) { // it arrives again, later
		c.n.again.Add(1)
		go func() {
			defer c.n.again.Done()
			late, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, _ = g.Serve(late, c.self, append([]byte(nil), req...))
		}()
	}
	b, err := g.Serve(ctx, c.self, append([]byte(nil), req...))
	if c.n.chance(doubt) {
		return nil, errors.New("the answer was lost")
	}
	if err := c.n.ok(to, c.self); err != nil {
		return nil, err
	}
	return b, err
}

// airTransport is an in-memory transport over a network.
type airTransport struct {
	*raft.InmemTransport
	n    *network
	self string
}

// radio returns a transport in memory.
func (n *network) radio(self string) Transport {
	_, t := raft.NewInmemTransportWithTimeout(raft.ServerAddress(self), 2*time.Second)
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, o := range n.air {
		t.Connect(raft.ServerAddress(id), o)
		o.Connect(raft.ServerAddress(self), t)
	}
	n.air[self] = t
	return &airTransport{t, n, self}
}

func (t *airTransport) both(to raft.ServerAddress, f func() error) error {
	if err := t.n.ok(t.self, string(to)); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return t.n.ok(string(to), t.self)
}

func (t *airTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (t *airTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	return t.both(to, func() error { return t.InmemTransport.AppendEntries(id, to, q, r) })
}

func (t *airTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, r *raft.RequestVoteResponse) error {
	return t.both(to, func() error { return t.InmemTransport.RequestVote(id, to, q, r) })
}

func (t *airTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	return t.both(to, func() error { return t.InmemTransport.RequestPreVote(id, to, q, r) })
}

func (t *airTransport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest, r *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.both(to, func() error { return t.InmemTransport.InstallSnapshot(id, to, q, r, data) })
}

func (t *airTransport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, q *raft.TimeoutNowRequest, r *raft.TimeoutNowResponse) error {
	return t.both(to, func() error { return t.InmemTransport.TimeoutNow(id, to, q, r) })
}

// wired returns a transport over TCP.
func (n *network) wired(self string, events func(Event)) (Transport, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.addrs[self] = l.Addr().String()
	n.mu.Unlock()
	return NewTransport(self, &linkListener{l, n}, func(to string, timeout time.Duration) (net.Conn, error) {
		if err := errors.Join(n.ok(self, to), n.ok(to, self)); err != nil {
			return nil, err
		}
		n.mu.Lock()
		addr := n.addrs[to]
		n.mu.Unlock()
		c, err := net.DialTimeout("tcp", addr, timeout)
		if err != nil {
			return nil, err
		}
		return n.link(c, self, to), nil
	}, events), nil
}

// linkListener slows down the answers.
type linkListener struct {
	net.Listener
	n *network
}

func (l *linkListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.n.link(c, "", ""), nil
}

// link is one end of a stream.
type link struct {
	net.Conn
	n        *network
	from, to string
	out      chan parcel
	once     sync.Once
	done     chan struct{}
}

type parcel struct {
	b  []byte
	at time.Time
}

func (n *network) link(c net.Conn, from, to string) net.Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &link{Conn: c, n: n, from: from, to: to, done: make(chan struct{})}
	n.links[l] = true
	if n.delay > 0 || n.loss > 0 {
		l.out = make(chan parcel, 1<<16)
		go l.send()
	}
	return l
}

func (l *link) Write(b []byte) (int, error) {
	if l.out == nil {
		return l.Conn.Write(b)
	}
	wait := l.n.delay
	if l.n.chance(l.n.loss) {
		wait += 250 * time.Millisecond
	}
	select {
	case l.out <- parcel{append([]byte(nil), b...), time.Now().Add(wait)}:
		return len(b), nil
	case <-l.done:
		return 0, net.ErrClosed
	}
}

func (l *link) send() {
	for {
		select {
		case p := <-l.out:
			select {
			case <-time.After(time.Until(p.at)):
			case <-l.done:
				return
			}
			if _, err := l.Conn.Write(p.b); err != nil {
				return
			}
		case <-l.done:
			return
		}
	}
}

func (l *link) Close() error {
	l.once.Do(func() { close(l.done) })
	l.n.mu.Lock()
	delete(l.n.links, l)
	l.n.mu.Unlock()
	return l.Conn.Close()
}
