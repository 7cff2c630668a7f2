package server_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

func TestPoisonedVolumeIsReplaced(t *testing.T) {
	mem := vfs.NewMem(3)
	var mu sync.Mutex
	var fail string
	fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".vol") && fail != "" {
			fail = ""
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	h := newHouse(t, server.Options{FS: fault})
	a := h.mustPut(variants, 1000, 2)
	blob, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	fail = "once"
	mu.Unlock()
	if err := h.s.Write(t.Context(), blob, group(blob, cookie, 1000, 2)); !errors.Is(err, server.ErrMoved) {
		t.Fatalf("%v", err)
	}
	if err := h.s.Write(t.Context(), blob, group(blob, cookie, 1000, 2)); !errors.Is(err, server.ErrMoved) {
		t.Errorf("the same id again: %v", err)
	}
	b := h.mustPut(variants, 1000, 2)
	h.check(a)
	h.check(b)
	h.stop()
	h.start()
	h.check(a)
	h.check(b)
	h.check(h.mustPut(variants, 1000, 2))
}

func TestNoSpace(t *testing.T) {
	var mu sync.Mutex
	free := map[string]int64{"/a": 1 << 30, "/b": 1 << 30}
	set := func(dir string, n int64) {
		mu.Lock()
		free[dir] = n
		mu.Unlock()
	}
	h := newHouse(t, server.Options{
		Dirs: []string{"/a", "/b"}, KeepFree: 1000,
		Space: func(dir string) (server.Space, error) {
			mu.Lock()
			defer mu.Unlock()
			return server.Space{Free: free[dir], Capacity: 1 << 30}, nil
		},
	})
	onDisk := make(map[string]int)
	count := func() {
		for i, d := range h.s.Stats().Disks {
			onDisk[d.Dir] = h.s.Stats().Disks[i].Volumes
		}
	}
	for range 10 {
		h.mustPut(variants, 100, 1)
	}
	if count(); onDisk["/a"] != 1 || onDisk["/b"] != 1 {
		t.Fatalf("volumes %v: the writers share the load", onDisk)
	}
	reserved, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	set("/a", 900)
	h.clock.Advance(time.Second)
	before := h.s.Stats().Volumes
	for range 10 { // all of it on b
		h.check(h.mustPut(variants, 100, 1))
	}
	if after := h.s.Stats().Volumes; after[0].Appended != before[0].Appended || after[1].Appended != before[1].Appended+10 {
		t.Errorf("appended %d and %d, before %d and %d", after[0].Appended, after[1].Appended, before[0].Appended, before[1].Appended)
	}
	set("/b", 1000+50)
	h.clock.Advance(time.Second)
	_, err = h.put(variants, 100, 1)
	full, ok := errors.AsType[interface {
		error
		StorageFull() bool
	}](err)
	if !errors.Is(err, server.ErrNoSpace) || errors.Is(err, server.ErrUnavailable) || !ok || !full.StorageFull() {
		t.Errorf("no disk has room: %v", err)
	}
	bytes := h.s.Stats().BytesAppended
	if err := h.s.Write(t.Context(), reserved, group(reserved, cookie, 100, 1)); !errors.Is(err, server.ErrNoSpace) {
		t.Errorf("an id reserved before: %v", err)
	}
	if now := h.s.Stats().BytesAppended; now != bytes {
		t.Errorf("%d bytes appended", now-bytes)
	}
	set("/a", 1<<30)
	set("/b", 1<<30)
	h.clock.Advance(time.Second)
	h.check(h.mustPut(variants, 100, 1))
	if n := len(h.s.Stats().Volumes); n != 2 {
		t.Errorf("%d volumes: a volume without room goes on when there is some", n)
	}
}

// The engine meets ENOSPC although the file system promised room.
func TestEngineMeetsENOSPC(t *testing.T) {
	mem := vfs.NewMem(3)
	var mu sync.Mutex
	full := false
	fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if full && (op.Kind == vfs.OpAllocate || op.Kind == vfs.OpWrite) {
			return vfs.Outcome{Err: unix.ENOSPC}
		}
		return vfs.Outcome{}
	}}
	h := newHouse(t, server.Options{FS: fault})
	a := h.mustPut(variants, 1000, 1)
	mu.Lock()
	full = true
	mu.Unlock()
	for _, class := range []volume.Class{variants, originals} { // an open volume, and one to be made
		if _, err := h.put(class, 10_000, 1); !errors.Is(err, server.ErrNoSpace) {
			t.Errorf("class %d: %v", class, err)
		}
	}
	h.check(a)
	if !h.s.Stats().Disks[0].Full || h.saw(server.EventDiskFull) == 0 {
		t.Error("nobody is told")
	}
	mu.Lock()
	full = false
	mu.Unlock()
	h.clock.Advance(2 * time.Second)
	h.check(h.mustPut(variants, 10_000, 1))
	h.check(h.mustPut(originals, 10_000, 1))
	h.check(a)
}

