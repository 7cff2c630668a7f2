package coded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"hayloft/volume"
	"hayloft/volume/coding"
)

// shards are those that are read now. They are replaced as a set: a read goes on
// with the set it began with.
type shards struct {
	c      coding.Committed
	o      coding.ReaderOptions
	unused func(coding.Shard)

	mu  sync.Mutex // guards now, and uses of every set
	now *shardSet  // nil: closed
}

// shardSet is one set. It never changes.
type shardSet struct {
	reader *coding.Reader
	shards []*heldShard // nil: there is none
	uses   int          // reads under way, and one while it is the current set
}

// heldShard counts who may still read a shard: the sets it is in, and reads that
// nobody waits for any more.
type heldShard struct {
	coding.Shard
	unused func(coding.Shard)
	holds  atomic.Int64 // 0: it was given up
}

var errGivenUp = errors.New("the shard was given up")

// hold reports false when the shard was given up.
func (h *heldShard) hold() bool {
	for {
		n := h.holds.Load()
		if n == 0 {
			return false
		}
		if h.holds.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (h *heldShard) drop() {
	if h.holds.Add(-1) == 0 {
		h.unused(h.Shard)
	}
}

// ReadAt implements coding.Shard.
func (h *heldShard) ReadAt(ctx context.Context, p []byte, off int64) error {
	if !h.hold() {
		return errGivenUp
	}
	defer h.drop()
	return h.Shard.ReadAt(ctx, p, off)
}

func newShards(c coding.Committed, now []coding.Shard, o Options) (*shards, error) {
	s := &shards{c: c, o: o.Reader, unused: o.Unused}
	var err error
	s.now, err = s.next(now)
	return s, err
}

// set makes these the shards for reads that begin from now on.
func (s *shards) set(now []coding.Shard) error {
	s.mu.Lock()
	if s.now == nil {
		s.mu.Unlock()
		return volume.ErrClosed
	}
	next, err := s.next(now)
	var gone []*heldShard
	if err == nil {
		gone = s.leaveLocked(s.now)
		s.now = next
	}
	s.mu.Unlock()
	dropAll(gone)
	return err
}

// next returns a set. What the current one has too is held once more.
func (s *shards) next(now []coding.Shard) (*shardSet, error) {
	if len(now) != s.c.Shards() {
		return nil, fmt.Errorf("%w: %d shards for %s", volume.ErrInvalid, len(now), s.c.Policy)
	}
	next := &shardSet{shards: make([]*heldShard, len(now)), uses: 1}
	readable := make([]coding.Shard, len(now))
	for i, sh := range now {
		if sh == nil {
			continue
		}
		h := s.held(i, sh)
		if h == nil {
			h = &heldShard{Shard: sh, unused: s.unused}
		}
		next.shards[i], readable[i] = h, h
	}
	var err error
	if next.reader, err = coding.NewReader(s.c, readable, s.o); err != nil {
		return nil, err
	}
	for _, h := range next.shards {
		if h != nil {
			h.holds.Add(1) // it is new, or the current set holds it
		}
	}
	return next, nil
}

// held returns the current shard i if it is sh.
func (s *shards) held(i int, sh coding.Shard) *heldShard {
	if s.now == nil || s.now.shards[i] == nil || s.now.shards[i].Shard != sh {
		return nil
	}
	return s.now.shards[i]
}

// use returns the current set, which stays until leave.
func (s *shards) use() (*shardSet, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		return nil, volume.ErrClosed
	}
	s.now.uses++
	return s.now, nil
}

func (s *shards) leave(set *shardSet) {
	s.mu.Lock()
	gone := s.leaveLocked(set)
	s.mu.Unlock()
	dropAll(gone)
}

// leaveLocked returns what the set held if it is used no more, to be dropped
// without the lock: what is told then may take its time.
func (s *shards) leaveLocked(set *shardSet) []*heldShard {
	if set.uses--; set.uses > 0 {
		return nil
	}
	return set.shards
}

func dropAll(gone []*heldShard) {
	for _, h := range gone {
		if h != nil {
			h.drop()
		}
	}
}

// close gives all shards up.
func (s *shards) close() {
	s.mu.Lock()
	var gone []*heldShard
	if s.now != nil {
		gone = s.leaveLocked(s.now)
		s.now = nil
	}
	s.mu.Unlock()
	dropAll(gone)
}
