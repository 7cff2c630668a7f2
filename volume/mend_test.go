package volume

import (
	"errors"
	"strings"
	"testing"

	"hayloft/internal/vfs"
)

func content(t testing.TB, fs vfs.FS, name string) string {
	t.Helper()
	b, err := vfs.ReadFile(fs, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func findings(t testing.TB, v *Volume) (out []Finding) {
	t.Helper()
	if _, err := v.Check(bg, func(f Finding) { out = append(out, f) }); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMendSuperblock: either copy of an open, a fenced and a sealed volume comes back
// as it was, while the volume is in service.
func TestMendSuperblock(t *testing.T) {
	for _, state := range []string{"open", "fenced", "sealed", "sealed before"} {
		for copyNo := range int64(2) {
			mem := newMem(t, 1)
			v := create(t, mem)
			mustAppend(t, v, testNeedle(1, 0, 100))
			if state == "fenced" {
				if err := v.Fence(bg); err != nil {
					t.Fatal(err)
				}
			}
			if strings.HasPrefix(state, "sealed") {
				mustSeal(t, v)
			}
			if state == "sealed before" {
				closeVolume(t, v)
				v = reopen(t, mem)
			}
			before := content(t, mem, v.name)
			if err := mem.Flip(v.name, copyNo*superblockSize+40, 4); err != nil {
				t.Fatal(err)
			}
			if all := findings(t, v); len(all) != 1 || all[0].Kind != FindingSuperblock {
				t.Fatalf("%s: %v", state, all)
			}
			if err := v.MendSuperblock(bg); err != nil {
				t.Fatal(err)
			}
			if all := findings(t, v); len(all) != 0 || content(t, mem, v.name) != before {
				t.Errorf("%s, copy %d: %v", state, copyNo, all)
			}
			closeVolume(t, v)
		}
	}
}

// TestMendSuperblockFails: the write poisons, as every other does.
func TestMendSuperblockFails(t *testing.T) {
	mem := newMem(t, 1)
	failing := false
	v := create(t, &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if failing && op.Kind == vfs.OpWrite {
			return vfs.Outcome{Err: errDisk}
		}
		return vfs.Outcome{}
	}})
	mustAppend(t, v, testNeedle(1, 0, 100))
	if err := mem.Flip(v.name, 40, 4); err != nil {
		t.Fatal(err)
	}
	failing = true
	if err := v.MendSuperblock(bg); !errors.Is(err, ErrPoisoned) || v.Poisoned() == nil {
		t.Fatal(err)
	}
	failing = false
	closeVolume(t, v)
}

var errDisk = errors.New("the disk fails")

// TestMendBeside: a checkpoint and a sealed index that are damaged, cut off or gone
// are found and made again, and the next opening believes them.
func TestMendBeside(t *testing.T) {
	spoil := map[string]func(mem *vfs.Mem, name string) error{
		"flip": func(mem *vfs.Mem, name string) error { return mem.Flip(name, 150, 1) },
		"gone": func(mem *vfs.Mem, name string) error { return mem.Remove(name) },
		"cut": func(mem *vfs.Mem, name string) error {
			f, err := mem.OpenWrite(name)
			if err == nil {
				err = errors.Join(f.Truncate(100), f.Sync(), f.Close())
			}
			return err
		},
	}
	for what, damage := range spoil {
		for _, sealed := range []bool{false, true} {
			mem := newMem(t, 1)
			v := create(t, mem)
			if b, err := v.CheckBeside(bg); err != nil || b != (Beside{}) {
				t.Fatalf("before there is one: %+v, %v", b, err)
			}
			mustAppend(t, v, testNeedle(1, 0, 100))
			mustAppend(t, v, testNeedle(2, 0, 100))
			if sealed {
				mustSeal(t, v)
			} else if err := v.MendBeside(bg); err != nil {
				t.Fatal(err)
			}
			b, err := v.CheckBeside(bg)
			if err != nil || b.Err != nil || b.File == "" || b.Bytes < 128 {
				t.Fatalf("sound: %+v, %v", b, err)
			}
			if err := damage(mem, "/d/"+b.File); err != nil {
				t.Fatal(err)
			}
			if b, err = v.CheckBeside(bg); err != nil || b.Err == nil {
				t.Fatalf("%s, sealed %v: %+v, %v", what, sealed, b, err)
			}
			if err := v.MendBeside(bg); err != nil {
				t.Fatal(err)
			}
			if b, err = v.CheckBeside(bg); err != nil || b.Err != nil {
				t.Errorf("%s, sealed %v, mended: %+v, %v", what, sealed, b, err)
			}
			killed := mem.Kill()
			closeVolume(t, v)
			v = reopen(t, killed)
			if !v.Stats().Recovery.Checkpoint {
				t.Errorf("%s, sealed %v: the next opening did not believe it", what, sealed)
			}
			closeVolume(t, v)
		}
	}
}

// TestRestore: a damaged range comes back from another copy of the file, and what
// the copy cannot give stays as it is.
func TestRestore(t *testing.T) {
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	name := v.name
	good := content(t, mem, name)
	from := func(b []byte, off int64) error {
		copy(b, good[off:])
		return nil
	}
	for off := int64(dataStart); off < int64(len(good)); off += 61 {
		if err := mem.Flip(name, off, 1<<(off%8)); err != nil {
			t.Fatal(err)
		}
		for _, f := range findings(t, v) {
			if f.Kind != FindingGap && f.Kind != FindingData {
				continue
			}
			refused := errors.New("no copy")
			if err := v.Restore(bg, f.Offset, f.Length, func([]byte, int64) error { return refused }); !errors.Is(err, refused) {
				t.Fatal(err)
			}
			if err := v.Restore(bg, f.Offset, f.Length, from); err != nil {
				t.Fatal(err)
			}
		}
		if all := findings(t, v); len(all) > 0 {
			t.Fatalf("flipped at %d: %v", off, all)
		}
	}
	for _, bad := range [][2]int64{{-1, 10}, {dataStart, int64(len(good))}, {dataStart, -1}} {
		if err := v.Restore(bg, bad[0], bad[1], from); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	checkSample(t, v, live, dead)
	closeVolume(t, v)
	open := create(t, newMem(t, 2))
	if err := open.Restore(bg, dataStart, 8, from); !errors.Is(err, ErrNotSealed) {
		t.Error(err)
	}
	closeVolume(t, open)
}

// TestCheckDeleteLog: every flipped bit of what was synced is found, and what is
// there besides is no business of it.
func TestCheckDeleteLog(t *testing.T) {
	mem := newMem(t, 1)
	v, _, _ := sealSample(t, mem)
	end := v.sealing.part.Load().log.cur.Load().v.synced.Load()
	killed := mem.Kill()
	closeVolume(t, v)
	name := "/d/" + DeleteLogName(7)
	if err := CheckDeleteLog(killed, "/d", 7, end); err != nil {
		t.Fatal(err)
	}
	idle := bodiesOfPadding(t, killed, name)
	for off := range end {
		m := killed.Kill()
		if err := m.Flip(name, off, 1<<(off%8)); err != nil {
			t.Fatal(err)
		}
		if err := CheckDeleteLog(m, "/d", 7, end); !errors.Is(err, ErrCorrupt) && !idle(off) {
			t.Fatalf("flipped at %d: %v", off, err)
		}
	}
	if err := CheckDeleteLog(killed, "/d", 7, 1<<40); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}
