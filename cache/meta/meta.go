package meta

import (
	"context"
	"sync/atomic"
	"time"
)

// Cache is the metadata cache of one node.
type Cache struct {
	o     Options
	store store
	n     counters
}

type counters struct {
	hits, misses, waited, loaded, absent, busy, failures, lies, dropped atomic.Uint64
}

// entry is what a store has under a key.
type entry struct {
	value  []byte
	absent bool // load knew nothing of it a moment ago
}

// store is where values are kept. None of its methods fails: what cannot be done is not.
type store interface {
	// get returns what there is of keys; false: it could not be asked now.
	get(keys []string) (map[string]entry, bool)
	// lease returns those of keys that the caller is to load, and those that somebody
	// else is about to.
	lease(keys []string) (mine, others []string)
	// put keeps e: its key need not be leased any more.
	put(key string, e entry)
	// free ends leases under which nothing was put.
	free(keys []string)
	close()
}

// New returns a cache; its caller must Close it. It calls no server.
func New(o Options) (*Cache, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &Cache{o: o.withDefaults()}
	if len(o.Servers) > 0 {
		c.store = newServers(c)
	} else {
		c.store = newLocal(c.o)
	}
	return c, nil
}

// Close ends the cache's goroutines and connections.
func (c *Cache) Close() { c.store.close() }

// Load returns values of keys, not necessarily of all. It is asked on behalf of
// one caller, and what it returns must be right for everybody.
type Load = func(ctx context.Context, keys []string) (map[string][]byte, error)

// Hydrate returns the values of keys: out of the cache, or by load, which is asked for
// those that are not there. A key of which load returns nothing has none. The values
// must not be changed.
func (c *Cache) Hydrate(ctx context.Context, keys []string, load Load) (map[string][]byte, error) {
	if len(keys) == 0 {
		return nil, ctx.Err()
	}
	got := make(map[string][]byte, len(keys))
	found, ok := c.store.get(keys)
	var now, later []string
	for _, k := range keys {
		switch e, there := found[k]; {
		case !there:
			later = append(later, k)
		case e.absent: // nobody needs to wait for anybody
			c.n.absent.Add(1)
			now = append(now, k)
		default:
			got[k] = e.value
		}
	}
	c.n.hits.Add(uint64(len(got)))
	c.n.misses.Add(uint64(len(keys) - len(got)))
	if !ok {
		c.n.busy.Add(uint64(len(later)))
		return got, c.load(ctx, append(now, later...), load, got)
	}
	mine, others := later, []string(nil)
	if len(later) > 0 {
		mine, others = c.store.lease(later)
	}
	if err := c.load(ctx, append(now, mine...), load, got); err != nil {
		return nil, err
	}
	for p := (patience{left: c.o.LeaseWait, next: c.o.LeaseWait / 16}); len(others) > 0; {
		mine, others = c.wait(ctx, others, got, &p)
		if err := c.load(ctx, mine, load, got); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// load adds what load returns to got, and keeps it.
func (c *Cache) load(ctx context.Context, keys []string, load Load, got map[string][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	c.n.loaded.Add(uint64(len(keys)))
	values, err := load(ctx, keys)
	if err != nil {
		c.store.free(keys)
		return err
	}
	for _, k := range keys {
		v, ok := values[k]
		if ok {
			got[k] = v
		}
		c.store.put(k, entry{value: v, absent: !ok})
	}
	return nil
}

// patience is how long somebody still waits for others, and how long until he looks
// again.
type patience struct{ left, next time.Duration }

// wait waits for what others load and adds it to got. It returns what the caller has to
// load after all, once there is something, and what others are still about to.
func (c *Cache) wait(ctx context.Context, keys []string, got map[string][]byte, p *patience) (mine, others []string) {
	for len(keys) > 0 {
		if p.left <= 0 {
			return keys, nil
		}
		pause := min(p.next, p.left)
		p.left, p.next = p.left-pause, 2*p.next
		select {
		case <-c.o.Clock.After(pause):
		case <-ctx.Done():
			return keys, nil // load will say so
		}
		found, ok := c.store.get(keys)
		if !ok {
			return keys, nil
		}
		var left []string
		for _, k := range keys {
			switch e, there := found[k]; {
			case !there:
				left = append(left, k)
			case e.absent: // what he was told need not be right for us
				mine = append(mine, k)
			default:
				got[k] = e.value
				c.n.waited.Add(1)
			}
		}
		free, taken := c.store.lease(left) // who had it may have given up
		if mine = append(mine, free...); len(mine) > 0 {
			return mine, taken
		}
		keys = taken
	}
	return nil, nil
}

// Stats returns counters and gauges. They are read one after the other.
func (c *Cache) Stats() Stats {
	s := Stats{
		Hits: c.n.hits.Load(), Misses: c.n.misses.Load(), Waited: c.n.waited.Load(), Loaded: c.n.loaded.Load(), Absent: c.n.absent.Load(),
		Busy: c.n.busy.Load(), Failures: c.n.failures.Load(), Lies: c.n.lies.Load(), Dropped: c.n.dropped.Load(),
	}
	switch st := c.store.(type) {
	case *local:
		s.Bytes = st.size()
	case *servers:
		s.Servers = st.ring.alive()
	}
	return s
}
