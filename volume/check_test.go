package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// TestCheck finds each kind of damage at its place, and nothing in a sound
// volume.
func TestCheck(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	sizes := []int{100, 200 << 10, 0, 1000}
	for i, size := range sizes {
		mustAppend(t, v, testNeedle(id.ID(i+1), 0, size))
	}
	if err := v.Delete(bg, 3); err != nil {
		t.Fatal(err)
	}
	check := func() (Report, []Finding) {
		t.Helper()
		var all []Finding
		r, err := v.Check(bg, func(f Finding) { all = append(all, f) })
		if err != nil {
			t.Fatal(err)
		}
		return r, all
	}
	r, all := check()
	if len(all) != 0 || r.Needles != 4 || r.Tombstones != 2 || r.Bytes != v.Stats().FileBytes || r.Findings != 0 {
		t.Fatalf("%+v, %+v", r, all)
	}
	place := func(key id.ID) int64 { p, _, _ := v.idx.Load().get(key, 0); return p.off }
	for name, c := range map[string]struct {
		off  int64
		kind FindingKind
		key  id.ID
	}{
		"data":         {place(1) + headerSize + 50, FindingData, 1},
		"large data":   {place(2) + 100<<10, FindingData, 2},
		"header":       {place(4) + 3, FindingGap, 0},
		"superblock 1": {superblockSize + 999, FindingSuperblock, 0},
	} {
		flip(t, mem, c.off)
		r, all := check()
		if len(all) == 0 || all[0].Kind != c.kind || all[0].Key != c.key || r.Findings != int64(len(all)) ||
			!errors.Is(all[0].Err, ErrCorrupt) {
			t.Errorf("%s: %+v", name, all)
		}
		flip(t, mem, c.off)
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, err := v.Check(ctx, func(Finding) {})
	wantErr(t, err, context.Canceled)
	closeVolume(t, v)
	_, err = v.Check(bg, func(Finding) {})
	wantErr(t, err, ErrClosed)
}

func place0(v *Volume, key id.ID) place { p, _, _ := v.idx.Load().get(key, 0); return p }

func flip(t *testing.T, m *vfs.Mem, off int64) {
	t.Helper()
	if err := m.Flip(testFile, off, 1); err != nil {
		t.Fatal(err)
	}
}

// TestScan sees every record of a live volume's file with nothing but the
// file, damaged ones included.
func TestScan(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	want := []Needle{testNeedle(1, 0, 100), testNeedle(1, 1, 200<<10), testNeedle(2, 0, 500), testNeedle(3, 0, 5)}
	mustAppend(t, v, want[:2]...)
	mustAppend(t, v, want[2])
	mustAppend(t, v, want[3])
	flip(t, mem, place0(v, 2).off+headerSize+60)
	flip(t, mem, place0(v, 3).off+1)
	var got []Record
	padding := 0
	ident, err := Scan(mem, testFile, func(r Record) error {
		if r.Kind == KindPadding {
			padding++
			return r.Err
		}
		if r.Err == nil && r.Kind == KindNeedle {
			n := want[len(got)]
			if r.Key != n.Key || r.Alt != n.Alt || r.Cookie != n.Cookie || string(r.Data) != string(n.Data) || !r.Master.equal(n.Master) {
				t.Fatalf("record at %d", r.Offset)
			}
		}
		r.Data = nil
		got = append(got, r)
		return nil
	})
	if err != nil || ident != testIdent {
		t.Fatal(ident, err)
	}
	if padding != 3 || len(got) != 4 || got[2].Err == nil || got[2].Key != 2 || got[3].Kind != 0 || got[3].Err == nil {
		t.Fatalf("%+v", got)
	}
	stop := errors.New("stop")
	_, err = Scan(mem, testFile, func(Record) error { return stop })
	wantErr(t, err, stop)
	closeVolume(t, v)
	if all, err := List(mem, "/d"); err != nil || len(all) != 1 || all[0].Volume != 7 || all[0].Name != "00000007-00000001.vol" {
		t.Fatalf("%+v, %v", all, err)
	}
}

// TestV1Opens: files of version 1 open for ever. The files in testdata/v1 are
// never made again. "closed" was closed cleanly after a crash whose torn batch
// left a void record; "torn" is that same file before it was recovered, with a
// hole in its last batch and preallocated zeros behind it. The "padded" two are
// the same with the batches of a writer that goes past the page cache.
func TestV1Opens(t *testing.T) {
	for _, file := range []string{"closed", "torn", "padded", "padded-torn"} {
		t.Run(file, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata", "v1", file+".vol"))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, FileName(7, 1)), b, 0o600); err != nil {
				t.Fatal(err)
			}
			v, err := Open(dir, 7, Options{})
			if err != nil {
				t.Fatal(err)
			}
			// Batches: 1/0 and 1/1; 2; the deletion of 2; 6, large; then the
			// torn one: 3/0, 3/1 (lost), 4/0.
			for _, n := range []Needle{testNeedle(1, 0, 700), testNeedle(1, 1, 300), testNeedle(6, 2, blocksAbove+1),
				testNeedle(3, 0, 800), testNeedle(4, 0, 400)} {
				mustRead(t, v, n)
			}
			wantErr(t, readErr(v, testNeedle(2, 0, 900)), ErrNotFound)
			wantErr(t, readErr(v, testNeedle(3, 1, 1500)), ErrNotFound)
			if v.Identity() != testIdent || !v.sb.Created.Equal(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)) {
				t.Fatalf("%+v", v.sb)
			}
			r, err := v.Check(bg, func(f Finding) { t.Errorf("%+v", f) })
			if err != nil || r.Needles != 6 || r.VoidBytes == 0 || r.Tombstones != 2 {
				t.Fatalf("%+v, %v", r, err)
			}
			closeVolume(t, v)
		})
	}
}
