package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hayloft/directory"
	"hayloft/directory/plan"
	"hayloft/directory/steward"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/volume"
	"hayloft/volume/server"
)

// placedNode is a node of three disks with a sealed volume, whose steward works.
func placedNode(t *testing.T) (*node, *operator, directory.DiskID) {
	t.Helper()
	return placedNodeWith(t, func(n *node) { n.onRequest, n.s.diskReserve, n.settle = true, 1, 1 })
}

func placedNodeWith(t *testing.T, set func(*node)) (*node, *operator, directory.DiskID) {
	t.Helper()
	root := t.TempDir()
	var dirs []string
	for _, d := range []string{"a", "b", "c"} {
		dirs = append(dirs, filepath.Join(root, d))
	}
	n := openNodeWith(t, set, dirs...)
	blob, cookie, err := n.blobs.Reserve(t.Context(), volume.ClassOriginals)
	if err == nil {
		err = n.blobs.Write(t.Context(), blob, []volume.Needle{{Key: blob, Cookie: cookie, Data: make([]byte, 30_000)}})
	}
	if err != nil {
		t.Fatal(err)
	}
	o := operate(t, n)
	o.must("volume", "seal", "--all", "--apply")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.runFleet(ctx) }()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
		if v := n.fleet.View(); len(v.Nodes) == 1 && v.Nodes[0].Up && len(v.Nodes[0].Disks) == 3 && v.Nodes[0].Disks[2].Capacity > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the fleet never knew its node: %+v", n.fleet.View())
		}
	}
	for _, v := range n.directory.Map().Volumes() {
		if v.State == directory.StateSealed {
			return n, o, v.Replicas[0]
		}
	}
	t.Fatal("no volume is sealed")
	return nil, nil, 0
}

// TestPlacementCommands has a disk that holds a volume drained, another that is empty
// decommissioned, and looks at the work.
func TestPlacementCommands(t *testing.T) {
	n, o, full := placedNode(t)
	empty := directory.DiskID(1)
	for _, v := range n.directory.Map().Volumes() {
		for empty == full || v.On(empty) {
			empty++
		}
	}
	if out := o.must("cluster", "work"); !strings.Contains(out, "ahead      nothing") || !strings.Contains(out, "survives   the loss of any 0 disks") {
		t.Error(out)
	}
	out, log, err := o.run("cluster", "drain", "--disk", fmt.Sprint(full))
	if err != nil || !strings.Contains(out, "add a replica on disk") || !strings.Contains(out, "give up the replica on disk "+fmt.Sprint(full)) || !strings.Contains(out, "1 replicas to make") || !strings.Contains(log, "--apply does it") {
		t.Errorf("%v\n%s%s", err, out, log)
	}
	if d, _ := n.directory.Map().Disk(full); d.State != directory.Active {
		t.Error("a plan drained the disk")
	}
	out, _, err = o.place("drain", "--disk", fmt.Sprint(full), "--apply")
	if d, _ := n.directory.Map().Disk(full); err != nil || d.State != directory.Draining || !strings.Contains(out, "disk "+fmt.Sprint(full)+" is draining") {
		t.Errorf("%v %s", err, out)
	}
	var s steward.Status
	if err := json.Unmarshal([]byte(o.must("cluster", "work", "--json")), &s); err != nil || len(s.Leaving) != 1 || s.Leaving[0].Disk != full || s.Leaving[0].Then != "draining" || s.Leaving[0].Left.Replicas == 0 {
		t.Errorf("%v %+v", err, s)
	}
	if _, _, err := o.place("drain", "--disk", fmt.Sprint(full), "--undo"); err != nil {
		t.Error(err)
	}
	if d, _ := n.directory.Map().Disk(full); d.State != directory.Active {
		t.Errorf("still %v", d.State)
	}
	out, _, err = o.place("decommission", "--disk", fmt.Sprint(empty), "--apply", "--wait")
	if d, _ := n.directory.Map().Disk(empty); err != nil || d.State != directory.Gone || !strings.Contains(out, "done") {
		t.Errorf("%v %s: %v", err, out, d.State)
	}
	out, _, err = o.place("balance", "--apply", "--wait", "--tolerance", "0.9", "--json")
	if err != nil || json.Unmarshal([]byte(out), &s) != nil || s.Intent.Balance != 0 {
		t.Errorf("%v %s", err, out)
	}
	if out, _, err := o.place("repair", "--apply", "--wait"); err != nil || !strings.Contains(out, "repair: done") {
		t.Errorf("%v %s", err, out)
	}
	if out := o.must("cluster", "drain", n.who.name); !strings.Contains(out, "CANNOT be helped") || !strings.Contains(out, "no disk that takes replicas") {
		t.Error(out)
	}
}

// place runs a command that needs the token.
func (o *operator) place(args ...string) (string, string, error) {
	return o.run(append([]string{"cluster"}, append(args, "--data", o.data)...)...)
}

