package vfs

import (
	"errors"
	"io"
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

// TestShortWrites: what a device did a part of is gone on with. When it cannot be,
// because that part ends within a block, the error says that it was short and not
// that the call was wrong.
func TestShortWrites(t *testing.T) {
	bufs := [][]byte{make([]byte, 700), nil, make([]byte, 300)}
	for _, last := range []error{nil, unix.EINVAL, unix.ENOSPC} {
		var calls []int64
		n, err := writeAll(bufs, 4096, func(rest [][]byte, off int64) (int, error) {
			if calls = append(calls, off); len(calls) == 1 {
				return 600, nil
			}
			if len(rest) != 2 || len(rest[0]) != 100 || last != nil {
				return 0, last
			}
			return 400, nil
		})
		if len(calls) != 2 || calls[1] != 4696 || (n == 1000) != (last == nil) || n < 600 {
			t.Fatalf("%v: calls at %v, %d bytes", last, calls, n)
		}
		switch last {
		case unix.EINVAL:
			if want(t, err, io.ErrShortWrite); errors.Is(err, unix.EINVAL) {
				t.Error("a short write is told as a wrong call")
			}
		case unix.ENOSPC:
			want(t, err, unix.ENOSPC)
		default:
			must(t, err)
		}
	}
	_, err := writeAll(bufs, 1, func([][]byte, int64) (int, error) { return 0, unix.EINVAL })
	want(t, err, unix.EINVAL)
}
