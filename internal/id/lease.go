package id

import (
	"errors"
	"fmt"
	"sync"

	"hayloft/internal/clock"
)

// Errors of leases. Each may come wrapped.
var (
	// ErrLeaseEnded means that nothing more may be minted under the lease as it
	// stands: its window is used up or was surrendered. An Extend may help.
	ErrLeaseEnded = errors.New("id: lease ended")
	// ErrLeaseLost means that the holder does not hold the slot any more; it has
	// to acquire another.
	ErrLeaseLost = errors.New("id: lease lost")
	// ErrNoSlot means that every slot of the range is held by somebody else or
	// used up.
	ErrNoSlot = errors.New("id: no free slot")
)

// Lease allows one incarnation of a holder to mint ids on one slot within the
// window [From, To).
type Lease struct {
	Slot     Slot
	Holder   uint64 // the incarnation
	From, To Millis
	Map      uint64 // directory version: nothing is minted under an older one
}

// Minter makes ids under a lease. It may be used by many goroutines.
type Minter struct {
	clock clock.Clock

	mu    sync.Mutex // guards all below
	lease Lease
	next  Millis // nothing at or after it was minted, but for sequence numbers below seq at next itself
	seq   uint32 // next sequence at next
	fresh bool   // nothing was minted since the last Fence
	over  bool
}

// NewMinter returns a Minter that has minted nothing under l.
func NewMinter(c clock.Clock, l Lease) *Minter { return &Minter{clock: c, lease: l, next: l.From} }

// Mint returns an id greater than every earlier one of this Minter, at the
// clock's time if that is later than the last. It is ErrLeaseEnded when that
// time is not in the window.
func (m *Minter) Mint() (ID, error) {
	now := MillisOf(m.clock.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return 0, ErrLeaseEnded
	}
	t, seq := m.next, m.seq
	if now > t {
		t, seq = now, 0
	} else if seq > MaxSeq {
		t, seq = t+1, 0
	}
	// Time and sequence zero on slot zero would be the zero ID, which is none.
	if t == 0 {
		t = 1
	}
	if t >= m.lease.To {
		return 0, fmt.Errorf("%w: id time %d is outside the window of slot %d up to %d", ErrLeaseEnded, t, m.lease.Slot, m.lease.To)
	}
	m.next, m.seq, m.fresh = t, seq+1, false
	return Make(t, m.lease.Slot, uint16(seq)), nil
}

// Extend gives the Minter a longer window of the same lease. A window that ends
// earlier than the present one changes nothing: answers may overtake another.
func (m *Minter) Extend(l Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.Slot != m.lease.Slot || l.Holder != m.lease.Holder || l.From != m.lease.From {
		return fmt.Errorf("id: window [%d, %d) of slot %d does not extend that of slot %d from %d",
			l.From, l.To, l.Slot, m.lease.Slot, m.lease.From)
	}
	m.lease.To = max(m.lease.To, l.To)
	m.lease.Map = max(m.lease.Map, l.Map)
	return nil
}

// Fence returns the id time x such that everything minted so far lies before x
// and everything minted from now on at or after it. It is where one tile ends
// and the next begins. Each call returns a greater x than the one before, so
// that a tile which could not be used is not confused with its replacement. x
// is in the window or at its end; a second call may pass the end by one.
func (m *Minter) Fence() Millis {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fresh {
		m.next++
	}
	m.fresh = true
	return m.fence()
}

func (m *Minter) fence() Millis {
	if m.seq > 0 {
		m.next, m.seq = m.next+1, 0
	}
	return m.next
}

// Surrender ends minting for good and returns the fence, the time from which on
// nothing was minted.
func (m *Minter) Surrender() Millis {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	return min(m.fence(), m.lease.To)
}

// Lease returns the lease as it stands.
func (m *Minter) Lease() Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lease
}

// position is the id time the next id will have at least.
func (m *Minter) position() Millis {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.next
}
