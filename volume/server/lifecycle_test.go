package server_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"hayloft/directory"
	"hayloft/volume"
	"hayloft/volume/server"
)

// info returns what the server says of the only volume that ok holds for.
func (h *house) info(ok func(server.VolumeInfo) bool) server.VolumeInfo {
	h.t.Helper()
	var found []server.VolumeInfo
	for _, i := range h.volumes() {
		if ok(i) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		h.t.Fatalf("%d volumes: %+v", len(found), h.volumes())
	}
	return found[0]
}

func is(v volume.ID) func(server.VolumeInfo) bool {
	return func(i server.VolumeInfo) bool { return i.Volume == v }
}

func writing(i server.VolumeInfo) bool { return i.Writing }

// gone checks that a blob is deleted.
func (h *house) gone(b stored) {
	h.t.Helper()
	if got, err := h.s.Read(context.Background(), b.blob, 0, b.cookie); !errors.Is(err, volume.ErrNotFound) {
		h.t.Errorf("deleted %v: %d bytes, %v", b.blob, len(got.Data), err)
	}
}

func (h *house) delete(b stored) {
	h.t.Helper()
	if err := h.s.Delete(context.Background(), b.blob); err != nil {
		h.t.Fatal(err)
	}
}

// files lists the volumes directory without what the engine may leave.
func (h *house) files(part string) (out []string) {
	h.t.Helper()
	names, err := h.mem.ReadDir("/data/volumes")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, n := range names {
		if strings.Contains(n, part) {
			out = append(out, n)
		}
	}
	return out
}

func TestLife(t *testing.T) {
	h := newHouse(t, server.Options{})
	var kept, dead []stored
	for i := range 20 {
		b := h.mustPut(variants, 3000, 4)
		if i%2 == 0 {
			dead = append(dead, b)
		} else {
			kept = append(kept, b)
		}
	}
	first := h.info(writing)
	h.delete(dead[0]) // a tombstone in the open file
	if first.State != "open" || first.Stats.Needles != 80 {
		t.Fatalf("%+v", first)
	}
	if _, err := h.s.Compact(t.Context(), first.Volume, nil); !errors.Is(err, volume.ErrNotSealed) {
		t.Fatalf("compact an open volume: %v", err)
	}
	var steps []server.Progress
	report := func(p server.Progress) { steps = append(steps, p) }
	if err := h.s.Seal(t.Context(), first.Volume, report); err != nil {
		t.Fatal(err)
	}
	if len(steps) == 0 || steps[0].Step != "sealing" || steps[0].Volume != first.Volume {
		t.Errorf("progress %+v", steps)
	}
	i := h.info(is(first.Volume))
	if i.State != "sealed" || i.Writing || i.Sealed == nil || i.Sealed.Needles != 76 || i.Work != "" {
		t.Fatalf("%+v", i)
	}
	if err := h.s.Seal(t.Context(), first.Volume, nil); err != nil {
		t.Fatal(err)
	}
	other := h.mustPut(variants, 3000, 4)
	if second := h.info(writing); second.Volume == first.Volume {
		t.Fatalf("%+v", second)
	}
	for _, b := range dead[1:] {
		h.delete(b) // in the delete log
	}
	rec, err := h.s.Compact(t.Context(), first.Volume, nil)
	if err != nil || rec.Needles != 40 || rec.Source != 1 || rec.Deletes != 9 {
		t.Fatalf("%+v, %v", rec, err)
	}
	after := func() {
		t.Helper()
		i := h.info(is(first.Volume))
		if i.Generation != 2 || i.State != "sealed" || i.Stats.Needles != 40 {
			t.Fatalf("%+v", i)
		}
		if n := h.files("00000001-00000001"); len(n) != 0 {
			t.Errorf("left %v", n)
		}
		for _, b := range append(kept, other) {
			h.check(b)
		}
		for _, b := range dead {
			h.gone(b)
		}
	}
	after()
	h.stop()
	h.start()
	after()
	var found []volume.Finding
	r, err := h.s.Verify(t.Context(), first.Volume, 0, func(f volume.Finding) { found = append(found, f) }, report)
	if err != nil || r.Needles != 40 || len(found) != 0 {
		t.Errorf("verify %+v, %v, %v", r, found, err)
	}
	if last := steps[len(steps)-1]; last.Step != "verifying" || last.Done != r.Bytes {
		t.Errorf("progress %+v", last)
	}
	row, _ := h.dir.Map().Volume(directory.VolumeID(first.Volume))
	if row.Generation != 2 || row.Seal.Digest != rec.Digest || row.Compaction != nil || row.LastGeneration != 2 {
		t.Errorf("row %+v", row)
	}
}

func TestUnknownVolumes(t *testing.T) {
	h := newHouse(t, server.Options{})
	if err := h.s.Seal(t.Context(), 7, nil); !errors.Is(err, volume.ErrNoVolume) {
		t.Error(err)
	}
	if _, err := h.s.Compact(t.Context(), 7, nil); !errors.Is(err, volume.ErrNoVolume) {
		t.Error(err)
	}
	if _, err := h.s.Verify(t.Context(), 7, 0, nil, nil); !errors.Is(err, volume.ErrNoVolume) {
		t.Error(err)
	}
	if err := h.s.Use(7, 1, func(*volume.Volume) error { return nil }); !errors.Is(err, volume.ErrNoVolume) {
		t.Error(err)
	}
}

// A volume that is full is sealed by itself, and compacted when enough of it is
// dead; what it replaced goes.
func TestUpkeep(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 64 << 10, CompactBytes: 4000, CompactShare: 0.1})
	var all []stored
	first := volume.ID(0)
	for first == 0 || h.info(writing).Volume == first {
		all = append(all, h.mustPut(variants, 1000, 4))
		if first == 0 {
			first = h.info(writing).Volume
		}
	}
	h.until("the seal", func() bool { return h.info(is(first)).State == "sealed" })
	inFirst := all[:len(all)-1]
	for _, b := range inFirst[:len(inFirst)/2] {
		h.delete(b)
	}
	h.until("the compaction", func() bool {
		h.clock.Advance(time.Minute)
		i := h.info(is(first))
		return int(i.Sealed.Deletes) == len(inFirst)/2 && i.Work == "" && len(h.files("00000001-")) == 2
	})
	for _, b := range inFirst[:len(inFirst)/2] {
		h.gone(b)
	}
	for _, b := range all[len(inFirst)/2:] {
		h.check(b)
	}
	st := h.s.Stats()
	if st.Seals != 1 || st.Compactions == 0 || st.UpkeepFailures != 0 || st.UpkeepBytes < 64<<10 {
		t.Errorf("%+v", st)
	}
}
