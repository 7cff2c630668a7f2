package volume

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"hayloft/internal/vfs"
)

// TestEveryBitFlip flips one bit in every byte of a small volume. On a volume
// that was closed cleanly each needle then has its right bytes or the explicit
// error "corrupt", never "not found"; after a crash the last batch may also be
// gone. Deleted needles never come back, and Check sees whatever reads see.
func TestEveryBitFlip(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, err := Create("/d", testIdent, Options{FS: mem, AllocChunk: 2048}) // a small file: it is copied for each byte
	if err != nil {
		t.Fatal(err)
	}
	live := []Needle{testNeedle(1, 0, 300), testNeedle(1, 1, 77), testNeedle(3, 2, 0), testNeedle(4, 0, 600)}
	dead := []Needle{testNeedle(2, 0, 200), testNeedle(5, 0, 10)}
	mustAppend(t, v, live[0], live[1])
	mustAppend(t, v, dead[0])
	mustAppend(t, v, dead[1])
	if err := v.Delete(bg, 2); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, v, live[2])
	if err := v.Delete(bg, 5); err != nil {
		t.Fatal(err)
	}
	lastBatch := v.Stats().FileBytes
	mustAppend(t, v, live[3])
	killed := mem.Kill()
	closeVolume(t, v)
	scanned := mem.Kill()
	forget(t, scanned)
	for name, image := range map[string]*vfs.Mem{"closed": mem, "scanned": scanned, "killed": killed} {
		st, err := image.Stat(testFile)
		if err != nil {
			t.Fatal(err)
		}
		end := min(st.Size, lastBatch+2000)
		idle := bodiesOfPadding(t, image, testFile)
		for off := range end {
			if idle(off) {
				continue
			}
			mask := byte(1) << (off % 8)
			m := image.Kill()
			if err := m.Flip(testFile, off, mask); err != nil {
				t.Fatal(err)
			}
			v, err := Open("/d", 7, Options{FS: m, AllocChunk: 2048})
			if err != nil {
				t.Fatalf("%s, byte %d: one flipped bit keeps the volume shut: %v", name, off, err)
			}
			corrupt := 0
			for _, n := range live {
				b, err := v.Read(bg, n.Key, n.Alt, n.Cookie)
				switch {
				case err == nil && bytes.Equal(b.Data, n.Data) && b.Master.equal(n.Master):
				case errors.Is(err, ErrCorrupt):
					corrupt++
				case errors.Is(err, ErrNotFound) && name == "killed" && n.Key == 4 && off >= lastBatch:
				default:
					t.Fatalf("%s, byte %d: %v/%d: wrong bytes or error %v", name, off, n.Key, n.Alt, err)
				}
			}
			for _, n := range dead {
				if err := readErr(v, n); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s, byte %d: deleted %v: %v", name, off, n.Key, err)
				}
			}
			findings := 0
			if _, err := v.Check(bg, func(Finding) { findings++ }); err != nil {
				t.Fatal(err)
			}
			if corrupt > 1 || corrupt > 0 && findings == 0 {
				t.Fatalf("%s, byte %d: %d needles corrupt, %d findings", name, off, corrupt, findings)
			}
			closeVolume(t, v)
		}
	}
}

// bodiesOfPadding tells which bytes of a volume file mean nothing, one in 61 left
// out.
func bodiesOfPadding(t *testing.T, fs vfs.FS, name string) func(int64) bool {
	t.Helper()
	var bodies []extent
	if _, err := Scan(fs, name, func(r Record) error {
		if r.Kind == KindPadding {
			bodies = append(bodies, extent{r.Offset + headerSize, r.Offset + r.Size})
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return func(off int64) bool {
		return off%61 != 0 && slices.ContainsFunc(bodies, func(e extent) bool { return off >= e.off && off < e.end })
	}
}
