package server_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/volume"
	"hayloft/volume/server"
)

// counted counts the calls of one method over a link.
func counted(method string, n *atomic.Int64) linkFault {
	return func(ctx context.Context, m string, call func(context.Context) error) error {
		if m == method {
			n.Add(1)
		}
		return call(ctx)
	}
}

// outside returns a member without a replica of a blob.
func (c *cluster) outside(b stored) *member {
	c.t.Helper()
	row := c.row(b.blob)
	for _, m := range c.members {
		if !slices.ContainsFunc(m.disks(), func(d uint32) bool { return slices.Contains(row.Disks, d) }) {
			return m
		}
	}
	c.t.Fatal("every node has a replica")
	return nil
}

func TestReadIsLocalFirst(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 1)
	b := c.members[0].mustPut(900)
	var asked atomic.Int64
	for _, m := range c.members {
		c.fault(nil, m, counted("Read", &asked))
	}
	for range 5 {
		if err := c.members[0].read(b); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d reads of others", n)
	}
	out := c.outside(b)
	for range 6 {
		if err := out.read(b); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Load(); n != 6 {
		t.Errorf("%d reads of others, want 6", n)
	}
	if st := out.server().Stats().Replication; st.RemoteReads != 6 || st.Hedges != 0 {
		t.Errorf("%+v", st)
	}
}

// Equally near replicas are read from by turns.
func TestReadsAreSpread(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 1)
	b := c.members[0].mustPut(900)
	var asked [4]atomic.Int64
	for i, m := range c.members {
		c.fault(nil, m, counted("Read", &asked[i]))
	}
	out := c.outside(b)
	for range 30 {
		if err := out.read(b); err != nil {
			t.Fatal(err)
		}
	}
	for i := range asked {
		if n := asked[i].Load(); c.members[i] != out && (n < 5 || n > 15) {
			t.Errorf("node %d was asked %d times of 30", i+1, n)
		}
	}
}

// As long as one replica in sync answers, a read does.
func TestReadGoesToTheNextReplica(t *testing.T) {
	for name, fault := range map[string]linkFault{"down": linkDown, "loses": linkLoses("Read"), "silent": linkSilent} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, three, 1, 1, 1, 1)
			b := c.members[0].mustPut(900)
			out, row := c.outside(b), c.row(b.blob)
			for _, d := range row.Disks[:2] {
				c.fault(nil, c.of(d), fault)
			}
			c.run(func() {
				for range 3 {
					if err := out.read(b); err != nil {
						t.Error(err)
					}
				}
			})
			if name != "silent" {
				return
			}
			if st := out.server().Stats().Replication; st.Hedges == 0 || st.HedgesWon == 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A read that takes longer than others did is asked of another replica, for no more
