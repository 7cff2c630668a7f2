package feed

import (
	"context"
	"sync"
	"time"
)

// The sweeper destroys what cannot be brought back, so it does not take the
// wall clock's word alone: see docs/decisions/039.
const (
	guardTick   = time.Minute     // of running time, between looks
	guardSlack  = 5 * time.Minute // steps up to this are no jump
	guardDoubt  = time.Hour       // of running time, before a jump is believed
	guardAbsent = 24 * time.Hour  // that may have passed before this process
)

// guard compares the wall clock with running time. Running time is counted in
// whole ticks, so it is never overstated by more than what a tick says.
type guard struct {
	mu      sync.Mutex    // guards all below
	started bool          //
	running time.Duration // since start
	base    time.Time     // believed: what the wall clock showed at running time 0
	doubted bool          // there is a jump, to:
	other   time.Time     // what the wall clock would have shown at running time 0
	since   time.Duration // running time at which the jump was seen
}

// start says what is known before the first look: the time up to which the
// state was swept last; zero: there is nothing to destroy.
func (g *guard) start(now, swept time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.started {
		return
	}
	g.started = true
	g.base = now
	if !swept.IsZero() && now.Sub(swept) > guardAbsent {
		g.base = swept
		g.look(now)
	}
}

// tick counts running time.
func (g *guard) tick(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running += guardTick
	g.look(now)
}

// believed is the latest time that may be acted upon: now, unless the clock has
// jumped ahead.
func (g *guard) believed(now time.Time) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.look(now)
	if !g.doubted {
		return now
	}
	return g.base.Add(g.running)
}

// look compares. A clock that goes back is believed: nothing ends too early by
// that.
func (g *guard) look(now time.Time) {
	base := now.Add(-g.running)
	switch {
	case base.Sub(g.base) <= guardSlack:
		g.base, g.doubted = base, false
	case !g.doubted || base.Sub(g.other).Abs() > guardSlack:
		g.doubted, g.other, g.since = true, base, g.running
	case g.running-g.since >= guardDoubt:
		g.base, g.doubted = base, false
	}
}

// keepTime counts running time for the guard until ctx ends.
func (f *Feed) keepTime(ctx context.Context) error {
	for {
		select {
		case <-f.clock.After(guardTick):
			f.guard.tick(f.now())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sweepTime is the time up to which things may end now.
func (f *Feed) sweepTime(ctx context.Context) (time.Time, error) {
	var swept uint64
	err := f.read(ctx, func(v *view) (err error) {
		swept, err = v.meta(metaSwept)
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	now := f.now()
	f.guard.start(now, timeOf(swept))
	return f.guard.believed(now), nil
}
