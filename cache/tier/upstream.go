package tier

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"hayloft/internal/clock"
)

// Dialer asks one upstream: path and query of the request's URL count. Its contract is
// that of http.RoundTripper, without redirects.
type Dialer interface {
	Do(ctx context.Context, r *http.Request) (*http.Response, error)
}

// The circuit breaker of an upstream.
const (
	breakAfter = 3 // failures in a row
	breakFirst = 500 * time.Millisecond
	breakMost  = 2 * time.Second // who comes back serves soon
)

// upstream is one tier that this one fills from.
type upstream struct {
	name  string
	hash  uint64
	dial  Dialer
	clock clock.Clock

	mu       sync.Mutex    // guards what follows
	fills    int           // under way
	failed   int           // in a row
	openTo   time.Duration // elapsed time until which nobody asks
	pause    time.Duration
	trial    bool // somebody tries whether it works again
	lastErr  error
	counters UpstreamStats
}

// UpstreamStats are counters of one upstream since New, and gauges where noted.
type UpstreamStats struct {
	Name     string
	Fills    uint64 // objects that it sent
	Gutter   uint64 // of these, of keys that have their home elsewhere
	Failures uint64 // calls that failed
	Refused  uint64 // fills that went elsewhere because it had too many, or is left alone
	Hedged   uint64 // fills that were asked for elsewhere too, because it took long
	Bytes    uint64 // of objects that it sent
	Busy     int    // gauge: fills under way
	Open     bool   // gauge: it is left alone for a while
	Err      error  // its last failure, nil when it works
}

// begin reports whether the upstream may be asked now. Who is told so calls end.
func (u *upstream) begin() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failed < breakAfter {
		return true
	}
	if u.trial || u.clock.Elapsed() < u.openTo {
		return false
	}
	u.trial = true // one tries, the others go elsewhere
	return true
}

// end tells how a call went. given up: it says nothing of the upstream.
func (u *upstream) end(err error, givenUp bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	tried := u.trial
	u.trial = false
	switch {
	case err == nil:
		u.failed, u.pause, u.lastErr = 0, 0, nil
	case givenUp && tried: // nobody knows; not everybody needs to find out
		u.openTo = u.clock.Elapsed() + u.pause
	case givenUp:
	default:
		u.counters.Failures++
		u.lastErr = err
		if u.failed++; u.failed >= breakAfter {
			u.pause = min(max(2*u.pause, breakFirst), breakMost)
			u.openTo = u.clock.Elapsed() + u.pause
		}
	}
}

// take books a fill when there are fewer than most.
func (u *upstream) take(most int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fills >= most {
		u.counters.Refused++
		return false
	}
	u.fills++
	return true
}

func (u *upstream) give() {
	u.mu.Lock()
	u.fills--
	u.mu.Unlock()
}

// load is how many fills are under way, and whether it is not left alone.
func (u *upstream) load() (fills int, works bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.fills, u.failed < breakAfter
}

// answers tells that a call under way has an answer, of which the rest may take long: the
// upstream is there, and may be asked by all. One failure more, and it is left alone again.
func (u *upstream) answers() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.trial {
		u.trial, u.failed = false, breakAfter-1
	}
}

func (u *upstream) count(f func(*UpstreamStats)) {
	u.mu.Lock()
	f(&u.counters)
	u.mu.Unlock()
}

func (u *upstream) stats() UpstreamStats {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := u.counters
	st.Name, st.Busy, st.Err = u.name, u.fills, u.lastErr
	st.Open = u.failed >= breakAfter
	return st
}

// statusError is an answer that is none.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("tier: answered %d: %s", e.status, e.text) }

// alive reports whether an error shows an upstream that works, and cannot or will not
// answer this.
func alive(err error) bool {
	e, ok := err.(*statusError)
	return ok && e.status == http.StatusServiceUnavailable
}
