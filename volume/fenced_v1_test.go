package volume

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// fenceSample makes a fenced volume with deletes in its file and in its log, and with
// what another replica's file had.
func fenceSample(t testing.TB, fs vfs.FS) (v *Volume, live, dead []Needle) {
	t.Helper()
	v, err := Create("/d", testIdent, Options{FS: fs, AllocChunk: 2048})
	if err != nil {
		t.Fatal(err)
	}
	live = []Needle{testNeedle(9, 0, 300), testNeedle(9, 1, 77), testNeedle(3, 2, 0), testNeedle(4, 0, 600)}
	dead = []Needle{testNeedle(2, 0, 200), testNeedle(5, 0, 10), testNeedle(6, 1, 40), testNeedle(7, 0, 50)}
	mustAppend(t, v, live[0], live[1])
	mustAppend(t, v, dead...)
	err = errors.Join(v.Delete(bg, 2), v.Fence(bg), v.Delete(bg, 5), v.Fill(bg, live[2:]))
	if _, logErr := v.LogDeletes(bg, 1, []id.ID{6, 77}); errors.Join(err, logErr, v.Bury(bg, []id.ID{7})) != nil {
		t.Fatal(err, logErr)
	}
	return v, live, dead
}

// TestV1FencedOpens: fenced files of version 1 open for ever, and are sealed. The
// files in testdata/v1 are never made again: "fenced" is what fenceSample makes.
func TestV1FencedOpens(t *testing.T) {
	dir := t.TempDir()
	for from, name := range map[string]string{"fenced.vol": FileName(7, 1), "fenced.deletes": DeleteLogName(7)} {
		b, err := os.ReadFile(filepath.Join("testdata", "v1", from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, live, dead := fenceSampleOf(t)
	for _, seal := range []bool{false, true, true} {
		v, err := Open(dir, 7, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !v.Fenced() {
			t.Error("not fenced")
		}
		if seal {
			if rec := mustSeal(t, v); rec.Needles != 6 || rec.Deletes != 0 {
				t.Errorf("%+v", rec)
			}
		}
		if err := checkNeedles(v, live, dead); err != nil {
			t.Error(err)
		}
		wantLog(t, v, []id.ID{5, 6, 77})
		noFindings(t, v)
		closeVolume(t, v)
	}
}

// fenceSampleOf is fenceSample whose volume is closed again.
func fenceSampleOf(t testing.TB) (mem *vfs.Mem, live, dead []Needle) {
	mem = newMem(t, 1)
	v, live, dead := fenceSample(t, mem)
	closeVolume(t, v)
	return mem, live, dead
}

// TestEveryFencedBitFlip flips one bit in every byte of a fenced volume and of its
// delete log: each needle has its right bytes or is explicitly corrupt, what was
// deleted never comes back, and Check sees whatever reads see.
func TestEveryFencedBitFlip(t *testing.T) {
	t.Parallel()
	mem, live, dead := fenceSampleOf(t)
	names := []string{testFile, "/d/" + DeleteLogName(7)}
	for _, name := range names {
		idle := bodiesOfPadding(t, mem, name)
		for off := range int64(len(fileOf(t, mem, name))) {
			if idle(off) || off%superblockSize > 700 && off < dataStart && off%superblockSize < 4000 {
				continue
			}
			m := mem.Kill()
			if err := m.Flip(name, off, byte(1)<<(off%8)); err != nil {
				t.Fatal(err)
			}
			v, err := Open("/d", 7, Options{FS: m, AllocChunk: 2048})
			if err != nil {
				t.Fatalf("%s, byte %d: one flipped bit keeps the volume shut: %v", name, off, err)
			}
			bad := 0
			for _, n := range slices.Concat(live, dead) {
				b, err := v.Read(bg, n.Key, n.Alt, n.Cookie)
				switch gone := slices.ContainsFunc(dead, func(d Needle) bool { return d.Key == n.Key }); {
				case errors.Is(err, ErrCorrupt):
					bad++
				case err == nil && !gone && bytes.Equal(b.Data, n.Data):
				case errors.Is(err, ErrNotFound) && gone:
				default:
					t.Fatalf("%s, byte %d: %v/%d, deleted %v: %v", name, off, n.Key, n.Alt, gone, err)
				}
				b.Release()
			}
			found := 0
			if _, err := v.Check(bg, func(Finding) { found++ }); err != nil || bad > 0 && found == 0 {
				t.Fatalf("%s, byte %d: %d bad reads, %d findings, %v", name, off, bad, found, err)
			}
			closeVolume(t, v)
		}
	}
}
