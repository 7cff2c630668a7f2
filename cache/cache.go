package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/cache/policy"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/offheap"
	"hayloft/internal/sign"
	"hayloft/internal/spread"
)

// Cache is the cache tier of one node.
type Cache struct {
	opts   Options
	clock  clock.Clock
	names  *names
	shards []*shard       // a power of two
	arena  *offheap.Arena // the shards' memory, closed with the cache; nil: it is somebody else's
	log    follower
	relay  *relay

	fills *lane // every fill
	large *lane // those of Options.Large, besides

	ctx    context.Context // ends with Close; parent of every fill
	cancel context.CancelFunc
	mu     sync.Mutex // guards closed against tasks.Add after Close
	closed bool
	tasks  sync.WaitGroup

	n         counters
	loose     atomic.Int64 // bytes of loose entries
	hitFields []byte       // what all hits answer with
}

type counters struct {
	hits, misses, collapsed, fills, fillErrors, fillNotFound, fillsPurged, fillsRefused           atomic.Uint64
	looseRefused, unkept, pushes, purges, gaps, revalidations, notFound, unavailable, bytesServed atomic.Uint64
}

// What get answers with beside an entry. errDenied is a 404 like ErrNotFound.
var (
	errDenied  = errors.New("cache: not for this client")
	errPurged  = errors.New("cache: overtaken by a purge")
	errBusy    = errors.New("cache: too many fills under way")
	errCrowded = errors.New("cache: readers hold too much that could not be kept")
	errClosed  = errors.New("cache: closed")
	errTimeout = errors.New("cache: the fill took too long")
	errStale   = errors.New("cache: no fresh verdict in time")
)

// New returns a running cache; its caller must Close it.
func New(o Options) (*Cache, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	c := &Cache{
		opts:  o,
		clock: o.Clock,
		names: newNames(o.Variants, o.Formats, o.Large),
		fills: newLane(o.MaxFills, o.MaxQueue),
		large: newLane(o.MaxLargeFills, (o.MaxQueue+1)/2),
		relay: newRelay(),

		hitFields: fieldsOfHits(o.Name),
	}
	alloc := o.alloc
	if alloc == nil {
		a, err := newArena(o, false)
		if err != nil {
			return nil, err
		}
		alloc, c.arena = a, a.Arena
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for range o.shards {
		budget := o.Budget / int64(o.shards)
		c.shards = append(c.shards, newShard(budget, alloc, policy.New(o.Policy, budget), &c.n.bytesServed))
	}
	c.tasks.Go(c.follow)
	return c, nil
}

// Close ends all fills, whose waiters get 503, forgets everything, and returns
// when every goroutine has ended. Responses still being written stay valid; the
// last one gives the memory back.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.tasks.Wait()
	for _, s := range c.shards {
		s.purgeAll()
	}
	if c.arena != nil {
		c.arena.Close()
	}
}

// spawn runs f on a goroutine that Close waits for; false after Close.
func (c *Cache) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.tasks.Go(f)
	return true
}

func (c *Cache) shardOf(blob id.ID) *shard {
	return c.shards[spread.Mix(uint64(blob))>>32&uint64(len(c.shards)-1)]
}

func (k key) hash() uint64 {
	return spread.Mix(spread.Mix(spread.Mix(k.blob)^k.cookie) ^ uint64(k.variant)<<8 ^ uint64(k.format))
}

// internal returns the key inside, false when there can be no such object.
func (c *Cache) internal(k Key) (key, bool) {
	v, okV := c.names.variant[k.Variant]
	f, okF := c.names.ext[k.Ext]
	return key{uint64(k.Blob), uint64(k.Cookie), v, f}, okV && okF && k.Blob != 0 && k.Cookie != 0
}

func (c *Cache) external(k key) Key {
	return Key{c.names.variants[k.variant], id.ID(k.blob), id.Cookie(k.cookie), c.names.exts[k.format]}
}

// how tells where an answer came from.
type how uint8

const (
	byHit how = iota
	byRevalidation
	byFill
	byCollapse
)

