package server_test

import (
	"testing"
	"time"

	"hayloft/volume/server"
)

// Without upkeep nothing is done but what is asked for.
func TestNoUpkeep(t *testing.T) {
	h := newHouse(t, server.Options{SealAfter: time.Hour, CompactBytes: 1, CompactShare: 0.01, NoUpkeep: true})
	a := h.mustPut(variants, 3000, 2)
	dead := h.mustPut(variants, 3000, 2)
	v := h.info(writing).Volume
	b := h.mustPut(originals, 3000, 1)
	if err := h.s.Seal(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	h.delete(dead)
	h.clock.Advance(24 * time.Hour)
	for range 5 { // each of which would have the disk looked over
		c := h.mustPut(variants, 100, 1)
		if err := h.s.Seal(t.Context(), h.info(func(i server.VolumeInfo) bool { return i.Writing && i.Class == variants }).Volume, nil); err != nil {
			t.Fatal(err)
		}
		h.check(c)
	}
	if st := h.s.Stats(); st.Seals != 6 || st.Compactions != 0 || h.info(is(v)).Generation != 1 {
		t.Errorf("%d seals, %d compactions", st.Seals, st.Compactions)
	}
	if _, err := h.s.Compact(t.Context(), v, nil); err != nil || len(h.files("00000001-00000001")) != 0 {
		t.Errorf("asked for: %v, %v", err, h.files(""))
	}
	h.both([]stored{a, b}, []stored{dead})
}
