package server_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// cluster is several servers over one fakeDir, each on files in memory of its own,
// which reach one another by links that can be cut.
type cluster struct {
	t       testing.TB
	clock   *clock.Fake
	dir     *fakeDir
	members []*member

	mu      sync.Mutex // guards faults, events, drained, and s of all members
	faults  map[[2]*member]linkFault
	events  []server.Event
	drained []uint32 // disks that are to be emptied
}

// drain has a disk take no new replicas.
func (c *cluster) drain(disk uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drained = append(c.drained, disk)
}

func (c *cluster) leaving(disk uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.drained, disk)
}

// member is one node: a process that can be stopped, killed and started again.
type member struct {
	c      *cluster
	name   string
	number uint32
	wire   *fakeNode
	mem    *vfs.Mem
	opts   server.Options
	s      *server.Server // nil while it is down
	ill    atomic.Pointer[func(vfs.Op) error]
	hidden atomic.Bool // others do not hear of it, and take it to be away
}

// sicken has calls to the member's files fail; nil heals it.
func (m *member) sicken(f func(vfs.Op) error) { m.ill.Store(&f) }

func (m *member) before(op vfs.Op) (o vfs.Outcome) {
	if f := m.ill.Load(); f != nil && *f != nil {
		o.Err = (*f)(op)
	}
	return o
}

// linkFault does a call between two members or does not. method is the name of the
// method of server.Peer.
type linkFault func(ctx context.Context, method string, call func(context.Context) error) error

// newCluster starts nodes with the numbers of disks given, where each new volume has
// o.Replicas replicas. alter may change the options of one of them.
func newCluster(t testing.TB, o server.Options, disks ...int) *cluster {
	t.Helper()
	c := &cluster{t: t, clock: clock.NewFake(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)), faults: make(map[[2]*member]linkFault)}
	c.dir = newFakeDir(c.clock)
	o.Clock = c.clock
	o.WatchEvery = cmp.Or(o.WatchEvery, -1)
	o.ScrubEvery = cmp.Or(o.ScrubEvery, -1)
	o.AllocChunk, o.DirectoryTimeout = 4096, cmp.Or(o.DirectoryTimeout, time.Minute)
	o.LogTimeout = cmp.Or(o.LogTimeout, 1000*time.Hour)
	o.Events = func(e server.Event) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.events = append(c.events, e)
	}
	for i, n := range disks {
		m := &member{c: c, name: fmt.Sprintf("node-%d", i+1), number: uint32(i) + 1, opts: o, mem: vfs.NewMem(uint64(i) + 1)}
		m.opts.Node = m.name
		for d := range n {
			m.opts.Dirs = append(m.opts.Dirs, fmt.Sprintf("/d%d", d))
		}
		m.wire = &fakeNode{d: c.dir, node: m.number, incarnation: uint64(100 * (i + 1))}
		c.members = append(c.members, m)
	}
	for _, m := range c.members {
		m.start()
	}
	t.Cleanup(func() {
		for _, m := range c.members {
			c.join(m)
		}
		c.run(func() { // some wait for answers that do not come any more
			for _, m := range c.members {
				m.stop()
			}
		})
	})
	return c
}

// start opens the member's server as a new process.
func (m *member) start() {
	m.c.t.Helper()
	m.wire = &fakeNode{d: m.c.dir, node: m.number, incarnation: m.wire.incarnation + 1}
	o := m.opts
	if o.Heard == nil {
		o.Heard = m.wire.heard
	}
	o.FS, o.Directory, o.Peers = &vfs.Fault{FS: m.mem, Before: m.before}, m.wire, fakePeers{m}
	s, err := server.Open(context.Background(), o)
	if err != nil {
		m.c.t.Fatal(m.name, err)
	}
	m.set(s)
}

func (m *member) set(s *server.Server) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.s = s
}

// server returns what runs there, nil when nothing does.
func (m *member) server() *server.Server {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return m.s
}

func (m *member) stop() {
	m.c.t.Helper()
	if s := m.server(); s != nil {
		m.set(nil)
		if err := s.Close(context.Background()); err != nil && !errors.Is(err, errAway) {
			m.c.t.Error(m.name, err)
		}
	}
}

// kill ends the process as a power cut does. What it has under way reaches nobody.
func (m *member) kill(seed uint64) {
	m.c.t.Helper()
	s := m.server()
	m.set(nil) // what it says from now on does not count
	m.wire.cut(errAway)
	after := m.mem.Crash(seed)
	m.c.run(func() { // it may wait for somebody
		if err := s.Close(context.Background()); err != nil && !errors.Is(err, errAway) {
			m.c.t.Log(m.name, "the dead server:", err)
		}
	})
	m.mem = after
}