// One disk takes no new volume: the other is used, and the first tried again
// after a pause.
func TestFailingDiskIsLeftAlone(t *testing.T) {
	mem := vfs.NewMem(3)
	var mu sync.Mutex
	broken, tries := true, 0
	fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind == vfs.OpCreate && strings.HasPrefix(op.Name, "/a/volumes") {
			tries++
			if broken {
				return vfs.Outcome{Err: unix.EIO}
			}
		}
		return vfs.Outcome{}
	}}
	h := newHouse(t, server.Options{FS: fault, Dirs: []string{"/a", "/b"}})
	for range 20 {
		h.check(h.mustPut(variants, 100, 1))
	}
	st := h.s.Stats()
	if tries != 1 || st.Disks[0].Failing == nil || st.Disks[1].Failing != nil || st.Disks[1].Volumes != 1 {
		t.Errorf("%d tries, disks %+v", tries, st.Disks)
	}
	mu.Lock()
	broken = false
	mu.Unlock()
	h.clock.Advance(2 * time.Second)
	for range 4 {
		h.check(h.mustPut(variants, 100, 1))
	}
	if st := h.s.Stats(); st.Disks[0].Failing != nil || st.Disks[0].Volumes != 1 {
		t.Errorf("after the repair %+v", st.Disks)
	}
}

func TestCorruptIsNeverServed(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 5000, 1)
	b := h.mustPut(variants, 5000, 1)
	v := h.s.Stats().Volumes[0]
	name := "/data/volumes/" + volume.FileName(v.Volume, v.Generation)
	if err := h.mem.Flip(name, 8192+2000, 0x10); err != nil { // inside the first record's data
		t.Fatal(err)
	}
	if got, err := h.s.Read(t.Context(), a.blob, 0, a.cookie); !errors.Is(err, volume.ErrCorrupt) || errors.Is(err, volume.ErrNotFound) || got.Data != nil {
		t.Errorf("%d bytes, %v", len(got.Data), err)
	}
	h.check(b)
	if st := h.s.Stats(); st.CorruptReads != 1 || h.saw(server.EventVolume) == 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestSickVolumeIsContained(t *testing.T) {
	h := newHouse(t, server.Options{})
	a, b := h.mustPut(variants, 100, 1), h.mustPut(originals, 100, 1)
	st := h.s.Stats().Volumes
	h.stop()
	name := "/data/volumes/" + volume.FileName(st[0].Volume, st[0].Generation)
	for _, off := range []int64{0, 4096} { // both superblocks
		if err := h.mem.Flip(name, off, 0xff); err != nil {
			t.Fatal(err)
		}
	}
	kept := "/data/volumes/00000009-00000001.q0000" // in quarantine: no stranger
	for _, n := range []string{"/data/volumes/notes.txt", "/data/volumes/00000001.vol", kept + ".vol", kept + ".poisoned"} {
		if err := vfs.WriteFile(h.mem, n, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	h.start()
	sick, healthy := a, b
	if st[0].Class == originals {
		sick, healthy = b, a
	}
	h.check(healthy)
	if _, err := h.s.Read(t.Context(), sick.blob, 0, sick.cookie); !errors.Is(err, server.ErrUnavailable) || errors.Is(err, volume.ErrNotFound) {
		t.Errorf("in the sick volume: %v", err)
	}
	h.check(h.mustPut(st[0].Class, 100, 1)) // goes to a new volume
	if d := h.s.Stats().Disks[0]; len(d.Sick) != 1 || d.Sick[st[0].Volume] == nil || d.Volumes != 2 {
		t.Errorf("%+v", d)
	}
	if n := h.saw(server.EventUnknownFile); n != 2 {
		t.Errorf("%d unknown files reported", n)
	}
	for _, n := range []string{"notes.txt", "00000001.vol"} {
		if _, err := h.mem.Stat("/data/volumes/" + n); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}

// A file that is not the volume the directory means answers for nothing.
func TestVolumeThatIsAnother(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 100, 1)
	st := h.s.Stats().Volumes[0]
	h.stop()
	if err := h.mem.Remove("/data/volumes/" + volume.FileName(st.Volume, st.Generation)); err != nil {
		t.Fatal(err)
	}
	v, err := volume.Create("/data/volumes", volume.Identity{Volume: st.Volume, Generation: st.Generation + 1, Class: variants}, volume.Options{FS: h.mem})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	h.start()
	if _, err := h.s.Read(t.Context(), a.blob, 0, a.cookie); !errors.Is(err, server.ErrUnavailable) || errors.Is(err, volume.ErrNotFound) {
		t.Errorf("read: %v", err)
	}
	h.check(h.mustPut(variants, 100, 1))
	if n := len(h.s.Stats().Volumes); n != 2 {
		t.Errorf("%d volumes: nothing may be appended to the other one", n)
	}
}
