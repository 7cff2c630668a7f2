package id

import "fmt"

// MaxAhead is how far after now a new window may begin before the slot is
// skipped as long as others are free: a clock had jumped while it was held.
const MaxAhead = Millis(5 * 60 * 1000)

// Window is the last window that was granted on a slot. The zero Window means
// there was none. Ends only grow but for a surrender, which cuts the window
// where its holder stopped.
type Window struct {
	Node     uint32 // of the holder
	Worker   uint16 // which of the holder's several windows of a kind
	Holder   uint64 // incarnation
	From, To Millis
	Released bool // surrendered
}

// Over reports whether nobody mints in w after now, as far as now can tell.
// That is a guess about a clock; no uniqueness rests on it.
func (w Window) Over(now Millis) bool { return w.Released || w.To <= now }

// used reports whether w was granted.
func (w Window) used() bool { return w.Node != 0 }

// Windows is the table of all slots' windows, as the grant logic reads it. The
// directory's state machine implements it; it runs on one goroutine.
type Windows interface {
	Window(Slot) Window
}

// GrantRequest asks for a window.
type GrantRequest struct {
	Node   uint32 // not zero
	Holder uint64
	Worker uint16
	Lo, Hi Slot // slots Lo ≤ slot < Hi

	Now       Millis // the proposer's clock: what is over
	HolderNow Millis // the holder's clock, which the window must reach
	Length    Millis

	// Rank, when set, orders slots that are else equally good; lower is better.
	Rank func(Slot) int
}

// Grant decides which slot a request gets and which window on it. It is pure:
// the same table and request give the same answer on every replica. The window
// begins at or after the end of every earlier window of the slot.
//
// A holder that has a slot of the range for this worker gets that window
// renewed, so a request may be repeated.
func Grant(ws Windows, r GrantRequest) (Slot, Window, error) {
	type candidate struct {
		far   bool
		rank  int
		start Millis
		slot  Slot
	}
	better := func(a, b candidate) bool {
		switch {
		case a.far != b.far:
			return b.far
		case a.rank != b.rank:
			return a.rank < b.rank
		case a.start != b.start:
			return a.start < b.start
		}
		return a.slot < b.slot
	}
	var best candidate
	found := false
	for s := r.Lo; s < r.Hi; s++ {
		w := ws.Window(s)
		mine := w.used() && w.Node == r.Node && w.Holder == r.Holder
		if mine && w.Worker == r.Worker && !w.Released {
			w, err := Renew(w, r.Holder, w.From, r.Now, r.HolderNow, r.Length)
			return s, w, err
		}
		restarted := w.Node == r.Node && w.Holder != r.Holder
		if w.used() && !w.Over(r.Now) && !restarted {
			continue
		}
		c := candidate{start: max(w.To, r.Now), slot: s}
		if c.start >= MaxMillis {
			continue // used up
		}
		c.far = c.start > r.Now+MaxAhead
		if r.Rank != nil {
			c.rank = r.Rank(s)
		}
		if !found || better(c, best) {
			best, found = c, true
		}
	}
	if !found {
		return 0, Window{}, fmt.Errorf("%w in %d to %d", ErrNoSlot, r.Lo, r.Hi-1)
	}
	return best.slot, Window{
		Node: r.Node, Worker: r.Worker, Holder: r.Holder,
		From: best.start, To: end(max(best.start, r.Now, r.HolderNow), r.Length),
	}, nil
}

// HeldBy reports whether w is the window that holder was granted at from and
// has not surrendered. A holder may get a slot twice; its former window is not
// the present one.
func (w Window) HeldBy(holder uint64, from Millis) bool {
	return w.used() && w.Holder == holder && w.From == from && !w.Released
}

// Renew returns w with a later end. It is ErrLeaseLost when holder does not
// hold it. A window that ran out may be renewed: w is the slot's last one, so
// nobody else has minted since.
func Renew(w Window, holder uint64, from, now, holderNow, length Millis) (Window, error) {
	if !w.HeldBy(holder, from) {
		return w, ErrLeaseLost
	}
	w.To = max(w.To, end(max(now, holderNow), length))
	return w, nil
}

// Release returns w cut at the time from which its holder minted nothing.
func Release(w Window, holder uint64, from, at Millis) (Window, error) {
	if !w.used() || w.Holder != holder || w.From != from {
		return w, ErrLeaseLost
	}
	if w.Released {
		return w, nil // a repetition: the first word counts
	}
	if at < w.From || at > w.To {
		return w, fmt.Errorf("id: surrender at %d, outside the window [%d, %d)", at, w.From, w.To)
	}
	w.To, w.Released = at, true
	return w, nil
}

// end returns from + length, no more than an ID can carry.
func end(from, length Millis) Millis {
	if from >= MaxMillis || length > MaxMillis-from {
		return MaxMillis
	}
	return from + length
}
