package raftgroup

import "sync"

// desk is where a leader keeps what other members have handed over in its term, so
// that what arrives twice is logged once. Entries of other terms are void, so that
// nothing has to be remembered longer.
type desk struct {
	mu      sync.Mutex // guards all below
	term    uint64
	origins map[tag]*handed
}

// handed is what one origin has handed over.
type handed struct {
	greatest uint64
	by       map[uint64]*attempt
}

// attempt is one entry on its way into the log.
type attempt struct {
	done   chan struct{}
	status status // when done is closed, as index is
	index  uint64
}

// deskNumbers are remembered per origin; a member has maxInFlight under way.
const deskNumbers = 64

// take returns the attempt with that id, and whether the caller has to make it;
// nil when it is not known any more what became of it.
func (d *desk) take(term uint64, id ticketID) (a *attempt, mine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if term < d.term {
		return nil, false
	}
	if term > d.term || d.origins == nil {
		d.term, d.origins = term, map[tag]*handed{}
	}
	h := d.origins[id.origin]
	if h == nil {
		h = &handed{by: map[uint64]*attempt{}}
		d.origins[id.origin] = h
	}
	if a = h.by[id.number]; a != nil {
		return a, false
	}
	if id.number+deskNumbers <= h.greatest {
		return nil, false
	}
	h.greatest = max(h.greatest, id.number)
	for n := range h.by {
		if n+deskNumbers <= h.greatest {
			delete(h.by, n)
		}
	}
	a = &attempt{done: make(chan struct{})}
	h.by[id.number] = a
	return a, true
}

// finish says what became of an attempt. One that certainly did not reach the log
// may be made again.
func (d *desk) finish(term uint64, id ticketID, a *attempt, st status, index uint64) {
	d.mu.Lock()
	if st == statusNotLeader && d.term == term {
		delete(d.origins[id.origin].by, id.number)
	}
	d.mu.Unlock()
	a.status, a.index = st, index
	close(a.done)
}
