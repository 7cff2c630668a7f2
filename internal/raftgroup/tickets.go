package raftgroup

import (
	"errors"
	"sync"
	"time"
)

// route is where commands go: the member that leads, and the term it leads in as
// far as this member knows.
type route struct {
	leader string
	term   uint64
}

// ticket is one entry of this member on its way. It is good for one term: an
// entry that is logged in another is void.
type ticket struct {
	route
	id    ticketID
	body  []byte // counted commands
	batch []*proposal
	done  chan struct{} // closed when its proposals are answered

	// Used by the goroutine that carries it.
	doubt  bool          // it may be in the log
	since  time.Duration // when that began
	logged bool          // the leader says that it is committed
}

// tickets are the entries of this member that are not answered yet. They are
// answered by the goroutine that applies entries, on whichever member it was that
// logged them.
type tickets struct {
	origin tag // drawn at each start, so that no later process takes an answer for its own

	mu   sync.Mutex // guards the fields below
	last uint64
	open map[uint64]*ticket
}

func newTickets() *tickets { return &tickets{origin: newTag(), open: map[uint64]*ticket{}} }

func (s *tickets) add(r route, p *packer, batch []*proposal) *ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	t := &ticket{route: r, id: ticketID{s.origin, s.last}, body: p.counted(), batch: batch, done: make(chan struct{})}
	s.open[s.last] = t
	return t
}

// take removes a ticket from the open ones; nil: it was answered before.
func (s *tickets) take(number uint64) *ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.open[number]
	delete(s.open, number)
	return t
}

// applied answers the ticket with that id, if it is one of ours, with what the
// Machine said.
func (s *tickets) applied(id ticketID, res []result) {
	if id.origin != s.origin {
		return
	}
	t := s.take(id.number)
	if t == nil {
		return
	}
	for i, p := range t.batch {
		if i < len(res) {
			p.done <- res[i]
		} else {
			p.done <- result{err: unknown(errors.New("raftgroup: fewer answers than commands"))}
		}
	}
	close(t.done)
}

// passed is told that an entry of that term was applied: what is open of earlier
// terms is not in the log, and will never be.
func (s *tickets) passed(term uint64) {
	s.endAll(result{err: ErrNotLeader, again: true}, func(t *ticket) bool { return t.term < term })
}

// jumped is told that the state has moved on without applying entries one by one.
func (s *tickets) jumped() {
	err := unknown(errors.New("raftgroup: a snapshot took the place of the entry"))
	s.endAll(result{err: err}, func(*ticket) bool { return true })
}

func (s *tickets) endAll(r result, which func(*ticket) bool) {
	s.mu.Lock()
	var ended []*ticket
	for number, t := range s.open {
		if which(t) {
			delete(s.open, number)
			ended = append(ended, t)
		}
	}
	s.mu.Unlock()
	for _, t := range ended {
		t.answer(r)
	}
}

// end answers a ticket the same for all its proposals, unless it was answered.
func (s *tickets) end(t *ticket, r result) {
	if s.take(t.id.number) != nil {
		t.answer(r)
	}
}

func (t *ticket) answer(r result) {
	for _, p := range t.batch {
		p.done <- r
	}
	close(t.done)
}

func (t *ticket) answered() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}
