package volume

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// TestOneAlignedRead: a record of up to a mebibyte costs one read of the file
// wherever it lies, past the page cache but for what shares its last page with
// the next batch.
func TestOneAlignedRead(t *testing.T) {
	mem := newMem(t, 1)
	var reads, direct atomic.Int64
	fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead && op.Name == testFile {
			reads.Add(1)
			if op.Off%512 == 0 && op.Len%512 == 0 {
				direct.Add(1)
			}
		}
		return vfs.Outcome{}
	}}
	v := create(t, fault)
	var all []Needle
	for i, size := range []int{0, 1, 100, 447, 448, 449, 4096, 65536, blocksAbove, blocksAbove + 1, 200 << 10, 1 << 20} {
		n := testNeedle(id.ID(i+1), uint8(i%3), size)
		mustAppend(t, v, n)
		all = append(all, n)
	}
	mustAppend(t, v, testNeedle(100, 0, pageSize))
	for _, n := range all {
		reads.Store(0)
		direct.Store(0)
		mustRead(t, v, n)
		if reads.Load() != 1 || direct.Load() != 1 {
			t.Errorf("%d bytes: %d reads, %d of them direct", len(n.Data), reads.Load(), direct.Load())
		}
	}
	last := testNeedle(101, 0, 10)
	mustAppend(t, v, last)
	reads.Store(0)
	direct.Store(0)
	mustRead(t, v, last)
	if reads.Load() != 1 || direct.Load() != 1 { // nothing is written to its block any more
		t.Errorf("the last needle: %d reads, %d of them direct", reads.Load(), direct.Load())
	}
	closeVolume(t, v)
}

// noDirect is a file system that refuses direct files, or their reads.
type noDirect struct {
	vfs.FS
	open error
}

func (f noDirect) OpenDirect(name string) (vfs.File, int, error) {
	if f.open != nil {
		return nil, 0, f.open
	}
	file, unit, err := f.FS.OpenDirect(name)
	return refusing{file}, unit, err
}

type refusing struct{ vfs.File }

func (refusing) ReadAt([]byte, int64) (int, error) { return 0, unix.EINVAL }

// TestWithoutDirect: where there is no way past the page cache, reads go
// through it; an operator hears of it where there should have been one.
func TestWithoutDirect(t *testing.T) {
	for name, fs := range map[string]noDirect{
		"none": {open: vfs.ErrNoDirect}, "fails": {open: unix.EMFILE}, "refuses reads": {},
	} {
		mem := newMem(t, 1)
		fs.FS = mem
		v := create(t, mem)
		for key := id.ID(1); key < 9; key++ {
			mustAppend(t, v, testNeedle(key, 0, 3000))
		}
		closeVolume(t, v)
		v, events := openWatched(t, fs)
		for key := id.ID(1); key < 9; key++ {
			mustRead(t, v, testNeedle(key, 0, 3000))
		}
		closeVolume(t, v)
		want := 1
		if name == "none" {
			want = 0
		}
		if count(*events, EventPageCache) != want || len(*events) != want {
			t.Errorf("%s: %+v", name, *events)
		}
	}
}

// TestReadMemory: a reader that releases what it got costs no memory of the
// size of an image, and one that does not keeps its bytes.
func TestReadMemory(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	a, b := testNeedle(1, 1, 200<<10), testNeedle(2, 1, 200<<10)
	mustAppend(t, v, a)
	mustAppend(t, v, b)
	kept, err := v.Read(bg, a.Key, a.Alt, a.Cookie)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		got, err := v.Read(bg, b.Key, b.Alt, b.Cookie)
		if err != nil || !bytes.Equal(got.Data, b.Data) {
			t.Fatal(err)
		}
		got.Release()
		got.Release() // the second does nothing
	}
	if !bytes.Equal(kept.Data, a.Data) {
		t.Fatal("kept bytes changed")
	}
	r, err := v.ReadRange(bg, a.Key, a.Alt, a.Cookie, 100_000, 70_000)
	if err != nil || !bytes.Equal(r.Data, a.Data[100_000:170_000]) {
		t.Fatal(err)
	}
	r.Release()
	closeVolume(t, v)
}

// BenchmarkColdRead reads needles that the page cache does not hold, past it
// and through it.
func BenchmarkColdRead(b *testing.B) {
	for _, size := range []int{64 << 10, 200 << 10} {
		for _, cache := range []bool{false, true} {
			for _, depth := range []int{1, 16} {
				b.Run(fmt.Sprintf("%dKiB/cache=%v/r%d", size>>10, cache, depth), func(b *testing.B) {
					v, err := Create(b.TempDir(), testIdent, Options{MaxBytes: 64 << 30, PageCache: cache})
					if err != nil {
						b.Fatal(err)
					}
					b.Cleanup(func() { closeVolume(b, v) })
					n := 1 << 30 / size
					group := make([]Needle, 32)
					data := testNeedle(1, 0, size).Data
					for key := 0; key < n; {
						for i := range group {
							key++
							group[i] = Needle{Key: id.ID(key), Cookie: 1, Data: data}
						}
						mustAppend(b, v, group...)
					}
					if err := v.file.Evict(0, 0); err != nil {
						b.Fatal(err)
					}
					b.SetBytes(int64(size))
					b.SetParallelism(depth / 2)
					var next atomic.Int64
					read := func() {
						blob, err := v.Read(bg, id.ID(1+next.Add(1)*7919%int64(n)), 0, 1)
						if err != nil {
							b.Error(err)
						}
						blob.Release()
					}
					b.ResetTimer()
					if depth == 1 {
						for range b.N {
							read()
						}
						return
					}
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							read()
						}
					})
				})
			}
		}
	}
}
