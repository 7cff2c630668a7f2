package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hayloft/directory"
	"hayloft/volume"
	"hayloft/volume/server"
)

// The blob server chooses among the disks that the fleet has up and the directory has
// not draining.
func TestNeighbours(t *testing.T) {
	n, _, _ := placedNode(t)
	f := n.newNeighbours()
	disks := f.Disks()
	if len(disks) != 3 {
		t.Fatalf("%+v", disks)
	}
	for i, d := range disks {
		if d.Disk != uint32(i+1) || d.Node != n.who.name || !d.Up || !d.Taking || d.Distance != 0 || d.Free <= 0 || d.Capacity < d.Free {
			t.Errorf("%+v", d)
		}
	}
	got, err := f.Choose(volume.ClassOriginals, 2, 2, []uint32{1})
	if err != nil || !slices.Equal(got, []uint32{2, 3}) {
		t.Errorf("%v %v", got, err)
	}
	if _, err := n.directory.SetDiskState(t.Context(), 2, directory.Draining); err != nil {
		t.Fatal(err)
	}
	if d := f.Disks()[1]; d.Taking || !d.Up {
		t.Errorf("%+v", d)
	}
	if got, err := f.Choose(volume.ClassOriginals, 2, 2, []uint32{1}); err != nil || !slices.Equal(got, []uint32{3}) {
		t.Errorf("at the floor of one node: %v %v", got, err)
	}
	_, err = f.Choose(volume.ClassOriginals, 2, 2, []uint32{1, 3})
	if !errors.Is(err, server.ErrPlacement) || !strings.Contains(err.Error(), "disk 2 of "+n.who.name+" is draining") {
		t.Errorf("%v", err)
	}
	// With a second node the floor is two, on different nodes.
	other, err := n.directory.RegisterNode(t.Context(), directory.NodeSpec{Name: "other", Zone: "far"})
	if err == nil {
		_, err = n.directory.RegisterDisk(t.Context(), directory.DiskSpec{Node: other.ID, UUID: [16]byte{7}, Capacity: 1 << 40})
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := f.Disks(); len(d) != 4 || d[3].Up || d[3].Distance != 4 {
		t.Errorf("%+v", d)
	}
	if got, err := f.Choose(volume.ClassOriginals, 1, 3, nil); !errors.Is(err, server.ErrPlacement) || !strings.Contains(err.Error(), "on different hosts") {
		t.Errorf("%v %v", got, err)
	}
	if got, err := f.Choose(volume.ClassOriginals, 1, 1, nil); err != nil || !slices.Equal(got, []uint32{1}) {
		t.Errorf("one replica: %v %v", got, err)
	}
	if _, err := n.directory.SetNodeState(t.Context(), other.ID, directory.Gone); err != nil {
		t.Fatal(err)
	}
	if d := f.Disks(); len(d) != 3 {
		t.Errorf("a node that is gone has disks: %+v", d)
	}
}

// The roster of a large cluster takes a millisecond to make: it is made anew when nodes
// or disks change, and not for each lease and volume.
func TestRosterIsKept(t *testing.T) {
	n, _, _ := placedNode(t)
	f := n.newNeighbours()
	before, m := f.now(), n.directory.Map()
	if _, err := n.directory.EnsureKey(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if n.directory.Map() == m {
		t.Fatal("the table has not changed")
	}
	if n.view() == before.view && f.now() != before {
		t.Error("it was made anew though no place has changed")
	}
	if _, err := n.directory.SetDiskState(t.Context(), 2, directory.Draining); err != nil {
		t.Fatal(err)
	}
	if now := f.now(); now == before || now.disks[1].Taking {
		t.Error("a disk is drained, and it does not know")
	}
}

// Disks have equal shares of new photos, though writers without a disk have turns too.
func TestDisksHaveEqualShares(t *testing.T) {
	n, _, _ := placedNode(t)
	got := make(map[directory.DiskID]int)
	for range 30 {
		blob, _, err := n.blobs.Reserve(t.Context(), volume.ClassOriginals)
		if err != nil {
			t.Fatal(err)
		}
		tile, _ := n.directory.Map().TileAt(blob.Slot(), blob.Millis())
		v, _ := n.directory.Map().Volume(tile.Volume)
		for _, d := range v.Replicas {
			got[d]++
		}
	}
	if got[1] != 10 || got[2] != 10 || got[3] != 10 {
		t.Errorf("%v", got)
	}
}
