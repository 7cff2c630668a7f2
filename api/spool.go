package api

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/internal/id"
)

const (
	spoolStep      = 256 * kib // first piece of an upload's room; then it doubles
	spoolQueue     = 256       // transfers that may wait for their first room
	spoolPerOwner  = 4         // one account may have a quarter of the spool under way
	spoolRetryTime = 5 * time.Second

	// While somebody waits for room, a transfer must go so many times faster
	// than the least rate to be sure of its own.
	crowdedFactor = 16
	// It is judged by what it moved in this part of the longest wait.
	crowdedWindow = 5
)

// spool is a budget of bytes in memory at once, for transfers that are as slow
// as their peers. Room is booked as bytes come, not as they are announced. When
// there is none left the slowest transfers are ended for those who wait, so
// that holding room without using it gains nothing. When all who hold room wait
// for more, one of them is ended at once.
type spool struct {
	total int64
	wait  time.Duration // longest wait for room
	least int64         // bytes per second that are safe while somebody waits

	mu     sync.Mutex // guards all below, and the bookings' fields where they say so
	free   int64
	owners map[id.ID]int64 // bytes announced
	open   map[*booking]struct{}
	queue  []*booking // who waits, first to be served first; those with room before those without
}

func newSpool(total int64, wait time.Duration, rate int64) *spool {
	return &spool{total: total, wait: wait, least: crowdedFactor * rate, free: total,
		owners: make(map[id.ID]int64), open: make(map[*booking]struct{})}
}

// booking is the room of one transfer. One goroutine uses it.
type booking struct {
	s         *spool
	owner     id.ID
	announced int64
	cut       func()       // wakes the transfer from a read or write that blocks
	done      atomic.Int64 // bytes moved
	ended     atomic.Bool  // its room is wanted back; set under s.mu

	// Guarded by s.mu.
	held   int64
	need   int64         // above 0: in the queue
	ready  chan struct{} // closed when it leaves the queue, by another's hand
	peer   bool          // moving at its peer's pace, which is judged
	since  time.Time     // start of the window of judgement
	before int64         // done at since
	closed bool
}

// errCrowded is what a transfer gets that must go without room.
func errCrowded(why string) error {
	return &problem{kind: pBusy, detail: why, retryAfter: spoolRetryTime}
}

// begin registers a transfer of n announced bytes that holds nothing yet. A
// single one is always let in; more than its share an account gets only 429.
// Owner 0 has no share: it competes with everybody by its pace alone.
func (s *spool) begin(owner id.ID, n int64, cut func()) (*booking, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if under := s.owners[owner]; owner != 0 && under > 0 && under+n > s.total/spoolPerOwner {
		return nil, &problem{kind: pUploadsBusy, retryAfter: spoolRetryTime}
	}
	b := &booking{s: s, owner: owner, announced: n, cut: cut}
	s.owners[owner] += n
	s.open[b] = struct{}{}
	return b, nil
}

// close gives everything back. Again it does nothing.
func (b *booking) close() {
	s := b.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	delete(s.open, b)
	if s.owners[b.owner] -= b.announced; s.owners[b.owner] <= 0 {
		delete(s.owners, b.owner)
	}
	s.free += b.held
	b.held = 0
	s.serve()
}

// pace says whether what comes next is at the peer's pace, and judged, or the
// server's own work.
func (b *booking) pace(peer bool) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.peer = peer
	b.window(time.Now())
}

// window starts a new window of judgement.
func (b *booking) window(now time.Time) { b.since, b.before = now, b.done.Load() }

// grow books n bytes more and waits for them as long as the spool allows. A
// transfer never needs more than the whole spool: what is over is not counted.
func (b *booking) grow(ctx context.Context, n int64) error {
	s := b.s
	s.mu.Lock()
	if b.ended.Load() {
		s.mu.Unlock()
		return errCrowded("the room was needed for faster transfers")
	}
	if n = min(n, s.total-b.held); n <= 0 {
		s.mu.Unlock()
		return nil
	}
	place := len(s.queue)
	if b.held > 0 { // whoever has begun goes before those who have not
		place = 0
		for place < len(s.queue) && s.queue[place].held > 0 {
			place++
		}
	}
	if place == 0 && n <= s.free {
		s.free -= n
		b.held += n
		s.mu.Unlock()
		return nil
	}
	if b.held == 0 && len(s.queue) >= spoolQueue {
		s.mu.Unlock()
		return errCrowded("too many transfers at once")
	}
	if len(s.queue) == 0 { // from here on everybody is judged
		for o := range s.open {
			o.window(time.Now())
		}
	}
	b.need, b.ready = n, make(chan struct{})
	s.queue = slices.Insert(s.queue, place, b)
	s.serve()
	ready := b.ready
	s.mu.Unlock()
	return b.await(ctx, ready)
}

