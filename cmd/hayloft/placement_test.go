package main

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"hayloft/directory"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

// TestPlacementCodes takes a volume through its coding as a blob server does:
// every argument arrives, and each node is shown the volumes it has shards of.
func TestPlacementCodes(t *testing.T) {
	ctx := t.Context()
	c := clock.NewFake(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	d, err := directory.Open(ctx, directory.Options{Dirs: []string{t.TempDir()}, Member: "m1", Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	nodes := map[string]placement{}
	for i, name := range []string{"a", "b", "c"} {
		node, err := d.RegisterNode(ctx, directory.NodeSpec{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		nodes[name] = placement{d, node.ID, uint64(i + 1)}
		if _, err := nodes[name].RegisterDisk(ctx, [16]byte{byte(i + 1)}, 1); err != nil {
			t.Fatal(err)
		}
	}
	p := nodes["a"]
	lease, err := p.Leaser(volume.ClassOriginals, 0, 1).Acquire(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	ident, err := p.OpenVolume(ctx, lease, []uint32{1}, 1, lease.From)
	if err != nil {
		t.Fatal(err)
	}
	v := ident.Volume
	must := func(row server.Row, err error) server.Row {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if now, ok := p.Row(v); !ok || !reflect.DeepEqual(now, row) {
			t.Errorf("the answer is %+v, the row %+v", row, now)
		}
		return row
	}
	must(p.ConfirmVolume(ctx, v, 1))
	if err := p.CloseTile(ctx, lease, lease.From+1); err != nil {
		t.Fatal(err)
	}
	row := must(p.SealVolume(ctx, v, 1, []uint32{1}, server.Sealed{Digest: volume.Digest{5}, Bytes: 9000, Sealed: c.Now()}))
	source := lifecycle.Source{Generation: 1, Digest: lifecycle.Digest{5}, Bytes: 9000}
	if row.Coding != (lifecycle.Row{Source: source}) {
		t.Errorf("sealed: %+v", row.Coding)
	}
	shown := func(want ...string) {
		t.Helper()
		for name, p := range nodes {
			rows, listed := p.CodedRows(), false
			for _, w := range want {
				listed = listed || w == name
			}
			if listed != (len(rows) == 1) {
				t.Errorf("node %s is shown %+v", name, rows)
			}
			if row, _ := p.Row(v); listed && !reflect.DeepEqual(rows[0], row) {
				t.Errorf("node %s is shown %+v, the row is %+v", name, rows[0], row)
			}
		}
	}
	shown()
	run := lifecycle.Run{Epoch: 1, Encoder: 7, Data: 1, Parity: 1, Source: source, IndexBytes: 33, Homes: []lifecycle.Disk{1, 2}}
	row = must(p.BeginCoding(ctx, v, run))
	if !reflect.DeepEqual(*row.Coding.Run, run) {
		t.Errorf("begun: %+v", row.Coding.Run)
	}
	shown("a", "b")
	must(p.AbortCoding(ctx, v, 1, 7))
	shown()
	run.Epoch = 2
	must(p.BeginCoding(ctx, v, run))
	shards := []lifecycle.Digest{{1}, {2}}
	must(p.CommitCoding(ctx, v, 2, 7, shards, 0))
	must(p.RevokeCoding(ctx, v, 2, 0))
	run.Epoch = 3
	must(p.BeginCoding(ctx, v, run))
	row = must(p.CommitCoding(ctx, v, 3, 7, shards, 0))
	if want := (lifecycle.Commit{Run: run, Digests: shards, At: c.Now()}); !reflect.DeepEqual(*row.Coding.Committed, want) {
		t.Errorf("committed: %+v", row.Coding.Committed)
	}
	must(p.MoveShard(ctx, v, 3, 1, 3, shards[1], 0))
	if row = must(p.KeepCoded(ctx, v, 2, 0)); row.Keeper != 2 || row.Term != 1 {
		t.Errorf("keeper %d under term %d", row.Keeper, row.Term)
	}
	shown("a", "b", "c") // b keeps it
	if _, err := p.ReleaseSource(ctx, v, 3, shards, time.Hour, 1); !errors.Is(err, lifecycle.ErrRefused) {
		t.Errorf("released in its grace: %v", err)
	}
	c.Advance(time.Hour)
	row = must(p.ReleaseSource(ctx, v, 3, shards, time.Hour, 1))
	if len(row.Disks) != 0 || len(row.Replicas) != 0 || row.Coding.State() != lifecycle.Released {
		t.Errorf("released: %+v", row)
	}
	shown("a", "b", "c") // b keeps it
}

// TestPlacementReplicates takes a volume with replicas on three nodes through its life
// as the blob servers of these nodes do, and each is shown what it has.
func TestPlacementReplicates(t *testing.T) {
	ctx := t.Context()
	d, err := directory.Open(ctx, directory.Options{Dirs: []string{t.TempDir()}, Member: "m1"})
	must(t, err)
	defer func() { must(t, d.Close()) }()
	var nodes []placement
	for i, name := range []string{"a", "b", "c"} {
		node, err := d.RegisterNode(ctx, directory.NodeSpec{Name: name})
		must(t, err)
		nodes = append(nodes, placement{d, node.ID, uint64(i + 1)})
		_, err = d.StartNode(ctx, node.ID, node.Incarnation, uint64(i+1))
		must(t, err)
		_, err = nodes[i].RegisterDisk(ctx, [16]byte{byte(i + 1)}, 1)
		must(t, err)
	}
	p := nodes[1]
	lease, err := p.Leaser(volume.ClassOriginals, 0, 2).Acquire(ctx, 0)
	must(t, err)
	ident, err := p.OpenVolume(ctx, lease, []uint32{2, 1}, 3, lease.From)
	must(t, err)
	v := ident.Volume
	is := func(row server.Row, err error) func(sync uint32, disks, inSync []uint32) {
		t.Helper()
		must(t, err)
		return func(sync uint32, disks, inSync []uint32) {
			t.Helper()
			place, ok := p.Locate(id.Make(lease.From, lease.Slot, 0))
			if !ok || !slices.Equal(place.Disks, disks) || !slices.Equal(place.InSync, inSync) || place.Sync != sync || place.Target != 3 || place.State != row.State {
				t.Errorf("located at %+v", place)
			}
			if !slices.Equal(row.Disks, disks) || !slices.Equal(row.InSync, inSync) || row.Sync != sync || row.Target != 3 || len(row.Replicas) != len(disks) {
				t.Errorf("%+v, want epoch %d, %v, in sync %v", row, sync, disks, inSync)
			}
			for i, p := range nodes {
				if listed := len(p.Rows(uint32(i+1))) == 1; listed != slices.Contains(disks, uint32(i+1)) {
					t.Errorf("disk %d: listed %v", i+1, listed)
				}
			}
		}
	}
	is(p.ConfirmVolume(ctx, v, 1))(1, []uint32{2, 1}, []uint32{2, 1})
	must(t, p.CloseTile(ctx, lease, lease.From+1))
	seal := server.Sealed{Digest: volume.Digest{1}, Bytes: 10}
	is(p.SealVolume(ctx, v, 1, []uint32{1, 2}, seal))(1, []uint32{2, 1}, []uint32{2, 1})
	is(p.LeaveSync(ctx, v, 2, 1))(2, []uint32{2, 1}, []uint32{1})
	is(p.AddReplica(ctx, v, 3, 2))(3, []uint32{2, 1, 3}, []uint32{1})
	if _, err := p.JoinSync(ctx, v, 3, 1, 3); !errors.Is(err, directory.ErrStale) {
		t.Errorf("a join for another node's primary: %v", err)
	}
	is(nodes[0].JoinSync(ctx, v, 3, 1, 3))(4, []uint32{2, 1, 3}, []uint32{1, 3})
	is(p.BeginCompaction(ctx, v, 1, volume.Digest{1}, 0))(4, []uint32{2, 1, 3}, []uint32{1, 3})
	is(p.CommitCompaction(ctx, v, 2, []uint32{3, 2}, seal))(5, []uint32{2, 1, 3}, []uint32{3})
	is(p.RemoveReplica(ctx, v, 2, 5))(6, []uint32{1, 3}, []uint32{3})
	if rows := (overview{placement: p}).Rows(); len(rows) != 1 || !slices.Equal(rows[0].InSync, []uint32{3}) {
		t.Errorf("%+v", rows)
	}
}

// The directory knows which process of this node is the one that runs: joins that an
// earlier one asked for are refused.
func TestDirectoryKnowsTheProcess(t *testing.T) {
	n, _, _ := placedNode(t)
	row, ok := n.directory.Map().Node(n.nodeID)
	if !ok || n.incarnation == 0 || row.Incarnation != n.incarnation {
		t.Errorf("%+v, want incarnation %d", row, n.incarnation)
	}
}
