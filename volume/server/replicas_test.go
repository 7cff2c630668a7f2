package server_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// run lets time go by while fn runs, so that whoever waits for a replica that is
// silent comes to the end of it.
func (c *cluster) run(fn func()) {
	c.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	limit, tick := time.After(2*testenv.Patience), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			c.clock.Advance(20 * time.Millisecond)
		case <-limit:
			c.t.Fatalf("it did not end in %v", 2*testenv.Patience)
		}
	}
}

// until waits for what does not need time to go by.
func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	limit, again := time.After(testenv.Patience), time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-limit:
			c.t.Fatalf("waited %v for %s", testenv.Patience, what)
		}
	}
}

// put stores a blob through a member, as every caller must: reserving again when
// moved. It counts the writes that it took.
func (m *member) put(class volume.Class, size int) (b stored, tries int, err error) {
	ctx := context.Background()
	s := m.server()
	if s == nil {
		return stored{}, 0, server.ErrUnavailable
	}
	for tries = 1; tries <= 20; tries++ {
		blob, cookie, err := s.Reserve(ctx, class)
		if err != nil {
			return stored{}, tries, err
		}
		err = s.Write(ctx, blob, group(blob, cookie, size, 1))
		if m.server() != s { // the dead acknowledge nothing
			return stored{}, tries, server.ErrUnavailable
		}
		if !errors.Is(err, server.ErrMoved) {
			return stored{blob, cookie, size, 1}, tries, err
		}
	}
	return stored{}, tries, fmt.Errorf("%s: moved again and again", m.name)
}

func (m *member) mustPut(size int) (b stored) {
	m.c.t.Helper()
	m.c.run(func() {
		var err error
		if b, _, err = m.put(volume.ClassOriginals, size); err != nil {
			m.c.t.Error(m.name, err)
		}
	})
	return b
}

// read reads a blob through a member and compares all bytes.
func (m *member) read(b stored) error {
	s := m.server()
	if s == nil {
		return server.ErrUnavailable
	}
	got, err := s.Read(context.Background(), b.blob, 0, b.cookie)
	if err == nil {
		defer got.Release()
	}
	if m.server() != s {
		return server.ErrUnavailable
	}
	if err != nil {
		return err
	}
	if string(got.Data) != string(content(b.blob, 0, b.size)) {
		m.c.t.Errorf("%s: %v: wrong bytes", m.name, b.blob)
	}
	return nil
}

func (m *member) delete(b stored) (err error) {
	m.c.run(func() { err = m.server().Delete(context.Background(), b.blob) })
	return err
}

// row returns the row of the volume of a blob.
func (c *cluster) row(blob id.ID) server.Row {
	c.t.Helper()
	t := c.dir.table()
	p, ok := t.locate(blob)
	if !ok {
		c.t.Fatalf("no tile holds %v", blob)
	}
	return t.rows[p.Volume.Volume].Row
}

// holds reports whether the file of a blob's volume on a disk has the blob.
func (c *cluster) holds(disk uint32, blob id.ID) (has bool) {
	c.t.Helper()
	s := c.of(disk).server()
	if s == nil {
		return false
	}
	err := s.Use(c.row(blob).Volume.Volume, disk, func(v *volume.Volume) error {
		has = v.Has(blob)
		return nil
	})
	return err == nil && has
}

// everywhere fails unless a blob is on every replica of its row.
func (c *cluster) everywhere(b stored, want int) {
	c.t.Helper()
	row := c.row(b.blob)
	if len(row.Disks) != want {
		c.t.Errorf("%v has replicas on %v, want %d", b.blob, row.Disks, want)
	}
	for _, d := range row.Disks {
		if !c.holds(d, b.blob) {
			c.t.Errorf("disk %d does not have %v", d, b.blob)
		}
	}
}

var three = server.Options{Replicas: 3, NoUpkeep: true}

func TestWriteIsOnEveryReplica(t *testing.T) {
	c := newCluster(t, three, 2, 2, 2)
	for i, m := range c.members {
		for range 4 {
			b := m.mustPut(1000)
			c.everywhere(b, 3)
			if row := c.row(b.blob); c.of(row.Disks[0]) != m || row.Target != 3 {
				t.Errorf("written at node %d: %+v", i+1, row)
			}
			for _, at := range c.members {
				if err := at.read(b); err != nil {
					t.Errorf("%s: %v", at.name, err)
				}
			}
		}
		if st := m.server().Stats(); st.Moved != 0 || st.Replication.Appends != 12 || st.Replication.Late != 0 {
			t.Errorf("%s: moved %d, %+v", m.name, st.Moved, st.Replication)
		}
	}
}

