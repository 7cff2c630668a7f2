package volume

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

// TestFailedSyncIsNotBelieved: after a failed sync the kernel shows pages that
// the device never got. The next process must not take them for stored, even
// when the poison marker could not be written.
func TestFailedSyncIsNotBelieved(t *testing.T) {
	for _, marker := range []bool{true, false} {
		for seed := range uint64(40) {
			mem := newMem(t, seed)
			failing := false
			fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
				if failing && op.Kind == vfs.OpSync && op.Name == testFile || failing && !marker && op.Kind == vfs.OpCreate {
					return vfs.Outcome{Err: unix.EIO}
				}
				return vfs.Outcome{}
			}}
			v := create(t, fault)
			mustAppend(t, v, testNeedle(1, 0, 5000))
			failing = true
			wantErr(t, v.Append(bg, []Needle{testNeedle(2, 0, 20000)}), ErrPoisoned)
			wantErr(t, v.Append(bg, []Needle{testNeedle(3, 0, 10)}), ErrPoisoned)
			wantErr(t, v.Delete(bg, 1), ErrPoisoned)
			wantErr(t, readErr(v, testNeedle(2, 0, 20000)), ErrNotFound)
			mustRead(t, v, testNeedle(1, 0, 5000))
			failing = false
			wantErr(t, v.Append(bg, []Needle{testNeedle(4, 0, 10)}), ErrPoisoned) // for ever
			closeVolume(t, v)

			next := mem.Kill()
			v = reopen(t, next)
			mustRead(t, v, testNeedle(1, 0, 5000))
			found := readErr(v, testNeedle(2, 0, 20000)) == nil
			if marker {
				wantErr(t, v.Append(bg, []Needle{testNeedle(5, 0, 10)}), ErrPoisoned)
				if found {
					t.Fatal("served behind the last good sync of a poisoned volume")
				}
			}
			after := reopen(t, next.Crash(seed))
			mustRead(t, after, testNeedle(1, 0, 5000))
			if found {
				mustRead(t, after, testNeedle(2, 0, 20000))
			}
			closeVolume(t, after)
			closeVolume(t, v)
		}
	}
}

// TestPoisonedStaysUntouched: opening a poisoned volume changes no byte of it.
func TestPoisonedStaysUntouched(t *testing.T) {
	c := newCrashed(t, 1) // a torn batch that a healthy open would repair
	m := marker{Volume: 7, Generation: 1, SyncedTo: c.offsets[0]}
	if err := vfs.WriteFile(c.mem, "/d/"+markerName(7, 1), encodeMarker(m)); err != nil {
		t.Fatal(err)
	}
	before, err := vfs.ReadFile(c.mem, testFile, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var ops []vfs.OpKind
	fault := &vfs.Fault{FS: c.mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpWrite || op.Kind == vfs.OpSync || op.Kind == vfs.OpTruncate || op.Kind == vfs.OpAllocate {
			ops = append(ops, op.Kind)
		}
		return vfs.Outcome{}
	}}
	v := reopen(t, fault)
	mustRead(t, v, testNeedle(1, 0, 700))
	wantErr(t, readErr(v, testNeedle(4, 0, 400)), ErrNotFound)
	wantErr(t, v.Stats().Poisoned, ErrPoisoned)
	closeVolume(t, v)
	now, err := vfs.ReadFile(c.mem, testFile, 1<<20)
	if err != nil || !slices.Equal(before, now) || len(ops) > 0 {
		t.Fatalf("a poisoned volume was changed: %v, %v", ops, err)
	}
	// A damaged marker still poisons; everything whole is served.
	overwrite(t, c.mem, "/d/"+markerName(7, 1), 24, []byte{1})
	v = reopen(t, c.mem)
	mustRead(t, v, testNeedle(4, 0, 400))
	wantErr(t, v.Append(bg, []Needle{testNeedle(5, 0, 10)}), ErrPoisoned)
	closeVolume(t, v)
}

