package server_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/server"
)

// encode seals and codes the volume of a blob at the node of its primary.
func (c *cluster) encode(b stored) {
	c.t.Helper()
	c.run(func() {
		row := c.row(b.blob)
		if err := c.of(row.InSync[0]).server().Encode(context.Background(), row.Volume.Volume, nil); err != nil {
			c.t.Error(err)
		}
	})
}

// codes is how the members of a cluster code volumes.
func codes() server.Options {
	return server.Options{Replicas: 2, NoUpkeep: true, Coding: coding.Policy{Data: 2, Parity: 1}, SourceGrace: time.Hour, Maintenance: 1 << 40, CompactBytes: 1 << 40}
}

// putTogether stores blobs until there are n in one volume, and returns those.
func (m *member) putTogether(n int) (out []stored) {
	for len(out) < n {
		b := m.mustPut(40_000)
		if len(out) == 0 || m.c.row(b.blob).Volume.Volume == m.c.row(out[0].blob).Volume.Volume {
			out = append(out, b)
		}
	}
	return out
}

// TestOthersAskTheKeeper: every node reads and deletes in a coded volume through the
// node that serves it, in the grace and after it, and never out of a replica that
// lies beside the shards.
func TestOthersAskTheKeeper(t *testing.T) {
	c := newCluster(t, codes(), 3, 3, 1)
	all := c.members[0].putTogether(6)
	c.encode(all[0])
	row := c.row(all[0].blob)
	if row.Coding.Committed == nil || len(row.InSync) != 1 {
		t.Fatalf("%+v", row)
	}
	keeper := c.of(server.KeeperOf(row.Coding, row.Keeper))
	// Deleted through one node, gone at all: the replicas do not know of it.
	for i, m := range c.members {
		if err := m.delete(all[i]); err != nil {
			t.Fatal(m.name, err)
		}
		for _, other := range c.members {
			if err := other.read(all[i]); !errors.Is(err, volume.ErrNotFound) {
				t.Errorf("%s, deleted through %s: %v", other.name, m.name, err)
			}
			if err := other.read(all[5]); err != nil {
				t.Errorf("%s: %v", other.name, err)
			}
		}
	}
	// A peer that is asked for the source answers out of the shards.
	for _, m := range c.members {
		if m == keeper {
			continue
		}
		_, err := (link{m, keeper}).Read(context.Background(), row.InSync[0], row.Volume.Volume, all[0].blob, 0, all[0].cookie)
		if !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("out of the source: %v", err)
		}
	}
	// Who does not serve it says so, whatever file it has.
	for _, m := range c.members {
		if m == keeper {
			continue
		}
		for _, disk := range m.disks() {
			p := m.server().Replicas()
			_, err := p.Read(context.Background(), disk, row.Volume.Volume, all[5].blob, 0, all[5].cookie)
			if !errors.Is(err, server.ErrUnavailable) {
				t.Errorf("%s: %v", m.name, err)
			}
			if err := p.Delete(context.Background(), disk, row.Volume.Volume, all[5].blob); !errors.Is(err, server.ErrUnavailable) {
				t.Errorf("%s: %v", m.name, err)
			}
		}
	}
	probed, err := c.members[2].server().Probe(context.Background(), all[5].blob)
	if err != nil || !probed.Coded || len(probed.Needles) != 1 {
		t.Errorf("%+v, %v", probed, err)
	}
	// The source is let go: there is no replica any more.
	commit := row.Coding.Committed
	if _, err := keeper.wire.ReleaseSource(context.Background(), row.Volume.Volume, commit.Epoch, commit.Digests, 0, row.Term); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.members {
		if err := m.read(all[5]); err != nil {
			t.Errorf("%s, after the release: %v", m.name, err)
		}
		if err := m.delete(all[3]); err != nil {
			t.Errorf("%s, after the release: %v", m.name, err)
		}
		if err := m.read(all[3]); !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("%s, after the release: %v", m.name, err)
		}
	}
	// Without the keeper nobody knows.
	c.fault(nil, keeper, linkDown)
	for _, m := range c.members {
		want := server.ErrUnavailable
		if m == keeper {
			want = nil
		}
		if err := m.read(all[5]); !errors.Is(err, want) {
			t.Errorf("%s, the keeper away: %v", m.name, err)
		}
		if m != keeper {
			if err := m.delete(all[5]); !errors.Is(err, server.ErrUnavailable) {
				t.Errorf("%s deletes, the keeper away: %v", m.name, err)
			}
		}
	}
	c.fault(nil, keeper, nil)
	keeper.stop()
	keeper.start()
	for _, m := range c.members {
		if err := m.read(all[5]); err != nil {
			t.Errorf("%s, the keeper back: %v", m.name, err)
		}
		if err := m.read(all[0]); !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("%s, the keeper back: %v", m.name, err)
		}
	}
}
