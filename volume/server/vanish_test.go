package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// A data directory is removed under a running server that is written to and read
// from: what lies on the other disk is served all the while, writes go there, and
// the directory is taken into use again, as a new disk.
func TestDirectoryIsRemovedUnderLoad(t *testing.T) {
	root, c := t.TempDir(), &changes{}
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	h := newHouse(t, server.Options{FS: vfs.OS{}, Clock: clock.Real{}, Dirs: []string{a, b}, WatchEvery: 20 * time.Millisecond, DiskChanged: c.tell})
	former := h.disk(a)
	lost, kept := h.putOn(a, variants, 5000), h.putOn(b, variants, 5000)
	var over atomic.Bool
	var writes atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !over.Load() {
				if _, err := h.put(variants, 1000, 2); err != nil {
					t.Errorf("a write: %v", err)
					return
				}
				writes.Add(1)
				h.check(kept)
				got, err := h.s.Read(context.Background(), lost.blob, 0, lost.cookie)
				if got.Release(); err != nil && !errors.Is(err, server.ErrUnavailable) {
					t.Errorf("a read of what is lost: %v", err)
					return
				}
			}
		})
	}
	h.until("there is load", func() bool { return writes.Load() > 20 })
	h.until("nothing is left", func() bool { return os.RemoveAll(a) == nil }) // files are made there meanwhile
	h.until("the disk is out", func() bool { return h.disk(a).Reason == server.ReasonVanished })
	n := writes.Load()
	h.until("writes go on", func() bool { return writes.Load() > n+20 })
	h.until("the directory is in use again", func() bool { return h.disk(a).State == server.DiskOK })
	over.Store(true)
	wg.Wait()
	if d := h.disk(a); d.UUID == former.UUID || d.Disk == former.Disk || len(h.s.Stats().Disks) != 2 {
		t.Errorf("%+v", h.s.Stats().Disks)
	}
	missing := h.s.Stats().Missing
	if len(missing) != 1 || missing[0].Disk != former.Disk {
		t.Errorf("missing %+v", missing)
	}
	if _, err := h.s.Read(t.Context(), lost.blob, 0, lost.cookie); !errors.Is(err, server.ErrUnavailable) || errors.Is(err, volume.ErrNotFound) {
		t.Errorf("what is lost: %v", err)
	}
	again := h.putOn(a, variants, 5000)
	if got := c.were(); !slices.Equal(got, []bool{false, true}) {
		t.Errorf("told %v", got)
	}
	h.stop()
	h.start()
	h.check(kept)
	h.check(again)
}

// wiped is a house whose disk /a has vanished.
func wiped(t *testing.T, how func(h *house, w *ward)) (h *house, w *ward, c *changes, lost stored) {
	h, w, c = watched(t, server.Options{})
	lost = h.putOn("/a", variants, 5000)
	h.putOn("/b", variants, 5000)
	how(h, w)
	h.waitFor("/a", server.DiskOut, server.ReasonVanished)
	return h, w, c, lost
}

