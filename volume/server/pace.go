package server

import (
	"context"
	"sync"
	"time"
)

const (
	paceBurst   = 250 * time.Millisecond // of the rate, unused, that may be caught up on
	trafficLook = 100 * time.Millisecond // between two looks at the traffic
	trafficHold = time.Second            // for which traffic counts, so that a few calls a second do
)

// pace holds the upkeep of one disk, or work on several, to a number of bytes per second.
type pace struct {
	s     *Server
	disks func() int64 // whose rates it has, nil: one's

	mu     sync.Mutex // guards all below
	next   time.Time  // when what was asked for so far is paid
	looked time.Time
	calls  uint64    // then
	called time.Time // when there was some, last
}

// wait returns when n more bytes may be read or written.
func (p *pace) wait(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d := p.due(n)
	if d <= 0 {
		return nil
	}
	select {
	case <-p.s.o.Clock.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// due takes n bytes off the budget and tells how long they have to wait.
func (p *pace) due(n int64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.s.o.Clock.Now()
	if age := now.Sub(p.looked); age >= trafficLook || age < 0 {
		calls := p.s.n.writes.Load() + p.s.n.reads.Load()
		if calls != p.calls {
			p.called = now
		}
		p.calls, p.looked = calls, now
	}
	rate := p.s.o.Maintenance
	if held := now.Sub(p.called); held >= 0 && held < trafficHold {
		rate = max(rate/TrafficShare, 1)
	}
	if p.disks != nil {
		rate *= max(p.disks(), 1)
	}
	cost := time.Duration(float64(n) / float64(rate) * float64(time.Second))
	// A step of the clock must not make the upkeep race, or wait for ever.
	if behind := p.next.Sub(now); behind < -paceBurst || behind > cost+time.Minute {
		p.next = now.Add(-paceBurst)
	}
	p.next = p.next.Add(cost)
	return p.next.Sub(now)
}

// Throttle waits until n more bytes may be read from a disk by who reads whole
// volumes: verifications and exports share the rate of the disk's upkeep. disk 0 is
// the disks of coded volumes together.
func (s *Server) Throttle(ctx context.Context, disk uint32, n int64) error {
	if disk == 0 {
		return s.coder.pace.wait(ctx, n)
	}
	if d := s.diskByNumber(disk); d != nil {
		return d.pace.wait(ctx, n)
	}
	return ctx.Err()
}
