package clock

import (
	"sync"
	"time"
)

// Clock tells the time and wakes the caller later.
type Clock interface {
	// Now is the wall-clock time in UTC.
	Now() time.Time
	// Elapsed is the time since a moment of the past that stays the same while
	// the process lives. It never steps, so that the difference of two is how
	// long something took.
	Elapsed() time.Duration
	// After delivers once on the channel when d has passed. A d that is not
	// positive delivers at once.
	After(d time.Duration) <-chan time.Time
}

// Real is the machine's clock.
type Real struct{}

// Now implements Clock.
func (Real) Now() time.Time { return time.Now().UTC() }

var start = time.Now()

// Elapsed implements Clock.
func (Real) Elapsed() time.Duration { return time.Since(start) }

// After implements Clock.
func (Real) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Shifted shows another time than the clock under it, by By, and passes as fast: the
// clock of a machine that is wrong.
type Shifted struct {
	Clock
	By time.Duration
}

// Now implements Clock.
func (s Shifted) Now() time.Time { return s.Clock.Now().Add(s.By) }

// Fake is a clock for tests: it moves only when Advance or Set is called.
type Fake struct {
	mu      sync.Mutex // guards all below
	now     time.Time
	elapsed time.Duration // monotonic: the sum of what Advance was given
	waiters []waiter
}

type waiter struct {
	at time.Duration // in elapsed
	ch chan time.Time
}

// NewFake returns a Fake that shows t.
func NewFake(t time.Time) *Fake { return &Fake{now: t.UTC()} }

// Now implements Clock.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Elapsed implements Clock: the sum of what Advance was given.
func (f *Fake) Elapsed() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.elapsed
}

// After implements Clock. It counts what Advance adds; a Set wakes nobody, as
// a step of the wall clock does not move the monotonic clock.
func (f *Fake) After(d time.Duration) <-chan time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan time.Time, 1)
	if d <= 0 {
		ch <- f.now
		return ch
	}
	f.waiters = append(f.waiters, waiter{f.elapsed + d, ch})
	return ch
}

// Waiters is the number of pending After calls, for tests that must know that
// a goroutine has gone to sleep before they advance.
func (f *Fake) Waiters() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiters)
}

// Set steps the wall clock to t, forward or back.
func (f *Fake) Set(t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = t.UTC()
}

// Advance moves the clock on by d and wakes whoever is due.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
	f.elapsed += d
	rest := f.waiters[:0]
	for _, w := range f.waiters {
		if w.at > f.elapsed {
			rest = append(rest, w)
			continue
		}
		w.ch <- f.now
	}
	f.waiters = rest
}
