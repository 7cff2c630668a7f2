package server_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

// What is asked for with too few disks is refused before a volume is sealed for it.
func TestEncodeRefusesBeforeItSeals(t *testing.T) {
	o := sixDisks()
	o.Dirs = o.Dirs[:2]
	h := newHouse(t, o)
	h.fill(originals, 2, 30_000)
	for _, i := range h.volumes() {
		if err := h.s.Encode(t.Context(), i.Volume, nil); !errors.Is(err, server.ErrPlacement) {
			t.Errorf("volume %d: %v", i.Volume, err)
		}
	}
	for _, i := range h.volumes() {
		if i.State != "open" {
			t.Errorf("volume %d is %s", i.Volume, i.State)
		}
	}
}

// The figures follow a coded life: into the grace, out of it, without a disk, and
// back.
func TestStatsOfCodedVolumes(t *testing.T) {
	h := newHouse(t, sixDisks())
	if c := h.s.Stats().Coded; c.Survives != -1 || c.Coded+c.Coding+c.Released+c.Whole != 0 {
		t.Errorf("nothing is coded: %+v", c)
	}
	all := h.fill(originals, 12, 40_000)
	needles := func() (n int64) {
		for _, v := range h.s.Stats().Volumes {
			n += v.Needles
		}
		return n
	}
	h.encodeAll()
	st := h.s.Stats()
	if c := st.Coded; c.Coded != 6 || c.Whole != 36 || c.Survives != 2 || c.Encodings != 6 || c.LiveBytes == 0 || c.ShardBytes < c.LiveBytes {
		t.Errorf("in the grace: %+v", c)
	}
	if got := st.Classes[slices.IndexFunc(st.Classes, func(c server.ClassStats) bool { return c.Class == originals })]; got.Coded != 6 || got.Sealed != 6 || got.Sick != 0 {
		t.Errorf("in the grace: %+v", got)
	}
	if n := needles(); n != 12 {
		t.Errorf("%d needles, a source is counted beside its shards", n)
	}
	h.released()
	st = h.s.Stats()
	if c := st.Coded; c.Coded != 0 || c.Released != 6 || c.Releases != 6 || c.Lost != 0 {
		t.Errorf("released: %+v", c)
	}
	if n := needles(); n != 12 {
		t.Errorf("%d needles once their sources are gone", n)
	}
	h.stop()
	h.wipe("/disk3")
	h.start()
	if n := h.saw(server.EventCoded); n != 6 {
		t.Errorf("%d volumes were coded, after a restart", n)
	}
	if c := h.s.Stats().Coded; c.Away != 6 || c.Whole != 30 || c.Survives != 1 || c.Encodings != 0 {
		t.Errorf("a disk is lost: %+v", c)
	}
	h.checkAll(all)
	if h.s.Stats().Coded.Computed == 0 {
		t.Error("nothing was computed")
	}
	// At once, though the repair delay has not passed.
	for _, i := range h.coded() {
		if err := h.s.Rebuild(t.Context(), i.Volume, nil); err != nil {
			t.Fatal(err)
		}
	}
	if c := h.s.Stats().Coded; c.Away != 0 || c.Whole != 36 || c.Survives != 2 || c.Rebuilds != 6 {
		t.Errorf("rebuilt: %+v", c)
	}
}

// Probe says what Read would, of files and of shards, and needs no cookie.
func TestProbe(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 6, 40_000)
	h.delete(all[0])
	probe := func(coded bool) {
		t.Helper()
		if p, err := h.s.Probe(t.Context(), all[0].blob); err == nil && !p.Deleted || err != nil && !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("deleted: %+v, %v", p, err)
		}
		p, err := h.s.Probe(t.Context(), all[1].blob)
		if err != nil || p.Deleted || len(p.Needles) != 1 || p.Needles[0].Err != nil || p.Volume.Volume == 0 || p.Coded != coded {
			t.Errorf("%+v, %v", p, err)
		}
		if p, err := h.s.Probe(t.Context(), id.Make(5, 1000, 1)); !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("in no tile: %+v, %v", p, err)
		}
	}
	probe(false)
	h.encodeAll()
	probe(true)
	h.delete(all[2])
	if p, err := h.s.Probe(t.Context(), all[2].blob); err != nil || !p.Deleted || !p.Coded {
		t.Errorf("deleted: %+v, %v", p, err)
	}
	h.released()
	h.stop()
	for n := range 3 {
		h.wipe(fmt.Sprintf("/disk%d", n+1))
	}
	h.start()
	if p, err := h.s.Probe(t.Context(), all[1].blob); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("too few shards: %+v, %v", p, err)
	}
	if c := h.s.Stats().Coded; c.Lost != 6 || c.Survives != 0 {
		t.Errorf("%+v", c)
	}
}

// Who reads a coded volume as a whole keeps to the rate of its disks.
func TestThrottleOfCodedVolumes(t *testing.T) {
	o := sixDisks()
	o.Maintenance = 1000
	h := newHouse(t, o)
	paid := make(chan error, 1)
	go func() { paid <- h.s.Throttle(t.Context(), 0, 60_000) }()
	select {
	case err := <-paid:
		t.Fatalf("20 s of the rate were had at once: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	h.wait("the rate", func() bool { return len(paid) == 1 })
	if err := <-paid; err != nil {
		t.Error(err)
	}
}