// get returns the entry of k, pinned, when the holder of grant (nil: nobody)
// may have it. It waits for a fill or a verdict when it must.
func (c *Cache) get(k key, grant *sign.MediaGrant) (*entry, how, error) {
	s := c.shardOf(id.ID(k.blob))
	from := byHit
	// A purge, or a verdict that took longer than it is good for, sends us
	// round again; a blob that is purged all the time is not available.
	for range 4 {
		s.mu.Lock()
		e := s.present(k)
		if e == nil {
			e, joined, err := c.miss(s, k, grant) // unlocks
			if errors.Is(err, errPurged) {
				continue
			}
			if joined {
				return e, byCollapse, err
			}
			return e, byFill, err
		}
		if c.vouched(e.asked) {
			if !allows(e.verdict, grant) {
				s.mu.Unlock()
				return nil, from, errDenied
			}
			c.serve(s, e, grant) // unlocks
			return e, from, nil
		}
		from = byRevalidation
		verdict, err := c.askAgain(s, id.ID(k.blob)) // unlocks
		if errors.Is(err, errPurged) {
			continue
		}
		if err != nil {
			return nil, from, err
		}
		if verdict.Audience == Gone {
			return nil, from, ErrNotFound
		}
	}
	return nil, from, errStale
}

// serve pins e for a response. The caller holds s.mu; serve releases it.
func (c *Cache) serve(s *shard, e *entry, grant *sign.MediaGrant) {
	e.refs.Add(1)
	if e.loose == nil && grant != gutterGrant {
		s.policy.Hit(&e.node)
	}
	s.mu.Unlock()
	c.n.hits.Add(1)
}

// allows is the one place that decides who may have an object.
func allows(v Verdict, grant *sign.MediaGrant) bool {
	switch v.Audience {
	case Public:
		return true
	case Signed:
		return grant != nil && (grant.Epoch == v.Epoch || forTier(grant))
	default:
		return false
	}
}

// vouched reports whether a verdict asked for at that time may still be used:
// because the purge log would have told of a change, or because it is young.
func (c *Cache) vouched(asked time.Time) bool {
	if asked.IsZero() {
		return false
	}
	now := c.clock.Now()
	return c.young(now, asked) || c.young(now, c.log.heardAt())
}

// young reports whether t is less than PurgeSilence ago. A time that lies ahead
// (the clock was stepped back) proves nothing.
func (c *Cache) young(now, t time.Time) bool {
	age := now.Sub(t)
	return 0 <= age && age < c.opts.PurgeSilence
}

// Stats returns counters and gauges. They are read one after the other, so sums
// may be off by what happens meanwhile.
func (c *Cache) Stats() Stats {
	st := Stats{
		Hits: c.n.hits.Load(), Misses: c.n.misses.Load(), Collapsed: c.n.collapsed.Load(),
		Fills: c.n.fills.Load(), FillErrors: c.n.fillErrors.Load(), FillNotFound: c.n.fillNotFound.Load(),
		FillsPurged: c.n.fillsPurged.Load(), FillsRefused: c.n.fillsRefused.Load(),
		LooseRefused: c.n.looseRefused.Load(), Unkept: c.n.unkept.Load(),
		Pushes: c.n.pushes.Load(), Purges: c.n.purges.Load(), PurgeGaps: c.n.gaps.Load(),
		Revalidations: c.n.revalidations.Load(), NotFound: c.n.notFound.Load(),
		Unavailable: c.n.unavailable.Load(), BytesServed: c.n.bytesServed.Load(),
		LooseBytes: c.loose.Load(), PurgeSeq: c.log.seq.Load(), PurgeHeard: c.log.heardAt(),
	}
	for _, s := range c.shards {
		s.mu.Lock()
		st.Entries += s.entries
		st.GhostBytes += s.policy.Overhead()
		st.LeavingBytes += s.leaving.Load()
		st.Bytes += s.used + s.policy.Overhead() + s.leaving.Load()
		st.Evictions += s.evictions
		st.PurgedEntries += s.purged
		s.mu.Unlock()
	}
	st.TotalBytes = st.Bytes + st.LooseBytes
	return st
}
