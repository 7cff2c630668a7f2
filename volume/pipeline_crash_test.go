package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

// pipelined runs two batches, the second put together while the first is being
// flushed, and closes the volume. It tells what was acknowledged.
func pipelined(t *testing.T, mem *vfs.Mem, o Options, before func(vfs.Op, *model) vfs.Outcome) *model {
	t.Helper()
	m := newModel()
	h := &history{model: m} // for its lock and its book-keeping
	reached, queued := make(chan struct{}, 1), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(queued) })
	first := true
	var v *Volume
	fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Name == testFile && op.Kind == vfs.OpSync && first && v != nil {
			first = false
			reached <- struct{}{}
			<-queued
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		outcome := before(op, m.clone())
		if outcome.Err != nil { // of a reservation, perhaps: then the writer waits for what is in flight
			goOn()
		}
		return outcome
	}}
	made := create(t, mem)
	mustAppend(t, made, testNeedle(9, 1, 10))
	mustAppend(t, made, testNeedle(8, 1, 10))
	closeVolume(t, made)
	m.acked[pair{9, 1}], m.acked[pair{8, 1}] = testNeedle(9, 1, 10), testNeedle(8, 1, 10)
	o.FS, o.AllocChunk = fault, 16<<10
	opened, err := Open("/d", testIdent.Volume, o)
	if err != nil {
		return m
	}
	v = opened
	batches := [][]*op{
		{mustPut(t, testNeedle(1, 1, 500), testNeedle(1, 2, 9000)), mustPut(t, testNeedle(2, 1, 5000))},
		{mustPut(t, testNeedle(3, 1, 700)), newDelete(1), newDelete(8), mustPut(t, testNeedle(4, 1, 20<<10))},
	}
	for _, o := range append(batches[0], batches[1]...) {
		h.begin(o)
	}
	settle := func(b []*op) {
		for _, o := range b {
			if err := h.settle(o, <-o.done); err != nil {
				t.Error(err)
			}
		}
	}
	submitTogether(v, batches[0]...)
	var wg sync.WaitGroup
	wg.Go(func() { settle(batches[0]) })
	answered := make(chan struct{})
	go func() { wg.Wait(); close(answered) }()
	select {
	case <-reached:
		submitTogether(v, batches[1]...)
		if err := v.Append(bg, []Needle{{Key: 8, Alt: 1, Cookie: 1}}); !errors.Is(err, ErrTombstoned) && !errors.Is(err, ErrPoisoned) &&
			!errors.Is(err, ErrNoSpace) {
			t.Error(err)
		}
	case <-answered: // it failed before its sync
		submitTogether(v, batches[1]...)
	}
	goOn()
	settle(batches[1])
	<-answered
	_ = v.Close() // may be what fails
	return m
}

// TestCrashBetweenBatches cuts the power and kills the process at every call
// that changes something while two batches follow each other, with many fates of
// what was not synced.
func TestCrashBetweenBatches(t *testing.T) {
	t.Parallel()
	for _, cache := range []bool{false, true} {
		var pictures []capture
		writes := 0
		seed := rand.Uint64()
		mem := newMem(t, seed)
		pipelined(t, mem, Options{PageCache: cache}, func(op vfs.Op, m *model) vfs.Outcome {
			if !mutates(op.Kind) {
				return vfs.Outcome{}
			}
			if op.Kind == vfs.OpWrite && op.Name == testFile {
				if writes++; writes >= 2 { // the first batch is synced: it counts, whoever knows of it
					for p, n := range m.tried {
						if p.key <= 2 {
							m.acked[p] = n
						}
					}
				}
			}
			for i := range uint64(25) {
				c := capture{model: m.clone(), what: fmt.Sprintf("call %d (%v), fate %d", op.N, op.Kind, i), mem: mem.Crash(seed + i)}
				if i == 0 {
					c.mem = mem.Kill()
				}
				pictures = append(pictures, c)
			}
			return vfs.Outcome{}
		})
		if writes < 3 || len(pictures) < 200 {
			t.Fatalf("%d writes, %d pictures", writes, len(pictures))
		}
		for _, c := range pictures {
			v, err := Open("/d", 7, Options{FS: c.mem, AllocChunk: 16 << 10, PageCache: len(c.what)%5 == 0})
			if err == nil {
				err = c.model.check(v)
				if n := len(v.damage.rot); n > 0 {
					err = errors.Join(err, fmt.Errorf("%d parts of a torn batch were taken for rot", n))
				}
				err = errors.Join(err, v.Append(bg, []Needle{testNeedle(50, 1, 100)}), v.Close())
			}
			if err != nil {
				t.Fatalf("page cache %v, %s: %v", cache, c.what, err)
			}
		}
	}
}

// TestEveryCallFails makes each call fail in turn while two batches follow each
// other: nothing acknowledged is lost, in this process or after a crash.
func TestEveryCallFails(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{unix.EIO, unix.ENOSPC, unix.EINVAL} {
		for n := int64(1); ; n++ {
			mem := newMem(t, uint64(n))
			hit := false
			m := pipelined(t, mem, Options{}, func(op vfs.Op, _ *model) vfs.Outcome {
				if op.N != n {
					return vfs.Outcome{}
				}
				hit = true
				short := op.Len / 2
				if errno == unix.EINVAL {
					short = 0
				}
				return vfs.Outcome{Err: errno, Short: short}
			})
			if !hit {
				if n < 15 {
					t.Fatalf("only %d calls", n)
				}
				break
			}
			for _, after := range []*vfs.Mem{mem.Kill(), mem.Crash(1), mem.Crash(2)} {
				v, err := Open("/d", 7, Options{FS: after, AllocChunk: 16 << 10})
				if err != nil {
					t.Fatalf("call %d, %v: %v", n, errno, err)
				}
				if err := m.clone().check(v); err != nil {
					t.Fatalf("call %d, %v: %v", n, errno, err)
				}
				closeVolume(t, v)
			}
		}
	}
}
