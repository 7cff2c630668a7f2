package server_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// The power goes before and after each change of a row and before each call that
// changes a file, while the first volume of a disk is opened, and then at each of
// those of the process that finds what is left. No volume is missed afterwards,
// nothing of one that never came to be stays, and puts work.
func TestFirstOpenCrashes(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./volume/server -run TestFirstOpenCrashes -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 6))
	h := newHouse(t, server.Options{VolumeBytes: 256 << 10})
	cuts, voids := 0, 0
	// life opens a server that dies at a call, and tells whether it came so far.
	life := func(at int, l *ledger) (died bool) {
		p := h.arm(at, r.Uint64())
		var err error
		if h.s, err = h.tryStart(); err == nil {
			l.put(h, p, r)
			if at == 0 || !p.dead() {
				h.settle(p)
			}
		}
		if died = !p.spare(); died {
			cuts++
			h.bury(p)
		} else if err != nil {
			t.Fatal(err)
		}
		return died
	}
	for first, more := 1, true; more; first++ {
		for second, again := 0, true; again; second += 1 + r.IntN(3) {
			h.stop()
			h.clock.Advance(2 * time.Minute)
			h.machine(r.Uint64())
			l := &ledger{}
			if more = life(first, l); !more {
				break
			}
			if again = life(second, l) || second == 0; h.s == nil {
				life(0, l)
			}
			l.check(h)
			h.check(h.mustPut(variants, 100, 1))
			if err := h.born(); err != nil {
				t.Error(err)
			}
			for _, row := range h.wire.Rows(h.s.Stats().Disks[0].Disk) {
				if row.State == server.StateVoid {
					voids++
				}
			}
			for _, c := range h.s.Stats().Classes {
				if c.Sick != 0 {
					t.Errorf("%+v", c)
				}
			}
			h.stop()
			h.tidy()
			if t.Failed() {
				t.Fatalf("died at call %d, then at %d", first, second)
			}
		}
	}
	t.Logf("%d power cuts, %d void volumes", cuts, voids)
	if voids == 0 {
		t.Error("no volume was ever given up")
	}
}

// stopAt has changes never made.
func (h *house) stopAt(what string) {
	h.wire.mu.Lock()
	h.wire.stopAt = what
	h.wire.mu.Unlock()
}

// Each answer of the directory about a new volume can be lost, and the process
// goes on.
func TestFirstOpenLostAnswers(t *testing.T) {
	for _, what := range []string{"open", "confirm", "give up"} {
		t.Run(what, func(t *testing.T) {
			h := newHouse(t, server.Options{})
			if what == "give up" { // something is to be given up
				h.stopAt("confirm")
			}
			h.lose(what)
			_, _, err := h.s.Reserve(t.Context(), variants)
			if !errors.Is(err, server.ErrUnavailable) {
				t.Fatal(err)
			}
			if what == "give up" {
				h.until("the lost answer", func() bool { return h.saw(server.EventUpkeepFailed) > 0 })
				h.stopAt("")
			}
			h.check(h.mustPut(variants, 1000, 2))
			h.until("what is left", func() bool {
				h.clock.Advance(time.Minute)
				return h.born() == nil
			})
			h.check(h.mustPut(variants, 1000, 2))
			for _, i := range h.volumes() {
				if i.State != "open" || i.Sick != nil {
					t.Errorf("%+v", i)
				}
			}
		})
	}
}

