package raftgroup

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A follower that receives a snapshot needs the log from there on when it has it.
// If the leader went on truncating, it would need another snapshot, and so for
// ever. So what follows a snapshot stays in the log while it is sent, and for a
// while after that.
const (
	holdAfter   = 30 * time.Second // at least; as long as the stream took, if that is longer
	streamRate  = 64 << 20         // bytes per second of all snapshots that are sent
	streamBurst = 8 << 20
)

// holds are the snapshots that followers are given.
type holds struct {
	mu   sync.Mutex // guards all below
	next int
	by   map[int]hold

	free time.Duration // Elapsed when what was sent so far is paid for
}

type hold struct {
	index uint64        // its entry and all after it stay: Raft looks at the term of the former one
	until time.Duration // Elapsed; zero: while it is sent
}

// limit returns the greatest index that may be removed from the front of the log
// when the caller wants to remove up to hi.
func (h *holds) limit(now time.Duration, hi uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n, x := range h.by {
		if x.until != 0 && x.until <= now {
			delete(h.by, n)
			continue
		}
		hi = min(hi, x.index-1)
	}
	return hi
}

// sending returns r, whose bytes are a snapshot up to index, on its way to a
// follower.
func (g *Group) sending(index uint64, r io.ReadCloser) io.ReadCloser {
	if g.raft == nil || g.raft.State() != raft.Leader {
		return r // it is read here
	}
	h := &g.log.holds
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = map[int]hold{}
	}
	h.next++
	h.by[h.next] = hold{index: index}
	return &sent{ReadCloser: r, g: g, n: h.next, index: index, began: g.opts.Clock.Elapsed()}
}

// sent is a snapshot on its way.
type sent struct {
	io.ReadCloser
	g     *Group
	n     int
	index uint64
	began time.Duration
	once  sync.Once
}

// Read implements io.Reader. It waits when snapshots are sent too fast.
func (s *sent) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	h, now := &s.g.log.holds, s.g.opts.Clock.Elapsed()
	h.mu.Lock()
	h.free = max(h.free, now-streamBurst*time.Second/streamRate) + time.Duration(n)*time.Second/streamRate
	ahead := h.free - now
	h.mu.Unlock()
	if ahead > 0 {
		select {
		case <-s.g.opts.Clock.After(ahead):
		case <-s.g.stop:
		}
	}
	return n, err
}

// Close implements io.Closer.
func (s *sent) Close() error {
	s.once.Do(func() {
		h, now := &s.g.log.holds, s.g.opts.Clock.Elapsed()
		h.mu.Lock()
		h.by[s.n] = hold{s.index, now + max(holdAfter, now-s.began)}
		h.mu.Unlock()
	})
	return s.ReadCloser.Close()
}