// A replica that takes a write too late, or refuses it, or whose answer is lost, costs
// one more write, and the next volume avoids it.
func TestReplicaThatFailsCostsOneRetry(t *testing.T) {
	for name, fault := range map[string]linkFault{
		"silent": func(ctx context.Context, m string, call func(context.Context) error) error {
			if m == "Append" {
				return linkSilent(ctx, m, call)
			}
			return call(ctx)
		},
		"refuses":      linkFails("Append"),
		"answers late": linkLoses("Append"),
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, three, 1, 1, 1, 1)
			a := c.members[0]
			first := a.mustPut(1000)
			c.everywhere(first, 3)
			bad := c.of(c.row(first.blob).Disks[2])
			c.fault(a, bad, fault)
			var tries int
			var b stored
			c.run(func() {
				var err error
				if b, tries, err = a.put(volume.ClassOriginals, 1000); err != nil {
					t.Error(err)
				}
			})
			if tries != 2 {
				t.Errorf("it took %d writes, want 2", tries)
			}
			c.everywhere(b, 3)
			if row := c.row(b.blob); slices.Contains(row.Disks, bad.disks()[0]) {
				t.Errorf("the replicas are on %v, one at %s", row.Disks, bad.name)
			}
			if row := c.row(first.blob); row.State != server.StateClosing {
				t.Errorf("the volume that was left is %v", row.State)
			}
			for range 3 {
				if _, tries, err := a.put(volume.ClassOriginals, 100); err != nil || tries != 1 {
					t.Errorf("%d writes, %v", tries, err)
				}
			}
		})
	}
}

// With fewer healthy nodes than replicas the floor is enough, and the target stays.
func TestFewerNodesThanReplicas(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1)
	a, gone := c.members[0], c.members[2]
	gone.stop()
	b := a.mustPut(500)
	c.everywhere(b, 2)
	if row := c.row(b.blob); row.Target != 3 {
		t.Errorf("the target is %d", row.Target)
	}
	c.members[1].stop()
	var err error
	c.run(func() { _, _, err = a.put(volume.ClassOriginals, 500) })
	if !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("with one node of three left: %v", err)
	}
}

// A process without disks writes, reads and deletes at those that have some.
func TestProcessWithoutDisks(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 0)
	m := c.members[3]
	b := m.mustPut(3000)
	c.everywhere(b, 3)
	if err := m.read(b); err != nil {
		t.Error(err)
	}
	if err := m.delete(b); err != nil {
		t.Error(err)
	}
	for _, at := range c.members {
		if err := at.read(b); !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("%s: %v", at.name, err)
		}
	}
}

// A disk that cannot make its file costs its place in the volume, no more.
func TestReplicaThatCannotBeMade(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 1)
	a := c.members[0]
	c.fault(a, c.members[1], linkFails("Create"))
	b := a.mustPut(700)
	c.everywhere(b, 3)
	if row := c.row(b.blob); slices.Contains(row.Disks, c.members[1].disks()[0]) {
		t.Errorf("the replicas are on %v", row.Disks)
	}
	void := 0
	for _, r := range c.dir.table().rows {
		if r.State == server.StateVoid {
			void++
		}
	}
	if void != 1 {
		t.Errorf("%d volumes are void, want 1", void)
	}
}

// The disk of the writer itself is no better than others: when it does not sync in
// time the photo goes elsewhere, and the caller has its bytes back.
func TestOwnDiskThatIsSlow(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 1)
	a := c.members[0]
	first := a.mustPut(100)
	healed := make(chan struct{})
	a.sicken(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".vol") {
			<-healed
		}
		return nil
	})
	blob, cookie, err := a.server().Reserve(t.Context(), volume.ClassOriginals)
	if err != nil {
		t.Fatal(err)
	}
	g := group(blob, cookie, 5000, 1)
	c.run(func() { err = a.server().Write(context.Background(), blob, g) })
	copy(g[0].Data, make([]byte, 5000)) // they are the caller's again
	if !errors.Is(err, server.ErrMoved) {
		t.Errorf("%v, want that it moved", err)
	}
	b := a.mustPut(5000)
	if row := c.row(b.blob); slices.Contains(row.Disks, a.disks()[0]) || len(row.Disks) != 3 {
		t.Errorf("the replicas are on %v", row.Disks)
	}
	if st := a.server().Stats(); st.Replication.Late != 1 {
		t.Errorf("%d were late", st.Replication.Late)
	}
	close(healed)
	for _, d := range c.row(first.blob).Disks {
		c.use(d, first.blob, func(v *volume.Volume) error {
			_, err := v.Check(t.Context(), func(f volume.Finding) { t.Errorf("disk %d: %v", d, f) })
			return err
		})
	}
	left := stored{blob: blob, cookie: cookie, size: 5000, alts: 1}
	for _, m := range c.members {
		if err := m.read(left); err != nil && !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("what nobody was told of: %v", err)
		}
	}
}

// A process whose disks are full goes on at others, and says so when all are.
func TestWritersRoamWhenTheirDisksAreFull(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 1)
	a := c.members[0]
	a.opts.KeepFree = 1 << 20
	a.opts.Space = func(string) (server.Space, error) { return server.Space{Free: 1 << 20, Capacity: 1 << 30}, nil }
	a.stop()
	a.start()
	b := a.mustPut(700)
	c.everywhere(b, 3)
	if slices.Contains(c.row(b.blob).Disks, a.disks()[0]) {
		t.Error("a full disk was written to")
	}
	for _, m := range c.members[1:] {
		m.stop()
	}
	if _, _, err := a.put(volume.ClassOriginals, 700); !errors.Is(err, server.ErrNoSpace) {
		t.Errorf("with nobody else: %v", err)
	}
}

