package volume

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"hayloft/internal/vfs"
)

var errInjected = errors.New("injected")

// unusedSample leaves a closed volume without needles in /d, with a checkpoint
// and an unfinished file beside it.
func unusedSample(t testing.TB, mem *vfs.Mem) {
	t.Helper()
	closeVolume(t, create(t, mem))
	base := "/d/" + baseName(testIdent.Volume, 1)
	for _, name := range []string{base + checkpointExt, base + volumeExt + tmpExt, "/d/other"} {
		f, err := mem.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := mem.SyncDir("/d"); err != nil {
		t.Fatal(err)
	}
}

func filesOf(t testing.TB, fs vfs.FS) string {
	t.Helper()
	names, err := fs.ReadDir("/d")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// Each call fails once, and the power goes there: afterwards there is no file
// without the volume's, and another attempt removes all.
func TestRemoveUnused(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		mem := newMem(t, uint64(at))
		unusedSample(t, mem)
		n := 0
		var cut *vfs.Mem
		failing := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
			if n++; n == at {
				cut = mem.Crash(uint64(at))
				return vfs.Outcome{Err: errInjected}
			}
			return vfs.Outcome{}
		}}
		err := RemoveUnused("/d", testIdent, Options{FS: failing})
		if cut == nil {
			if err != nil || filesOf(t, mem) != "other" {
				t.Fatalf("%v, %s", err, filesOf(t, mem))
			}
			if at < 15 {
				t.Fatalf("%d calls", at)
			}
			return
		}
		if err == nil && filesOf(t, mem) != "other" {
			t.Fatalf("call %d failed, and nobody said so", at)
		}
		for _, left := range []*vfs.Mem{mem, cut} {
			have := filesOf(t, left)
			if have != "other" && !strings.Contains(have, volumeExt+" ") && !strings.HasSuffix(have, volumeExt) {
				t.Fatalf("call %d: only %s is left", at, have)
			}
			if err := RemoveUnused("/d", testIdent, Options{FS: left}); err != nil || filesOf(t, left) != "other" {
				t.Fatalf("call %d, again: %v, %s", at, err, filesOf(t, left))
			}
		}
	}
}

// What may hold something stays.
func TestRemoveUnusedRefuses(t *testing.T) {
	t.Parallel()
	name := "/d/" + FileName(testIdent.Volume, 1)
	for what, c := range map[string]struct {
		prepare func(*testing.T, *vfs.Mem)
		want    error
	}{
		"a needle": {func(t *testing.T, mem *vfs.Mem) {
			v := create(t, mem)
			mustAppend(t, v, testNeedle(1, 0, 10))
			closeVolume(t, v)
		}, ErrConflict},
		"sealed": {func(t *testing.T, mem *vfs.Mem) {
			v, _, _ := sealSample(t, mem)
			closeVolume(t, v)
		}, ErrConflict},
		"of another class": {func(t *testing.T, mem *vfs.Mem) {
			other := testIdent
			other.Class = ClassOriginals + ClassVariants - other.Class
			v, err := Create("/d", other, Options{FS: mem})
			if err != nil {
				t.Fatal(err)
			}
			closeVolume(t, v)
		}, ErrConflict},
		"poisoned": {func(t *testing.T, mem *vfs.Mem) {
			var wrote atomic.Bool
			fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
				if op.Name != name {
					return vfs.Outcome{}
				}
				if op.Kind == vfs.OpWrite && op.Off >= dataStart {
					wrote.Store(true)
				}
				if op.Kind == vfs.OpSync && wrote.Load() {
					return vfs.Outcome{Err: errInjected}
				}
				return vfs.Outcome{}
			}}
			v := create(t, fault)
			if err := v.Append(bg, []Needle{testNeedle(1, 0, 10)}); !errors.Is(err, ErrPoisoned) {
				t.Fatal(err)
			}
			_ = v.Close() // the sync fails again
		}, ErrPoisoned},
		"damaged": {func(t *testing.T, mem *vfs.Mem) {
			closeVolume(t, create(t, mem))
			for _, off := range []int64{20, superblockSize + 20} {
				if err := mem.Flip(name, off, 1); err != nil {
					t.Fatal(err)
				}
			}
		}, ErrCorrupt},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			mem := newMem(t, 1)
			c.prepare(t, mem)
			wantErr(t, RemoveUnused("/d", testIdent, Options{FS: mem}), c.want)
			if _, err := mem.Stat(name); err != nil {
				t.Error(err)
			}
		})
	}
	mem := newMem(t, 1)
	wantErr(t, RemoveUnused("/d", Identity{}, Options{FS: mem}), ErrInvalid)
	if err := RemoveUnused("/d", testIdent, Options{FS: mem}); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	// Who deletes an id that was reserved there leaves a tombstone.
	v := create(t, mem)
	if err := v.Delete(bg, testNeedle(1, 0, 1).Key); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
	if err := RemoveUnused("/d", testIdent, Options{FS: mem}); err != nil || filesOf(t, mem) != "" {
		t.Errorf("a tombstone: %v, %s", err, filesOf(t, mem))
	}
}

// Create that was cut off anywhere leaves nothing behind, and what is not
// Create's stays.
func TestRemoveUnfinished(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 4; at++ { // list, create, write, sync …
		mem := newMem(t, 1)
		n := 0
		failing := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
			switch op.Kind {
			case vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename:
				n++
			}
			if n >= at {
				return vfs.Outcome{Err: errInjected}
			}
			return vfs.Outcome{}
		}}
		if _, err := Create("/d", testIdent, Options{FS: failing}); err == nil {
			t.Fatalf("call %d failed, and a volume was made", at)
		}
		if err := RemoveUnfinished("/d", Options{FS: mem}); err != nil || filesOf(t, mem) != "" {
			t.Errorf("call %d: %v, %s", at, err, filesOf(t, mem))
		}
	}
	mem := newMem(t, 1)
	closeVolume(t, create(t, mem))
	for _, name := range []string{FileName(testIdent.Volume, 1), FileName(99, 2), FileName(98, 1), "x"} {
		f, err := mem.Create("/d/" + name + tmpExt)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fails := vfs.OpReadDir
	failing := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == fails {
			return vfs.Outcome{Err: errInjected}
		}
		return vfs.Outcome{}
	}}
	for _, fails = range []vfs.OpKind{vfs.OpReadDir, vfs.OpStat, vfs.OpRemove} {
		wantErr(t, RemoveUnfinished("/d", Options{FS: failing}), errInjected)
	}
	busy, err := mem.OpenWrite("/d/" + FileName(98, 1) + tmpExt)
	if err != nil {
		t.Fatal(err)
	}
	if err := RemoveUnfinished("/d", Options{FS: mem}); err != nil || !strings.Contains(filesOf(t, mem), FileName(98, 1)) {
		t.Fatal(err, filesOf(t, mem))
	}
	if err := errors.Join(busy.Close(), RemoveUnfinished("/d", Options{FS: mem})); err != nil {
		t.Fatal(err)
	}
	if have := filesOf(t, mem); strings.Contains(have, FileName(98, 1)) || strings.Contains(have, FileName(99, 2)) || strings.Count(have, tmpExt) != 2 {
		t.Error(have)
	}
}
