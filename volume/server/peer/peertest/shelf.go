package peertest

import (
	"io"
	"io/fs"

	"hayloft/volume"
	"hayloft/volume/server"
)

func shelves(t *trial) {
	t.made()
	first, err := t.Peer.Shelf(bg, t.Disk, t.v, 1, 0)
	t.ok(err, "take a shelf")
	f, err := first.Create("a.tmp")
	t.ok(err, "create")
	_, err = f.WriteVAt([][]byte{[]byte("some "), []byte("bytes")}, 0)
	t.ok(err, "write")
	t.ok(f.Sync(), "sync")
	t.ok(first.Rename("a.tmp", "a"), "rename")
	t.ok(first.SyncDir(""), "sync the folder")
	if names, err := first.ReadDir(""); err != nil || len(names) != 1 || names[0] != "a" {
		t.Errorf("names %q, %v", names, err)
	}
	_, err = first.Open("b")
	t.is(err, fs.ErrNotExist, "open what is not there")
	_, err = first.Create("../a")
	t.is(err, volume.ErrInvalid, "a name outside")
	_, err = t.Peer.Shelf(bg, t.Disk, t.v, 1, 1)
	t.is(err, server.ErrUnavailable, "take it under a term that nobody has given")
	second, err := t.Peer.Shelf(bg, t.Disk, t.v, 1, 0)
	t.ok(err, "take it again")
	_, err = f.WriteVAt([][]byte{{1}}, 0)
	t.is(err, server.ErrShelf, "write by the former holder")
	_, err = first.Stat("a")
	if t.is(err, server.ErrShelf, "a look by the former holder"); !first.Lost() || second.Lost() {
		t.Error("who has lost it is not told")
	}
	g, err := second.OpenWrite("a")
	t.ok(err, "open to write")
	b := make([]byte, 20)
	if n, err := g.ReadAt(b, 0); n != 10 || err != io.EOF || string(b[:n]) != "some bytes" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	t.ok(g.Close(), "close")
	t.ok(f.Close(), "close by the former holder")
}

func mends(t *trial) {
	t.put()
	t.is(t.Peer.Mend(bg, t.Disk, t.v, 1, []server.Damage{{Shard: 1}}), server.ErrUnavailable, "mend what is not coded")
}
