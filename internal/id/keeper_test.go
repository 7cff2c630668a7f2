package id

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hayloft/internal/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLeaser leases slots from a table, and fails when told.
type fakeLeaser struct {
	mu     sync.Mutex
	table  slots
	node   uint32
	now    Millis // its clock
	fail   error
	calls  map[string]int
	called chan struct{}
}

func newFakeLeaser() *fakeLeaser {
	return &fakeLeaser{table: slots{}, node: 1, calls: map[string]int{}, called: make(chan struct{}, 1000)}
}

func (f *fakeLeaser) begin(name string) (func(), error) {
	f.mu.Lock()
	f.calls[name]++
	return func() { f.mu.Unlock(); f.called <- struct{}{} }, f.fail
}

func (f *fakeLeaser) Acquire(_ context.Context, now Millis) (Lease, error) {
	end, err := f.begin("acquire")
	defer end()
	if err != nil {
		return Lease{}, err
	}
	s, w, err := Grant(f.table, GrantRequest{Node: f.node, Holder: 7, Lo: 0, Hi: 8, Now: f.now, HolderNow: now, Length: 60_000})
	f.table[s] = w
	return Lease{Slot: s, Holder: 7, From: w.From, To: w.To}, err
}

func (f *fakeLeaser) Renew(_ context.Context, l Lease, now Millis) (Lease, error) {
	end, err := f.begin("renew")
	defer end()
	if err != nil {
		return Lease{}, err
	}
	w, err := Renew(f.table[l.Slot], l.Holder, l.From, f.now, now, 60_000)
	if err == nil {
		f.table[l.Slot] = w
		l.To = w.To
	}
	return l, err
}

func (f *fakeLeaser) Surrender(_ context.Context, l Lease, x Millis) error {
	end, err := f.begin("surrender")
	defer end()
	if err != nil {
		return err
	}
	w, err := Release(f.table[l.Slot], l.Holder, l.From, x)
	f.table[l.Slot] = w
	return err
}

func (f *fakeLeaser) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func mustMint(t *testing.T, k *Keeper) ID {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	i, err := k.Mint(ctx)
	if err != nil {
		t.Fatalf("mint: %v", err)
	}
	return i
}

func TestKeeper(t *testing.T) {
	f := newFakeLeaser()
	c := clock.NewFake(at(1_000_000))
	f.now = 1_000_000
	k := NewKeeper(KeeperOptions{Leaser: f, Clock: c})
	if _, ok := k.Lease(); ok {
		t.Fatal("a lease before an id was wanted")
	}
	first := mustMint(t, k)
	<-f.called
	// The clock jumps beyond the window: the next Mint waits for a renewal.
	c.Set(at(9_000_000))
	second := mustMint(t, k)
	if second <= first || second.Slot() != first.Slot() || second.Millis() != 9_000_000 {
		t.Fatalf("after the jump: %d/%d", second.Millis(), second.Slot())
	}
	<-f.called
	// The slot is lost to another node while the clock is stepped back: ids stay
	// ordered on the new slot.
	c.Set(at(2_000_000))
	f.set(func() {
		w := f.table[first.Slot()]
		f.table[first.Slot()] = Window{Node: 2, Holder: 99, From: w.To, To: w.To + 60_000}
	})
	waitFor(t, func() bool { return c.Waiters() > 0 })
	for _, ok := k.Lease(); ok; _, ok = k.Lease() { // renewals come by the clock
		c.Advance(20 * time.Second)
		<-f.called
		if l, _ := k.Lease(); l.Slot != first.Slot() {
			break
		}
		waitFor(t, func() bool { return c.Waiters() > 0 })
	}
	third := mustMint(t, k)
	if third.Slot() == first.Slot() || third <= second || third.Millis() <= second.Millis() {
		t.Fatalf("after the loss: %d/%d, before %d/%d", third.Millis(), third.Slot(), second.Millis(), second.Slot())
	}
	l, x, err := k.Fence(t.Context())
	if err != nil || x <= third.Millis() || x >= l.To || x < l.From {
		t.Fatalf("fence %d of %+v, %v", x, l, err)
	}
	if next := mustMint(t, k); next.Millis() < x {
		t.Fatalf("minted at %d, before the fence %d", next.Millis(), x)
	}
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := f.table[third.Slot()]; !w.Released {
		t.Fatalf("not surrendered: %+v", w)
	}
	if _, err := k.Mint(t.Context()); !errors.Is(err, ErrKeeperClosed) {
		t.Fatalf("mint after close: %v", err)
	}
}

// TestKeeperRetries proves that waiters see the reason and that a failing
// directory is not asked in a busy loop.
func TestKeeperRetries(t *testing.T) {
	f := newFakeLeaser()
	away := errors.New("the directory is away")
	f.fail = away
	c := clock.NewFake(at(1_000_000))
	k := NewKeeper(KeeperOptions{Leaser: f, Clock: c})
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { _, err := k.Mint(ctx); got <- err }()
	<-f.called
	waitFor(t, func() bool { return c.Waiters() > 0 })
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if n := f.calls["acquire"]; n != 1 {
		t.Fatalf("asked %d times while the clock stood still", n)
	}
	f.set(func() { f.fail = nil })
	c.Advance(time.Second)
	mustMint(t, k)
	f.set(func() { f.fail = away })
	if err := k.Close(t.Context()); !errors.Is(err, away) {
		t.Fatalf("close: %v", err)
	}
}

// waitFor waits for a condition that another goroutine brings about.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatal("the condition never came")
		}
		runtime.Gosched()
	}
}
