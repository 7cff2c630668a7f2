package server_test

import (
	"errors"
	"testing"
	"time"

	"hayloft/volume"
	"hayloft/volume/server"
)

// A volume that is old is sealed though it is not full; one that holds nothing
// is not.
func TestSealAfter(t *testing.T) {
	h := newHouse(t, server.Options{SealAfter: 24 * time.Hour})
	a := h.mustPut(variants, 3000, 2)
	v := h.info(writing).Volume
	h.clock.Advance(23 * time.Hour)
	b := h.mustPut(variants, 3000, 2)
	if err := h.s.Seal(t.Context(), h.info(is(v)).Volume+1, nil); !errors.Is(err, volume.ErrNoVolume) {
		t.Fatal(err)
	}
	if i := h.info(is(v)); i.State != "open" || !i.Writing {
		t.Fatalf("sealed too early: %+v", i)
	}
	h.until("the seal", func() bool {
		h.clock.Advance(10 * time.Minute)
		return h.info(is(v)).State == "sealed"
	})
	h.check(a)
	h.check(b)
	c := h.mustPut(variants, 3000, 2)
	if i := h.info(writing); i.Volume == v {
		t.Errorf("%+v", i)
	}
	h.check(c)
}

// The process that sealed may not be the one that wrote: it closes the tile of
// a process that ended, and the slot is used on.
func TestSealAfterRestart(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 3000, 2)
	v := h.info(writing).Volume
	h.crash(3) // the slot was not given back
	if i := h.info(is(v)); i.State != "open" || i.Writing {
		t.Fatalf("%+v", i)
	}
	if err := h.s.Seal(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	b := h.mustPut(variants, 3000, 2)
	h.check(a)
	h.check(b)
	if i := h.info(writing); i.Volume == v {
		t.Errorf("%+v", i)
	}
}

// Three open volumes per disk and class: puts are spread over them, and a
// restart goes on with all of them.
func TestOpenPerDisk(t *testing.T) {
	h := newHouse(t, server.Options{OpenPerDisk: 3, Dirs: []string{"/a", "/b"}})
	var all []stored
	spread := func() map[volume.ID]bool {
		for range 24 {
			all = append(all, h.mustPut(variants, 500, 1))
		}
		seen := make(map[volume.ID]bool)
		for _, i := range h.volumes() {
			if i.Writing {
				seen[i.Volume] = true
			}
			if n := i.Stats.Needles; n != int64(len(all)/6) {
				t.Errorf("volume %d has %d needles", i.Volume, n)
			}
		}
		return seen
	}
	first := spread()
	if len(first) != 6 {
		t.Fatalf("writes to %v", first)
	}
	h.stop()
	h.start()
	for v := range spread() {
		if !first[v] {
			t.Errorf("volume %d is new", v)
		}
	}
	for _, b := range all {
		h.check(b)
	}
}

// A file that is gone is said to be, and nobody takes its place.
func TestMissingFile(t *testing.T) {
	h, v, kept, _ := sealedHouse(t, server.Options{})
	h.stop()
	if err := h.mem.Remove("/data/volumes/" + volume.FileName(v, 1)); err != nil {
		t.Fatal(err)
	}
	h.start()
	i := h.info(is(v))
	if i.State != "sick" || !errors.Is(i.Sick, server.ErrMissing) || i.Dir != "/data" {
		t.Fatalf("%+v", i)
	}
	if _, err := h.s.Read(t.Context(), kept[0].blob, 0, kept[0].cookie); !errors.Is(err, server.ErrUnavailable) || errors.Is(err, volume.ErrNotFound) {
		t.Error(err)
	}
	if err := h.s.Seal(t.Context(), v, nil); !errors.Is(err, server.ErrUnavailable) {
		t.Error(err)
	}
	if st := h.s.Stats(); st.Classes[0].Sick != 1 {
		t.Errorf("%+v", st.Classes)
	}
}

