package ssd

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/slab"
	"hayloft/internal/vfs"
)

// script is a short life of a tier: it fills the file more than once.
func (r *rig) script() {
	for b := id.ID(1); b < 60; b += 3 {
		r.offer(keys(b, b+3)...)
		if b%4 == 0 {
			r.Purge(b)
			synctest.Wait()
		}
		r.has(keyOf(b, "small"))
	}
}

var small = Options{everything: true, Size: 17 * minRegion, regionBytes: minRegion}

// check opens the tier on what is left and compares every byte that it returns.
func check(t *testing.T, mem *vfs.Mem, what string) (found int) {
	t.Helper()
	r := newRig(t, small)
	r.open(mem)
	found = r.count(keys(1, 60))
	if !r.Stats().Up {
		t.Errorf("%s: the tier did not come up: %+v", what, r.events)
	}
	r.offer(keys(100, 110)...)
	if n, want := r.count(keys(100, 110)), r.fitting(keys(100, 110)); n != want {
		t.Errorf("%s: %d of %d afterwards", what, n, want)
	}
	r.count(keys(1, 60))
	r.close()
	return found
}

// The power goes, or the process is killed, at every call of the file system.
// Whatever is left: the tier comes up, and what it returns is right.
func TestCrashAtEveryCall(t *testing.T) {
	seed := seeds(1)[0]
	t.Logf("repeat with: go test ./cache/ssd -run TestCrashAtEveryCall -seed %d", seed)
	found, points := 0, 0
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small)
		type left struct {
			what string
			mem  *vfs.Mem
		}
		var lefts []left
		r.fail(func(op vfs.Op) vfs.Outcome {
			if op.Kind != vfs.OpRead {
				what := fmt.Sprintf("call %d, %v of %s", op.N, op.Kind, op.Name)
				lefts = append(lefts, left{what + ", power", r.mem.Crash(seed + uint64(op.N))}, left{what + ", kill", r.mem.Kill()})
			}
			return vfs.Outcome{}
		})
		r.open(r.mem)
		r.script()
		r.close()
		for _, l := range lefts {
			if _, err := l.mem.Stat("c"); err != nil {
				_ = l.mem.MkdirAll("c")
			}
			found += check(t, l.mem, l.what)
		}
		points = len(lefts)
	})
	if points < 100 || found < 8*points {
		t.Errorf("%d points, %d objects found: the test proved little", points, found)
	}
}

// Each call of the file system fails once, and all from then on for a minute.
func TestFaultAtEveryCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := int64(0)
		for fail := int64(0); fail <= calls; fail++ {
			for _, lasting := range []bool{false, true} {
				r := newRig(t, small)
				var until atomic.Int64
				broken := func() bool { return time.Now().UnixNano() < until.Load() }
				r.fail(func(op vfs.Op) vfs.Outcome {
					if fail == 0 {
						calls = op.N
						return vfs.Outcome{}
					}
					if op.N == fail && lasting {
						until.Store(time.Now().Add(time.Minute).UnixNano())
					}
					if op.N != fail && !broken() {
						return vfs.Outcome{}
					}
					if op.N%2 == 0 {
						return vfs.Outcome{Err: unix.ENOSPC, Short: op.Len / 3}
					}
					return vfs.Outcome{Err: unix.EIO}
				})
				r.open(r.mem)
				r.script()
				r.fail(func(vfs.Op) vfs.Outcome {
					if broken() {
						return vfs.Outcome{Err: unix.EIO}
					}
					return vfs.Outcome{}
				})
				time.Sleep(3 * time.Minute)
				r.count(keys(1, 60))
				r.offer(keys(200, 210)...)
				if n, want := r.count(keys(200, 210)), r.fitting(keys(200, 210)); n != want {
					t.Errorf("call %d failed, lasting %v: %d of %d afterwards, %+v", fail, lasting, n, want, r.events)
				}
				r.close()
			}
		}
		if calls < 100 {
			t.Errorf("%d calls: the test proved little", calls)
		}
	})
}

// Bits flip and sectors are lost anywhere in the file, its header included, under
// a running tier and before a start.
func TestRandomRot(t *testing.T) {
	for _, seed := range seeds(20) {
		t.Logf("repeat with: go test ./cache/ssd -run TestRandomRot -seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small)
			r.open(r.mem)
			r.script()
			before := r.count(keys(1, 60))
			r.close()
			f, err := r.mem.Open("c/" + fileName)
			if err != nil {
				t.Fatal(err)
			}
			size, _ := f.Size()
			_ = f.Close()
			if rng.IntN(2) == 0 {
				r.open(r.mem)
			}
			for range 1 + rng.IntN(30) {
				rot(t, r, rng, size)
			}
			if r.isClosing() {
				r.open(r.mem)
			}
			found := r.count(keys(1, 60))
			if found == before && r.Stats().Corrupt > 0 {
				t.Errorf("%d of %d found, and %d were corrupt", found, before, r.Stats().Corrupt)
			}
			if again := r.count(keys(1, 60)); again != found {
				t.Errorf("%d found, then %d", found, again)
			}
			r.close()
			check(t, r.mem, "after rot")
		})
	}
}

// rot changes a few bytes at a random place, past the tier's own descriptors.
func rot(t *testing.T, r *rig, rng *rand.Rand, size int64) {
	t.Helper()
	f, _, err := r.mem.OpenDirectWrite("c/" + fileName)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // in memory
	page := slab.Alloc(blockBytes)
	off := rng.Int64N(size/blockBytes) * blockBytes
	if _, err := f.ReadAt(page, off); err != nil {
		t.Fatal(err)
	}
	switch rng.IntN(3) {
	case 0:
		page[rng.IntN(len(page))] ^= 1 << rng.IntN(8)
	case 1:
		clear(page[rng.IntN(8)*512:][:512])
	default: // the block of another place
		if _, err := f.ReadAt(page, rng.Int64N(size/blockBytes)*blockBytes); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteVAt([][]byte{page}, off); err != nil {
		t.Fatal(err)
	}
}
