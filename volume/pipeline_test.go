package volume

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

func mustPut(t testing.TB, group ...Needle) *op {
	t.Helper()
	o, err := newPut(group)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// taken returns when the writer has taken everything that was queued before,
// also while a flush is under way: what contradicts n, which is stored or on
// its way, is refused at once, and ops are taken in order.
func taken(t testing.TB, v *Volume, n Needle) {
	t.Helper()
	n.Cookie++
	wantErr(t, v.Append(bg, []Needle{n}), ErrConflict)
}

// inFlight begins a batch of two needles, 1/1 and 2/1, which hangs in its sync.
// What is queued then makes up the next batch.
func inFlight(t *testing.T, v *Volume, g *gate) []*op {
	t.Helper()
	g.set(true)
	ops := []*op{mustPut(t, testNeedle(1, 1, 500)), mustPut(t, testNeedle(2, 1, 5000))}
	submitTogether(v, ops...)
	<-g.arrived
	return ops
}

// answeredYet fails if one of ops has been answered.
func answeredYet(t *testing.T, ops ...*op) {
	t.Helper()
	for i, o := range ops {
		select {
		case err := <-o.done:
			t.Fatalf("op %d was answered before its sync: %v", i, err)
		default:
		}
	}
}

// TestPlannedAgainstWhatIsInFlight: puts and deletes see the batch that is being
// flushed and the one that is put together, and are answered with them.
func TestPlannedAgainstWhatIsInFlight(t *testing.T) {
	g := newGate(vfs.OpSync)
	v := create(t, &vfs.Fault{FS: newMem(t, 1), Before: g.before})
	mustAppend(t, v, testNeedle(9, 1, 10))
	before := v.Stats()
	first := inFlight(t, v, g)
	next := []*op{
		mustPut(t, testNeedle(1, 1, 500)),                        // is in flight
		mustPut(t, testNeedle(3, 1, 700)),                        // new
		mustPut(t, testNeedle(3, 1, 700)),                        // is being put together
		mustPut(t, testNeedle(2, 1, 5000), testNeedle(2, 2, 20)), // half in flight
		newDelete(2), // what is in flight
		newDelete(2),
		newDelete(77), // never was
	}
	submitTogether(v, next...)
	taken(t, v, testNeedle(9, 1, 10))
	for _, n := range []Needle{testNeedle(2, 1, 5000), testNeedle(2, 3, 1), testNeedle(77, 1, 1)} {
		wantErr(t, v.Append(bg, []Needle{n}), ErrTombstoned)
	}
	taken(t, v, testNeedle(1, 1, 500))
	taken(t, v, testNeedle(3, 1, 700))
	answeredYet(t, append(first, next...)...)
	for _, n := range []Needle{testNeedle(1, 1, 500), testNeedle(3, 1, 700)} {
		wantErr(t, readErr(v, n), ErrNotFound)
	}
	g.pass <- struct{}{}
	for _, o := range append(first, next[0]) {
		if err := <-o.done; err != nil {
			t.Fatal(err)
		}
	}
	<-g.arrived // the second sync
	answeredYet(t, next[1:]...)
	mustRead(t, v, testNeedle(1, 1, 500))
	mustRead(t, v, testNeedle(2, 1, 5000))
	g.set(false)
	g.pass <- struct{}{}
	for _, o := range next[1:] {
		if err := <-o.done; err != nil {
			t.Fatal(err)
		}
	}
	mustRead(t, v, testNeedle(3, 1, 700))
	wantErr(t, readErr(v, testNeedle(2, 1, 5000)), ErrNotFound)
	wantErr(t, readErr(v, testNeedle(2, 2, 20)), ErrNotFound)
	if s := v.Stats(); s.Syncs-before.Syncs != 2 || s.Appended-before.Appended != 4 || s.Deleted-before.Deleted != 2 || s.Needles != 3 {
		t.Fatalf("%+v", s)
	}
	closeVolume(t, v)
	if w := &v.writer; len(w.puts)+len(w.deleting)+w.pending != 0 {
		t.Fatalf("left over: %v %v %d", w.puts, w.deleting, w.pending)
	}
}

// TestFailureInFlight: when a batch fails, the one behind it fails unwritten, and
// what was synced in front of both is served by this process and the next.
func TestFailureInFlight(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpWrite, vfs.OpSync} {
		mem := newMem(t, 1)
		g := newGate(kind)
		failing, calls := false, 0
		v := create(t, &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
			if failing && op.Name == testFile && mutates(op.Kind) {
				calls++
			}
			g.before(op)
			if failing && op.Name == testFile && op.Kind == kind {
				return vfs.Outcome{Err: unix.EIO, Short: 700}
			}
			return vfs.Outcome{}
		}})
		mustAppend(t, v, testNeedle(9, 1, 10))
		end := v.Stats().FileBytes
		failing = true
		ops := inFlight(t, v, g)
		next := []*op{mustPut(t, testNeedle(1, 1, 500)), mustPut(t, testNeedle(3, 1, 700)), newDelete(9)}
		submitTogether(v, next...)
		wantErr(t, v.Append(bg, []Needle{{Key: 9, Alt: 1, Cookie: 1}}), ErrTombstoned) // they were taken
		answeredYet(t, append(ops, next...)...)
		calls = 0
		g.set(false)
		close(g.pass)
		for _, o := range append(ops, next...) {
			wantErr(t, <-o.done, ErrPoisoned)
		}
		if calls != 0 {
			t.Errorf("%v: %d more calls after the failure", kind, calls)
		}
		failing = false
		mustRead(t, v, testNeedle(9, 1, 10))
		closeVolume(t, v)
		v = reopen(t, mem.Kill())
		mustRead(t, v, testNeedle(9, 1, 10))
		wantErr(t, readErr(v, testNeedle(3, 1, 700)), ErrNotFound)
		if got := v.Stats().FileBytes; got != end {
			t.Errorf("%v: the marker knows %d bytes, want %d", kind, got, end)
		}
		closeVolume(t, v)
	}
}