// Upkeep reads and writes no faster than it may, and slower beside traffic.
func TestPace(t *testing.T) {
	h, v, kept, dead := sealedHouse(t, server.Options{})
	h.stop()
	h.opts.Maintenance = 20_000
	h.start()
	done := make(chan error, 1)
	begin := h.clock.Now()
	go func() {
		_, err := h.s.Compact(t.Context(), v, nil)
		done <- err
	}()
	h.until("the compaction", func() bool {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return true
		default:
			if h.info(is(v)).Work != "" {
				h.clock.Advance(50 * time.Millisecond)
			}
			return false
		}
	})
	moved := float64(h.s.Stats().UpkeepBytes)
	if took := h.clock.Now().Sub(begin).Seconds(); took < moved/20_000-1 {
		t.Errorf("%.0f bytes in %.1f s", moved, took)
	}
	h.both(kept, dead)
}

// A volume that was opened and never written is sealed like others.
func TestSealEmpty(t *testing.T) {
	h := newHouse(t, server.Options{})
	blob, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	v := h.info(writing).Volume
	if err := h.s.Seal(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.s.Write(t.Context(), blob, group(blob, cookie, 10, 1)); !errors.Is(err, server.ErrMoved) {
		t.Errorf("written into a sealed volume: %v", err)
	}
	if rec, err := h.s.Compact(t.Context(), v, nil); err != nil || rec.Needles != 0 {
		t.Errorf("%+v, %v", rec, err)
	}
}

// Two generations of which the directory has committed neither: the one that
// replaces the other is served, it is said, and nothing is removed.
func TestGenerationsNobodyCommitted(t *testing.T) {
	h, v, kept, dead := sealedHouse(t, server.Options{})
	h.stop()
	o := volume.Options{FS: h.mem}
	vol, err := volume.Open("/data/volumes", v, o)
	for g := uint32(5); g <= 6 && err == nil; g++ {
		var next *volume.Volume
		if next, err = vol.Compact(t.Context(), volume.CompactOptions{Generation: g}); err == nil {
			err = vol.Close()
			vol = next
		}
	}
	if err = errors.Join(err, vol.Close(), h.mem.Remove("/data/volumes/"+volume.FileName(v, 1))); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.both(kept, dead)
	h.until("the failure", func() bool { return h.saw(server.EventUpkeepFailed) > 0 })
	if h.saw(server.EventGeneration) != 1 || h.info(is(v)).Generation != 6 || len(h.files("00000001-0000000")) != 4 {
		t.Errorf("%+v, %v", h.info(is(v)), h.files(""))
	}
	h.both(kept, dead)
}

// The committed generation cannot be opened, and the one it was made from is
// still there: that is served, nothing is removed, and the failure is said.
func TestCommittedGenerationIsLost(t *testing.T) {
	h, v, kept, dead := sealedHouse(t, server.Options{})
	h.lose("commit")
	if _, err := h.s.Compact(t.Context(), v, nil); !errors.Is(err, server.ErrUnavailable) {
		t.Fatal(err)
	}
	h.stop()
	name := "/data/volumes/" + volume.FileName(v, 2)
	if err := errors.Join(h.mem.Flip(name, 20, 1), h.mem.Flip(name, 4096+20, 1)); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.both(kept, dead)
	h.until("the failure", func() bool { return h.saw(server.EventUpkeepFailed) > 1 })
	if i := h.info(is(v)); i.Generation != 1 || i.Retry == nil || h.saw(server.EventGeneration) != 1 || len(h.files(".vol")) != 2 {
		t.Errorf("%+v, %v", i, h.files(""))
	}
	h.delete(kept[0])
	h.stop()
	h.start()
	h.both(kept[1:], append(dead, kept[0]))
}

// A volume was full while the directory was away: its tile is closed and it is
// sealed when the directory is back, though nobody writes any more.
func TestLeftWithoutDirectory(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 64 << 10})
	var all []stored
	blob, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	v := h.info(writing).Volume
	for range 3 {
		all = append(all, h.mustPut(variants, 4000, 4))
	}
	h.wire.cut(errAway)
	if err := h.s.Write(t.Context(), blob, group(blob, cookie, 15_000, 4)); !errors.Is(err, server.ErrMoved) {
		t.Fatal(err)
	}
	if i := h.info(is(v)); i.State != "open" || i.Writing {
		t.Fatalf("%+v", i)
	}
	h.wire.cut(nil)
	h.until("the seal", func() bool {
		h.clock.Advance(time.Minute)
		return h.info(is(v)).State == "sealed"
	})
	h.both(all, nil)
}