// Fault 22: a replica does not take a write, and comes back. What was acknowledged is
// elsewhere; what was not is on all replicas or on none when they are sealed.
func TestReplicaMissesPut(t *testing.T) {
	o := three
	o.NoUpkeep, o.UpkeepEvery = false, time.Second
	c := newCluster(t, o, 1, 1, 1, 1)
	a := c.members[0]
	first := a.mustPut(100)
	bad := c.of(c.row(first.blob).Disks[1])
	c.fault(a, bad, linkFails("Append"))
	blob, cookie, err := a.server().Reserve(t.Context(), volume.ClassOriginals)
	if err != nil {
		t.Fatal(err)
	}
	c.run(func() { err = a.server().Write(context.Background(), blob, group(blob, cookie, 900, 1)) })
	if !errors.Is(err, server.ErrMoved) {
		t.Fatalf("%v, want that it moved", err)
	}
	b := a.mustPut(900)
	c.fault(a, bad, nil)
	c.run(func() {
		c.until("the volume that was left to be sealed", func() bool { return c.row(first.blob).State == server.StateSealed })
	})
	if row := c.row(first.blob); len(row.InSync) != 3 {
		t.Errorf("in sync are %v of %v", row.InSync, row.Disks)
	}
	left := stored{blob: blob, cookie: cookie, size: 900, alts: 1}
	has := c.holds(c.row(first.blob).Disks[0], blob)
	for _, m := range c.members {
		for _, b := range []stored{first, b} {
			if err := m.read(b); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
		if err := m.read(left); has != (err == nil) {
			t.Errorf("%s, of what nobody was told of: %v", m.name, err)
		}
	}
}

// A replica that is fenced, or that is of another volume, takes nothing.
func TestReplicaRefusesWhatIsNotForIt(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1)
	a := c.members[0]
	b := a.mustPut(100)
	row := c.row(b.blob)
	p := c.of(row.Disks[1]).server().Replicas()
	ctx := t.Context()
	other := row.Volume
	other.Generation++
	g := group(b.blob+1, b.cookie, 100, 1)
	if err := p.Append(ctx, row.Disks[1], other, g); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("another generation: %v", err)
	}
	if err := p.Append(ctx, row.Disks[0], row.Volume, g); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("another node's disk: %v", err)
	}
	if err := p.Create(ctx, row.Disks[1], row.Volume); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("a volume that was confirmed was made again: %v", err)
	}
	if err := c.of(row.Disks[1]).server().Use(row.Volume.Volume, row.Disks[1], func(v *volume.Volume) error { return v.Fence(ctx) }); err != nil {
		t.Fatal(err)
	}
	if err := p.Append(ctx, row.Disks[1], row.Volume, g); !errors.Is(err, volume.ErrSealed) {
		t.Errorf("a fenced one: %v", err)
	}
	if b := a.mustPut(100); c.row(b.blob).Volume == row.Volume {
		t.Error("the writer goes on with a volume that is fenced")
	}
}

// A disk that hangs while it makes its file costs its place in the volume, and keeps
// nobody waiting but itself.
func TestReplicaThatHangsAtItsBirth(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 1)
	a, bad := c.members[0], c.members[1]
	answer := make(chan struct{})
	bad.sicken(func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate {
			<-answer
		}
		return nil
	})
	b := a.mustPut(700)
	c.everywhere(b, 3)
	if row := c.row(b.blob); slices.Contains(row.Disks, bad.disks()[0]) {
		t.Errorf("the replicas are on %v", row.Disks)
	}
	close(answer)
	if err := a.read(b); err != nil {
		t.Error(err)
	}
}

// Two nodes that make a volume at the same time, each with a replica at the other, do
// not wait for one another.
func TestNodesMakeVolumesForEachOther(t *testing.T) {
	c := newCluster(t, server.Options{Replicas: 2, NoUpkeep: true}, 1, 1)
	var both sync.WaitGroup
	both.Add(2)
	var met atomic.Int32
	for i, m := range c.members {
		c.fault(m, c.members[1-i], func(ctx context.Context, method string, call func(context.Context) error) error {
			if method == "Create" && met.Add(1) <= 2 {
				both.Done()
				both.Wait() // each makes its volume now
			}
			return call(ctx)
		})
	}
	var puts sync.WaitGroup
	for _, m := range c.members {
		puts.Go(func() {
			if _, tries, err := m.put(volume.ClassOriginals, 1000); err != nil || tries != 1 {
				t.Errorf("%s: %d tries, %v", m.name, tries, err)
			}
		})
	}
	c.run(puts.Wait)
	if n := met.Load(); n != 2 {
		t.Errorf("%d files were asked for, want 2", n)
	}
}
