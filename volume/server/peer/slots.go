package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Limits are how many calls of each kind are under way at once, with one node and
// with all. 0: the default.
type Limits struct {
	Writes, WritesInAll int // 96, 512; those with one node stay below the connections that mesh keeps to it
	Reads, ReadsInAll   int // 96, 512
	Asks, AsksInAll     int // 32, 64
	Long, LongInAll     int // 8, 16; those that give, and as many of those that take and work
}

func (l Limits) of(c class) (one, all int) {
	or := func(n, def int) int {
		if n > 0 {
			return n
		}
		return def
	}
	switch c {
	case classWrite:
		return or(l.Writes, 96), or(l.WritesInAll, 512)
	case classRead:
		return or(l.Reads, 96), or(l.ReadsInAll, 512)
	case classAsk:
		return or(l.Asks, 32), or(l.AsksInAll, 64)
	}
	return or(l.Long, 8), or(l.LongInAll, 16)
}

// slots bounds calls. Who waits for a node's slot takes none of the others': a
// node that is slow has its own share at most.
type slots struct {
	limits Limits
	all    [classes]*semaphore.Weighted

	mu    sync.Mutex // guards nodes
	nodes map[string]*[classes]*semaphore.Weighted
}

func newSlots(l Limits) *slots {
	s := &slots{limits: l, nodes: make(map[string]*[classes]*semaphore.Weighted)}
	for c := range classes {
		_, all := l.of(c)
		s.all[c] = semaphore.NewWeighted(int64(all))
	}
	return s
}

// node returns the semaphores of a node. There are as many as nodes that were ever
// met, each known by a certificate of the cluster.
func (s *slots) node(name string) *[classes]*semaphore.Weighted {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[name]
	if n == nil {
		n = new([classes]*semaphore.Weighted)
		for c := range classes {
			one, _ := s.limits.of(c)
			n[c] = semaphore.NewWeighted(int64(one))
		}
		s.nodes[name] = n
	}
	return n
}

var errBusy = errors.New("peer: too many calls under way")

// enter waits for a slot until ctx ends.
func (s *slots) enter(ctx context.Context, name string, c class) (leave func(), err error) {
	one := s.node(name)[c]
	if err := one.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("%w with %s: %w", errBusy, name, context.Cause(ctx))
	}
	if err := s.all[c].Acquire(ctx, 1); err != nil {
		one.Release(1)
		return nil, fmt.Errorf("%w: %w", errBusy, context.Cause(ctx))
	}
	return func() {
		s.all[c].Release(1)
		one.Release(1)
	}, nil
}