// Each way in which a disk can vanish takes it out: its reads are refused with its
// name, ids reserved there are moved, the directory knows that its tiles ended.
func TestDiskVanishes(t *testing.T) {
	for name, how := range map[string]func(h *house, w *ward){
		"directory removed": func(h *house, w *ward) { w.wipe(h.t, "/a") },
		"identity removed":  func(h *house, w *ward) { h.must(w.mem.Remove("/a/disk.id")) },
		"identity replaced": func(h *house, w *ward) { h.must(vfs.WriteFile(w.mem, "/a/disk.id", h.identity(w, "/a"))) },
		"identity written to": func(h *house, w *ward) {
			h.must(w.mem.Flip("/a/disk.id", 20, 1))
		},
		"another mounted": func(h *house, w *ward) { w.mount("/a", 7) },
		"volumes removed": func(h *house, w *ward) {
			w.wipe(h.t, "/a/volumes")
		},
	} {
		t.Run(name, func(t *testing.T) {
			var blob stored
			h, w, c, lost := wiped(t, func(h *house, w *ward) {
				blob = h.reserveOn("/a")
				how(h, w)
			})
			defer w.falls("/a", nil)
			h.unavailable(lost, "/a", "vanished")
			if err := h.s.Write(t.Context(), blob.blob, group(blob.blob, blob.cookie, 100, 1)); !errors.Is(err, server.ErrMoved) {
				t.Errorf("an id reserved there: %v", err)
			}
			row := h.rowOf(lost)
			h.until("the tile has ended", func() bool { return h.rowOf(lost).State == server.StateClosing })
			h.check(h.mustPut(variants, 100, 1))
			h.check(h.mustPut(originals, 100, 1))
			st := h.s.Stats()
			if len(st.Missing) != 1 || st.Missing[0].Disk != row.Disks[0] || st.Classes[0].Sick != 1 {
				t.Errorf("missing %+v, %+v", st.Missing, st.Classes)
			}
			if i := h.info(is(row.Volume.Volume)); i.State != "sick" || !errors.Is(i.Sick, server.ErrMissing) || !strings.Contains(i.Sick.Error(), "/a (vanished)") {
				t.Errorf("%+v", i)
			}
			if e, n := h.said(server.EventDiskOut, "/a"); n != 1 || e.Reason != server.ReasonVanished {
				t.Errorf("%d, %+v", n, e)
			}
			if got := c.were(); len(got) == 0 || got[0] {
				t.Errorf("told %v", got)
			}
		})
	}
}

// What cannot be taken for the same disk, another one of this node, or an empty
// directory where the former disk was, is refused with one line that says why, and left as it is.
func TestDirectoryIsNotAdopted(t *testing.T) {
	stranger := func(h *house, w *ward) []byte {
		return newIdentity(h.t)
	}
	for name, c := range map[string]struct {
		lies func(h *house, w *ward) // what is found after the wipe
		says string
	}{
		"mount point with nothing mounted": {func(h *house, w *ward) {
			w.mount("/a", 7)
			h.must(w.mem.MkdirAll("/a"))
		}, "taken for a mount point"},
		"directory of an unmounted disk": {func(h *house, w *ward) { w.mount("/", 7) }, "on another file system"},
		"somebody's files":               {func(h *house, w *ward) { h.lay(w, "/a/notes.txt", []byte("x")) }, "not empty: notes.txt"},
		"volumes and no identity":        {func(h *house, w *ward) { h.lay(w, "/a/volumes/00000001-00000001.vol", []byte("x")) }, "not empty: volumes"},
		"shards and no identity":         {func(h *house, w *ward) { h.must(w.mem.MkdirAll("/a/shards")) }, "not empty: shards"},
		"a file":                         {func(h *house, w *ward) { h.must(vfs.WriteFile(w.mem, "/a", []byte("x"))) }, "not a directory"},
		"somebody's identity":            {func(h *house, w *ward) { h.lay(w, "/a/disk.id", []byte("mine\n")) }, "not Hayloft's"},
		"a later version": {func(h *house, w *ward) {
			h.lay(w, "/a/disk.id", []byte(strings.Replace(string(h.identity(w, "/b")), "disk 1", "disk 2", 1)))
		}, "version"},
		"another node's disk": {func(h *house, w *ward) { h.lay(w, "/a/disk.id", stranger(h, w)) }, "none of this node"},
		"a copy of /b":        {func(h *house, w *ward) { h.lay(w, "/a/disk.id", h.identity(w, "/b")) }, "identity of /b"},
	} {
		t.Run(name, func(t *testing.T) {
			h, w, told, _ := wiped(t, func(h *house, w *ward) {
				w.falls("/a", func(op vfs.Op) illness { return illness{hangs: op.Kind == vfs.OpStat && op.Name != "/a/disk.id"} })
				w.wipe(h.t, "/a")
				c.lies(h, w)
				w.falls("/a", nil)
			})
			before := ""
			h.wait("the directory is refused", func() bool {
				e, n := h.said(server.EventDiskRefused, "/a")
				if n > 0 && (!strings.Contains(e.Err.Error(), c.says) || strings.Contains(e.Err.Error(), "\n")) {
					t.Fatal(e.Err)
				}
				before = w.listing("/a")
				return n > 0
			})
			for range 60 {
				h.tick()
				h.check(h.mustPut(variants, 100, 1))
			}
			if _, n := h.said(server.EventDiskRefused, "/a"); n != 1 || len(told.were()) != 1 {
				t.Errorf("refused %d times, told %v", n, told.were())
			}
			if after := w.listing("/a"); after != before {
				t.Errorf("%s became %s", before, after)
			}
		})
	}
}

