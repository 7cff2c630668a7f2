package volume

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/slab"
	"hayloft/internal/vfs"
)

// TestReadBudgetOrder: whoever came first is let in first, be it the one that
// needs more than is free; who gives up costs nobody anything; what is larger
// than the budget goes alone.
func TestReadBudgetOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewReadBudget(100, 10)
		var order []string
		var visits []*visit
		come := func(ctx context.Context, name string, n int64) {
			go func() {
				v, err := b.enter(ctx, n)
				if err != nil {
					name += " gave up"
				} else {
					visits = append(visits, &v)
				}
				order = append(order, name)
			}()
			synctest.Wait()
		}
		saw := func(held int64, want ...string) {
			t.Helper()
			synctest.Wait()
			if len(order) != len(want) || b.Held() != held {
				t.Fatalf("%v with %d bytes held, want %v with %d", order, b.Held(), want, held)
			}
			for i := range want {
				if order[i] != want[i] {
					t.Fatalf("%v, want %v", order, want)
				}
			}
			order = nil
		}
		leave := func() {
			first := visits[0]
			visits = visits[1:]
			first.leave()
		}
		impatient, giveUp := context.WithCancel(bg)
		come(bg, "a", 60)
		come(bg, "large", 1000)
		come(impatient, "b", 10)
		come(bg, "c", 10)
		saw(60, "a")
		giveUp()
		saw(60, "b gave up")
		leave()
		saw(100, "large")
		leave()
		saw(10, "c")
		leave()
		saw(0)
	})
}

// TestReadBudgetCalls: no more reads are under way than there are places, and
// a place is free again when the read is over, while its bytes are held on.
func TestReadBudgetCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewReadBudget(100, 1)
		first, err := b.enter(bg, 10)
		if err != nil {
			t.Fatal(err)
		}
		impatient, giveUp := context.WithCancel(bg)
		var second error
		go func() { _, second = b.enter(impatient, 10) }()
		synctest.Wait()
		giveUp()
		synctest.Wait()
		if !errors.Is(second, context.Canceled) || b.Held() != 10 {
			t.Fatalf("%v, %d bytes held", second, b.Held())
		}
		h := hold{lease: slab.Own(make([]byte, 8))}
		first.pass(&h)
		first.leave()
		if b.Held() != 8 {
			t.Fatalf("%d bytes held, want those of the buffer", b.Held())
		}
		third, err := b.enter(bg, 92)
		if err != nil {
			t.Fatal(err)
		}
		third.leave()
		h.release()
		if b.Held() != 0 {
			t.Fatalf("%d bytes held", b.Held())
		}
	})
}

// budgeted opens a new volume whose reads are bounded.
func budgeted(t testing.TB, fs vfs.FS, bytes int64, calls int) (*Volume, *ReadBudget) {
	t.Helper()
	b := NewReadBudget(bytes, calls)
	v, err := Create("/d", testIdent, Options{FS: fs, AllocChunk: 1 << 16, Reads: b})
	if err != nil {
		t.Fatal(err)
	}
	return v, b
}

// TestReadsGiveBackWhatTheyBook: every end of a read, good or bad, and with it
// that the booking covers the memory that is handed out.
func TestReadsGiveBackWhatTheyBook(t *testing.T) {
	var failing atomic.Bool
	mem := newMem(t, 1)
	fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if failing.Load() && op.Kind == vfs.OpRead {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	v, b := budgeted(t, fault, 64<<20, 4)
	for i, size := range []int{0, 100, 100 << 10, 200 << 10, 1 << 20, 5 << 20} {
		n := testNeedle(id.ID(i+1), 0, size)
		mustAppend(t, v, n)
		check := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) || b.Held() != 0 {
				t.Fatalf("%d bytes, %s: %v, %d bytes held", size, what, err, b.Held())
			}
		}
		blob, err := v.Read(bg, n.Key, 0, n.Cookie)
		if held := b.Held(); err == nil && (held < int64(cap(blob.Data)) || held > int64(2*size+32<<10)) {
			t.Fatalf("%d bytes: %d bytes held", size, held)
		}
		again := blob
		blob.Release()
		again.Release()
		check("read", err, nil)
		blob, err = v.Read(bg, n.Key, 0, n.Cookie)
		if took := blob.Take(); !bytes.Equal(took, n.Data) || cap(took) > size+size/4+64 {
			t.Fatalf("%d bytes: took %d in %d", size, len(took), cap(took))
		}
		check("take", err, nil)
		for _, off := range []int64{0, int64(size / 2)} {
			r, err := v.ReadRange(bg, n.Key, 0, n.Cookie, off, 300<<10)
			if held := b.Held(); err == nil && held < int64(cap(r.Data)) {
				t.Fatalf("%d bytes: %d bytes held", size, held)
			}
			r.Release()
			check("range", err, nil)
			_, err = v.ReadRange(bg, n.Key, 0, n.Cookie+1, off, 10)
			check("range, wrong cookie", err, ErrNotFound)
		}
		_, err = v.Read(bg, n.Key, 0, n.Cookie+1)
		check("wrong cookie", err, ErrNotFound)
		failing.Store(true)
		_, err = v.Read(bg, n.Key, 0, n.Cookie)
		_, err2 := v.ReadRange(bg, n.Key, 0, n.Cookie, 0, 10)
		failing.Store(false)
		check("device error", err, unix.EIO)
		check("device error, range", err2, unix.EIO)
		ctx, cancel := context.WithCancel(bg)
		cancel()
		_, err = v.Read(ctx, n.Key, 0, n.Cookie)
		check("no time", err, context.Canceled)
	}
	closeVolume(t, v)
	if _, err := v.Read(bg, 2, 0, 1); !errors.Is(err, ErrClosed) || b.Held() != 0 {
		t.Fatalf("closed: %v, %d bytes held", err, b.Held())
	}
}

// TestWaitingReadersDoNotKeepTheVolumeOpen: those who wait for memory that
// somebody holds are told that the volume was closed, once it is their turn.
func TestWaitingReadersDoNotKeepTheVolumeOpen(t *testing.T) {
	v, b := budgeted(t, newMem(t, 1), 20<<10, 4)
	n := testNeedle(1, 0, 10_000)
	mustAppend(t, v, n)
	synctest.Test(t, func(t *testing.T) {
		blob, err := v.Read(bg, n.Key, 0, n.Cookie)
		if err != nil {
			t.Fatal(err)
		}
		var waited error
		go func() { _, waited = v.Read(bg, n.Key, 0, n.Cookie) }()
		synctest.Wait()
		closeVolume(t, v)
		if waited != nil {
			t.Fatalf("did not wait: %v", waited)
		}
		blob.Release()
		synctest.Wait()
		if !errors.Is(waited, ErrClosed) || b.Held() != 0 {
			t.Fatalf("%v, %d bytes held", waited, b.Held())
		}
	})
}
