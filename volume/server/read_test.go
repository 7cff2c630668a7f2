package server_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// hanging is a disk whose reads of volume files do not return while it hangs.
type hanging struct {
	dir string

	mu   sync.Mutex
	cond *sync.Cond
	on   bool
	in   int // reads that hang now
}

func newHanging(dir string) *hanging {
	h := &hanging{dir: dir}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *hanging) before(op vfs.Op) vfs.Outcome {
	h.mu.Lock()
	defer h.mu.Unlock()
	if op.Kind != vfs.OpRead || !strings.HasPrefix(op.Name, h.dir) || !strings.HasSuffix(op.Name, ".vol") {
		return vfs.Outcome{}
	}
	h.in++
	h.cond.Broadcast()
	for h.on {
		h.cond.Wait()
	}
	h.in--
	return vfs.Outcome{}
}

func (h *hanging) set(on bool) {
	h.mu.Lock()
	h.on = on
	h.cond.Broadcast()
	h.mu.Unlock()
}

// await returns when n reads hang.
func (h *hanging) await(n int) {
	h.mu.Lock()
	for h.in != n {
		h.cond.Wait()
	}
	h.mu.Unlock()
}

// reading is what the reads of a disk hold.
func (h *house) reading(dir string) int64 {
	h.t.Helper()
	for _, d := range h.s.Stats().Disks {
		if d.Dir == dir {
			return d.Reading
		}
	}
	h.t.Fatalf("no disk %s", dir)
	return 0
}

// putOn stores a blob on a disk.
func (h *house) putOn(dir string, class volume.Class, size int) stored {
	h.t.Helper()
	for range 50 {
		b := h.mustPut(class, size, 1)
		p, _ := h.wire.Locate(b.blob)
		for _, d := range h.s.Stats().Disks {
			if d.Disk == p.Disks[0] && d.Dir == dir {
				return b
			}
		}
	}
	h.t.Fatalf("nothing was put on %s", dir)
	return stored{}
}

