package tools_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
	"hayloft/volume/tools"
)

// blobs is its own directory and feed.

func (b *blobs) Row(v volume.ID) (server.Row, bool) {
	r, known := b.rows[v]
	return r, known
}

func (b *blobs) Locate(blob id.ID) (server.Place, bool) {
	v, known := b.tiles[blob]
	return server.Place{Volume: volume.Identity{Volume: v}, Slot: blob.Slot(), From: 1000, To: 2000}, known
}

func (b *blobs) Disks() []tools.Disk { return slices.Clone(b.disks) }
func (b *blobs) Leader() string      { return "one" }
func (b *blobs) Rows() []server.Row  { return b.table }
func (b *blobs) Nodes() []tools.Node {
	if b.nodes != nil {
		return slices.Clone(b.nodes)
	}
	return []tools.Node{{ID: 1, Name: "one", Leads: true, Here: true}}
}

func (b *blobs) Photo(_ context.Context, photo id.ID) (tools.Photo, bool, error) {
	p, known := b.photos[photo]
	return p, known, nil
}

func (b *blobs) Access(_ context.Context, blob id.ID) (string, error) {
	if blob == 0 {
		return "", errors.New("no such blob")
	}
	return "public", nil
}

// why asks here and behind the listener, which must agree.
func why(t *testing.T, local, remote tools.Keeper, what string) tools.Why {
	t.Helper()
	var texts [2]string
	var out tools.Why
	for i, k := range []tools.Keeper{local, remote} {
		w, err := k.Why(bg, what)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		text, err := json.Marshal(w)
		ok(t, err)
		texts[i], out = string(text), w
	}
	if texts[0] != texts[1] {
		t.Errorf("here:\n%s\nbehind the listener:\n%s", texts[0], texts[1])
	}
	return out
}

