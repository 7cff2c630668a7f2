package directory

import (
	"context"
	"errors"
	"math"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// clusterOf are members of one directory, connected over the loopback.
type clusterOf struct {
	t         testing.TB
	mu        sync.Mutex // guards both
	listeners map[string]net.Listener
	members   map[string]*Directory
}

func newClusterOf(t testing.TB) *clusterOf {
	c := &clusterOf{t: t, listeners: map[string]net.Listener{}, members: map[string]*Directory{}}
	t.Cleanup(func() {
		for name := range c.members {
			c.stop(name)
		}
	})
	return c
}

func (c *clusterOf) dial(member string, timeout time.Duration) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.listeners[member]
	if l == nil {
		return nil, errors.New("nobody there")
	}
	return net.DialTimeout("tcp", l.Addr().String(), timeout)
}

// callsOf are the Peers of one member.
type callsOf struct {
	c    *clusterOf
	self string
}

func (p callsOf) Call(ctx context.Context, member string, req []byte) ([]byte, error) {
	p.c.mu.Lock()
	to := p.c.members[member]
	p.c.mu.Unlock()
	if to == nil {
		return nil, errors.New("nobody there")
	}
	return to.Serve(ctx, p.self, req)
}

func (c *clusterOf) start(name string, join bool, clk clock.Clock) *Directory {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.listeners[name] = l
	c.mu.Unlock()
	d, err := Open(c.t.Context(), Options{Dirs: []string{c.t.TempDir()}, Member: name, Clock: clk, Join: join,
		Transport: raftgroup.NewTransport(name, l, c.dial, nil), Peers: callsOf{c, name}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[name] = d
	return d
}

func (c *clusterOf) stop(name string) {
	c.mu.Lock()
	d := c.members[name]
	delete(c.members, name)
	delete(c.listeners, name)
	c.mu.Unlock()
	if d != nil {
		if err := d.Close(); err != nil {
			c.t.Error(err)
		}
	}
}

// TestMembers: a directory that was alone gets two more members. Each of them takes
// changes, shows what it has answered, and is ready without leading; the lead goes to
// others, whose clocks are hours apart, and no window of a slot begins before an
// earlier one ends.
func TestMembers(t *testing.T) {
	ctx := t.Context()
	c := newClusterOf(t)
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	a := c.start("a", false, clock.NewFake(at))
	node := must(a.RegisterNode(ctx, NodeSpec{Name: "a", Addr: "a:1"}))(t)
	b, d := c.start("b", true, clock.NewFake(at.Add(-3*time.Hour))), c.start("d", true, clock.NewFake(at.Add(5*time.Hour)))
	if err := b.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("ready before it was added: %v", err)
	}
	if b.Staleness() != math.MaxInt64 {
		t.Errorf("a member that has heard nothing is stale by %v", b.Staleness())
	}
	for _, name := range []string{"b", "d"} {
		if err := a.AddVoter(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]*Directory{"a": a, "b": b, "d": d}
	var leases []id.Lease
	for _, lead := range []string{"d", "b", "a"} {
		if err := b.TransferLeadership(ctx, lead); err != nil {
			t.Fatal(err)
		}
		for name, m := range all {
			row := must(m.RegisterDisk(ctx, DiskSpec{Node: node.ID, UUID: [16]byte{lead[0], name[0]}}))(t)
			if got, ok := m.Map().Disk(row.ID); !ok || !reflect.DeepEqual(got, row) {
				t.Fatalf("%s was answered with %+v and shows %+v", name, row, got)
			}
			if err := m.Ready(); err != nil {
				t.Errorf("%s, led by %s: %v", name, lead, err)
			}
			// A refusal is news as well.
			before := m.Map().Version()
			if _, err := m.LeaveSync(ctx, 99, 1, 1); !errors.Is(err, ErrUnknown) {
				t.Errorf("%v", err)
			}
			if m.Map().Version() < before {
				t.Error("a table grew older")
			}
		}
		for _, m := range all {
			l := must(m.AcquireSlot(ctx, AcquireRequest{Node: node.ID, Incarnation: uint64(len(leases) + 1), Kind: IDs, Want: time.Minute}))(t)
			for _, o := range leases {
				if o.Slot == l.Slot && l.From < o.To {
					t.Fatalf("%+v begins before the end of %+v", l, o)
				}
			}
			if m.Map().Version() < l.Map {
				t.Errorf("a lease of version %d under table %d", l.Map, m.Map().Version())
			}
			leases = append(leases, l)
		}
	}
	// The leader goes; the others go on.
	lead, _ := b.Leader()
	c.stop(lead)
	delete(all, lead)
	for _, m := range all {
		must(m.RegisterDisk(ctx, DiskSpec{Node: node.ID, UUID: [16]byte{1}}))(t)
		if err := m.RemoveMember(ctx, lead); err != nil {
			t.Error(err)
		}
		fresh := must(m.Fresh(ctx))(t)
		if len(fresh.Disks()) != 10 {
			t.Errorf("%d disks", len(fresh.Disks()))
		}
		if got := must(m.Members())(t); len(got) != 2 {
			t.Errorf("%+v", got)
		}
	}
	for name, m := range all {
		if l, ok := m.Leader(); !ok || l != name {
			if err := errors.Join(m.Demote(ctx, name), m.AddLearner(ctx, name)); err != nil {
				t.Error(err)
			}
			must(m.RegisterDisk(ctx, DiskSpec{Node: node.ID, UUID: [16]byte{2}}))(t) // without a vote
		}
	}
}
