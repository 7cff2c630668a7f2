package volume

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"hayloft/internal/id"
)

// Sealing frees the index of the open volume while readers use it: none of them
// misses anything for a moment.
func TestSealUnderReaders(t *testing.T) {
	t.Parallel()
	const keys = 3000
	v, err := Create("/d", testIdent, Options{FS: newMem(t, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer closeVolume(t, v)
	var all []Needle
	for k := id.ID(1); k <= keys; k++ {
		all = append(all, testNeedle(k, 0, 20))
		if len(all)%100 == 0 {
			mustAppend(t, v, all[len(all)-100:]...)
		}
	}
	before := v.Stats().IndexBytes
	var over atomic.Bool
	var wg sync.WaitGroup
	var reads atomic.Int64
	for g := range 4 {
		wg.Go(func() {
			for i := g * 700; !over.Load(); i++ {
				n := all[i%keys]
				if b, err := v.Read(bg, n.Key, 0, n.Cookie); err != nil || string(b.Data) != string(n.Data) || !v.Has(n.Key) {
					t.Errorf("key %v: %v", n.Key, err)
					over.Store(true)
				}
				reads.Add(1)
			}
		})
	}
	info := testSeal
	asked := 0
	info.Throttle = func(context.Context, int64) error { // long enough to be read beside
		if asked++; asked%200 != 0 {
			return nil
		}
		for n := reads.Load(); reads.Load() == n && !over.Load(); {
		}
		return nil
	}
	if _, err := v.Seal(bg, info); err != nil {
		t.Error(err)
	}
	noFindings(t, v)
	over.Store(true)
	wg.Wait()
	if after := v.Stats().IndexBytes; after >= before/2 || v.idx.Load().blocks.Load() != 0 {
		t.Errorf("index of %d bytes, %d before", after, before)
	}
}

func TestSealThrottle(t *testing.T) {
	t.Parallel()
	v := create(t, newMem(t, 1))
	defer closeVolume(t, v)
	mustAppend(t, v, testNeedle(1, 0, 5000), testNeedle(1, 1, 5000))
	var asked int64
	info := testSeal
	stop := errors.New("enough")
	info.Throttle = func(_ context.Context, n int64) error { asked += n; return stop }
	if _, err := v.Seal(bg, info); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	info.Throttle = func(_ context.Context, n int64) error { asked += n; return nil }
	asked = 0
	rec, err := v.Seal(bg, info)
	if err != nil || asked < 10_000 || rec.Throttle != nil {
		t.Fatalf("%d bytes asked for, %v", asked, err)
	}
}

func TestOpenGeneration(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	next := mustCompact(t, v, CompactOptions{Generation: 3})
	closeVolume(t, next)
	closeVolume(t, v)
	o := Options{FS: mem}
	for _, g := range []uint32{1, 3} {
		w, err := OpenGeneration("/d", testIdent.Volume, g, o)
		if err != nil || w.Identity().Generation != g {
			t.Fatalf("%v, %v", w.Identity(), err)
		}
		checkSample(t, w, live, dead)
		closeVolume(t, w)
	}
	_, err := OpenGeneration("/d", testIdent.Volume, 2, o)
	wantErr(t, err, ErrNoVolume)
	_, err = OpenGeneration("/d", testIdent.Volume, 1, Options{FS: mem, MaxBytes: 5})
	wantErr(t, err, ErrInvalid)
}

func TestRemoveVoid(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	defer func() { closeVolume(t, v) }()
	next := mustCompact(t, v, CompactOptions{Generation: 2})
	closeVolume(t, next)
	o := Options{FS: mem}
	void := Entry{Volume: testIdent.Volume, Generation: 2, Name: FileName(testIdent.Volume, 2)}
	wantErr(t, RemoveVoid("/d", void, 2, o), ErrInvalid)
	wantErr(t, RemoveVoid("/d", Entry{Volume: testIdent.Volume, Generation: 1, Name: FileName(testIdent.Volume, 1)}, 2, o), ErrInvalid)
	if err := RemoveVoid("/d", void, 5, o); err == nil {
		t.Error("removed beside a generation that is not there")
	}
	if err := mem.Flip("/d/"+void.Name, 100, 1); err != nil { // whatever is in it
		t.Fatal(err)
	}
	if err := RemoveVoid("/d", void, 1, o); err != nil {
		t.Fatal(err)
	}
	if names, err := mem.ReadDir("/d"); err != nil || len(names) != 3 { // volume, index, delete log
		t.Errorf("%v, %v", names, err)
	}
	checkSample(t, v, live, dead)
	next = mustCompact(t, v, CompactOptions{Generation: 3})
	closeVolume(t, next)
}
