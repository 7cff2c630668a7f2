package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// TestHugeGroup: a group larger than any batch is written in several steps,
// between two batches of the usual size, with one sync.
func TestHugeGroup(t *testing.T) {
	var mu sync.Mutex
	var writes []int64
	fault := &vfs.Fault{FS: vfs.OS{}, Before: func(op vfs.Op) vfs.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind == vfs.OpWrite && op.Off >= dataStart && filepath.Ext(op.Name) == volumeExt {
			writes = append(writes, op.Len)
		}
		return vfs.Outcome{}
	}}
	dir := t.TempDir()
	v, err := Create(dir, testIdent, Options{FS: fault})
	if err != nil {
		t.Fatal(err)
	}
	group := make([]Needle, 4)
	for i := range group {
		group[i] = Needle{Key: id.ID(i + 1), Cookie: 1, Data: make([]byte, 9<<20+i*1001)}
		for j := range group[i].Data {
			group[i].Data[j] = byte(j >> 8 * i)
		}
	}
	ops := []*op{mustPut(t, testNeedle(20, 1, 300)), mustPut(t, group...), mustPut(t, testNeedle(21, 1, 300))}
	submitTogether(v, ops...)
	for _, o := range ops {
		if err := <-o.done; err != nil {
			t.Fatal(err)
		}
	}
	if len(writes) != 5 || slices.Max(writes) != batchBytes || v.Stats().Syncs != 3 {
		t.Fatalf("%d syncs, writes of %v", v.Stats().Syncs, writes)
	}
	for range 2 {
		for _, n := range append([]Needle{testNeedle(20, 1, 300), testNeedle(21, 1, 300)}, group...) {
			mustRead(t, v, n)
		}
		closeVolume(t, v)
		for _, b := range v.writer.spare {
			if len(b.pieces) != 0 {
				t.Fatal("a batch that is not in use holds memory")
			}
		}
		if v, err = Open(dir, 7, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	closeVolume(t, v)
}

// TestHugeGroupFails: the second of its writes fails.
func TestHugeGroupFails(t *testing.T) {
	n := 0
	mem := newMem(t, 1)
	v := create(t, &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpWrite && op.Off > dataStart && op.Name == testFile {
			if n++; n == 2 {
				return vfs.Outcome{Err: unix.EIO, Short: 1 << 20}
			}
		}
		return vfs.Outcome{}
	}})
	mustAppend(t, v, testNeedle(9, 1, 10))
	err := v.Append(bg, []Needle{{Key: 1, Cookie: 1, Data: make([]byte, 3*batchBytes)}})
	wantErr(t, err, ErrPoisoned)
	wantErr(t, err, unix.EIO)
	mustRead(t, v, testNeedle(9, 1, 10))
	closeVolume(t, v)
	if n != 2 {
		t.Fatalf("%d writes", n)
	}
}

// TestV1GoesOn: a file of an earlier program, which ends anywhere, is gone on
// with: its last block once through the page cache, then past it.
func TestV1GoesOn(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "v1", "closed.vol"))
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{FS: newMem(t, 1)}
	if err := vfs.WriteFile(w, testFile, b); err != nil {
		t.Fatal(err)
	}
	w.log = nil
	v := reopen(t, w)
	end := v.Stats().FileBytes
	if end%pageSize == 0 {
		t.Fatalf("the file ends at %d", end)
	}
	mustAppend(t, v, testNeedle(100, 1, 10))
	mustAppend(t, v, testNeedle(101, 1, 10))
	up := alignPage(end + headerSize + 16 + headerSize)
	want := []watchedWrite{{false, end, up - end}, {true, up, pageSize}}
	if !slices.Equal(w.log, want) {
		t.Fatalf("writes %v, want %v", w.log, want)
	}
	closeVolume(t, v)
	v = reopen(t, w)
	mustRead(t, v, testNeedle(1, 0, 700))
	mustRead(t, v, testNeedle(100, 1, 10))
	if _, err := v.Check(bg, func(f Finding) { t.Errorf("%+v", f) }); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
}

func alignPage(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// watched notes how a volume file is written.
type watched struct {
	vfs.FS
	mu  sync.Mutex
	log []watchedWrite
}

type watchedWrite struct {
	past   bool // the page cache
	off, n int64
}

type watchedFile struct {
	vfs.File
	w    *watched
	past bool
}

func (w *watched) OpenWrite(name string) (vfs.File, error) {
	f, err := w.FS.OpenWrite(name)
	return &watchedFile{f, w, false}, err
}

func (w *watched) OpenDirectWrite(name string) (vfs.File, int, error) {
	f, unit, err := w.FS.OpenDirectWrite(name)
	return &watchedFile{f, w, true}, unit, err
}

func (f *watchedFile) note(off, n int64) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.log = append(f.w.log, watchedWrite{f.past, off, n})
}

func (f *watchedFile) WriteVAt(bufs [][]byte, off int64) (int, error) {
	n, err := f.File.WriteVAt(bufs, off)
	f.note(off, int64(n))
	return n, err
}