// An empty directory on the same device, and one that is gone, become a new disk
// once they have been like that for a while, and the same disk is recognised.
func TestDirectoryIsAdopted(t *testing.T) {
	for name, c := range map[string]struct {
		lies func(h *house, w *ward, id []byte)
		same bool
	}{
		"gone":       {func(*house, *ward, []byte) {}, false},
		"empty":      {func(h *house, w *ward, _ []byte) { h.must(w.mem.MkdirAll("/a")) }, false},
		"fresh ext4": {func(h *house, w *ward, _ []byte) { h.must(w.mem.MkdirAll("/a/lost+found")) }, false},
		"a claim that failed": {func(h *house, w *ward, id []byte) {
			h.must(w.mem.MkdirAll("/a/volumes"))
			h.lay(w, "/a/disk.id.tmp", id[:20])
		}, false},
		"the same, empty": {func(h *house, w *ward, id []byte) { h.lay(w, "/a/disk.id", id) }, true},
		"on another device": {func(h *house, w *ward, id []byte) {
			w.mount("/a", 7)
			h.lay(w, "/a/disk.id", id)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var former server.DiskStats
			h, w, told, lost := wiped(t, func(h *house, w *ward) {
				former = h.disk("/a")
				id := h.identity(w, "/a")
				w.wipe(h.t, "/a")
				c.lies(h, w, id)
			})
			defer w.falls("/a", nil)
			h.waitFor("/a", server.DiskOK, server.ReasonNone)
			d := h.disk("/a")
			if (d.UUID == former.UUID) != c.same || (d.Disk == former.Disk) != c.same {
				t.Errorf("%+v, before %+v", d, former)
			}
			if _, err := h.s.Read(t.Context(), lost.blob, 0, lost.cookie); !errors.Is(err, server.ErrUnavailable) {
				t.Error(err)
			}
			again := h.putOn("/a", variants, 1000)
			h.check(again)
			if got := told.were(); !slices.Equal(got, []bool{false, true}) {
				t.Errorf("told %v", got)
			}
			h.stop()
			h.start()
			h.check(again)
		})
	}
}

// A disk that goes away with its volumes and comes back is in service as it was,
// and takes writes.
func TestDiskComesBack(t *testing.T) {
	root := t.TempDir()
	a, away := filepath.Join(root, "mnt", "a"), filepath.Join(root, "away")
	h := newHouse(t, server.Options{FS: vfs.OS{}, Clock: clock.Real{}, Dirs: []string{a, filepath.Join(root, "b")}, WatchEvery: 10 * time.Millisecond})
	former := h.disk(a)
	var all []stored
	for range 10 {
		all = append(all, h.putOn(a, variants, 3000))
	}
	sealed := h.rowOf(all[0]).Volume.Volume
	h.must(h.s.Seal(t.Context(), sealed, nil))
	h.must(h.s.Delete(t.Context(), all[9].blob))
	all = append(all[:9], h.putOn(a, variants, 3000))
	h.must(os.Rename(filepath.Dir(a), away)) // with the mount point's parent: nothing is made there
	h.until("it is out", func() bool { return h.disk(a).Reason == server.ReasonVanished })
	h.until("its directory is refused", func() bool { _, n := h.said(server.EventDiskRefused, a); return n > 0 })
	h.check(h.mustPut(variants, 100, 1))
	h.must(os.Rename(away, filepath.Dir(a)))
	h.until("it is back", func() bool { return h.disk(a).State == server.DiskOK })
	if d := h.disk(a); d.UUID != former.UUID || d.Disk != former.Disk || d.Volumes < 2 || len(h.s.Stats().Missing) != 0 {
		t.Errorf("%+v", d)
	}
	for _, b := range append(all, h.putOn(a, variants, 100)) {
		h.check(b)
	}
}