// disks returns the member's disks, by the directory.
func (m *member) disks() (out []uint32) {
	for _, d := range m.wire.NodeDisks() {
		out = append(out, d.Disk)
	}
	return out
}

// of returns the member that has a disk.
func (c *cluster) of(disk uint32) *member {
	t := c.dir.table()
	if disk == 0 || int(disk) > len(t.disks) {
		return nil
	}
	return c.members[t.disks[disk-1].node-1]
}

// fault has calls from one member to another go through f; nil heals the link. A nil
// from is every member.
func (c *cluster) fault(from, to *member, f linkFault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if from == nil || from == m {
			c.faults[[2]*member{m, to}] = f
		}
	}
}

// part cuts a member off from all others, both ways, and from the directory; join
// ends that.
func (c *cluster) part(m *member) {
	c.fault(nil, m, linkDown)
	for _, to := range c.members {
		c.fault(m, to, linkDown)
	}
	m.wire.cut(errAway)
}

func (c *cluster) join(m *member) {
	c.fault(nil, m, nil)
	for _, to := range c.members {
		c.fault(m, to, nil)
	}
	m.wire.cut(nil)
}

func linkDown(context.Context, string, func(context.Context) error) error {
	return server.ErrUnavailable
}

// linkSilent takes calls and answers none.
func linkSilent(ctx context.Context, _ string, _ func(context.Context) error) error {
	<-ctx.Done()
	return fmt.Errorf("%w: %w", server.ErrUnavailable, context.Cause(ctx))
}

// linkFails fails the calls of one method, before they are made.
func linkFails(method string) linkFault {
	return func(ctx context.Context, m string, call func(context.Context) error) error {
		if m == method {
			return server.ErrUnavailable
		}
		return call(ctx)
	}
}

// linkLoses loses the answers to the calls of one method.
func linkLoses(method string) linkFault {
	return func(ctx context.Context, m string, call func(context.Context) error) error {
		err := call(ctx)
		if m == method {
			return server.ErrUnavailable
		}
		return err
	}
}

// link is one member as another one reaches it.
type link struct{ from, to *member }

func (l link) Node() string { return l.to.name }

// do makes a call as far as the link lets it.
func (l link) do(ctx context.Context, method string, call func(context.Context, server.Peer) error) error {
	l.from.c.mu.Lock()
	f, s := l.from.c.faults[[2]*member{l.from, l.to}], l.to.s
	l.from.c.mu.Unlock()
	made := func(ctx context.Context) error {
		if s == nil {
			return server.ErrUnavailable
		}
		err := call(ctx, s.Replicas())
		if l.to.server() != s { // it died meanwhile
			return server.ErrUnavailable
		}
		return err
	}
	if f != nil {
		return f(ctx, method, made)
	}
	return made(ctx)
}

// fakePeers is the cluster as one member sees it.
type fakePeers struct{ m *member }

func (p fakePeers) Of(disk uint32) server.Peer {
	to := p.m.c.of(disk)
	if to == nil || to == p.m {
		return nil
	}
	return link{p.m, to}
}

func (p fakePeers) Disks() (out []server.FleetDisk) {
	t := p.m.c.dir.table()
	for i, d := range t.disks {
		m := p.m.c.members[d.node-1]
		f := server.FleetDisk{Disk: uint32(i) + 1, Node: m.name, Up: m.server() != nil, Taking: !p.m.c.leaving(uint32(i) + 1), Distance: 2, Free: 1 << 40, Capacity: 1 << 40}
		if m == p.m {
			f.Distance = 0
		} else if m.hidden.Load() {
			f.Up = false
		}
		out = append(out, f)
	}
	return out
}

// Choose takes each node for a failure domain, in the order of their numbers from
// this one's.
func (p fakePeers) Choose(_ volume.Class, home uint32, want int, avoid []uint32) ([]uint32, error) {
	var out []uint32
	used := make(map[string]bool)
	all := p.Disks()
	slices.SortStableFunc(all, func(a, b server.FleetDisk) int {
		first := func(d server.FleetDisk) int {
			if d.Disk == home {
				return 0
			}
			return 1
		}
		return cmp.Compare(first(a), first(b))
	})
	domains := make(map[string]bool)
	for _, d := range all {
		domains[d.Node] = true
		if len(out) < want && d.Up && d.Taking && !used[d.Node] && !slices.Contains(avoid, d.Disk) {
			used[d.Node] = true
			out = append(out, d.Disk)
		}
	}
	if len(out) < min(2, want, len(domains)) {
		return nil, server.ErrPlacement
	}
	return out, nil
}
