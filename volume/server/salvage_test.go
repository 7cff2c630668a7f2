package server_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/directory"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

func (w *wire) BeginSalvage(ctx context.Context, v volume.ID, generation, disk uint32) (server.Row, error) {
	return w.ask("salvage", func() (directory.Volume, error) {
		return w.d.BeginSalvage(ctx, directory.VolumeID(v), generation, directory.DiskID(disk), w.incarnation)
	})
}

// newFailing has syncs of volume files fail whenever now says so.
func newFailing(fs vfs.FS, now func() bool) vfs.FS {
	return &vfs.Fault{FS: fs, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".vol") && now() {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
}

// poisonedHouse has one volume that a failed sync poisoned, with a closed tile. The
// directory never makes the change stopAt.
func poisonedHouse(t *testing.T, o server.Options, stopAt string) (h *house, v volume.ID, kept, dead []stored) {
	t.Helper()
	h = newHouse(t, o)
	h.stop()
	var fail atomic.Bool
	h.opts.FS = newFailing(h.mem, func() bool { return fail.CompareAndSwap(true, false) })
	h.start()
	h.wire.mu.Lock()
	h.wire.stopAt = stopAt
	h.wire.mu.Unlock()
	for range 10 {
		kept = append(kept, h.mustPut(variants, 3000, 2))
	}
	for _, b := range kept[:3] {
		h.delete(b)
	}
	v = h.info(writing).Volume
	blob, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	fail.Store(true)
	err = h.s.Write(t.Context(), blob, group(blob, cookie, 1000, 1))
	if !errors.Is(err, server.ErrMoved) {
		t.Fatal(err)
	}
	return h, v, kept[3:], append(kept[:3:3], stored{blob, cookie, 1000, 1})
}

// salvaged waits until the next generation of a volume is all there is of it.
func (h *house) salvaged(v volume.ID) server.VolumeInfo {
	h.t.Helper()
	h.until("the salvage", func() bool {
		i := h.info(is(v))
		row := h.row(v)
		if row.State == directory.StateSealed && row.Compaction == nil && i.Generation == row.Generation && i.Work == "" && h.alone(i) {
			return true
		}
		h.clock.Advance(time.Minute)
		return false
	})
	return h.info(is(v))
}

// A poisoned volume is closed, and what it holds goes on as its next generation
// by itself: it is read as before, and takes deletes again.
func TestPoisonedIsSalvaged(t *testing.T) {
	h, v, kept, dead := poisonedHouse(t, server.Options{}, "")
	i := h.salvaged(v)
	if i.State != "sealed" || i.Generation != 2 || i.Sealed == nil || i.Sealed.Source != 1 || i.Retry != nil || i.Stats.Poisoned != nil {
		t.Fatalf("%+v", i)
	}
	if row := h.row(v); row.Seal.Digest != i.Sealed.Digest || row.Seal.Needles != uint64(2*len(kept)) {
		t.Fatalf("%+v", row)
	}
	if st := h.s.Stats(); st.Disks[0].ReadOnly != 0 || st.Classes[0].Sealed != 1 || st.Seals != 1 {
		t.Errorf("%+v", st)
	}
	h.both(kept, dead)
	h.delete(kept[0])
	dead, kept = append(dead, kept[0]), kept[1:]
	h.both(kept, dead)
	h.stop()
	h.start()
	h.both(kept, dead)
	h.delete(kept[0])
	dead, kept = append(dead, kept[0]), kept[1:]
	if rec, err := h.s.Compact(t.Context(), v, nil); err != nil || rec.Deletes != 2 || rec.Source != 2 {
		t.Fatalf("%+v, %v", rec, err)
	}
	h.both(kept, dead)
	h.check(h.mustPut(variants, 100, 1))
}

// Who seals a volume by hand gets a sealed one, also when that is what poisons it.
// As long as the disk does not sync, it says so, and deletes are to be repeated.
func TestSealSalvages(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.stop()
	var fail atomic.Bool
	h.opts.FS = &vfs.Fault{FS: h.mem, Before: func(op vfs.Op) vfs.Outcome {
		if fail.Load() && op.Kind == vfs.OpSync {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	h.start()
	a, b := h.mustPut(variants, 3000, 2), h.mustPut(variants, 3000, 2)
	v := h.info(writing).Volume
	fail.Store(true)
	for range 3 {
		if err := h.s.Seal(t.Context(), v, nil); err == nil {
			t.Fatal("sealed by a disk that does not sync")
		}
		if err := h.s.Delete(t.Context(), a.blob); !errors.Is(err, server.ErrUnavailable) {
			t.Fatalf("delete in a poisoned volume: %v", err)
		}
		h.both([]stored{a, b}, nil)
	}
	if row := h.row(v); row.State != directory.StateClosing || row.Compaction == nil || row.LastGeneration != 2 {
		t.Fatalf("%+v", row)
	}
	if st := h.s.Stats(); st.Classes[0].Closing != 1 || st.OldestClosing.IsZero() || st.Disks[0].ReadOnly != 1 {
		t.Errorf("%+v", st)
	}
	fail.Store(false)
	for range 2 {
		if err := h.s.Seal(t.Context(), v, nil); err != nil {
			t.Fatal(err)
		}
	}
	h.delete(a)
	h.both([]stored{b}, []stored{a})
	h.salvaged(v)
	h.both([]stored{b}, []stored{a})
}

// An answer of the directory is lost, or the directory goes away, at each step of
// a salvage: reads go on, and the next attempt does what is missing, in this
// process or in the next one.
func TestSalvageLostAnswers(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for _, step := range []string{"salvage", "commit"} {
			for _, lost := range []bool{true, false} {
				h, v, kept, dead := poisonedHouse(t, server.Options{}, "salvage")
				h.until("the first attempt", func() bool { return h.saw(server.EventUpkeepFailed) > 0 })
				h.wire.mu.Lock()
				h.wire.stopAt = ""
				if lost {
					h.wire.lose = step
				} else {
					h.wire.stopAt = step
				}
				h.wire.mu.Unlock()
				if err := h.s.Seal(t.Context(), v, nil); !errors.Is(err, server.ErrUnavailable) {
					t.Fatalf("%s: %v", step, err)
				}
				h.both(kept, dead)
				if err := h.s.Delete(t.Context(), kept[0].blob); !errors.Is(err, server.ErrUnavailable) {
					t.Errorf("%s: delete in a poisoned volume: %v", step, err)
				}
				h.wire.mu.Lock()
				h.wire.stopAt = ""
				h.wire.mu.Unlock()
				if restart {
					h.stop()
					h.start()
					h.both(kept, dead)
				}
				if i := h.salvaged(v); i.Generation != 2 || i.Stats.Poisoned != nil {
					t.Fatalf("%s: %+v", step, i)
				}
				h.delete(kept[0])
				h.both(kept[1:], append(dead, kept[0]))
				h.stop()
				h.tidy()
			}
		}
	}
}

// What is damaged in a poisoned volume is not left out: the rest is served, and
// the salvage is tried again now and then.
func TestCorruptNeedleStopsSalvage(t *testing.T) {
	h, v, kept, dead := poisonedHouse(t, server.Options{}, "salvage")
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
	n := h.saw(server.EventUpkeepFailed)
	h.start()
	h.until("the failure", func() bool { return h.saw(server.EventUpkeepFailed) > n })
	if i := h.info(is(v)); !errors.Is(i.Retry, volume.ErrCorrupt) || i.Generation != 1 || i.State != "closing" {
		t.Fatalf("%+v", i)
	}
	h.both(kept[1:], dead)
	h.clock.Advance(30 * time.Minute)
	if err := h.s.Seal(t.Context(), h.info(is(v)).Volume, nil); !errors.Is(err, volume.ErrCorrupt) {
		t.Fatal(err)
	}
	if got := h.saw(server.EventUpkeepFailed); got != n+2 {
		t.Errorf("tried %d times", got-n)
	}
	if err := h.mem.Flip(name, int64(at), 1); err != nil { // somebody has repaired it
		t.Fatal(err)
	}
	h.salvaged(v)
	h.both(kept, dead)
}

// Syncs fail now and then while many read, write and delete: what was acknowledged
// is there all the time, what was deleted is not, and every delete is taken in the
// end.
func TestPoisonUnderLoad(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./volume/server -run TestPoisonUnderLoad -seed %d", seed)
	h := newHouse(t, server.Options{VolumeBytes: 96 << 10, CompactBytes: 8 << 10, CompactShare: 0.1, Maintenance: 1 << 40})
	h.stop()
	var mu sync.Mutex // guards r and left
	r, left := rand.New(rand.NewPCG(seed, 3)), 0
	h.opts.FS = newFailing(h.mem, func() bool {
		mu.Lock()
		defer mu.Unlock()
		if left == 0 || r.IntN(30) > 0 {
			return false
		}
		left--
		return true
	})
	h.start()
	sh := &shared{}
	for range 20 {
		sh.add(h.mustPut(variants, 1000, 2))
	}
	mu.Lock()
	left = testenv.Rounds(12)
	mu.Unlock()
	var over atomic.Bool
	var reads, hits, repeated, deleted atomic.Int64
	var wg sync.WaitGroup
	worker := func(seed uint64, step func(*rand.Rand) error) {
		wg.Go(func() {
			for r := rand.New(rand.NewPCG(seed, 78)); !over.Load(); {
				if err := step(r); err != nil {
					t.Error(err)
					over.Store(true)
				}
			}
		})
	}
	for g := range uint64(2) {
		worker(g, func(r *rand.Rand) error { return h.readOne(sh, r, &reads, &hits) })
	}
	worker(10, func(r *rand.Rand) error {
		b, err := h.put(variants, 1+r.IntN(2000), 2)
		if errors.Is(err, server.ErrUnavailable) { // the disk rests for a second when no volume can be made
			return nil
		}
		if err == nil {
			sh.add(b)
		}
		return err
	})
	worker(20, func(r *rand.Rand) error {
		b, ok := sh.take(r)
		if !ok {
			return nil
		}
		for {
			err := h.s.Delete(context.Background(), b.blob)
			if err == nil || !errors.Is(err, server.ErrUnavailable) || over.Load() {
				if err == nil {
					sh.bury(b)
					deleted.Add(1)
				}
				if over.Load() {
					return nil
				}
				return err
			}
			repeated.Add(1)
		}
	})
	h.until("all failures", func() bool {
		h.clock.Advance(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if left > 0 {
			return over.Load()
		}
		if hits.Load() > 100 && repeated.Load() > 10 && deleted.Load() > 10 {
			return true
		}
		left = 3 // nobody met the last ones
		return over.Load()
	})
	h.until("the salvages", func() bool {
		h.clock.Advance(time.Minute)
		return over.Load() || h.s.Stats().Disks[0].ReadOnly == 0
	})
	over.Store(true)
	wg.Wait()
	for range 2 {
		for _, b := range sh.live {
			h.check(b)
		}
		for _, b := range sh.dead {
			h.gone(b)
		}
		h.stop()
		h.start()
	}
	t.Logf("%d reads, %d of live blobs, %d dead blobs, %d deletes repeated", reads.Load(), hits.Load(), len(sh.dead), repeated.Load())
}

// The power goes before each call that changes a file while a poisoned volume is
// salvaged, and now and then again while the next server picks up what it finds.
func TestSalvageCrashesOfServer(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./volume/server -run TestSalvageCrashesOfServer -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 6))
	h := newHouse(t, server.Options{})
	h.opts.DirectoryTimeout = 5 * time.Second
	h.opts.UpkeepEvery = 30 * time.Second
	cuts, again, at := 0, 0, 0
	for cuts < testenv.Rounds(120) {
		h.stop()
		h.clock.Advance(2 * time.Minute)
		h.machine(r.Uint64())
		at++
		p := h.arm(at, r.Uint64())
		var fail atomic.Bool
		h.opts.FS = newFailing(h.opts.FS, func() bool { return fail.CompareAndSwap(true, false) })
		l := &ledger{}
		var err error
		if h.s, err = h.tryStart(); err == nil {
			for range 4 {
				l.put(h, p, r)
			}
			l.delete(h, p, r)
			if blob, cookie, err := h.s.Reserve(context.Background(), variants); err == nil {
				fail.Store(true)
				if err := h.s.Write(context.Background(), blob, group(blob, cookie, 1000, 1)); err == nil {
					t.Fatal("acknowledged by a disk that does not sync")
				}
				fail.Store(false)
			}
			h.settle(p)
			l.delete(h, p, r)
		}
		if p.spare() { // the whole life is through
			l.check(h)
			at = 0
			continue
		}
		cuts++
		again += h.pickUp(p, r, 25, h.settle)
		l.check(h)
		for _, b := range l.kept { // each volume takes them, the latest when it is salvaged
			h.until("a delete", func() bool {
				h.clock.Advance(time.Minute)
				return h.s.Delete(context.Background(), b.blob) == nil
			})
			h.gone(b)
		}
		for _, i := range h.volumes() {
			if i.Sick == nil {
				if err := h.s.Seal(context.Background(), i.Volume, nil); err != nil {
					t.Errorf("seal %d: %v", i.Volume, err)
				}
			}
		}
		h.stop()
		h.tidy()
		if t.Failed() {
			t.Fatalf("cut %d, before call %d", cuts, at)
		}
	}
	testenv.Tell(t, "%d power cuts, %d more while it was picked up again", cuts, again)
}