// The directory does not confirm: nothing is acknowledged, and what it could not
// say is made up for when it is back.
func TestUnconfirmed(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.stopAt("confirm")
	blob, _, err := h.s.Reserve(t.Context(), variants)
	if !errors.Is(err, server.ErrUnavailable) {
		t.Fatalf("%v, %v", blob, err)
	}
	h.until("the end of the volume", func() bool { return h.born() == nil })
	if rows := h.wire.Rows(1); len(rows) != 1 || rows[0].State != server.StateVoid || len(h.files("")) != 0 {
		t.Fatalf("%+v, %v", rows, h.files(""))
	}
	if all := h.volumes(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	v := h.wire.Rows(1)[0].Volume.Volume
	if err := h.s.Seal(t.Context(), v, nil); !errors.Is(err, volume.ErrNoVolume) {
		t.Errorf("seal: %v", err)
	}
	for _, c := range h.s.Stats().Classes {
		if c.Sick+c.Open+c.Closing+c.Sealed != 0 {
			t.Errorf("%+v", c)
		}
	}
	h.stopAt("")
	b := h.mustPut(variants, 100, 1)
	h.check(b)
	if i := h.info(writing); i.Volume == v {
		t.Errorf("volume %d was used", v)
	}
}

// A process that could not confirm its volume gave its slot back at once: the
// next one is given the same volume, whose file is there.
func TestSameVolumeAgain(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.stopAt("confirm, give up")
	if _, _, err := h.s.Reserve(t.Context(), variants); err == nil {
		t.Fatal("reserved")
	}
	h.stop()
	row := h.wire.Rows(1)[0]
	if !row.Unconfirmed || len(h.files(".vol")) != 1 {
		t.Fatalf("%+v, %v", row, h.files(""))
	}
	keep := h.opts.Events
	h.opts.Events = func(e server.Event) {
		if e.Kind == server.EventDiskFailing {
			t.Errorf("%+v", e)
		}
		keep(e)
	}
	h.wire = &wire{d: h.dir, node: h.wire.node, incarnation: h.wire.incarnation + 1, stopAt: "give up"}
	o := h.opts
	o.Directory = h.wire
	var err error
	if h.s, err = server.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b := h.mustPut(variants, 100, 1)
	h.check(b)
	if i := h.info(writing); i.Volume != row.Volume.Volume {
		t.Errorf("%+v", i)
	}
	if err := h.born(); err != nil {
		t.Error(err)
	}
}

// An id of a tile that was given up is not there, and deleting it is done.
func TestIDsOfVoidTiles(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.stopAt("confirm")
	if _, _, err := h.s.Reserve(t.Context(), variants); err == nil {
		t.Fatal("reserved")
	}
	h.until("the end of the volume", func() bool { return h.born() == nil })
	row := h.wire.Rows(1)[0]
	b := stored{blob: id.Make(row.From, row.Slot, 0), cookie: 1, alts: 1}
	h.gone(b)
	h.delete(b)
	if err := h.s.Write(t.Context(), b.blob, group(b.blob, 1, 10, 1)); !errors.Is(err, server.ErrMoved) {
		t.Errorf("write: %v", err)
	}
}

// A file that holds what nobody could acknowledge is kept, and said.
func TestVoidFileWithNeedles(t *testing.T) {
	h := newHouse(t, server.Options{})
	b := h.mustPut(variants, 1000, 1)
	v := h.info(writing).Volume
	h.stopAt("confirm")
	if err := h.s.Seal(t.Context(), v, nil); err != nil { // the next one is to be opened
		t.Fatal(err)
	}
	if _, _, err := h.s.Reserve(t.Context(), variants); err == nil {
		t.Fatal("reserved")
	}
	h.until("the end of the volume", func() bool { return h.born() == nil })
	h.stop()
	void := volume.Identity{Volume: v + 1, Generation: 1, Class: variants}
	vol, err := volume.Create("/data/volumes", void, volume.Options{FS: h.mem, AllocChunk: 4096})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(vol.Append(t.Context(), group(b.blob, b.cookie, 10, 1)), vol.Close()); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.until("the refusal", func() bool { return h.saw(server.EventUpkeepFailed) > 0 })
	if f := h.files(volume.FileName(void.Volume, 1)); len(f) != 1 {
		t.Errorf("%v", h.files(""))
	}
	h.check(b)
}

// What a Create or Receive that was cut off left is removed at start, and nothing else.
func TestUnfinishedFiles(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.stop()
	for _, name := range []string{volume.FileName(7, 1), volume.FileName(8, 2), "note"} {
		if err := vfs.WriteFile(h.mem, "/data/volumes/"+name+".tmp.x", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := h.mem.Rename("/data/volumes/"+name+".tmp.x", "/data/volumes/"+name+".tmp"); err != nil {
			t.Fatal(err)
		}
	}
	h.start()
	if got := strings.Join(h.files(""), " "); got != "note.tmp" {
		t.Error(got)
	}
	if n := h.saw(server.EventUnknownFile); n != 1 {
		t.Errorf("%d files were reported", n)
	}
	// What cannot be removed keeps nothing out of service.
	b := h.mustPut(variants, 100, 1)
	h.stop()
	tmp := "/data/volumes/" + volume.FileName(7, 1) + ".tmp"
	if err := h.mem.Rename("/data/volumes/note.tmp", tmp); err != nil {
		t.Fatal(err)
	}
	h.opts.FS = &vfs.Fault{FS: h.mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRemove && op.Name == tmp {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	h.start()
	h.check(b)
	if n := h.saw(server.EventUpkeepFailed); n != 1 {
		t.Errorf("%d failures were reported", n)
	}
}