// TestWhy asks for blobs in every state, a photo, and volumes.
func TestWhy(t *testing.T) {
	b, local, remote := serve(t, dataDir(t))
	withShards(t, b)
	homes := []lifecycle.Disk{1, 2, 3, 4, 5, 6}
	run := lifecycle.Run{Epoch: 3, Data: 4, Parity: 2, Source: lifecycle.Source{Generation: 1}, Homes: homes}
	b.rows = map[volume.ID]server.Row{
		2: {Volume: volume.Identity{Volume: 2, Generation: 1, Class: volume.ClassVariants}, State: server.StateSealed, Disks: []uint32{1}, Slot: 600, From: 1000, To: 2000,
			Coding: lifecycle.Row{Epoch: 3, Source: lifecycle.Source{Generation: 1}, Committed: &lifecycle.Commit{Run: run}}},
		8: {Volume: volume.Identity{Volume: 8, Generation: 1}, State: server.StateVoid},
		9: {Volume: volume.Identity{Volume: 9, Generation: 1}, State: server.StateSealed, Disks: []uint32{7}},
	}
	b.disks = []tools.Disk{{Disk: 1, UUID: "uuid0", Node: 1}}
	b.tiles = map[id.ID]volume.ID{blob(1): 2, blob(2): 2, blob(3): 2, blob(5): 2, blob(6): 9}
	group := blob(2)
	b.photos = map[id.ID]tools.Photo{blob(100): {ID: blob(100), Status: "ready", Master: blob(1), Group: &group}}
	b.probe = func(x id.ID) (p server.Probed, err error) {
		p.Volume, p.Coded = volume.Identity{Volume: 2, Generation: 1}, true
		switch x {
		case blob(1):
			p.Needles = []volume.ProbedNeedle{{Alt: 0, Offset: 8192, Size: 100}}
		case blob(2):
			p.Needles = []volume.ProbedNeedle{{Alt: 1, Offset: 8192, Size: 100}, {Alt: 2, Offset: 9000, Size: 100, Err: fmt.Errorf("%w: rot\nthere", volume.ErrCorrupt)}}
		case blob(3):
			p.Deleted = true
		case blob(6):
			return p, fmt.Errorf("%w: volume 9: its disk is away", server.ErrUnavailable)
		default:
			return server.Probed{}, fmt.Errorf("%w: %v", volume.ErrNotFound, x)
		}
		return p, nil
	}
	for x, want := range map[id.ID][3]string{
		blob(1): {tools.BlobReadable, ""}, blob(2): {tools.BlobUnreadable, "alt 2: stored bytes are corrupt: rot; there"},
		blob(3): {tools.BlobDeleted, "for ever"}, blob(5): {tools.BlobUnknown, "never stored, or deleted before"},
		blob(6): {tools.BlobUnreadable, "its disk is away"}, blob(7): {tools.BlobUnknown, "no tile holds"},
	} {
		w := why(t, local, remote, x.String())
		if len(w.Blobs) != 1 || w.Blobs[0].State != want[0] || !strings.Contains(w.Blobs[0].Why, want[1]) || w.Blobs[0].Access != "public" {
			t.Errorf("%v: %+v", x, w.Blobs)
		}
		if w.Readable() != (want[0] != tools.BlobUnreadable) {
			t.Errorf("%v: readable %v", x, w.Readable())
		}
		if in := map[id.ID]int{blob(7): 0}; len(w.Volumes) != 1 && x != blob(7) || x == blob(7) && len(w.Volumes) != in[x] {
			t.Errorf("%v: %d volumes", x, len(w.Volumes))
		}
	}
	w := why(t, local, remote, blob(100).String())
	if w.Photo == nil || w.Photo.Status != "ready" || len(w.Blobs) != 2 || w.Blobs[0].Role != "master" || w.Blobs[1].Role != "variants" || w.Blobs[0].From != "shards" || len(w.Volumes) != 1 || w.Readable() {
		t.Errorf("%+v", w)
	}
	v := why(t, local, remote, "2").Volumes[0]
	if d := v.Directory; d == nil || d.State != "sealed" || d.Coding != "coded" || d.Generation != 1 || d.Tile.Slot != 600 || d.Tile.To == nil ||
		len(d.Replicas) != 1 || d.Replicas[0].UUID != "uuid0" || len(d.Epochs) != 1 || len(d.Epochs[0].Homes) != 6 || d.Epochs[0].Policy != "4+2" {
		t.Errorf("%+v", d)
	}
	if len(v.Copies) != 2 || v.Error != "" || len(v.Copies[0].Coding.Shards) != 6 {
		t.Errorf("%+v", v)
	}
	if v := why(t, local, remote, "8").Volumes[0]; v.Error != "" || v.Directory.Note == "" {
		t.Errorf("void: %+v", v)
	}
	if w := why(t, local, remote, "9"); w.Readable() || !strings.Contains(w.Volumes[0].Error, "no file and no shards") {
		t.Errorf("elsewhere: %+v", w)
	}
	for what, want := range map[string]string{"77": "no such volume", "nonsense": "neither the number", "0": "neither the number", "4294967296": "neither the number"} {
		for _, k := range []tools.Keeper{local, remote} {
			if _, err := k.Why(bg, what); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// TestSurvivalOfReplicas: what other nodes have counts as the directory knows it; what
// lies here and cannot be read, or on disks that are gone, does not count.
func TestSurvivalOfReplicas(t *testing.T) {
	b, local, _ := serve(t, dataDir(t))
	b.sick, b.shards, b.coded, b.lost = map[volume.ID]error{}, nil, nil, nil
	for v := range b.vols {
		if v != 1 {
			delete(b.vols, v)
		}
	}
	b.nodes = []tools.Node{{ID: 1, Name: "one", Here: true}, {ID: 2, Name: "two"}, {ID: 3, Name: "three"}}
	for n := range uint32(6) { // two on each node
		b.disks = append(b.disks, tools.Disk{Disk: n + 1, UUID: fmt.Sprintf("uuid%d", n), Node: 1 + n/2, Duty: "active"})
	}
	b.stats.Disks = []server.DiskStats{{Dir: filepath.Dir(b.dir), UUID: "uuid0"}, {Dir: "/disk1", UUID: "uuid1"}}
	row := func(v volume.ID, target int, disks, inSync []uint32) server.Row {
		return server.Row{Volume: volume.Identity{Volume: v, Generation: 1}, State: server.StateSealed, Disks: disks, InSync: inSync, Sync: 1, Target: target,
			Seal: &server.Sealed{Needles: 5}}
	}
	look := func(disk, host, under int, because string, rows ...server.Row) tools.Cluster {
		t.Helper()
		b.table = rows
		c, err := local.Cluster(bg)
		ok(t, err)
		if s := c.Survives; s.Volumes != disk || s.Host != min(host, 1) || c.UnderReplicated != under || !strings.Contains(strings.Join(s.Because, "\n"), because) {
			t.Errorf("survives %+v, %d under-replicated; want %d disks, %d nodes, %d, %q", s, c.UnderReplicated, disk, host, under, because)
		}
		return c
	}
	all := []uint32{1, 3, 5}
	c := look(2, 2, 0, "volume 7: sealed, with 3 copies", row(1, 3, all, all), row(7, 3, all, all))
	if c.Replicas != (tools.Replicas{Target: 6, Listed: 6, InSync: 6}) || c.Volumes["sealed"] != 1 || c.Disks[2].State != "elsewhere" || c.Nodes[1].Disks != 2 {
		t.Errorf("%+v", c)
	}
	look(1, 1, 1, "volume 7: sealed, with 2 copies", row(1, 3, all, all), row(7, 3, all, all[1:]))
	look(2, 1, 0, "volume 8: sealed, with 3 copies", row(1, 3, all, all), row(8, 3, []uint32{3, 4, 5}, []uint32{3, 4, 5})) // two of them on a node
	look(0, 0, 1, "volume 8: sealed, with 1 copy", row(1, 3, all, all), row(8, 3, []uint32{3, 5, 6}, []uint32{6}))
	empty := row(9, 3, all, all[:1])
	empty.Seal = &server.Sealed{}
	look(2, 2, 1, "volume 1: ", row(1, 3, all, all), empty)
	b.disks[4].Duty = "gone"
	look(1, 1, 1, "volume 1: open, with 2 copies", row(1, 3, all, all))
	b.disks[4].Duty = "active"
	b.lost = map[volume.ID]error{1: errors.New("rot")}
	delete(b.vols, 1)
	b.stats.Disks = b.stats.Disks[1:] // disk 1 went with it
	look(1, 1, 1, "volume 1: unreadable, with 2 copies", row(1, 3, all, all))
	look(0, 0, 1, "volume 1: cannot be read: ", row(1, 1, all[:1], all[:1]))
}

// How many disks may be lost follows from the weakest volume that holds anything, and
// from the metadata.
func TestSurvival(t *testing.T) {
	b, local, remote := serve(t, dataDir(t))
	withShards(t, b)
	delete(b.sick, 3)
	for n := range 6 {
		b.disks = append(b.disks, tools.Disk{Disk: uint32(n + 1), UUID: fmt.Sprintf("uuid%d", n), Node: 1})
		b.stats.Disks = append(b.stats.Disks, server.DiskStats{Dir: fmt.Sprintf("/disk%d", n), UUID: fmt.Sprintf("uuid%d", n), Total: 100, Free: 40, Volumes: 1})
	}
	b.disks = append(b.disks, tools.Disk{Disk: 7, UUID: "replaced", Node: 1}, tools.Disk{Disk: 8, UUID: "missing", Node: 1})
	b.stats.Missing = []server.MissingDisk{{Disk: 8, UUID: "missing", Volumes: 3}}
	look := func() tools.Cluster {
		t.Helper()
		here, err := local.Cluster(bg)
		ok(t, err)
		there, err := remote.Cluster(bg)
		ok(t, err)
		if a, z := fmt.Sprintf("%+v", here), fmt.Sprintf("%+v", there); a != z {
			t.Errorf("here %s\nbehind the listener %s", a, z)
		}
		return there
	}
	c := look()
	if s := c.Survives; s.Disk != 0 || s.Volumes != 0 || s.Metadata != 2 || s.Host != 0 || !strings.Contains(strings.Join(s.Because, "\n"), "photos: 0 (volume 1: open") {
		t.Errorf("an open volume: %+v", s)
	}
	if c.Volumes["open"] != 1 || c.Volumes["coded"] != 1 || c.Volumes["sealed"] != 0 || c.Leader != "one" || len(c.Nodes) != 1 || c.Nodes[0].Disks != 6 || c.UnderReplicated != 0 {
		t.Errorf("%+v", c)
	}
	if len(c.Disks) != 7 || c.Disks[0].State != "ok" || c.Disks[0].Shards != 1 || c.Disks[0].Data != "/disk0" || c.Disks[6].State != "missing" || c.Disks[6].Volumes != 3 {
		t.Errorf("%+v", c.Disks)
	}
	for n := range 6 { // deleted, all of it: nothing is in it that could be lost
		ok(t, b.vols[1].Delete(bg, blob(n)))
	}
	if s := look().Survives; s.Disk != 2 || s.Volumes != 2 {
		t.Errorf("coded, and an empty one: %+v", s)
	}
	b.coded[0] = codedInfo(2, lifecycle.Released, []int{3}, nil)
	if c := look(); c.Survives.Disk != 1 || c.UnderReplicated != 1 || !strings.Contains(c.Survives.Because[0], "5 of 6 shards whole") {
		t.Errorf("a shard is away: %+v", c)
	}
	b.coded[0] = codedInfo(2, lifecycle.Released, []int{1, 3, 4}, nil)
	if c := look(); c.Survives.Disk != 0 || c.UnderReplicated != 1 || !strings.Contains(strings.Join(c.Survives.Because, "\n"), "lost: away: shards 1, 3, 4") {
		t.Errorf("too many are: %+v", c)
	}
	b.coded, b.shards = nil, nil
	delete(b.vols, 2)
	if c := look(); c.Survives.Volumes != 6 || c.Survives.Disk != 2 {
		t.Errorf("nothing is stored: %+v", c.Survives)
	}
	b.lost = map[volume.ID]error{9: errors.New("away")}
	if c := look(); c.Survives.Disk != 0 || c.UnderReplicated != 1 || c.Volumes["unreadable"] != 1 {
		t.Errorf("one cannot be read: %+v", c)
	}
}