// take books n bytes more if they are there at once.
func (b *booking) take(n int64) bool {
	s := b.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if n = min(n, s.total-b.held); b.ended.Load() || len(s.queue) > 0 || n > s.free {
		return false
	}
	s.free -= n
	b.held += n
	return true
}

// await waits in the queue, and judges the others meanwhile.
func (b *booking) await(ctx context.Context, ready <-chan struct{}) error {
	s := b.s
	tick := time.NewTicker(max(s.wait/crowdedWindow, 1))
	defer tick.Stop()
	over := time.NewTimer(s.wait)
	defer over.Stop()
	for waiting := true; waiting; {
		select {
		case <-ready:
			waiting = false
		case <-tick.C:
			s.judge()
		case <-over.C:
			waiting = false
		case <-ctx.Done():
			waiting = false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.need > 0 { // still in the queue: in vain
		s.leave(b)
		s.serve()
		return errCrowded("too many transfers at once")
	}
	if b.ended.Load() {
		return errCrowded("the room was needed for faster transfers")
	}
	return nil
}

// leave takes b out of the queue. Called under s.mu.
func (s *spool) leave(b *booking) {
	s.queue = slices.DeleteFunc(s.queue, func(o *booking) bool { return o == b })
	b.need = 0
	close(b.ready)
	b.window(time.Now())
}

// serve gives free room to whoever is next, and sees to it that somebody can
// go on. Called under s.mu after every change.
func (s *spool) serve() {
	for len(s.queue) > 0 && s.queue[0].need <= s.free {
		b := s.queue[0]
		s.free -= b.need
		b.held += b.need
		s.leave(b)
	}
	if len(s.queue) == 0 {
		return
	}
	var stuck []*booking
	for b := range s.open {
		switch {
		case b.held > 0 && b.need == 0:
			return // will give its room back, be it because it was ended
		case b.held > 0 && b != s.queue[0]:
			stuck = append(stuck, b)
		}
	}
	// All room is held by those who wait for more. The least work is lost with
	// those who have come least far.
	slices.SortFunc(stuck, func(x, y *booking) int { return cmp.Compare(x.done.Load(), y.done.Load()) })
	want := s.queue[0].need - s.free
	for _, b := range stuck {
		if want <= 0 {
			return
		}
		want -= b.held
		s.end(b)
	}
}

// end takes the right to its room from a transfer; the room is free when the
// transfer's goroutine has closed the booking. Called under s.mu.
func (s *spool) end(b *booking) {
	b.ended.Store(true) // before cut: whoever moves the deadline afterwards looks here
	if b.need > 0 {
		s.leave(b)
	}
	if b.cut != nil {
		b.cut()
	}
}

// judge ends the slowest transfers, as many as it takes for all who wait.
func (s *spool) judge() {
	type slow struct {
		b    *booking
		rate float64
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	want := -s.free
	for _, b := range s.queue {
		want += b.need
	}
	var slowest []slow
	for b := range s.open {
		window := now.Sub(b.since)
		switch {
		case b.ended.Load():
			want -= b.held // on its way
		case b.held == 0 || b.need > 0 || !b.peer || window < s.wait/crowdedWindow:
		default:
			if rate := float64(b.done.Load()-b.before) / window.Seconds(); rate < float64(s.least) {
				slowest = append(slowest, slow{b, rate})
			}
			b.window(now)
		}
	}
	slices.SortFunc(slowest, func(x, y slow) int { return cmp.Compare(x.rate, y.rate) })
	for _, x := range slowest {
		if want <= 0 {
			return
		}
		want -= x.b.held
		s.end(x.b)
	}
}
