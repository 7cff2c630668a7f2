package raftgroup

import "sync"

// inflight counts calls that wait for an answer of Raft's goroutines, so that
// these are not ended before they have answered. (A sync.WaitGroup does not
// allow the first Add beside the Wait.)
type inflight struct {
	mu    sync.Mutex // guards all below
	n     int
	over  bool
	ended chan struct{} // closed when over and n is zero
}

func newInflight() *inflight { return &inflight{ended: make(chan struct{})} }

// begin counts a call; it is false when none may begin any more.
func (f *inflight) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return false
	}
	f.n++
	return true
}

func (f *inflight) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n--; f.n == 0 && f.over {
		close(f.ended)
	}
}

// drain lets no more calls begin; the channel is closed when all have ended.
func (f *inflight) drain() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	if f.n == 0 {
		close(f.ended)
	}
	return f.ended
}
