package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestConformance runs one suite on every file system.
func TestConformance(t *testing.T) {
	systems := map[string]func(*testing.T) (FS, string){
		"os":        func(t *testing.T) (FS, string) { return OS{}, t.TempDir() },
		"mem":       func(*testing.T) (FS, string) { return NewMem(1), "/" },
		"fault+mem": func(*testing.T) (FS, string) { return &Fault{FS: NewMem(1)}, "/" },
		"fault+os":  func(t *testing.T) (FS, string) { return &Fault{FS: OS{}}, t.TempDir() },
	}
	cases := map[string]func(*testing.T, FS, string){
		"files": conformFiles, "names": conformNames, "locks": conformLocks, "small files": conformSmall,
		"direct": conformDirect, "direct writes": conformDirectWrite, "identity": conformIdentity,
	}
	for system, open := range systems {
		for name, run := range cases {
			t.Run(system+"/"+name, func(t *testing.T) {
				fsys, dir := open(t)
				run(t, fsys, dir)
			})
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func contents(t *testing.T, f File) []byte {
	t.Helper()
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if int64(n) != size || err != nil && err != io.EOF {
		t.Fatalf("read %d of %d bytes: %v", n, size, err)
	}
	return b
}

func conformFiles(t *testing.T, fsys FS, dir string) {
	f, err := fsys.Create(filepath.Join(dir, "a"))
	must(t, err)
	n, err := f.WriteVAt([][]byte{[]byte("he"), nil, []byte("llo")}, 3)
	must(t, err)
	if got := contents(t, f); n != 5 || string(got) != "\x00\x00\x00hello" {
		t.Fatalf("wrote %d, content %q", n, got)
	}
	many := make([][]byte, 3000) // more than one pwritev takes
	for i := range many {
		many[i] = []byte{byte(i)}
	}
	_, err = f.WriteVAt(many, 8)
	must(t, err)
	if got := contents(t, f); len(got) != 3008 || !bytes.Equal(got[8:], bytes.Join(many, nil)) {
		t.Fatalf("%d bytes after a long vector", len(got))
	}
	must(t, f.Allocate(3000, 1000))
	if got := contents(t, f); len(got) != 4000 || got[3007] != byte(2999%256) || got[3999] != 0 {
		t.Fatal("Allocate changed bytes or did not grow the file")
	}
	must(t, f.Allocate(0, 10))
	must(t, f.Truncate(4))
	must(t, f.Sync())
	must(t, f.Evict(0, 0))
	must(t, f.Truncate(6))
	if got := contents(t, f); string(got) != "\x00\x00\x00h\x00\x00" {
		t.Fatalf("after Truncate: %q", got)
	}
	b := make([]byte, 10)
	if n, err := f.ReadAt(b, 2); n != 4 || err != io.EOF {
		t.Fatalf("read across the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(b, 100); n != 0 || err != io.EOF {
		t.Fatalf("read behind the end: %d, %v", n, err)
	}
	if _, err := f.ReadAt(b, -1); err == nil {
		t.Fatal("negative offset was read")
	}
	must(t, f.Close())
	want(t, f.Close(), fs.ErrClosed)
	_, err = f.ReadAt(b, 0)
	want(t, err, fs.ErrClosed)
	_, err = f.WriteVAt([][]byte{b}, 0)
	want(t, err, fs.ErrClosed)
	want(t, f.Sync(), fs.ErrClosed)
	r, err := fsys.Open(filepath.Join(dir, "a"))
	must(t, err)
	_, err = r.WriteVAt([][]byte{b}, 0)
	want(t, err, unix.EBADF)
	must(t, r.Close())
}

func conformNames(t *testing.T, fsys FS, dir string) {
	sub := filepath.Join(dir, "x", "y")
	must(t, fsys.MkdirAll(sub))
	must(t, fsys.MkdirAll(sub))
	for _, name := range []string{"b", "a"} {
		f, err := fsys.Create(filepath.Join(sub, name))
		must(t, err)
		_, err = f.WriteVAt([][]byte{[]byte(name)}, 0)
		must(t, err)
		must(t, f.Close())
	}
	must(t, fsys.Rename(filepath.Join(sub, "b"), filepath.Join(sub, "c")))
	must(t, fsys.SyncDir(sub))
	names, err := fsys.ReadDir(sub)
	must(t, err)
	if !slices.Equal(names, []string{"a", "c"}) {
		t.Fatalf("names: %v", names)
	}
	must(t, fsys.Rename(filepath.Join(sub, "c"), filepath.Join(sub, "a"))) // replaces
	b, err := ReadFile(fsys, filepath.Join(sub, "a"), 100)
	must(t, err)
	if string(b) != "b" {
		t.Fatalf("content %q", b)
	}
	want(t, fsys.Remove(filepath.Join(dir, "x")), unix.ENOTEMPTY)
	must(t, fsys.Remove(filepath.Join(sub, "a")))
	want(t, fsys.Remove(filepath.Join(sub, "a")), fs.ErrNotExist)
	_, err = fsys.Open(filepath.Join(sub, "a"))
	want(t, err, fs.ErrNotExist)
	_, err = fsys.OpenWrite(filepath.Join(sub, "a"))
	want(t, err, fs.ErrNotExist)
	_, err = fsys.Create(filepath.Join(dir, "none", "a"))
	want(t, err, fs.ErrNotExist)
	_, err = fsys.Stat(filepath.Join(sub, "a"))
	want(t, err, fs.ErrNotExist)
	_, err = fsys.ReadDir(filepath.Join(dir, "none"))
	want(t, err, fs.ErrNotExist)
	want(t, fsys.Rename(filepath.Join(sub, "a"), filepath.Join(sub, "b")), fs.ErrNotExist)
	want(t, fsys.SyncDir(filepath.Join(dir, "none")), fs.ErrNotExist)
	st, err := fsys.Stat(sub)
	must(t, err)
	if !st.Dir {
		t.Fatal("a directory is no directory")
	}
}

func conformLocks(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "l")
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.WriteVAt([][]byte{[]byte("kept")}, 0)
	must(t, err)
	_, err = fsys.OpenWrite(name)
	want(t, err, ErrLocked)
	_, err = fsys.Create(name)
	want(t, err, ErrLocked)
	r, err := fsys.Open(name) // readers need no lock
	must(t, err)
	if got := contents(t, r); string(got) != "kept" {
		t.Fatalf("a refused Create changed the file: %q", got)
	}
	must(t, r.Close())
	must(t, f.Close())
	f, err = fsys.OpenWrite(name)
	must(t, err)
	must(t, f.Close())
}

func conformSmall(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "s")
	must(t, WriteFile(fsys, name, []byte("one")))
	must(t, WriteFile(fsys, name, []byte("three")))
	b, err := ReadFile(fsys, name, 100)
	must(t, err)
	if string(b) != "three" {
		t.Fatalf("content %q", b)
	}
	if b, err = ReadFile(fsys, name, 2); err != nil || string(b) != "th" {
		t.Fatalf("limited read: %q, %v", b, err)
	}
	names, err := fsys.ReadDir(dir)
	must(t, err)
	if !slices.Equal(names, []string{"s"}) {
		t.Fatalf("names: %v", names)
	}
}

// alignedBytes returns n bytes at a multiple of unit.
func alignedBytes(n, unit int) []byte {
	b := make([]byte, n+unit)
	return b[-int(uintptr(unsafe.Pointer(&b[0])))&(unit-1):][:n]
}

func conformDirect(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "a")
	_, _, err := fsys.OpenDirect(name)
	want(t, err, fs.ErrNotExist)
	f, err := fsys.Create(name)
	must(t, err)
	writeAt(t, f, strings.Repeat("0123456789abcdef", 3000), 0) // 48,000 bytes
	d, unit, err := fsys.OpenDirect(name)
	if errors.Is(err, ErrNoDirect) {
		must(t, f.Close())
		return // the temporary directory is on such a file system
	}
	must(t, err)
	if unit < 512 || unit&(unit-1) != 0 || unit > 1<<16 {
		t.Fatalf("unit %d", unit)
	}
	b := alignedBytes(2*unit, unit)
	if n, err := d.ReadAt(b, int64(unit)); n != len(b) || err != nil || string(b[:16]) != "0123456789abcdef" {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	writeAt(t, f, "new", int64(unit)) // written, not synced: seen all the same
	if _, err := d.ReadAt(b, int64(unit)); err != nil || string(b[:3]) != "new" {
		t.Fatalf("%q, %v", b[:3], err)
	}
	if n, err := d.ReadAt(b, 48000/int64(unit)*int64(unit)); n != 48000%unit || err == nil {
		t.Fatalf("at the end: read %d bytes: %v", n, err)
	}
	_, err = d.ReadAt(alignedBytes(2*unit, unit)[8:8+unit], int64(unit)+8)
	want(t, err, unix.EINVAL)
	must(t, errors.Join(d.Close(), f.Close()))
}

func conformDirectWrite(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "a")
	_, _, err := fsys.OpenDirectWrite(name)
	want(t, err, fs.ErrNotExist)
	f, err := fsys.Create(name)
	must(t, err)
	must(t, f.Allocate(0, 1<<17))
	d, unit, err := fsys.OpenDirectWrite(name) // beside the lock
	if errors.Is(err, ErrNoDirect) {
		must(t, f.Close())
		return // the temporary directory is on such a file system
	}
	must(t, err)
	writeAt(t, f, "kept", 0)
	must(t, f.Sync())
	b := alignedBytes(3*unit, unit)
	copy(b, "past the cache")
	copy(b[2*unit:], "second")
	n, err := d.WriteVAt([][]byte{b[:unit], b[unit:]}, int64(unit))
	must(t, err)
	got := contents(t, f) // through the cache, before any sync
	if n != 3*unit || string(got[:4]) != "kept" || string(got[unit:unit+14]) != "past the cache" || string(got[3*unit:3*unit+6]) != "second" ||
		len(got) != 1<<17 {
		t.Fatalf("wrote %d bytes, the file has %q", n, got[:4*unit])
	}
	must(t, f.Sync())
	writeAt(t, f, "later", int64(4*unit)) // and through the cache again
	must(t, d.Sync())
	if n, err := d.ReadAt(b[:unit], int64(4*unit)); n != unit || err != nil || string(b[:5]) != "later" {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	for _, bad := range []struct {
		b   []byte
		off int64
	}{{b[:unit], 8}, {b[:8], 0}} {
		_, err = d.WriteVAt([][]byte{bad.b}, bad.off)
		want(t, err, unix.EINVAL)
	}
	must(t, d.Close())
	_, err = fsys.OpenWrite(name) // the lock is that of the other file
	want(t, err, ErrLocked)
	must(t, f.Close())
}

// Two names have one identity while, and only while, they lead to one file.
func conformIdentity(t *testing.T, fsys FS, dir string) {
	name, other := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	id := func(name string) FileID {
		t.Helper()
		st, err := fsys.Stat(name)
		must(t, err)
		return st.ID
	}
	must(t, WriteFile(fsys, name, []byte("one")))
	must(t, WriteFile(fsys, other, []byte("two")))
	held, err := fsys.OpenWrite(name)
	must(t, err)
	first := id(name)
	if first == (FileID{}) || first != id(name) || first == id(other) || first.Device != id(dir).Device || first == id(dir) {
		t.Errorf("%v, %v, %v in %v", first, id(name), id(other), id(dir))
	}
	_, err = held.WriteVAt([][]byte{[]byte("more")}, 0)
	must(t, err)
	if id(name) != first {
		t.Error("another file for what was written to it")
	}
	must(t, fsys.Remove(name))
	must(t, WriteFile(fsys, name, []byte("one")))
	if id(name) == first {
		t.Error("the same file after it was removed and made again")
	}
	must(t, fsys.Rename(other, name))
	if id(name) == first {
		t.Error("the same file after another took its name")
	}
	must(t, held.Close())
}