// TestFailureBehind: a batch fails whose predecessor was synced and not answered
// yet. The predecessor counts, in the marker too.
func TestFailureBehind(t *testing.T) {
	mem := newMem(t, 1)
	g := newGate(vfs.OpSync)
	syncs := 0
	v := create(t, &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		g.before(op)
		if g.isOn() && op.Kind == vfs.OpSync && op.Name == testFile {
			if syncs++; syncs == 2 {
				return vfs.Outcome{Err: unix.EIO}
			}
		}
		return vfs.Outcome{}
	}})
	mustAppend(t, v, testNeedle(9, 1, 10))
	ops := inFlight(t, v, g)
	next := mustPut(t, testNeedle(3, 1, 700))
	submitTogether(v, next)
	taken(t, v, testNeedle(9, 1, 10))
	close(g.pass)
	for _, o := range ops {
		if err := <-o.done; err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, <-next.done, ErrPoisoned)
	closeVolume(t, v)
	v = reopen(t, mem.Crash(1))
	mustRead(t, v, testNeedle(1, 1, 500))
	mustRead(t, v, testNeedle(2, 1, 5000))
	wantErr(t, readErr(v, testNeedle(3, 1, 700)), ErrNotFound)
	closeVolume(t, v)
}

// TestNoRoomInFlight: want of space foreseen while a batch is in flight refuses
// one put and nothing else; any other failure to reserve poisons the volume after
// what is in flight.
func TestNoRoomInFlight(t *testing.T) {
	for _, errno := range []error{unix.ENOSPC, unix.EIO} {
		mem := newMem(t, 1)
		g := newGate(vfs.OpSync)
		var mu sync.Mutex
		full := false
		v := create(t, &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
			g.before(op)
			mu.Lock()
			defer mu.Unlock()
			if full && op.Kind == vfs.OpAllocate {
				return vfs.Outcome{Err: errno}
			}
			return vfs.Outcome{}
		}})
		mustAppend(t, v, testNeedle(9, 1, 10))
		ops := inFlight(t, v, g)
		mu.Lock()
		full = true
		mu.Unlock()
		ops = append(ops, mustPut(t, testNeedle(3, 1, 700)))
		big := mustPut(t, testNeedle(4, 1, 200<<10)) // more than is reserved
		submitTogether(v, ops[2], big)
		if errno == unix.ENOSPC {
			wantErr(t, <-big.done, ErrNoSpace)
		}
		close(g.pass)
		for _, o := range ops {
			if err := <-o.done; err != nil {
				t.Fatalf("%v: %v", errno, err)
			}
		}
		if errno == unix.EIO {
			wantErr(t, <-big.done, ErrPoisoned)
		}
		closeVolume(t, v)
		v = reopen(t, mem.Kill())
		mustRead(t, v, testNeedle(2, 1, 5000))
		mustRead(t, v, testNeedle(3, 1, 700))
		closeVolume(t, v)
	}
}

// TestFenceAndCloseWait: what runs between batches, and Close, come after all
// that was taken before.
func TestFenceAndCloseWait(t *testing.T) {
	for _, closing := range []bool{false, true} {
		g := newGate(vfs.OpSync)
		mem := newMem(t, 1)
		v := create(t, &vfs.Fault{FS: mem, Before: g.before})
		mustAppend(t, v, testNeedle(9, 1, 10))
		ops := inFlight(t, v, g)
		ops = append(ops, mustPut(t, testNeedle(3, 1, 700)))
		submitTogether(v, ops[2])
		taken(t, v, testNeedle(9, 1, 10))
		done := make(chan error, 1)
		if closing {
			go func() { done <- v.Close() }()
		} else {
			go func() { done <- v.Fence(bg) }()
		}
		answeredYet(t, append(ops, &op{done: done})...)
		g.set(false)
		close(g.pass)
		for _, o := range append(ops, &op{done: done}) {
			if err := <-o.done; err != nil {
				t.Fatal(err)
			}
		}
		if !closing {
			wantErr(t, v.Append(bg, []Needle{testNeedle(4, 1, 1)}), ErrSealed)
			closeVolume(t, v)
		}
		v = reopen(t, mem)
		mustRead(t, v, testNeedle(3, 1, 700))
		closeVolume(t, v)
	}
}
