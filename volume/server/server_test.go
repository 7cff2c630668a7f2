package server_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

const (
	variants  = volume.ClassVariants
	originals = volume.ClassOriginals
)

func TestRoad(t *testing.T) {
	h := newHouse(t, server.Options{})
	a, b := h.mustPut(variants, 5000, 4), h.mustPut(originals, 300_000, 1)
	h.check(a)
	h.check(b)
	if a.blob.Slot() < 64 || a.blob.Slot() >= 544 || b.blob.Slot() < 544 {
		t.Errorf("slots %d and %d", a.blob.Slot(), b.blob.Slot())
	}
	st := h.s.Stats()
	if len(st.Volumes) != 2 || st.Writes != 2 || st.BytesAppended < 320_000 || st.Reads != 5 {
		t.Errorf("stats %+v", st)
	}
	h.stop()
	h.start()
	h.check(a)
	h.check(b)
	// A new process goes on with the volumes of the former one.
	c := h.mustPut(variants, 5000, 4)
	h.check(c)
	if st := h.s.Stats(); len(st.Volumes) != 2 {
		t.Errorf("%d volumes after a restart", len(st.Volumes))
	}
}

func TestMasterInfoComesBack(t *testing.T) {
	h := newHouse(t, server.Options{})
	blob, cookie, err := h.s.Reserve(t.Context(), originals)
	if err != nil {
		t.Fatal(err)
	}
	info := &volume.MasterInfo{Photo: 5, Owner: 6, ContentType: "image/jpeg", Time: h.clock.Now()}
	n := volume.Needle{Key: blob, Cookie: cookie, Master: info, Data: []byte("abc")}
	if err := h.s.Write(t.Context(), blob, []volume.Needle{n}); err != nil {
		t.Fatal(err)
	}
	got, err := h.s.Read(t.Context(), blob, 0, cookie)
	if err != nil || got.Master == nil || got.Master.Photo != 5 || got.Master.Owner != 6 || got.Master.ContentType != "image/jpeg" {
		t.Errorf("%+v, %v", got.Master, err)
	}
}

func TestNotFound(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 100, 1)
	reserved, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		blob   id.ID
		alt    uint8
		cookie id.Cookie
	}{
		"wrong cookie":   {a.blob, 0, a.cookie + 1},
		"no cookie":      {a.blob, 0, 0},
		"other alt":      {a.blob, 1, a.cookie},
		"never written":  {reserved, 0, cookie},
		"before tiles":   {id.Make(1, a.blob.Slot(), 0), 0, a.cookie},
		"slot unused":    {id.Make(a.blob.Millis(), 543, 0), 0, a.cookie},
		"slot for users": {id.Make(a.blob.Millis(), 3, 0), 0, a.cookie},
	} {
		if b, err := h.s.Read(t.Context(), c.blob, c.alt, c.cookie); !errors.Is(err, volume.ErrNotFound) || b.Data != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b.Data), err)
		}
	}
}

