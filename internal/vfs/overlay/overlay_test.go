package overlay

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"hayloft/internal/vfs"
)

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRandomAgainstBytes compares a file with a plain slice under random
// writes, cuts, growth and reads, while the machine's file stays as it was.
func TestRandomAgainstBytes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	name := filepath.Join(t.TempDir(), "f")
	want := make([]byte, 50_000)
	for i := range want {
		want[i] = byte(rng.Uint32())
	}
	before := bytes.Clone(want)
	fatal(t, os.WriteFile(name, want, 0o600))
	var o FS
	f, err := o.OpenWrite(name)
	fatal(t, err)
	for step := range 3000 {
		off, n := rng.IntN(60_000), rng.IntN(9000)
		switch rng.IntN(5) {
		case 0:
			b := bytes.Repeat([]byte{byte(step)}, n)
			if got, err := f.WriteVAt([][]byte{b[:n/2], b[n/2:]}, int64(off)); err != nil || got != n {
				t.Fatal(got, err)
			}
			if n > 0 {
				want = append(want, make([]byte, max(0, off+n-len(want)))...)
				copy(want[off:], b)
			}
		case 1:
			if rng.IntN(20) != 0 {
				continue
			}
			fatal(t, f.Truncate(int64(off)))
			want = append(want, make([]byte, max(0, off-len(want)))...)[:off]
		case 2:
			fatal(t, f.Allocate(int64(off), int64(n)))
			want = append(want, make([]byte, max(0, off+n-len(want)))...)
		default:
			g, err := o.Open(name)
			fatal(t, err)
			b := make([]byte, n)
			got, err := g.ReadAt(b, int64(off))
			expect := want[min(off, len(want)):min(off+n, len(want))]
			if !bytes.Equal(b[:got], expect) || err != nil && err != io.EOF || (err == io.EOF) != (got < n) && n > 0 && off < len(want) {
				t.Fatalf("step %d: %d bytes at %d of %d: got %d, %v", step, n, off, len(want), got, err)
			}
		}
		if size, err := f.Size(); err != nil || size != int64(len(want)) {
			t.Fatal(step, size, len(want), err)
		}
	}
	fatal(t, o.Close())
	after, err := os.ReadFile(name)
	fatal(t, err)
	if !bytes.Equal(before, after) {
		t.Fatal("the machine's file was changed")
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	fatal(t, os.WriteFile(at("a"), []byte("aa"), 0o600))
	fatal(t, os.WriteFile(at("b"), []byte("bb"), 0o600))
	var o FS
	fatal(t, vfs.WriteFile(&o, at("c"), []byte("cc")))
	fatal(t, o.Rename(at("a"), at("b")))
	b, err := vfs.ReadFile(&o, at("b"), 10)
	if err != nil || string(b) != "aa" {
		t.Fatalf("%q %v", b, err)
	}
	if _, err := o.Open(at("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if _, err := o.Stat(at("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if st, err := o.Stat(at("c")); err != nil || st.Size != 2 {
		t.Fatal(st, err)
	}
	if err := o.Remove(at("d")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	names, err := o.ReadDir(dir)
	if err != nil || !slices.Equal(names, []string{"b", "c"}) {
		t.Fatal(names, err)
	}
	fatal(t, o.Remove(at("c")))
	fatal(t, o.Close())
	names, err = vfs.OS{}.ReadDir(dir)
	if err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Fatal("the machine's directory was changed:", names, err)
	}
}

func TestShare(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	fatal(t, os.WriteFile(name, nil, 0o600))
	w, err := vfs.OS{}.OpenWrite(name)
	fatal(t, err)
	o, p := FS{Share: true}, FS{Share: true}
	if _, err := o.OpenWrite(name); !errors.Is(err, vfs.ErrLocked) {
		t.Fatal(err)
	}
	var free FS
	if _, err := free.OpenWrite(name); err != nil {
		t.Fatal(err)
	}
	fatal(t, w.Close())
	for _, f := range []*FS{&o, &p} {
		if _, err := f.OpenWrite(name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (vfs.OS{}).OpenWrite(name); !errors.Is(err, vfs.ErrLocked) {
		t.Fatal(err)
	}
	fatal(t, errors.Join(o.Close(), p.Close(), free.Close()))
	w, err = vfs.OS{}.OpenWrite(name)
	fatal(t, err)
	fatal(t, w.Close())
}
