package volume

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// Calls that wait for a disk that is said to hang end, and the caller's memory is
// not looked at any more, whatever it holds then. When the disk answers, each
// group is stored as it was or not at all, and the volume goes on.
func TestHungCallsEnd(t *testing.T) {
	t.Run("the disk hangs", func(t *testing.T) { hungCallsEnd(t, false) })
	t.Run("the callers leave", func(t *testing.T) { hungCallsEnd(t, true) })
}

// hungCallsEnd has calls end while the disk hangs: since that is said, or since their
// contexts end, which AppendUntil does not wait longer than for.
func hungCallsEnd(t *testing.T, leave bool) {
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	mem := newMem(t, 1)
	var mu sync.Mutex
	cond := sync.NewCond(&mu)
	hangs, waiting := false, false
	fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		mu.Lock()
		defer mu.Unlock()
		for hangs && op.Kind == vfs.OpSync && op.Name == testFile {
			waiting = true
			cond.Broadcast()
			cond.Wait()
		}
		return vfs.Outcome{}
	}}
	hung := make(chan struct{})
	o := Options{FS: fault, Hung: func() <-chan struct{} { return hung }}
	v, err := Create("/d", testIdent, o)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, v, testNeedle(1, 0, 5000))
	mu.Lock()
	hangs = true
	mu.Unlock()
	const calls = 40
	ended := make(chan error)
	for i := range id.ID(calls) {
		go func() {
			if i%8 == 7 && !leave {
				ended <- v.Delete(bg, 1)
				return
			}
			n := testNeedle(100+i, 0, 3000)
			n.Data = bytes.Clone(n.Data)
			group := []Needle{n}
			put := v.Append
			if leave {
				put = v.AppendUntil
			}
			err := put(ctx, group)
			clear(n.Data) // it is the caller's again
			group[0] = Needle{}
			ended <- err
		}()
	}
	mu.Lock()
	for !waiting {
		cond.Wait()
	}
	mu.Unlock()
	if leave {
		cancel()
	} else {
		close(hung)
	}
	for range calls {
		if err := <-ended; !errors.Is(err, ErrHung) && !(leave && errors.Is(err, context.Canceled)) {
			t.Error(err)
		}
	}
	mu.Lock()
	hangs = false
	cond.Broadcast()
	mu.Unlock()
	hung = make(chan struct{}) // nobody calls
	mustAppend(t, v, testNeedle(2, 0, 5000))
	mustRead(t, v, testNeedle(2, 0, 5000))
	stored := 0
	for i := range id.ID(calls) {
		n := testNeedle(100+i, 0, 3000)
		switch err := readErr(v, n); {
		case err == nil:
			mustRead(t, v, n)
			stored++
		case !errors.Is(err, ErrNotFound):
			t.Error(err)
		}
	}
	if _, err := v.Check(bg, func(f Finding) { t.Errorf("%+v", f) }); err != nil {
		t.Error(err)
	}
	t.Logf("%d of %d were stored", stored, calls)
	closeVolume(t, v)
	v = reopen(t, mem)
	mustRead(t, v, testNeedle(2, 0, 5000))
	closeVolume(t, v)
}
