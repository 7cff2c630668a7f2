package cache

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"hayloft/cache/policy"
	"hayloft/internal/id"
)

// entry is one object in memory. Everything without a guard is written before
// the entry is published and never again.
type entry struct {
	key    key
	data   []byte
	etag   string // quoted
	typ    string
	filled time.Time
	shard  *shard
	// loose is the sum that the entry counts in when it found no room within the
	// budget; nil: it is kept. A loose entry is in the map only while somebody reads
	// it, so that all who do share it.
	loose *atomic.Int64
	// growth is how far data has come, of an entry that was published before it was
	// whole: of its bytes only those that are there may be read. Nil: it is whole.
	growth *growth

	// refs counts the responses that read data, plus one for the shard's map
	// unless the entry is loose. It grows only under shard.mu while the entry is
	// in the map, or before the entry is published; whoever takes it to zero
	// frees. A loose entry's shrinks under shard.mu too: with zero it leaves the
	// map, so nobody finds it.
	refs atomic.Int32

	// Guarded by shard.mu.
	node    policy.Node
	linked  bool      // in the map
	sibling *entry    // next entry of the same blob
	verdict Verdict   // void while asked is zero
	asked   time.Time // just before the question that verdict answers; zero: never (pushed in)
}

// entryCost is the administration of one entry: itself, its share of the map,
// ETag text and rounding.
const entryCost = int64(unsafe.Sizeof(entry{})) + 96

// entryOf is the entry around a node.
func entryOf(n *policy.Node) *entry {
	return (*entry)(unsafe.Add(unsafe.Pointer(n), -int(unsafe.Offsetof(entry{}.node))))
}

// unpin gives up one reference. Its caller does not hold shard.mu.
func (e *entry) unpin() {
	if e.loose != nil {
		e.shard.unpinLoose(e)
		return
	}
	if e.refs.Add(-1) == 0 {
		e.free()
	}
}

// free gives the memory of an entry back that nobody reads nor finds any more: it
// is ours alone. Its caller does not hold shard.mu.
func (e *entry) free() {
	e.shard.alloc.Free(e.data)
	if e.loose != nil {
		e.loose.Add(-e.node.Cost)
	} else {
		e.shard.leaving.Add(-e.node.Cost)
	}
}

// shard is an independent part of the cache: all entries of a blob are in one.
type shard struct {
	budget  int64
	alloc   allocator
	leaving atomic.Int64   // bytes of entries that are out of the map and still read
	served  *atomic.Uint64 // bytes handed to connections, of all shards

	mu      sync.Mutex
	blobs   map[id.ID]*entry  // first of the blob's entries
	flights map[key]*flight   // fills that requests may still join
	asks    map[id.ID]*asking // revalidations that requests may still join
	policy  policy.Policy
	used    int64    // bytes of kept entries in the map and of room reserved for more
	entries int64    // kept ones in the map
	dead    []*entry // to be freed by unlock

	evictions, purged uint64
}

func newShard(budget int64, alloc allocator, p policy.Policy, served *atomic.Uint64) *shard {
	return &shard{
		budget:  budget,
		alloc:   alloc,
		served:  served,
		blobs:   make(map[id.ID]*entry),
		flights: make(map[key]*flight),
		asks:    make(map[id.ID]*asking),
		policy:  p,
	}
}

// unlock gives up mu, then frees what died under it: that takes system calls,
// which those who only want a hit do not wait for.
func (s *shard) unlock() {
	dead := s.dead
	s.dead = nil
	s.mu.Unlock()
	for _, e := range dead {
		e.free()
	}
}

// find returns the entry of k, all of it, or nil. Needs mu.
func (s *shard) find(k key) *entry {
	if e := s.present(k); e != nil && !e.growing() {
		return e
	}
	return nil
}

