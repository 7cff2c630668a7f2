package vfs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFillZero is what Allocate does where the file system has no fallocate.
func TestFillZero(t *testing.T) {
	f, err := OS{}.Create(filepath.Join(t.TempDir(), "a"))
	must(t, err)
	writeAt(t, f, "abc", 0)
	must(t, f.(osFile).fillZero(3<<20+1))
	b := contents(t, f)
	if len(b) != 3<<20+1 || string(b[:3]) != "abc" || b[3] != 0 || b[3<<20] != 0 {
		t.Fatalf("%d bytes", len(b))
	}
	must(t, f.(osFile).fillZero(10)) // is there already
	if size, err := f.Size(); err != nil || size != 3<<20+1 {
		t.Fatal(size, err)
	}
	must(t, f.Close())
}

// TestRealNoSpace: a device without room says so through WriteVAt.
func TestRealNoSpace(t *testing.T) {
	file, err := os.OpenFile("/dev/full", os.O_RDWR, 0) // without the lock
	must(t, err)
	f := osFile{file}
	n, err := f.WriteVAt([][]byte{[]byte("abc")}, 0)
	want(t, err, unix.ENOSPC)
	if n != 0 {
		t.Fatalf("wrote %d", n)
	}
	must(t, f.Close())
}