// With the directory away, what is there is served and nothing is denied.
func TestDirectoryAway(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 100, 1)
	reserved, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	h.stop()
	h.opts.DirectoryTimeout = 100 * time.Millisecond // one call below waits it out
	h.start()
	h.wire.cut(errAway)
	h.check(a)
	if _, err := h.s.Read(t.Context(), a.blob, 0, a.cookie+1); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("wrong cookie, the volume itself knows: %v", err)
	}
	for name, blob := range map[string]id.ID{"never written": reserved, "no tile": id.Make(1, 543, 0)} {
		if _, err := h.s.Read(t.Context(), blob, 0, cookie); !errors.Is(err, server.ErrUnavailable) || errors.Is(err, volume.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := h.s.Delete(t.Context(), id.Make(1, 543, 0)); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("delete: %v", err)
	}
	if _, _, err := h.s.Reserve(t.Context(), originals); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("reserve: %v", err)
	}
	h.wire.cut(nil)
	for { // the keeper tries again after a pause
		h.clock.Advance(time.Second)
		b, err := h.put(originals, 100, 1)
		if err == nil {
			h.check(b)
			return
		}
		if !errors.Is(err, server.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

func TestDelete(t *testing.T) {
	h := newHouse(t, server.Options{})
	a, b := h.mustPut(variants, 1000, 4), h.mustPut(variants, 1000, 4)
	for range 2 {
		if err := h.s.Delete(t.Context(), a.blob); err != nil {
			t.Fatal(err)
		}
	}
	gone := func() {
		t.Helper()
		for alt := range uint8(4) {
			if _, err := h.s.Read(t.Context(), a.blob, alt, a.cookie); !errors.Is(err, volume.ErrNotFound) {
				t.Errorf("alt %d: %v", alt, err)
			}
		}
		h.check(b)
	}
	gone()
	if err := h.s.Write(t.Context(), a.blob, group(a.blob, a.cookie, 1000, 4)); !errors.Is(err, volume.ErrTombstoned) {
		t.Errorf("written again: %v", err)
	}
	// A blob that was reserved and given up can never be written after.
	late, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.s.Delete(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if err := h.s.Write(t.Context(), late, group(late, cookie, 10, 1)); !errors.Is(err, volume.ErrTombstoned) {
		t.Errorf("written after its delete: %v", err)
	}
	if err := h.s.Delete(t.Context(), id.Make(1, 543, 0)); err != nil {
		t.Errorf("an id in no tile: %v", err)
	}
	h.crash(7)
	gone()
}

func TestBadInputAppendsNothing(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 1 << 20})
	h.mustPut(variants, 100, 1)
	blob, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	other := id.Make(blob.Millis()-1000, blob.Slot(), 0)
	before := h.s.Stats()
	for name, c := range map[string]struct {
		blob  id.ID
		group []volume.Needle
		want  error
	}{
		"empty group":    {blob, nil, volume.ErrInvalid},
		"other key":      {blob, group(other, cookie, 10, 1), volume.ErrInvalid},
		"mixed keys":     {blob, append(group(blob, cookie, 10, 1), group(other, cookie, 10, 1)...), volume.ErrInvalid},
		"no cookie":      {blob, group(blob, 0, 10, 1), volume.ErrInvalid},
		"alt twice":      {blob, append(group(blob, cookie, 10, 1), group(blob, cookie, 20, 1)...), volume.ErrInvalid},
		"outside tile":   {other, group(other, cookie, 10, 1), server.ErrMoved},
		"foreign slot":   {id.Make(blob.Millis(), 540, 1), group(id.Make(blob.Millis(), 540, 1), cookie, 10, 1), server.ErrMoved},
		"a user's id":    {id.Make(blob.Millis(), 3, 1), group(id.Make(blob.Millis(), 3, 1), cookie, 10, 1), server.ErrMoved},
		"zero id":        {0, group(0, cookie, 10, 1), server.ErrMoved},
		"larger than it": {blob, group(blob, cookie, 2<<20, 1), volume.ErrTooLarge},
	} {
		if err := h.s.Write(t.Context(), c.blob, c.group); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, _, err := h.s.Reserve(t.Context(), 77); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("class 77: %v", err)
	}
	if after := h.s.Stats(); after.BytesAppended != before.BytesAppended {
		t.Errorf("%d bytes appended", after.BytesAppended-before.BytesAppended)
	}
}

// A group that fits into no volume is refused and does not roll for ever.
func TestLargerThanAVolume(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 64 << 10})
	h.mustPut(variants, 100, 1)
	for size, volumes := range map[int]int{100_000: 2, 60_000: 2} { // the second only shows in an empty volume
		if _, err := h.put(variants, size, 1); !errors.Is(err, volume.ErrTooLarge) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if n := len(h.s.Stats().Volumes); n > volumes {
			t.Errorf("%d bytes: %d volumes", size, n)
		}
	}
	h.check(h.mustPut(variants, 100, 1))
}