func (f *watchedFile) Truncate(size int64) error {
	if size%pageSize != 0 { // else no block is written
		f.note(size, 0)
	}
	return f.File.Truncate(size)
}

// TestNoSyncedBlockIsWrittenAgain: whatever is put, deleted, closed and opened
// again, no block that holds synced records is touched.
func TestNoSyncedBlockIsWrittenAgain(t *testing.T) {
	for _, seed := range seeds(10) {
		rng := rand.New(rand.NewPCG(seed, 4))
		w := &watched{FS: newMem(t, seed)}
		v := create(t, w)
		for key := id.ID(1); key < 60; key++ {
			w.mu.Lock()
			w.log = w.log[:0]
			w.mu.Unlock()
			end := v.Stats().FileBytes
			switch rng.IntN(5) {
			case 0:
				if err := v.Delete(bg, id.ID(rng.Uint64N(uint64(key)))+1); err != nil {
					t.Fatal(err)
				}
			case 1:
				closeVolume(t, v)
				v = reopen(t, w)
			default:
				n := testNeedle(key, 1, rng.IntN(9000))
				if err := v.Append(bg, []Needle{n}); err != nil && !errors.Is(err, ErrTombstoned) {
					t.Fatal(err)
				}
			}
			w.mu.Lock()
			for _, x := range w.log {
				if !x.past || x.off < end || x.off%pageSize != 0 || x.n%pageSize != 0 {
					t.Errorf("the file was synced up to %d, and then written: %+v\n%s", end, x, repeatWith(t, seed))
				}
			}
			w.mu.Unlock()
			if end%pageSize != 0 {
				t.Errorf("synced up to %d", end)
			}
		}
		closeVolume(t, v)
	}
}

// noDirectWrite refuses to open files for direct writing, or to write them.
type noDirectWrite struct {
	vfs.FS
	open error
}

func (f noDirectWrite) OpenDirectWrite(name string) (vfs.File, int, error) {
	if f.open != nil {
		return nil, 0, f.open
	}
	file, unit, err := f.FS.OpenDirectWrite(name)
	return invalidWrites{file}, unit, err
}

type invalidWrites struct{ vfs.File }

func (invalidWrites) WriteVAt([][]byte, int64) (int, error) { return 0, unix.EINVAL }

// TestPageCacheTakesOver: where there is no way past the page cache, writes go
// through it, with an event if that is a surprise, and once.
func TestPageCacheTakesOver(t *testing.T) {
	for name, c := range map[string]struct {
		open   error
		events int
		unit   int64
	}{
		"no way":     {vfs.ErrNoDirect, 0, 1},
		"forbidden":  {unix.EPERM, 1, 1},
		"not really": {nil, 1, pageSize},
	} {
		t.Run(name, func(t *testing.T) {
			mem := newMem(t, 1)
			v, events := openNew(t, noDirectWrite{mem, c.open})
			for key := id.ID(1); key < 6; key++ {
				mustAppend(t, v, testNeedle(key, 1, 100))
			}
			if end := v.Stats().FileBytes; end%c.unit != 0 || c.unit == 1 && end != dataStart+5*168 {
				t.Errorf("the file ends at %d", end)
			}
			if got := count(*events, EventPageCache); got != c.events || len(*events) != c.events {
				t.Errorf("events: %+v", *events)
			}
			closeVolume(t, v)
			v = reopen(t, mem)
			for key := id.ID(1); key < 6; key++ {
				mustRead(t, v, testNeedle(key, 1, 100))
			}
			mustAppend(t, v, testNeedle(7, 1, 100))
			closeVolume(t, v)
		})
	}
}

// TestSixtyFourWriters: the same puts from several writers at once, and deletes
// of what others are putting.
func TestSixtyFourWriters(t *testing.T) {
	v, err := Create(t.TempDir(), testIdent, Options{AllocChunk: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 64, 12
	group := func(key id.ID) []Needle { return []Needle{testNeedle(key, 1, int(key)*7), testNeedle(key, 2, 500)} }
	var wg sync.WaitGroup
	fail := make(chan error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				key := id.ID(1 + w/4*each + i) // four writers put the same
				err := v.Append(bg, group(key))
				if i%3 == 0 && w%4 == 0 {
					if err == nil || errors.Is(err, ErrTombstoned) {
						err = v.Delete(bg, key)
					}
					if err == nil && readErr(v, group(key)[0]) == nil {
						err = errors.New("deleted and read")
					}
				} else if errors.Is(err, ErrTombstoned) && i%3 == 0 {
					err = nil
				} else if err == nil && i%3 != 0 {
					err = readErr(v, group(key)[1])
				}
				if err != nil {
					fail <- fmt.Errorf("writer %d, key %d: %w", w, key, err)
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-fail:
		t.Fatal(err)
	default:
	}
	s := v.Stats()
	if s.Needles != writers/4*each*2*2/3 || s.Deleted != writers/4*each/3 || s.Syncs >= writers*each {
		t.Fatalf("%+v", s)
	}
	if _, err := v.Check(bg, func(f Finding) { t.Errorf("%+v", f) }); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
}
