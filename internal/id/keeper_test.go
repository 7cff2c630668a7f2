package id

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
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

// TestKeeperBacksOff proves that the pauses between failing attempts grow, that
// a failure is told once until it changes or ends, and that a success ends both.
func TestKeeperBacksOff(t *testing.T) {
	f := newFakeLeaser()
	away, other := errors.New("the directory is away"), errors.New("the directory says no")
	f.fail = away
	c := clock.NewFake(at(1_000_000))
	f.now = 1_000_000
	var told []string
	k := NewKeeper(KeeperOptions{Leaser: f, Clock: c, Failed: func(err error) { f.set(func() { told = append(told, err.Error()) }) }})
	minted := make(chan error, 1)
	mint := func() { _, err := k.Mint(t.Context()); minted <- err }
	go mint()
	<-f.called
	asleep := func() { waitFor(t, func() bool { return c.Waiters() > 0 }) }
	pause := func(d time.Duration) {
		t.Helper()
		asleep()
		c.Advance(d - time.Millisecond)
		if c.Waiters() != 1 {
			t.Fatalf("asked again before %v were over", d)
		}
		c.Advance(time.Millisecond)
		waitFor(t, func() bool { return len(f.called) > 0 })
		<-f.called
	}
	for _, ms := range []int{200, 400, 800, 1600, 3200, 5000, 5000} {
		pause(time.Duration(ms) * time.Millisecond)
	}
	asleep()
	f.set(func() { f.fail = other })
	pause(5 * time.Second)
	pause(5 * time.Second)
	asleep()
	f.set(func() { f.fail = nil })
	pause(5 * time.Second)
	if err := <-minted; err != nil {
		t.Fatal(err)
	}
	asleep() // until the renewal
	f.set(func() { f.fail = other })
	c.Advance(20 * time.Second)
	<-f.called
	pause(200 * time.Millisecond)
	asleep()
	f.set(func() {
		if want := []string{away.Error(), other.Error(), other.Error()}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		f.fail = nil
	})
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestKeeperStopped: a Leaser that is gone for good is asked no more, and nobody
// waits for it; what the window still holds is given out.
func TestKeeperStopped(t *testing.T) {
	gone := fmt.Errorf("%w: the disk is gone", ErrStopped)
	for _, leased := range []bool{false, true} {
		t.Run(fmt.Sprintf("leased=%v", leased), func(t *testing.T) {
			f := newFakeLeaser()
			c := clock.NewFake(at(1_000_000))
			f.now = 1_000_000
			told := 0
			k := NewKeeper(KeeperOptions{Leaser: f, Clock: c, Failed: func(error) { f.set(func() { told++ }) }})
			calls := 1
			if leased {
				mustMint(t, k)
				<-f.called
				waitFor(t, func() bool { return c.Waiters() > 0 })
				f.set(func() { f.fail = gone })
				c.Advance(20 * time.Second)
				<-f.called
				<-k.done // asked no more
				mustMint(t, k)
				c.Set(at(9_000_000))
				calls = 2
			}
			f.set(func() { f.fail = gone })
			// The context of these never ends.
			waiting := make(chan error, 8)
			for range cap(waiting) {
				go func() { _, err := k.Mint(context.Background()); waiting <- err }()
			}
			for range cap(waiting) {
				select {
				case err := <-waiting:
					if !errors.Is(err, ErrStopped) || err.Error() != gone.Error() {
						t.Errorf("%v", err)
					}
				case <-time.After(10 * time.Second):
					t.Fatal("Mint waits for a Leaser that is gone")
				}
			}
			<-k.done
			f.set(func() {
				if n := f.calls["acquire"] + f.calls["renew"]; n != calls || told != 1 {
					t.Errorf("asked %d times, want %d; told %d times", n, calls, told)
				}
			})
			err := k.Close(t.Context())
			if leased != errors.Is(err, ErrStopped) {
				t.Errorf("close: %v", err)
			}
			if _, err := k.Mint(t.Context()); !errors.Is(err, ErrKeeperClosed) {
				t.Errorf("mint after close: %v", err)
			}
		})
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
