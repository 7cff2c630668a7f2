package server_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// roomyHouse is a house whose disk has free bytes above its reserve, which
// shrink with nothing that is written.
func roomyHouse(t *testing.T, o server.Options, free *atomic.Int64) server.Options {
	t.Helper()
	o.KeepFree = 1 << 20
	o.Space = func(string) (server.Space, error) {
		return server.Space{Free: o.KeepFree + free.Load(), Capacity: 1 << 40}, nil
	}
	return o
}

// A compaction that does not fit above the reserve is not begun: no number is
// given out, uploads go on, and it is done when there is room.
func TestNoRoomToCompact(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 30)
	h, v, kept, dead := sealedHouse(t, roomyHouse(t, server.Options{}, &free))
	live := h.info(is(v)).Stats.LiveBytes
	free.Store(live - 1)
	h.clock.Advance(2 * time.Second)
	if _, err := h.s.Compact(t.Context(), v, nil); !errors.Is(err, server.ErrNoSpace) || !strings.Contains(err.Error(), "no room to compact volume 1") {
		t.Fatal(err)
	}
	if row := h.row(v); row.Compaction != nil || row.LastGeneration != 1 || len(h.files("00000001-00000002")) != 0 {
		t.Errorf("begun: %+v", row)
	}
	kept = append(kept, h.mustPut(variants, 1000, 1))
	if h.s.Stats().Disks[0].Full || h.saw(server.EventDiskFull) != 0 || h.info(is(v)).Retry == nil {
		t.Error("the compaction turned uploads off, or does not say why it waits")
	}
	free.Store(live + 1000) // what it takes is not there for others, until the file system is asked again
	h.clock.Advance(2 * time.Second)
	if _, err := h.s.Compact(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := h.put(variants, 1500, 1); !errors.Is(err, server.ErrNoSpace) {
		t.Errorf("a put took the room of the compaction: %v", err)
	}
	h.clock.Advance(2 * time.Second)
	kept = append(kept, h.mustPut(variants, 1500, 1))
	h.both(kept, dead)
}

// An attempt whose file is there already is committed without more room.
func TestNoRoomForAFileThatIsThere(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 30)
	h, v, kept, dead := sealedHouse(t, roomyHouse(t, server.Options{}, &free))
	h.wire.mu.Lock()
	h.wire.stopAt = "commit"
	h.wire.mu.Unlock()
	if _, err := h.s.Compact(t.Context(), v, nil); !errors.Is(err, server.ErrUnavailable) {
		t.Fatal(err)
	}
	free.Store(0)
	h.clock.Advance(2 * time.Second)
	h.wire.mu.Lock()
	h.wire.stopAt = ""
	h.wire.mu.Unlock()
	if _, err := h.s.Compact(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	h.both(kept, dead)
}

// A salvage waits for room too.
func TestNoRoomToSalvage(t *testing.T) {
	var free atomic.Int64
	var broken atomic.Bool
	free.Store(1 << 30)
	mem := vfs.NewMem(1)
	fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".vol") && broken.CompareAndSwap(true, false) {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	h := newHouse(t, roomyHouse(t, server.Options{FS: fault}, &free))
	a := h.mustPut(variants, 3000, 2)
	v := h.info(writing).Volume
	free.Store(3000)
	h.clock.Advance(2 * time.Second)
	broken.Store(true)
	b := h.mustPut(variants, 100, 1) // elsewhere, in the end
	h.until("the refusal", func() bool { i := h.info(is(v)); return i.Retry != nil && i.Work == "" })
	if i := h.info(is(v)); !errors.Is(i.Retry, server.ErrNoSpace) || i.Generation != 1 || i.Stats.Poisoned == nil {
		t.Errorf("%+v", i)
	}
	if row := h.row(v); row.Compaction != nil {
		t.Errorf("begun: %+v", row)
	}
	free.Store(1 << 30)
	h.until("the salvage", func() bool {
		h.clock.Advance(time.Minute)
		return h.info(is(v)).State == "sealed"
	})
	h.both([]stored{a, b}, nil)
	if _, err := h.s.Verify(t.Context(), v, 0, func(f volume.Finding) { t.Error(f) }, nil); err != nil {
		t.Error(err)
	}
}