// TestHangingDisk: a disk that does not answer takes its own readers' places
// and memory, no other disk's; who waits for it is told in time, and who comes
// later at once; when it answers again it is asked again, and everything is
// given back.
func TestHangingDisk(t *testing.T) {
	sick := newHanging("/a")
	h := newHouse(t, server.Options{Dirs: []string{"/a", "/b"}, FS: &vfs.Fault{FS: vfs.NewMem(1), Before: sick.before},
		MaxReads: 3, MaxReadBytes: 1 << 20})
	a, b := h.putOn("/a", variants, 30_000), h.putOn("/b", variants, 30_000)
	large := h.putOn("/b", originals, 3<<20)
	sick.set(true)
	ctx, giveUp := context.WithCancel(t.Context())
	errs := make(chan error)
	const readers = 40
	for i := range readers {
		go func() {
			var err error
			if i%2 == 0 {
				_, err = h.s.Read(ctx, a.blob, 0, a.cookie)
			} else {
				_, err = h.s.ReadRange(ctx, a.blob, 0, a.cookie, 10, 10)
			}
			errs <- err
		}()
	}
	sick.await(3)
	for range 10 {
		h.check(b)
		h.check(large)
	}
	if n := h.reading("/b"); n != 0 {
		t.Errorf("%d bytes of the sound disk are held", n)
	}
	if n := h.reading("/a"); n < 3*30_000 || n > 1<<19 {
		t.Errorf("%d bytes of the hanging disk are held", n)
	}
	giveUp()
	for range readers {
		if err := <-errs; !errors.Is(err, server.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	late := func() int64 { return h.s.Stats().Disks[0].Late }
	h.until("the hanging reads are noticed", func() bool { return late() == 3 })
	if _, err := h.s.Read(t.Context(), a.blob, 0, a.cookie); !errors.Is(err, server.ErrUnavailable) || !strings.Contains(err.Error(), "3 reads hang") {
		t.Errorf("another read of the hanging disk: %v", err)
	}
	if h.saw(server.EventDiskHangs) == 0 {
		t.Error("nobody was told")
	}
	h.check(b)
	sick.set(false)
	h.until("the disk is asked again", func() bool { return late() == 0 })
	h.check(a)
	h.stop() // with the three that nobody waited for: nothing is held after it
}

// TestReadTimeout: a caller without a deadline does not wait for ever.
func TestReadTimeout(t *testing.T) {
	sick := newHanging("/data")
	h := newHouse(t, server.Options{FS: &vfs.Fault{FS: vfs.NewMem(1), Before: sick.before}, ReadTimeout: time.Millisecond})
	a := h.mustPut(variants, 1000, 1)
	sick.set(true)
	_, err := h.s.Read(context.Background(), a.blob, 0, a.cookie)
	if !errors.Is(err, server.ErrUnavailable) || !strings.Contains(err.Error(), "in time") {
		t.Error(err)
	}
	sick.set(false)
}

// TestReadMemoryIsHeldUntilRelease: what was handed out counts, to the last
// byte, until it is released or taken; nobody gets more than there is, and what
// is larger than the share goes alone.
func TestReadMemoryIsHeldUntilRelease(t *testing.T) {
	h := newHouse(t, server.Options{MaxReadBytes: 50_000})
	a, large := h.mustPut(variants, 20_000, 1), h.mustPut(originals, 2<<20, 1)
	var kept []volume.Blob
	for range 2 {
		b, err := h.s.Read(t.Context(), a.blob, 0, a.cookie)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, b)
	}
	full := h.reading("/data")
	if full < 2*20_000 || full > 50_000 {
		t.Fatalf("%d bytes held", full)
	}
	impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := h.s.Read(impatient, a.blob, 0, a.cookie); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("a third: %v", err)
	}
	waited := make(chan error)
	go func() {
		b, err := h.s.Read(t.Context(), large.blob, 0, large.cookie)
		if err == nil && !bytes.Equal(b.Data, content(large.blob, 0, 2<<20)) {
			err = errors.New("other bytes")
		}
		if n := h.reading("/data"); err == nil && n != 50_000 {
			t.Errorf("the large one holds %d bytes", n)
		}
		b.Release()
		waited <- err
	}()
	for _, b := range kept {
		if !bytes.Equal(b.Data, content(a.blob, 0, 20_000)) {
			t.Error("other bytes")
		}
		taken := b.Take()
		b.Release()
		if !bytes.Equal(taken, content(a.blob, 0, 20_000)) {
			t.Error("other bytes were taken")
		}
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if n := h.reading("/data"); n != 0 {
		t.Errorf("%d bytes held", n)
	}
}

// TestReadRange: pieces of a needle are those of the needle, and a blob that is
// not there has none.
func TestReadRange(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(originals, 3<<20+5, 1)
	want := content(a.blob, 0, a.size)
	var all []byte
	for len(all) < len(want) {
		r, err := h.s.ReadRange(t.Context(), a.blob, 0, a.cookie, int64(len(all)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if r.Size != int64(a.size) || len(r.Data) == 0 {
			t.Fatalf("%d bytes of %d", len(r.Data), r.Size)
		}
		all = append(all, r.Data...)
		r.Release()
	}
	if !bytes.Equal(all, want) {
		t.Error("other bytes")
	}
	if _, err := h.s.ReadRange(t.Context(), a.blob, 0, a.cookie+1, 0, 1); !errors.Is(err, volume.ErrNotFound) {
		t.Error(err)
	}
	if _, err := h.s.ReadRange(t.Context(), a.blob, 0, a.cookie, -1, 1); !errors.Is(err, volume.ErrInvalid) {
		t.Error(err)
	}
	if st := h.s.Stats(); h.reading("/data") != 0 || st.Reads != 6 || st.NotFound != 1 {
		t.Errorf("%d bytes held, %+v", h.reading("/data"), st)
	}
}

// TestUnreadableSector: one bad block is one blob that is corrupt, counted and
// reported, and the others are served.
func TestUnreadableSector(t *testing.T) {
	var mu sync.Mutex
	from, to := int64(0), int64(0)
	fault := &vfs.Fault{FS: vfs.NewMem(1), Before: func(op vfs.Op) vfs.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, ".vol") && op.Off < to && from < op.Off+op.Len {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	h := newHouse(t, server.Options{FS: fault})
	var all []stored
	for range 6 {
		all = append(all, h.mustPut(variants, 50_000, 1))
	}
	mu.Lock()
	from, to = 150_000, 150_512
	mu.Unlock()
	bad := 0
	for _, b := range all {
		got, err := h.s.Read(t.Context(), b.blob, 0, b.cookie)
		switch {
		case err == nil:
			if !bytes.Equal(got.Data, content(b.blob, 0, b.size)) {
				t.Error("other bytes")
			}
			got.Release()
		case errors.Is(err, volume.ErrCorrupt) && errors.Is(err, unix.EIO):
			bad++
		default:
			t.Error(err)
		}
	}
	if st := h.s.Stats(); bad != 1 || st.CorruptReads != 1 || len(st.Disks[0].Sick) != 0 || h.saw(server.EventVolume) != 1 {
		t.Errorf("%d bad, %+v", bad, st)
	}
	h.check(h.mustPut(variants, 1000, 2))
}
