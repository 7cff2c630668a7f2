package server

import (
	"sync"
	"sync/atomic"
	"time"
)

// latencies are how long the last reads of each disk took, by its number.
type latencies struct {
	mu sync.Mutex // guards of
	of map[uint32]*latency
}

func (l *latencies) disk(number uint32) *latency {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = make(map[uint32]*latency)
	}
	d := l.of[number]
	if d == nil {
		d = new(latency)
		l.of[number] = d
	}
	return d
}

// The bounds of pause, and what it is for a disk of which little is known.
const (
	leastPause   = 2 * time.Millisecond
	longestPause = time.Second
	unknownPause = 100 * time.Millisecond
)

// pause is how long a read of a disk may take before another replica is asked too:
// nearly all its recent reads were faster.
func (l *latencies) pause(number uint32) time.Duration {
	slow := l.disk(number).hedgeAfter()
	if slow == 0 {
		return unknownPause
	}
	return min(max(slow, leastPause), longestPause)
}

// allowance bounds second attempts to a share of all reads: each read adds a part
// of one.
type allowance struct{ parts atomic.Int64 }

// One second attempt for hedgeShare reads, and no more than hedgeBurst in a row.
const (
	hedgeShare = 10
	hedgeBurst = 10
)

func (a *allowance) earn() {
	if a.parts.Add(1) > hedgeShare*hedgeBurst {
		a.parts.Add(-1)
	}
}

func (a *allowance) take() bool {
	if a.parts.Add(-hedgeShare) >= 0 {
		return true
	}
	a.parts.Add(hedgeShare)
	return false
}
