package server_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"hayloft/directory"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// sealedHouse has one sealed volume of which the first half is deleted.
func sealedHouse(t *testing.T, o server.Options) (h *house, v volume.ID, kept, dead []stored) {
	t.Helper()
	h = newHouse(t, o)
	for range 10 {
		kept = append(kept, h.mustPut(variants, 3000, 2))
	}
	v = h.info(writing).Volume
	if err := h.s.Seal(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	for _, b := range kept[:5] {
		h.delete(b)
	}
	return h, v, kept[5:], kept[:5]
}

func (h *house) row(v volume.ID) directory.Volume {
	row, _ := h.dir.Map().Volume(directory.VolumeID(v))
	return row
}

// lose loses the answer to the next change of a kind.
func (h *house) lose(what string) {
	h.wire.mu.Lock()
	h.wire.lose = what
	h.wire.mu.Unlock()
}

func (h *house) both(kept, dead []stored) {
	h.t.Helper()
	for _, b := range kept {
		h.check(b)
	}
	for _, b := range dead {
		h.gone(b)
	}
}

// An answer of the directory is lost at each step: what it did counts, and the
// next attempt goes on from there.
func TestLostAnswers(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 3000, 2)
	v := h.info(writing).Volume
	h.lose("seal")
	if err := h.s.Seal(t.Context(), v, nil); !errors.Is(err, server.ErrUnavailable) {
		t.Fatal(err)
	}
	if i := h.info(is(v)); h.row(v).State != directory.StateSealed || i.State != "sealed" || i.Retry == nil || i.Stats.Poisoned != nil {
		t.Fatalf("%+v", i)
	}
	if err := h.s.Seal(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	// A number was given out, and nobody heard of it.
	h.lose("begin")
	if _, err := h.s.Compact(t.Context(), v, nil); !errors.Is(err, server.ErrUnavailable) || h.row(v).Compaction == nil {
		t.Fatal(err)
	}
	h.check(a)
	rec, err := h.s.Compact(t.Context(), v, nil)
	if err != nil || h.row(v).Generation != 2 || rec.Source != 1 {
		t.Fatalf("%+v, %v", rec, err)
	}
	// A commit was taken: the old generation is served until the upkeep sees it,
	// which may be at once.
	h.lose("commit")
	_, err = h.s.Compact(t.Context(), v, nil)
	if !errors.Is(err, server.ErrUnavailable) || h.row(v).Generation != 3 {
		t.Fatalf("%v, %+v", err, h.row(v))
	}
	h.check(a)
	h.until("the committed generation", func() bool {
		h.clock.Advance(time.Minute)
		i := h.info(is(v))
		return i.Generation == 3 && i.Retry == nil && h.alone(i)
	})
	h.check(a)
	if st := h.s.Stats(); st.UpkeepFailures != 3 {
		t.Errorf("%d failures", st.UpkeepFailures)
	}
}

// The same with a restart in place of the second attempt.
func TestRestartAfterLostCommit(t *testing.T) {
	h, v, kept, dead := sealedHouse(t, server.Options{})
	h.lose("commit")
	if _, err := h.s.Compact(t.Context(), v, nil); !errors.Is(err, server.ErrUnavailable) || h.row(v).Generation != 2 {
		t.Fatal(err)
	}
	h.stop()
	h.start()
	if i := h.info(is(v)); i.Generation != 2 {
		t.Fatalf("%+v", i)
	}
	h.both(kept, dead)
	h.until("the removal", func() bool { return h.alone(h.info(is(v))) })
	h.both(kept, dead)
}

// A generation that was never committed is not served, though it lies whole on
// the disk; it is read back, committed and served.
func TestUncommittedGeneration(t *testing.T) {
	h, v, kept, dead := sealedHouse(t, server.Options{})
	h.wire.stopAt = "commit"
	if _, err := h.s.Compact(t.Context(), v, nil); !errors.Is(err, server.ErrUnavailable) {
		t.Fatal(err)
	}
	h.stop()
	if n := len(h.files(".vol")); n != 2 {
		t.Fatalf("%v", h.files(""))
	}
	again := func(stopAt string) *server.Server {
		h.wire = &wire{d: h.dir, node: h.wire.node, incarnation: h.wire.incarnation + 1, stopAt: stopAt}
		o := h.opts
		o.Directory = h.wire
		s, err := server.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	h.s = again("commit")
	if i := h.info(is(v)); i.Generation != 1 {
		t.Fatalf("%+v", i)
	}
	h.both(kept, dead)
	h.stop()
	h.s = again("")
	h.until("the commit", func() bool {
		i := h.info(is(v))
		return i.Generation == 2 && h.alone(i)
	})
	if row := h.row(v); row.Generation != 2 || row.LastGeneration != 2 {
		t.Errorf("%+v", row)
	}
	h.both(kept, dead)
}

// The uncommitted generation does not read back as it was written: its number is
// abandoned, the file goes, and the next attempt has another.
func TestSpoiledGeneration(t *testing.T) {
	h, v, kept, dead := sealedHouse(t, server.Options{})
	h.wire.stopAt = "commit"
	if _, err := h.s.Compact(t.Context(), v, nil); !errors.Is(err, server.ErrUnavailable) {
		t.Fatal(err)
	}
	h.stop()
	if err := h.mem.Flip("/data/volumes/"+volume.FileName(v, 2), 10_000, 4); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.until("the next attempt", func() bool {
		h.clock.Advance(time.Minute)
		i := h.info(is(v))
		if i.Generation == 1 && h.row(v).Compaction == nil { // given up; it is not wasteful enough by itself
			_, err := h.s.Compact(t.Context(), v, nil)
			return err == nil
		}
		return i.Generation == 3 && h.alone(i)
	})
	if row := h.row(v); row.Generation != 3 || row.LastGeneration != 3 {
		t.Errorf("%+v", row)
	}
	h.until("the removal", func() bool { return h.alone(h.info(is(v))) })
	h.both(kept, dead)
}

// A needle that cannot be read and has no other copy ends each compaction of its
// volume. That is said, is not tried again at once, and keeps nobody else.
func TestCorruptNeedleStopsCompaction(t *testing.T) {
	h, v, kept, dead := sealedHouse(t, server.Options{CompactBytes: 1 << 30})
	other := h.mustPut(variants, 500, 1)
	h.stop()
	name := "/data/volumes/" + volume.FileName(v, 1)
	b, err := vfs.ReadFile(h.mem, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), string(content(kept[0].blob, 0, 3000)))
	if err := h.mem.Flip(name, int64(at), 1); at < 0 || err != nil {
		t.Fatal(at, err)
	}
	h.opts.CompactBytes = 1
	h.start()
	h.until("the failure", func() bool { return h.saw(server.EventUpkeepFailed) > 0 })
	if i := h.info(is(v)); !errors.Is(i.Retry, volume.ErrCorrupt) || i.Generation != 1 {
		t.Fatalf("%+v", i)
	}
	w := h.info(func(i server.VolumeInfo) bool { return i.State == "open" }).Volume
	if err := h.s.Seal(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(30 * time.Minute)
	h.check(other)
	if err := h.s.Seal(t.Context(), w, nil); err != nil { // the upkeep has looked by now
		t.Fatal(err)
	}
	if n := h.saw(server.EventUpkeepFailed); n != 1 {
		t.Errorf("tried %d times", n)
	}
	h.both(kept[1:], dead)
	h.until("another attempt", func() bool {
		h.clock.Advance(20 * time.Minute)
		return h.saw(server.EventUpkeepFailed) > 1
	})
	if row := h.row(v); row.Generation != 1 || row.LastGeneration != 2 {
		t.Errorf("%+v", row)
	}
}

// With the directory away volumes wait, and go on when it is back.
func TestLifeWithoutDirectory(t *testing.T) {
	h, v, kept, dead := sealedHouse(t, server.Options{})
	h.wire.cut(errAway)
	if _, err := h.s.Compact(t.Context(), v, nil); !errors.Is(err, server.ErrUnavailable) {
		t.Error(err)
	}
	h.both(kept, nil)
	h.wire.cut(nil)
	if _, err := h.s.Compact(t.Context(), v, nil); err != nil {
		t.Error(err)
	}
	h.both(kept, dead)
}

// What is held open is not removed under its holder, and others do not wait.
func TestPinnedGeneration(t *testing.T) {
	h, v, kept, dead := sealedHouse(t, server.Options{})
	held, let := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := h.s.Use(v, 0, func(vol *volume.Volume) error {
			close(held)
			<-let
			if b, err := vol.Read(context.Background(), kept[0].blob, 0, kept[0].cookie); err != nil {
				t.Error(err)
			} else {
				b.Release()
			}
			_, err := vol.Check(context.Background(), func(f volume.Finding) { t.Error(f.Err) })
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if _, err := h.s.Compact(ctx, v, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("did not wait for the holder: %v", err)
		}
	})
	h.until("the switch", func() bool { return h.info(is(v)).Generation == 2 })
	h.both(kept, dead)
	w := h.mustPut(variants, 100, 1)
	if err := h.s.Seal(t.Context(), h.info(writing).Volume, nil); err != nil {
		t.Error(err)
	}
	h.check(w)
	if n := len(h.files("00000001-00000001.vol")); n != 1 {
		t.Error("the file is gone")
	}
	cancel()
	close(let)
	wg.Wait()
	h.until("the removal", func() bool { return h.alone(h.info(is(v))) })
	h.both(kept, dead)
}

// A job goes on when its caller leaves.
func TestCallerLeaves(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 3000, 2)
	v := h.info(writing).Volume
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.s.Seal(ctx, v, nil); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	h.until("the seal", func() bool { return h.info(is(v)).State == "sealed" })
	h.check(a)
}