func TestFullVolumesRoll(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 64 << 10})
	var all []stored
	for range 60 {
		all = append(all, h.mustPut(variants, 2000, 4))
	}
	look := func() {
		t.Helper()
		for _, b := range all {
			h.check(b)
		}
	}
	look()
	st := h.s.Stats()
	if len(st.Volumes) < 8 || st.Rolled < 7 {
		t.Errorf("%d volumes, rolled %d times", len(st.Volumes), st.Rolled)
	}
	for _, v := range st.Volumes {
		if v.FileBytes > 64<<10 {
			t.Errorf("volume %d holds %d bytes", v.Volume, v.FileBytes)
		}
	}
	// An id that was reserved before its tile ended goes nowhere.
	early, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	for n := h.s.Stats().Rolled; h.s.Stats().Rolled == n; {
		all = append(all, h.mustPut(variants, 2000, 4))
	}
	if err := h.s.Write(t.Context(), early, group(early, cookie, 10, 1)); !errors.Is(err, server.ErrMoved) {
		t.Errorf("after its fence: %v", err)
	}
	h.stop()
	h.start()
	look()
	all = append(all, h.mustPut(variants, 2000, 4))
	look()
}

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
	look := func() {
		t.Helper()
		st := h.s.Stats()
		if len(st.Volumes) != 2 || st.Disks[0].ReadOnly != 1 || st.Volumes[0].Poisoned == nil || st.Volumes[1].Poisoned != nil {
			t.Errorf("stats %+v", st.Disks)
		}
	}
	look()
	h.stop()
	h.start()
	h.check(a)
	h.check(b)
	c := h.mustPut(variants, 1000, 2)
	h.check(c)
	look()
	if err := h.s.Delete(t.Context(), a.blob); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("delete in a poisoned volume: %v", err)
	}
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
	for _, n := range []string{"/data/volumes/notes.txt", "/data/volumes/00000001.vol"} {
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

var seedFlag = flag.Uint64("seed", 0, "repeat a random test with this seed")

// Power cuts at random moments of a stream of puts and deletes: what was
// acknowledged is there, byte for byte, and what was deleted is not.
func TestPowerCuts(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./volume/server -run TestPowerCuts -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	h := newHouse(t, server.Options{VolumeBytes: 128 << 10, Dirs: []string{"/a", "/b"}})
	var kept, deleted []stored
	for round := range 12 {
		for range r.IntN(40) {
			if len(kept) > 0 && r.IntN(5) == 0 {
				i := r.IntN(len(kept))
				if err := h.s.Delete(context.Background(), kept[i].blob); err != nil {
					t.Fatal(err)
				}
				deleted = append(deleted, kept[i])
				kept = append(kept[:i], kept[i+1:]...)
				continue
			}
			class := []volume.Class{variants, originals}[r.IntN(2)]
			kept = append(kept, h.mustPut(class, 1+r.IntN(5000), 1+r.IntN(4)))
		}
		if round%3 == 2 {
			h.stop()
			h.clock.Advance(time.Duration(r.IntN(90)) * time.Second)
			h.start()
		} else {
			h.crash(r.Uint64())
		}
		for _, b := range kept {
			h.check(b)
		}
		for _, b := range deleted {
			if _, err := h.s.Read(context.Background(), b.blob, 0, b.cookie); !errors.Is(err, volume.ErrNotFound) {
				t.Errorf("deleted %v: %v", b.blob, err)
			}
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

func TestConcurrentWriters(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 96 << 10, Dirs: []string{"/a", "/b"}, MaxWriteBytes: 20_000})
	var mu sync.Mutex
	var all []stored
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 9))
			for range 25 {
				b, err := h.put([]volume.Class{variants, originals}[g%2], 1+r.IntN(3000), 1+r.IntN(4))
				if err != nil {
					t.Error(err)
					return
				}
				h.check(b)
				mu.Lock()
				all = append(all, b)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	seen := make(map[id.ID]bool)
	for _, b := range all {
		if seen[b.blob] {
			t.Errorf("%v was given out twice", b.blob)
		}
		seen[b.blob] = true
	}
	h.stop()
	h.start()
	for _, b := range all {
		h.check(b)
	}
	if n := len(h.s.Stats().Volumes); n < 8 {
		t.Errorf("%d volumes", n)
	}
}

func TestClose(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 100, 1)
	s := h.s
	h.stop()
	for name, err := range map[string]error{
		"close":   s.Close(t.Context()),
		"delete":  s.Delete(t.Context(), a.blob),
		"write":   s.Write(t.Context(), a.blob, group(a.blob, a.cookie, 10, 1)),
		"reserve": func() error { _, _, err := s.Reserve(t.Context(), variants); return err }(),
		"read":    func() error { _, err := s.Read(t.Context(), a.blob, 0, a.cookie); return err }(),
	} {
		if !errors.Is(err, server.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	err := server.Options{Dirs: []string{"a", "a", ""}, KeepFree: -1, VolumeBytes: 5}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	if n := len(err.(interface{ Unwrap() []error }).Unwrap()); n != 5 {
		t.Errorf("%d faults, want 5 at once:\n%v", n, err)
	}
	if _, err := server.Open(t.Context(), server.Options{}); err == nil || !strings.Contains(fmt.Sprint(err), "Directory") {
		t.Errorf("%v", err)
	}
}
