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
// one incarnation. Its methods may be called again after any error. They are
// called from the Keeper's goroutine, but for the last Surrender.
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
	Retry  time.Duration // after a failed attempt; 0: 200 ms
	// Failed, when set, is told of every failed attempt. It must not block.
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
	moved  chan struct{} // closed and replaced when minter or its window changed
	last   error         // of the last attempt
	closed bool
}

// ErrKeeperClosed is returned by Mint after Close.
var ErrKeeperClosed = errors.New("id: keeper closed")

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
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	k := &Keeper{o: o, want: make(chan struct{}, 1), done: make(chan struct{}), moved: make(chan struct{})}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	go k.run()
	return k
}

// Mint returns an id greater than every earlier one of this Keeper. When the
// window ran out or there is none yet it waits for the Leaser until ctx ends;
// the error then wraps the Leaser's last one.
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

// run is the Keeper's goroutine. It does nothing until an id is wanted.
func (k *Keeper) run() {
	defer close(k.done)
	var timer <-chan time.Time
	for {
		select {
		case <-k.want:
		case <-timer:
		case <-k.ctx.Done():
			return
		}
		err := k.refresh()
		if err == nil {
			timer = k.o.Clock.After(k.o.Every)
			continue
		}
		if k.ctx.Err() != nil {
			return
		}
		k.o.Failed(err)
		select { // waiters must not turn a failing Leaser into a busy loop
		case <-k.o.Clock.After(k.o.Retry):
		case <-k.ctx.Done():
			return
		}
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
