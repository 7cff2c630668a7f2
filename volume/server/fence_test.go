package server_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"hayloft/volume"
	"hayloft/volume/server"
)

// later holds back changes that nodes ask of the directory, whose answers they do not
// get, and has them made when they are let go.
type later struct {
	mu   sync.Mutex // guards all below
	what string     // "": everything goes through
	held []func() error
}

func (l *later) around(_ *fakeNode, what string, do func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if what != l.what {
		return do()
	}
	l.held = append(l.held, do)
	return errAway
}

func (l *later) hold(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.what = what
}

// waiting is how many changes are held back.
func (l *later) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

// release makes the changes that were held back, unless the directory refuses them.
func (l *later) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.what = ""
	for _, do := range l.held {
		_ = do() // whatever it says reaches nobody
	}
	l.held = nil
}

// lostFence has a request of a roaming or restarted writer granted after its answer was
// lost, and reads all that was acknowledged meanwhile.
func (c *cluster) lostFence(l *later, m *member, all []stored) {
	c.t.Helper()
	for range 3 {
		c.run(func() {
			if b, _, err := m.put(volume.ClassOriginals, 1000); err == nil {
				all = append(all, b)
			}
		})
	}
	l.release()
	for _, b := range append(all, m.mustPut(1000)) {
		for _, at := range c.members {
			if err := at.read(b); err != nil {
				c.t.Errorf("%s: %v: %v", at.name, b.blob, err)
			}
		}
	}
}

// A request to begin a tile whose answer was lost is granted later: what was written
// meanwhile is found all the same.
func TestTileThatBeginsLater(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1)
	l := &later{}
	c.dir.around = l.around
	m, other := c.members[0], c.members[1]
	all := []stored{m.mustPut(1000)}
	m.stop()
	m.start()
	c.fault(m, other, linkFails("Standing")) // so the former tile is not gone on with
	l.hold("open")
	c.run(func() {
		if _, _, err := m.put(volume.ClassOriginals, 1000); err == nil {
			t.Error("a volume was opened")
		}
	})
	c.fault(m, other, nil)
	c.lostFence(l, m, all)
}

// So it is with a request to end one.
func TestTileThatEndsLater(t *testing.T) {
	o := server.Options{Replicas: 3, SealAfter: 10 * time.Minute, UpkeepEvery: time.Second}
	c := newCluster(t, o, 1, 1, 1, 0)
	l := &later{}
	c.dir.around = l.around
	m := c.members[3]
	all := []stored{m.mustPut(1000)}
	l.hold("close")
	c.run(func() {
		c.clock.Advance(10 * time.Minute)
		c.until("the tile is to end", func() bool { return l.waiting() > 0 })
	})
	c.lostFence(l, m, all)
}

// A process without disks goes on to another volume when one is full, or when a replica
// does not take a write, though its replicas say that they are well.
func TestRoamingWriterLeavesItsVolume(t *testing.T) {
	o := three
	o.VolumeBytes = 64 << 10
	c := newCluster(t, o, 1, 1, 1, 0)
	m := c.members[3]
	first := m.mustPut(30_000)
	last := first
	for range 4 {
		last = m.mustPut(30_000)
		c.everywhere(last, 3)
	}
	if c.row(first.blob).Volume == c.row(last.blob).Volume {
		t.Error("150 KB lie in a volume of 64 KiB")
	}
	c.fault(m, c.members[1], linkFails("Append"))
	b := m.mustPut(1000)
	c.everywhere(b, 2)
	if err := m.read(b); err != nil {
		t.Error(err)
	}
}

// A caller who leaves while a replica has no room costs a roaming writer nothing.
func TestRoamingWriterWithoutRoom(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 0)
	m := c.members[3]
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	c.fault(m, c.members[0], func(ctx context.Context, method string, call func(context.Context) error) error {
		if method != "Append" {
			return call(ctx)
		}
		leave()
		return volume.ErrNoSpace
	})
	c.run(func() {
		blob, cookie, err := m.server().Reserve(context.Background(), volume.ClassOriginals)
		if err != nil {
			t.Error(err)
			return
		}
		if err := m.server().Write(ctx, blob, group(blob, cookie, 1000, 1)); err == nil {
			t.Error("it was stored")
		}
	})
}

// Nothing new is put on a disk that is to be emptied, and what is open there is closed.
func TestDrainedDiskTakesNothing(t *testing.T) {
	for _, replicas := range []int{1, 2} {
		o := server.Options{Replicas: replicas, UpkeepEvery: time.Second}
		c := newCluster(t, o, 2, 1, 1)
		m := c.members[0]
		b := m.mustPut(1000)
		drained := c.row(b.blob).Disks[0]
		c.drain(drained)
		c.run(func() {
			c.until("the open volume is closed", func() bool { return c.row(b.blob).State != server.StateOpen })
		})
		for range 8 {
			if row := c.row(m.mustPut(1000).blob); row.Disks[0] == drained {
				t.Errorf("%d replicas: a new volume is on the drained disk: %+v", replicas, row)
			}
		}
		for _, r := range c.dir.table().rows {
			if r.State == server.StateOpen && slices.Contains(r.Disks, drained) {
				t.Errorf("%d replicas: open on the drained disk: %+v", replicas, r)
			}
		}
	}
}
