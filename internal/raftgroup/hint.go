package raftgroup

import (
	"sync"

	"github.com/hashicorp/raft"
)

// Raft tells followers what is committed with the next entry, or after its commit
// timeout, a twentieth of a second or more. A follower that has just been told by
// the leader, in an answer, says it to its own Raft, as the message without
// entries that the leader would have sent: in this term the entry at index is
// committed. Every index that a leader tells is of an entry of its own term,
// because its mark comes before. Raft checks that it has that very entry.

// hints keep the newest word of a leader.
type hints struct {
	mu     sync.Mutex // guards the fields below
	route  route
	index  uint64 // zero: nothing to tell
	stored uint64 // last entry that was stored here
	kick   chan struct{}
}

// heard notes that the leader of r says that index is committed.
func (h *hints) heard(r route, index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.term > h.route.term || r.term == h.route.term && index > h.index {
		h.route, h.index = r, index
		h.wake()
	}
}

// has notes that entries up to index were stored.
func (h *hints) has(index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stored = index
	if h.index != 0 {
		h.wake()
	}
}

func (h *hints) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// take returns what can be told, and forgets it.
func (h *hints) take() (r route, index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.index == 0 || h.index > h.stored {
		return r, 0
	}
	r, index = h.route, h.index
	h.index = 0
	return r, index
}

// hintLoop is the goroutine that tells Raft.
func (g *Group) hintLoop() {
	defer g.loops.Done()
	for {
		select {
		case <-g.log.hints.kick:
		case <-g.stop:
			return
		}
		r, index := g.log.hints.take()
		if index == 0 || g.applied.Load() >= index || g.ready.Load() != 0 {
			continue
		}
		id, addr := raft.ServerID(r.leader), raft.ServerAddress(r.leader)
		peer := g.wire.EncodePeer(id, addr)
		// What goes wrong here comes later by itself.
		_ = g.wire.local(&raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: peer},
			Term:      r.term, PrevLogEntry: index, PrevLogTerm: r.term, LeaderCommitIndex: index,
		}, g.stop)
	}
}