func TestPlacementRefusals(t *testing.T) {
	_, o, _ := placedNode(t)
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"drain"}, "wants the name of a node, or --disk"},
		{[]string{"drain", "x", "--disk", "1"}, "wants the name of a node, or --disk"},
		{[]string{"drain", "x"}, `there is no node "x"`},
		{[]string{"decommission", "--disk", "99"}, `there is no disk "99"`},
		{[]string{"drain", "--disk", "1", "--wait"}, "--wait goes with --apply"},
		{[]string{"drain", "--disk", "1", "--undo", "--wait"}, "nothing to --wait for"},
		{[]string{"balance", "--tolerance", "2"}, "a part from 0 to 1"},
		{[]string{"repair", "now"}, "wants no arguments"},
		{[]string{"drain", "--disk", "1", "--apply"}, "wants its admin token"},
	} {
		if _, _, err := o.run(append([]string{"cluster"}, c.args...)...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want %q", c.args, err, c.says)
		}
	}
	for _, path := range []string{"plan?node=x", "plan?disk=0", "plan?balance=7", "plan?node=1&disk=1", "plan?mood=1", "work?x=1"} {
		if err := o.get(clusterCalls + "/" + path); err == nil {
			t.Errorf("%s is fine", path)
		}
	}
}

func (o *operator) get(path string) error {
	f := volumeFlags{admin: o.admin, data: []string{o.data}}
	r, err := f.connect()
	if err != nil {
		return err
	}
	defer r.client.Close()
	var v any
	return r.client.Get(o.t.Context(), path, &v)
}

func TestTellWork(t *testing.T) {
	s := &steward.Status{Filling: steward.Ahead{Steps: 2, Bytes: 2048}, Ahead: map[string]steward.Ahead{"repair": {Steps: 3, Bytes: 1024}},
		Lacking: 2, Lacks: []plan.Lack{{Volume: 7, Copies: 1, Target: 2, Why: "no room"}},
		Fills:    []steward.Fill{{Volume: 5, Disk: 2, Node: "b", Bytes: 1024, Up: true, Cause: plan.Repair, Seconds: 90}, {Volume: 6, Disk: 2, Node: "b"}},
		Leaving:  []steward.Leaving{{Node: 2, Name: "b", Then: "gone", Left: plan.Left{Replicas: 4, Bytes: 4096, Shards: 1, Unsealed: 2}}},
		Survives: []plan.Survival{{Level: "disk", May: 1}, {Level: "node", May: 2}}, Failure: "no leader"}
	if got := tellWork(s); got != "2 replicas under way (2.0KiB), 3 steps ahead (1.0KiB); 2 volumes wait: volume 7 has 1 of 2 copies: no room" {
		t.Error(got)
	}
	var out strings.Builder
	if err := printWork(&out, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"5       2     b     1.0KiB  repair  1m30s", "waits: the disk, or all copies, are away", "volume 7 has 1 of 2 copies: no room", "and 1 more volumes that lack something",
		"node b is draining, to be gone then: 4 replicas (4.0KiB) and 1 shards are left, 2 of volumes that are not sealed", "the last attempt ended early: no leader",
		"under way  2 replicas, 2.0KiB", "ahead      repair: 3 steps, 1.0KiB to copy", "survives   the loss of any 1 disk, or of any 2 nodes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
	if got := survivesText(&steward.Status{Survives: []plan.Survival{{May: -1, Limits: 3, Limiting: []directory.VolumeID{4}}}}); !strings.Contains(got, "3 volumes CANNOT be read") {
		t.Error(got)
	}
}

// TestDrainOnALoneNode empties one disk of a node that has no other one: what it holds
// moves, deletes count for both replicas meanwhile, nothing new is opened there, and no
// file is left.
func TestDrainOnALoneNode(t *testing.T) {
	n, o, full := placedNodeWith(t, func(n *node) { n.s.diskReserve, n.settle = 1, 1 })
	ctx := t.Context()
	write := func() id.ID {
		t.Helper()
		for {
			blob, cookie, err := n.blobs.Reserve(ctx, volume.ClassOriginals)
			if err == nil {
				err = n.blobs.Write(ctx, blob, []volume.Needle{{Key: blob, Cookie: cookie, Data: make([]byte, 30_000)}})
			}
			if errors.Is(err, server.ErrMoved) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			return blob
		}
	}
	var blobs []id.ID
	for range 6 { // some on every disk
		blobs = append(blobs, write())
	}
	if _, _, err := o.place("drain", "--disk", fmt.Sprint(full), "--apply"); err != nil {
		t.Fatal(err)
	}
	var dir string
	for _, d := range n.blobs.Stats().Disks {
		if d.Disk == uint32(full) {
			dir = filepath.Join(d.Dir, "volumes")
		}
	}
	for deadline := time.Now().Add(testenv.Patience); ; <-time.After(10 * time.Millisecond) {
		blobs = append(blobs, write())
		if err := n.blobs.Delete(ctx, blobs[0]); err != nil {
			t.Fatal(err)
		}
		blobs = blobs[1:]
		left, err := filepath.Glob(filepath.Join(dir, "*.vol"))
		listed := 0
		for _, v := range n.directory.Map().Volumes() {
			if v.On(full) {
				listed++
			}
		}
		if err == nil && listed == 0 && len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d volumes are listed on the disk, and %v lie there: %v", listed, left, err)
		}
	}
}
