package id

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hayloft/internal/clock"
)

// Leaser gives out leases for one holder: the directory, seen from one worker of
// one incarnation. Its methods may be called again after any error but one that
// wraps ErrStopped. They are called from the Keeper's goroutine, but for the last
// Surrender, which is tried in any case.
type Leaser interface {
	// Acquire leases a slot. now is the holder's clock.
	Acquire(ctx context.Context, now Millis) (Lease, error)
	// Renew lengthens l; it is ErrLeaseLost when another slot must be acquired.
	Renew(ctx context.Context, l Lease, now Millis) (Lease, error)
	// Surrender gives l back: nothing was or will be minted at or after at.
	Surrender(ctx context.Context, l Lease, at Millis) error
}

// KeeperOptions configure a Keeper. Leaser must be given.
type KeeperOptions struct {
	Leaser Leaser
	Clock  clock.Clock   // nil: the machine's
	Every  time.Duration // between renewals; 0: 20 s, a third of the directory's default lease
	// Retry is the time after the first failed attempt; 0: 200 ms. It doubles
	// with each one that follows, up to MaxRetry; 0: 5 s, or Retry if longer.
	Retry, MaxRetry time.Duration
	// Failed, when set, is told when attempts begin to fail and when the text of
	// the error changes, not of each attempt. It must not block.
	Failed func(error)
}

// Keeper holds a lease for one holder: it acquires a slot when the first id is
// wanted, renews it, and takes another slot when it was lost. It may be used by
// many goroutines.
type Keeper struct {
	o      KeeperOptions
	ctx    context.Context
	cancel context.CancelFunc
	want   chan struct{} // somebody waits for a longer window
	done   chan struct{}

	mu     sync.Mutex    // guards all below
	minter *Minter       // nil until the first lease
	moved  chan struct{} // closed and replaced when minter or its window changed, or none will come
	last   error         // of the last attempt; once it is ErrStopped there is no other
	closed bool
}

var (
	// ErrKeeperClosed is returned by Mint after Close.
	ErrKeeperClosed = errors.New("id: keeper closed")
	// ErrStopped is wrapped by a Leaser's error when it will never give out
	// another lease. The Keeper then asks no more.
	ErrStopped = errors.New("id: no more leases")
)

// NewKeeper returns a Keeper. Its goroutine ends with Close.
func NewKeeper(o KeeperOptions) *Keeper {
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Every <= 0 {
		o.Every = 20 * time.Second
	}
	if o.Retry <= 0 {
		o.Retry = 200 * time.Millisecond
	}
	if o.MaxRetry <= 0 {
		o.MaxRetry = 5 * time.Second
	}
	o.MaxRetry = max(o.MaxRetry, o.Retry)
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	k := &Keeper{o: o, want: make(chan struct{}, 1), done: make(chan struct{}), moved: make(chan struct{})}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	go k.run()
	return k
}

// Mint returns an id greater than every earlier one of this Keeper. When the
// window ran out or there is none yet it waits for the Leaser until ctx ends, or
// until the Leaser says ErrStopped; the error wraps the Leaser's last one.
func (k *Keeper) Mint(ctx context.Context) (ID, error) {
	var i ID
	err := k.with(ctx, func(m *Minter) (err error) {
		i, err = m.Mint()
		return err
	})
	return i, err
}

// Fence returns the lease and the id time x such that everything minted so far
// lies before x and everything minted from now on at or after it. The lease
// covers x.
func (k *Keeper) Fence(ctx context.Context) (Lease, Millis, error) {
	var l Lease
	var x Millis
	err := k.with(ctx, func(m *Minter) error {
		x = m.Fence()
		if l = m.Lease(); x >= l.To {
			return ErrLeaseEnded
		}
		return nil
	})
	return l, x, err
}

// Lease returns the present lease, if there is one.
func (k *Keeper) Lease() (Lease, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.minter == nil {
		return Lease{}, false
	}
	return k.minter.Lease(), true
}

// with runs f until it returns something else than ErrLeaseEnded, asking for a
// longer window in between.
func (k *Keeper) with(ctx context.Context, f func(*Minter) error) error {
	for {
		k.mu.Lock()
		m, moved, last, closed := k.minter, k.moved, k.last, k.closed
		k.mu.Unlock()
		if closed {
			return ErrKeeperClosed
		}
		if m != nil {
			if err := f(m); !errors.Is(err, ErrLeaseEnded) {
				return err
			}
		}
		if errors.Is(last, ErrStopped) {
			return last
		}
		select {
		case k.want <- struct{}{}:
		default:
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		}
	}
}

// run is the Keeper's goroutine. It does nothing until an id is wanted, and
// nothing more after ErrStopped.
func (k *Keeper) run() {
	defer close(k.done)
	var timer <-chan time.Time
	var told string // text of the failure that Failed knows; empty after a success
	retry := k.o.Retry
	for {
		select {
		case <-k.want:
		case <-timer:
		case <-k.ctx.Done():
			return
		}
		err := k.refresh()
		if err == nil {
			told, retry = "", k.o.Retry
			timer = k.o.Clock.After(k.o.Every)
			continue
		}
		if k.ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != told {
			told = text
			k.o.Failed(err)
		}
		if errors.Is(err, ErrStopped) {
			return
		}
		select { // waiters must not turn a failing Leaser into a busy loop
		case <-k.o.Clock.After(retry):
		case <-k.ctx.Done():
			return
		}
		retry = min(2*retry, k.o.MaxRetry)
		timer = k.o.Clock.After(0)
	}
}

// refresh renews the lease, or acquires one when there is none.
func (k *Keeper) refresh() error {
	k.mu.Lock()
	m := k.minter
	k.mu.Unlock()
	m, err := k.lease(m)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = err
	if err == nil {
		k.minter = m
	}
	if err == nil || errors.Is(err, ErrStopped) {
		close(k.moved)
		k.moved = make(chan struct{})
	}
	return err
}

// lease returns m with a longer window, or another Minter on another slot when
// m lost its own. Ids of the other begin after those of m, although the clock
// may have been stepped back.
func (k *Keeper) lease(m *Minter) (*Minter, error) {
	now := MillisOf(k.o.Clock.Now())
	var reached Millis // everything minted so far lies before it
	if m != nil {
		reached = m.position() + 1
		l, err := k.o.Leaser.Renew(k.ctx, m.Lease(), max(now, reached))
		if err == nil {
			err = m.Extend(l)
		}
		if err == nil && l.To <= max(now, reached) {
			err = fmt.Errorf("id: slot %d is used up", l.Slot)
		}
		if !errors.Is(err, ErrLeaseLost) {
			return m, err
		}
		reached = m.Surrender()
	}
	l, err := k.o.Leaser.Acquire(k.ctx, max(now, reached))
	if err != nil {
		return m, err
	}
	m = NewMinter(k.o.Clock, l)
	m.next = max(m.next, reached)
	return m, nil
}

// Close stops minting and surrenders the lease. When that fails the slot stays
// taken until its window is over; nothing else is lost. Close may be called once.
func (k *Keeper) Close(ctx context.Context) error {
	k.cancel()
	<-k.done
	k.mu.Lock()
	m := k.minter
	k.closed = true
	close(k.moved)
	k.moved = make(chan struct{})
	k.mu.Unlock()
	if m == nil {
		return nil
	}
	at := m.Surrender()
	return k.o.Leaser.Surrender(ctx, m.Lease(), at)
}
