package volume

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"hayloft/internal/vfs"
)

// aheadFile is a file of n random bytes.
func aheadFile(t *testing.T, n int, seed uint64) (*vfs.Mem, []byte) {
	t.Helper()
	content := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	rng.Read(content) //nolint:errcheck // never fails
	mem := newMem(t, seed)
	replaceFile(t, mem, "/d/f", content)
	return mem, content
}

// TestAheadGivesTheFile: windows at ascending offsets, across pieces and over
// jumps, hold the file's bytes, and with a walker every request is served,
// whether it was read ahead or not.
func TestAheadGivesTheFile(t *testing.T) {
	for _, seed := range seeds(4) {
		rng := rand.New(rand.NewPCG(seed, 9))
		mem, content := aheadFile(t, 6*pieceBytes+rng.IntN(pieceBytes), seed)
		file, err := mem.Open("/d/f")
		if err != nil {
			t.Fatal(err)
		}
		w := &walker{file: file, end: int64(len(content))}
		end := w.readAhead(mem, "/d/f", 0)
		if w.ahead == nil {
			t.Fatal("nothing is read ahead")
		}
		for off := int64(0); off < w.end; {
			n := 1 + rng.IntN(1<<rng.IntN(21))
			b, err := w.window(off, n)
			n = int(min(int64(n), w.end-off))
			if err != nil || !bytes.Equal(b, content[off:][:n]) {
				t.Fatalf("%d bytes at %d are wrong (%v)\n%s", n, off, err, repeatWith(t, seed))
			}
			off += rng.Int64N(1 << rng.IntN(20))
			if rng.IntN(50) == 0 {
				off = max(0, off-pieceBytes) // what follows is found again
			}
		}
		if end(); w.ahead != nil {
			t.Fatal("still reading ahead")
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAheadHelps: a walk over small records is served by what was read ahead,
// nearly without reads of its own.
func TestAheadHelps(t *testing.T) {
	mem, content := aheadFile(t, 8*pieceBytes, 1)
	var own atomic.Int64
	counting := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead {
			own.Add(1)
		}
		return vfs.Outcome{}
	}}
	file, err := counting.Open("/d/f")
	if err != nil {
		t.Fatal(err)
	}
	w := &walker{file: file, end: int64(len(content))}
	defer w.readAhead(mem, "/d/f", 0)()
	for off := int64(8192); off < w.end; off += 65_600 {
		if b, err := w.window(off, headerSize); err != nil || !bytes.Equal(b, content[off:min(off+headerSize, w.end)]) {
			t.Fatalf("header at %d: %v", off, err)
		}
	}
	if n := own.Load(); n != 0 {
		t.Errorf("the walk read %d times itself", n)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAheadFails: where reading ahead fails, the walk reads for itself and
// finds what there is; what the device cannot read counts as before.
func TestAheadFails(t *testing.T) {
	failed := errors.New("no")
	for name, before := range map[string]func(op vfs.Op) bool{
		"a piece": func(op vfs.Op) bool { return op.Kind == vfs.OpRead && op.Len == pieceBytes && op.Off == 3*pieceBytes },
		"open":    func(op vfs.Op) bool { return op.Kind == vfs.OpOpen },
		"size":    func(op vfs.Op) bool { return op.Kind == vfs.OpSize },
	} {
		mem, content := aheadFile(t, 8*pieceBytes, 2)
		file, err := mem.Open("/d/f")
		if err != nil {
			t.Fatal(err)
		}
		fsys := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
			if before(op) {
				return vfs.Outcome{Err: failed}
			}
			return vfs.Outcome{}
		}}
		w := &walker{file: file, end: int64(len(content))}
		end := w.readAhead(fsys, "/d/f", 0)
		for off := int64(0); off < w.end; off += 40_000 {
			if b, err := w.window(off, headerSize); err != nil || !bytes.Equal(b, content[off:min(off+headerSize, w.end)]) {
				t.Fatalf("%s: header at %d: %v", name, off, err)
			}
		}
		end()
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