// reserve makes room for an object of n bytes and books it. False: there is
// none, and nothing was evicted in vain for an object that could never fit.
func (s *shard) reserve(n int) (cost int64, ok bool) {
	cost = s.alloc.Cost(n) + entryCost
	if cost > s.budget/3 {
		return 0, false
	}
	s.mu.Lock()
	defer s.unlock()
	for s.used+s.policy.Overhead()+s.leaving.Load()+cost > s.budget {
		if s.leaving.Load()+cost > s.budget/2 {
			return 0, false // slow readers hold so much that evicting more would only empty the cache
		}
		n := s.policy.Evict()
		if n == nil {
			return 0, false
		}
		s.evictions++
		s.unlink(entryOf(n))
		s.unlock()
		s.mu.Lock()
	}
	s.used += cost
	return cost, true
}

// unreserve gives booked room back.
func (s *shard) unreserve(cost int64) {
	s.mu.Lock()
	s.used -= cost
	s.mu.Unlock()
}

// insert publishes e, whose cost is booked, in place of an older entry of the
// same key. Needs mu.
func (s *shard) insert(e *entry) {
	if old := s.present(e.key); old != nil {
		s.drop(old)
	}
	s.chain(e)
	s.entries++
	s.policy.Add(&e.node)
}

// unpinLoose gives up one reference to a loose entry.
func (s *shard) unpinLoose(e *entry) {
	s.mu.Lock()
	last := e.refs.Add(-1) == 0
	if last && e.linked {
		s.unchain(e)
	}
	s.mu.Unlock()
	if last {
		e.free()
	}
}

// drop takes e out of map and policy. Needs mu.
func (s *shard) drop(e *entry) {
	if e.loose != nil {
		s.unchain(e) // its readers finish; the last one frees it
		return
	}
	s.policy.Remove(&e.node)
	s.unlink(e)
}

// unlink takes a kept e, which the policy has given up, out of the map. Needs mu.
func (s *shard) unlink(e *entry) {
	s.unchain(e)
	s.entries--
	s.used -= e.node.Cost
	s.leaving.Add(e.node.Cost)
	if e.refs.Add(-1) == 0 {
		s.dead = append(s.dead, e)
	}
}

// chain puts e into the map. Needs mu.
func (s *shard) chain(e *entry) {
	blob := id.ID(e.key.blob)
	e.sibling, e.linked = s.blobs[blob], true
	s.blobs[blob] = e
}

// unchain takes e out of the map. Needs mu.
func (s *shard) unchain(e *entry) {
	blob := id.ID(e.key.blob)
	if first := s.blobs[blob]; first == e {
		if e.sibling == nil {
			delete(s.blobs, blob)
		} else {
			s.blobs[blob] = e.sibling
		}
	} else {
		for at := first; ; at = at.sibling {
			if at.sibling == e {
				at.sibling = e.sibling
				break
			}
		}
	}
	e.sibling, e.linked = nil, false
}

// purge forgets a blob: its entries, and every fill and question about it that
// began before. Those who wait for one of these start again.
func (s *shard) purge(blob id.ID) {
	s.mu.Lock()
	defer s.unlock()
	for e := s.blobs[blob]; e != nil; e = s.blobs[blob] {
		s.drop(e)
		s.purged++
	}
	for k, f := range s.flights {
		if k.blob == uint64(blob) {
			s.doom(f)
		}
	}
	if a := s.asks[blob]; a != nil {
		a.doomed = true
		delete(s.asks, blob)
	}
}

// purgeAll forgets everything.
func (s *shard) purgeAll() {
	s.mu.Lock()
	defer s.unlock()
	for _, first := range s.blobs {
		for e := first; e != nil; {
			next := e.sibling
			s.drop(e)
			s.purged++
			e = next
		}
	}
	for _, f := range s.flights {
		s.doom(f)
	}
	for blob, a := range s.asks {
		a.doomed = true
		delete(s.asks, blob)
	}
}

// doom lets nobody join f any more and its result not be kept, and sends its
// waiters round again at once. Needs mu.
func (s *shard) doom(f *flight) {
	f.doomed = true
	f.stop(errPurged)
	delete(s.flights, f.key)
}