// TestOpenFaults makes every call of Open fail in turn: the volume is served
// read-only or not opened, and nothing acknowledged is lost by it.
func TestOpenFaults(t *testing.T) {
	for n := int64(1); ; n++ {
		c := newCrashed(t, 1)
		overwrite(t, c.mem, testFile, c.offsets[1]+500, make([]byte, 700))
		hit, active, lasting := false, true, false
		fault := &vfs.Fault{FS: c.mem, Before: func(op vfs.Op) vfs.Outcome {
			if op.N == n && active {
				hit = true
				switch op.Kind {
				case vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpTruncate, vfs.OpAllocate:
					lasting = true
				}
				return vfs.Outcome{Err: unix.EIO, Short: op.Len / 2}
			}
			return vfs.Outcome{}
		}}
		v, err := Open("/d", 7, Options{FS: fault})
		opened := err == nil
		active = false
		if opened {
			mustRead(t, v, testNeedle(3, 0, 800))
			wantErr(t, readErr(v, testNeedle(2, 0, 900)), ErrNotFound)
			if err := v.Append(bg, []Needle{testNeedle(9, 0, 10)}); err != nil {
				wantErr(t, err, ErrPoisoned)
			}
			closeVolume(t, v)
		}
		v = reopen(t, c.mem.Kill())
		if opened {
			mustRead(t, v, testNeedle(3, 0, 800))
			mustRead(t, v, testNeedle(4, 0, 400))
		}
		wantErr(t, readErr(v, testNeedle(2, 0, 900)), ErrNotFound)
		if err := v.Append(bg, []Needle{testNeedle(9, 0, 10)}); lasting != errors.Is(err, ErrPoisoned) {
			t.Fatalf("call %d failed, and the next process may append: %v", n, err)
		}
		closeVolume(t, v)
		if !hit {
			if n < 15 {
				t.Fatalf("only %d calls", n)
			}
			return
		}
	}
}

// TestKilledBeforeTheMarker: between a failed sync and a durable marker the
// process is killed, at each call in turn. The next one finds pages that the
// device never got, and nobody's word of warning: what it serves all the same is
// still there after the power went.
func TestKilledBeforeTheMarker(t *testing.T) {
	served, absent := 0, 0
	for seed := range uint64(60) {
		mem := newMem(t, seed)
		failed := false
		var images []*vfs.Mem
		fault := &vfs.Fault{FS: mem}
		v := create(t, fault)
		mustAppend(t, v, testNeedle(1, 0, 5000))
		fault.Before = func(op vfs.Op) vfs.Outcome {
			if failed && mutates(op.Kind) {
				images = append(images, mem.Kill())
			}
			if op.Kind == vfs.OpSync && op.Name == testFile {
				failed = true
				return vfs.Outcome{Err: unix.EIO}
			}
			return vfs.Outcome{}
		}
		wantErr(t, v.Append(bg, []Needle{testNeedle(2, 0, 20000)}), ErrPoisoned)
		if len(images) < 4 { // the marker is made, written, synced, named
			t.Fatalf("seed %d: %d calls after the failed sync", seed, len(images))
		}
		closeVolume(t, v)
		for i, image := range images {
			w := reopen(t, image)
			mustRead(t, w, testNeedle(1, 0, 5000))
			found := readErr(w, testNeedle(2, 0, 20000)) == nil
			after := reopen(t, image.Crash(seed))
			mustRead(t, after, testNeedle(1, 0, 5000))
			if found {
				served++
				mustRead(t, after, testNeedle(2, 0, 20000))
			} else {
				absent++
			}
			if i == 0 && w.poisoned() != nil {
				t.Fatalf("seed %d: poisoned, and there is no marker", seed)
			}
			closeVolume(t, after)
			closeVolume(t, w)
		}
	}
	if served == 0 || absent == 0 {
		t.Fatalf("served %d times, absent %d times: one of the two was never tried", served, absent)
	}
}