// than a share of all reads.
func TestHedgesAreAShareOfTheReads(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 1)
	b := c.members[0].mustPut(900)
	out, row := c.outside(b), c.row(b.blob)
	for range 300 { // earn what may be had in a row
		if err := out.read(b); err != nil {
			t.Fatal(err)
		}
	}
	slow := func(ctx context.Context, _ string, call func(context.Context) error) error {
		select {
		case <-c.clock.After(500 * time.Millisecond):
			return call(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, d := range row.Disks[:2] {
		c.fault(nil, c.of(d), slow)
	}
	c.fault(nil, c.of(row.Disks[2]), slow)
	c.run(func() {
		for range 30 {
			if err := out.read(b); err != nil {
				t.Error(err)
			}
		}
	})
	if st := out.server().Stats().Replication; st.Hedges < 5 || st.Hedges > 13 {
		t.Errorf("%d second attempts for 30 slow reads after 300 fast ones, want about 10 to 13", st.Hedges)
	}
}

// What one replica has damaged another one serves, and who has the damage hears of it.
func TestReadOfADamagedReplica(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 1)
	a := c.members[0]
	b := a.mustPut(9000)
	row := c.row(b.blob)
	rot := func(disk uint32) {
		c.use(disk, b.blob, func(v *volume.Volume) error {
			p, err := v.Probe(t.Context(), b.blob)
			if err != nil {
				return err
			}
			m := c.of(disk)
			return m.mem.Flip(fmt.Sprintf("/d0/volumes/%s", volume.FileName(row.Volume.Volume, 1)), p.Needles[0].Offset+5000, 4)
		})
	}
	rot(row.Disks[0])
	for range 3 {
		for _, m := range c.members {
			if err := m.read(b); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
	}
	rot(row.Disks[1])
	rot(row.Disks[2])
	for _, m := range c.members {
		if err := m.read(b); !errors.Is(err, volume.ErrCorrupt) {
			t.Errorf("%s, with every replica damaged: %v", m.name, err)
		}
	}
	c.of(row.Disks[2]).stop()
	if err := c.outside(b).read(b); !errors.Is(err, server.ErrUnavailable) || errors.Is(err, volume.ErrCorrupt) {
		t.Errorf("with a replica away of which nothing is known: %v", err)
	}
}

// A replica that is not in sync is not read from, whatever its node knows.
func TestReplicaOutOfSyncIsNotRead(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1, 1)
	a := c.members[0]
	b := a.mustPut(900)
	row := c.row(b.blob)
	behind := c.of(row.Disks[2])
	behind.wire.lag() // it does not hear of what follows
	if _, err := a.wire.LeaveSync(t.Context(), row.Volume.Volume, row.Disks[2], row.Sync); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	c.fault(nil, behind, counted("Read", &asked))
	out := c.outside(b)
	for range 6 {
		if err := out.read(b); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 0 {
		t.Error("it was asked")
	}
	p := behind.server().Replicas()
	behind.wire.fresh() //nolint:errcheck // it hears
	if _, err := p.Read(t.Context(), row.Disks[2], row.Volume.Volume, b.blob, 0, b.cookie); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("it answers %v", err)
	}
	if _, err := p.ReadRange(t.Context(), row.Disks[2], row.Volume.Volume, b.blob, 0, b.cookie, 0, 10); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("it answers %v", err)
	}
	if _, err := p.Probe(t.Context(), row.Disks[2], row.Volume.Volume, b.blob); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("it answers %v", err)
	}
	// Reads there go to those in sync.
	if err := behind.read(b); err != nil {
		t.Error(err)
	}
}

// Not found is certain only under a table that is fresh.
func TestNotFoundUnderAnOldTable(t *testing.T) {
	o := three
	o.Heard = func() (time.Duration, bool) { return 0, true }
	c := newCluster(t, o, 1, 1, 1, 1)
	a, out := c.members[0], c.members[3]
	out.wire.lag()
	b := a.mustPut(900)
	if err := out.read(b); err != nil {
		t.Errorf("a blob of a volume that it had not heard of: %v", err)
	}
	wrong := b
	wrong.cookie++
	if err := out.read(wrong); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("another cookie: %v", err)
	}
	out.wire.cut(errAway)
	if err := out.read(b); err != nil {
		t.Errorf("with the directory away: %v", err)
	}
	if err := out.read(wrong); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("another cookie, with the directory away: %v", err)
	}
	a.wire.cut(errAway)
	if err := a.read(wrong); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("another cookie, where the blob is: %v", err)
	}
}

// A node that has not heard of the directory for long, or not yet, answers for no
// replica.
func TestReplicaServesOnlyWhatItHeardOf(t *testing.T) {
	var age atomic.Int64
	var heard atomic.Bool
	o := three
	o.MaxStale = 5 * time.Minute
	c := newCluster(t, o, 1, 1, 1)
	a := c.members[1]
	a.opts.Heard = func() (time.Duration, bool) { return time.Duration(age.Load()), heard.Load() }
	a.stop()
	a.start()
	b := c.members[0].mustPut(900)
	row := c.row(b.blob)
	own := a.disks()[0]
	for _, m := range c.members {
		c.fault(a, m, linkDown)
	}
	a.wire.cut(errAway)
	look := func(when string, want error) {
		t.Helper()
		if err := a.read(b); !errors.Is(err, want) {
			t.Errorf("%s: %v", when, err)
		}
		_, err := a.server().Replicas().Read(t.Context(), own, row.Volume.Volume, b.blob, 0, b.cookie)
		if !errors.Is(err, want) {
			t.Errorf("%s, asked by another: %v", when, err)
		}
	}
	look("before the first word", server.ErrUnavailable)
	heard.Store(true)
	look("heard just now", nil)
	age.Store(int64(5*time.Minute + 1))
	look("heard long ago", server.ErrUnavailable)
	c.close(b)
	if _, err := a.server().Replicas().LogDeletes(t.Context(), own, row.Volume.Volume, row.Sync, 0, nil); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("it took a delete: %v", err)
	}
}
