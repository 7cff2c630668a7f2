package server_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"hayloft/volume"
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

// A long call on a generation that was replaced keeps nobody else waiting: not
// the disk's upkeep, and not the volume's next compaction. When it ends, what was
// replaced goes.
func TestLongCallOnTheFormerGeneration(t *testing.T) {
	h, v, kept, dead := sealedHouse(t, server.Options{SealAfter: 24 * time.Hour})
	begun, end, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	release := sync.OnceFunc(func() { close(end) })
	t.Cleanup(release)
	go func() {
		ended <- h.s.Use(v, 0, func(*volume.Volume) error {
			close(begun)
			<-end
			return nil
		})
	}()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	compacted := make(chan error, 1)
	go func() {
		_, err := h.s.Compact(ctx, v, nil)
		compacted <- err
	}()
	h.until("the switch", func() bool { return h.info(is(v)).Generation == 2 })
	// Another volume of the disk is old, and is sealed.
	kept = append(kept, h.mustPut(variants, 3000, 4))
	second := h.info(writing).Volume
	h.until("the seal of another volume", func() bool {
		h.clock.Advance(time.Hour)
		return h.info(is(second)).State == "sealed"
	})
	h.delete(kept[0])
	dead, kept = append(dead, kept[0]), kept[1:]
	again := make(chan error, 1)
	go func() {
		_, err := h.s.Compact(t.Context(), v, nil)
		again <- err
	}()
	h.until("the second switch", func() bool { return h.info(is(v)).Generation == 3 })
	cancel()
	if err := <-compacted; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case err := <-again:
		t.Errorf("it returned before the former generation was gone: %v", err)
	default:
	}
	release()
	if err := errors.Join(<-ended, <-again); err != nil {
		t.Error(err)
	}
	if left := h.files("00000001-"); len(left) == 0 || strings.Contains(strings.Join(left, " "), "-00000001.") || strings.Contains(strings.Join(left, " "), "-00000002.") {
		t.Errorf("left %v", left)
	}
	h.both(kept, dead)
}
