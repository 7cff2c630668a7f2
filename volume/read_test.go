package volume

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// TestOneRead: a needle of up to 1 MiB costs one read, and not a byte more
// than 511 beyond its record.
func TestOneRead(t *testing.T) {
	var reads, size atomic.Int64
	fault := &vfs.Fault{FS: newMem(t, 1), Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead {
			reads.Add(1)
			size.Store(op.Len)
		}
		return vfs.Outcome{}
	}}
	v := create(t, fault)
	for i, n := range []int{0, 1, 500, 64 << 10, 200 << 10, 1 << 20} {
		needle := testNeedle(id.ID(i+1), 0, n)
		mustAppend(t, v, needle)
		h, _ := newNeedle(&needle)
		reads.Store(0)
		mustRead(t, v, needle)
		if reads.Load() != 1 || size.Load() > h.size()+511 {
			t.Errorf("%d bytes: %d reads, the last of %d bytes", n, reads.Load(), size.Load())
		}
		reads.Store(0)
		wantErr(t, readErr(v, testNeedle(id.ID(i+100), 0, n)), ErrNotFound)
		if reads.Load() != 0 {
			t.Error("an unknown key cost a read")
		}
	}
	closeVolume(t, v)
}

// TestReadRange returns the right bytes for ranges across block borders, and
// notices damage in the blocks it touches and only there.
func TestReadRange(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	for i, size := range []int64{0, 1000, blocksAbove, 5*BlockSize + 17, 40 * BlockSize} {
		n := testNeedle(id.ID(i+1), 0, int(size))
		mustAppend(t, v, n)
		for _, off := range []int64{0, 1, BlockSize - 1, BlockSize, 3*BlockSize + 5, size - 1, size, size + 9} {
			for _, length := range []int64{0, 1, BlockSize, BlockSize + 1, size, 1 << 40} {
				if off < 0 {
					continue
				}
				r, err := v.ReadRange(bg, n.Key, 0, n.Cookie, off, length)
				if err != nil {
					t.Fatal(err)
				}
				from := min(off, size)
				to := min(from+length, size)
				if r.Size != size || r.Offset != from || !bytes.Equal(r.Data, n.Data[from:to]) || !r.Master.equal(n.Master) {
					t.Fatalf("needle of %d: range %d+%d", size, off, length)
				}
			}
		}
		_, err := v.ReadRange(bg, n.Key, 0, n.Cookie+1, 0, 1)
		wantErr(t, err, ErrNotFound)
	}
	n := testNeedle(4, 0, 5*BlockSize+17)
	p, _, _ := v.idx.Load().get(4, 0)
	h, _ := newNeedle(&n)
	if err := mem.Flip(testFile, p.off+int64(h.metaLen())+2*BlockSize+9, 1); err != nil {
		t.Fatal(err)
	}
	wantErr(t, readErr(v, n), ErrCorrupt)
	for block := range int64(6) {
		r, err := v.ReadRange(bg, 4, 0, n.Cookie, block*BlockSize+1, 10)
		if block == 2 {
			wantErr(t, err, ErrCorrupt)
		} else if err != nil || !bytes.Equal(r.Data, n.Data[block*BlockSize+1:][:10]) {
			t.Fatalf("block %d: %v", block, err)
		}
	}
	big := testNeedle(5, 0, 40*BlockSize)
	p, _, _ = v.idx.Load().get(5, 0)
	h, _ = newNeedle(&big)
	if err := mem.Flip(testFile, p.off+int64(h.metaLen())+35*BlockSize, 1); err != nil {
		t.Fatal(err)
	}
	wantErr(t, readErr(v, big), ErrCorrupt)
	closeVolume(t, v)
}

// TestReadError: a device error on one needle is reported, named, and does not
// touch the others or the writer.
func TestReadError(t *testing.T) {
	failing := false
	fault := &vfs.Fault{FS: newMem(t, 1), Before: func(op vfs.Op) vfs.Outcome {
		if failing && op.Kind == vfs.OpRead {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	v, events := openNew(t, fault)
	for i, size := range []int{100, 300 << 10, 2 << 20} {
		n := testNeedle(id.ID(i+1), 0, size)
		mustAppend(t, v, n)
		failing = true
		err := readErr(v, n)
		_, rangeErr := v.ReadRange(bg, n.Key, 0, n.Cookie, 0, 10)
		putErr := v.Append(bg, []Needle{n}) // cannot tell whether it is the same
		failing = false
		for _, err := range []error{err, rangeErr, putErr} {
			if !errors.Is(err, ErrCorrupt) || !errors.Is(err, unix.EIO) && err != putErr {
				t.Fatalf("%d bytes: %v", size, err)
			}
		}
		mustRead(t, v, n)
	}
	if n := count(*events, EventCorruptRead); n != 9 || v.Stats().CorruptReads != 9 {
		t.Fatalf("%d events, %d counted", n, v.Stats().CorruptReads)
	}
	mustAppend(t, v, testNeedle(9, 0, 10))
	closeVolume(t, v)
}

// TestIndexPointsWrong: an index that names another record gives an error,
// never somebody else's photo.
func TestIndexPointsWrong(t *testing.T) {
	v := create(t, newMem(t, 1))
	mustAppend(t, v, testNeedle(1, 0, 100), testNeedle(2, 0, 100))
	q, _, _ := v.idx.Load().get(2, 0)
	v.idx.Load().put(3, 0, q)
	v.idx.Load().put(4, 0, place{q.off + 8, q.size})
	wantErr(t, readErr(v, Needle{Key: 3, Cookie: testNeedle(2, 0, 0).Cookie}), ErrCorrupt)
	wantErr(t, readErr(v, Needle{Key: 4, Cookie: 1}), ErrCorrupt)
	kinds := map[FindingKind]int{}
	if _, err := v.Check(bg, func(f Finding) { kinds[f.Kind]++ }); err != nil {
		t.Fatal(err)
	}
	if kinds[FindingDangling] != 1 { // 3 points to a record, only not to its own
		t.Fatalf("findings: %v", kinds)
	}
	closeVolume(t, v)
}