// A disk that hangs and then vanishes holds nobody up: its directory is in use
// again while calls of the former disk still wait, and what they do then reaches
// nothing.
func TestHangingDiskVanishes(t *testing.T) {
	h, w, _ := watched(t, server.Options{})
	a := h.putOn("/a", variants, 5000)
	w.falls("/a", func(op vfs.Op) illness {
		return illness{hangs: op.Kind == vfs.OpWrite || op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, ".vol")}
	})
	done := make(chan error, 2)
	go func() {
		got, err := h.s.Read(context.Background(), a.blob, 0, a.cookie)
		got.Release()
		done <- err
	}()
	go func() {
		_, err := h.put(variants, 1000, 1)
		if err == nil {
			_, err = h.put(variants, 1000, 1) // one of both meets the disk
		}
		done <- err
	}()
	h.until("both hang", func() bool { return w.hanging("/a") == 2 })
	w.wipe(t, "/a")
	h.waitFor("/a", server.DiskOut, server.ReasonVanished)
	before := w.listing("/a")
	w.falls("/a", nil)
	<-done
	<-done
	h.waitFor("/a", server.DiskOK, server.ReasonNone)
	h.check(h.putOn("/a", variants, 500))
	files, err := volume.List(w.mem, "/a/volumes")
	if before != "" || err != nil || len(files) != 1 {
		t.Errorf("%q, %v, %v", before, files, err)
	}
}

// A directory that could not be read at the start is taken into use when it can.
func TestDeadDiskComesAlive(t *testing.T) {
	h, w, c := watched(t, server.Options{})
	a := h.putOn("/a", variants, 5000)
	h.stop()
	w.falls("/a", dead)
	h.start()
	if d := h.disk("/a"); d.State != server.DiskOut || d.Reason != server.ReasonErrors {
		t.Errorf("%+v", d)
	}
	for range 30 {
		h.tick()
	}
	if _, err := h.s.Read(t.Context(), a.blob, 0, a.cookie); !errors.Is(err, server.ErrUnavailable) {
		t.Error(err)
	}
	w.falls("/a", nil)
	h.waitFor("/a", server.DiskOK, server.ReasonNone)
	h.check(a)
	h.check(h.putOn("/a", variants, 100))
	if got := c.were(); !slices.Equal(got, []bool{false, true}) {
		t.Errorf("told %v", got)
	}
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// identity reads the identity file of a directory.
func (h *house) identity(w *ward, dir string) []byte {
	h.t.Helper()
	b, err := vfs.ReadFile(w.mem, dir+"/disk.id", 4096)
	h.must(err)
	return b
}

// newIdentity returns that of a disk that nobody knows.
func newIdentity(t testing.TB) []byte {
	t.Helper()
	h := newHouse(t, server.Options{Dirs: []string{"/x"}})
	b, err := vfs.ReadFile(h.mem, "/x/disk.id", 4096)
	h.must(err)
	h.stop()
	return b
}

// lay puts a file where nothing is yet.
func (h *house) lay(w *ward, name string, content []byte) {
	h.t.Helper()
	h.must(w.mem.MkdirAll(filepath.Dir(name)))
	h.must(vfs.WriteFile(w.mem, name, content))
}

// listing is all that lies in a directory.
func (w *ward) listing(dir string) string {
	names, err := w.mem.ReadDir(dir)
	if err != nil {
		return ""
	}
	out := fmt.Sprint(dir, names)
	for _, n := range names {
		out += w.listing(filepath.Join(dir, n))
	}
	return out
}

// reserveOn returns an id whose tile lies on a disk.
func (h *house) reserveOn(dir string) stored {
	h.t.Helper()
	for range 50 {
		blob, cookie, err := h.s.Reserve(context.Background(), variants)
		h.must(err)
		if p, _ := h.wire.Locate(blob); p.Disks[0] == h.disk(dir).Disk {
			return stored{blob: blob, cookie: cookie}
		}
	}
	h.t.Fatalf("no id on %s", dir)
	return stored{}
}

// rowOf returns the row of the volume that holds a blob.
func (h *house) rowOf(b stored) server.Row {
	h.t.Helper()
	p, ok := h.wire.Locate(b.blob)
	row, known := h.wire.Row(p.Volume.Volume)
	if !ok || !known {
		h.t.Fatalf("%v lies nowhere", b.blob)
	}
	return row
}
