package cache

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	purgeBatch = 1024
	purgePause = 100 * time.Millisecond // after an error
	// purgeTimeout ends a call that neither answers nor beats.
	purgeTimeout = 10 * time.Second
)

// follower is where this node is in the purge log.
type follower struct {
	caught bool          // the first gap is over; of the goroutine that follows
	seq    atomic.Uint64 // applied
	heard  atomic.Pointer[time.Time]
}

// heardAt is the latest moment of which it is known that every purge up to it
// is applied; zero: never.
func (f *follower) heardAt() time.Time {
	if t := f.heard.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// follow runs until Close. It starts at number 0, with an empty cache: what it
// hears until it has caught up is dropped for nothing, and until then Access is
// asked for everything that is served.
func (c *Cache) follow() {
	failing := false
	for c.ctx.Err() == nil {
		err := c.followOnce()
		if err == nil {
			failing = false
			continue
		}
		if c.ctx.Err() != nil {
			return
		}
		if !failing { // one event for each time of silence
			failing = true
			c.opts.Events(Event{Kind: PurgeLogFailed, Err: err})
		}
		select {
		case <-c.clock.After(purgePause):
		case <-c.ctx.Done():
		}
	}
}

func (c *Cache) followOnce() error {
	// What an answer proves, it proves for the moment of the question: it may
	// have been on its way, or this process stopped, for any time since.
	asked := c.clock.Now()
	after := c.log.seq.Load()
	ctx, cancel := context.WithTimeout(c.ctx, purgeTimeout)
	defer cancel()
	purges, age, err := c.opts.Purges.Purges(ctx, after, purgeBatch)
	if gap, ok := errors.AsType[*GapError](err); ok {
		for _, s := range c.shards {
			s.purgeAll()
		}
		// At the start a part of the log is followed for the tiers that fill from here:
		// they need not drop everything when this node is started again.
		begin := gap.Head
		if after == 0 && begin > relayKept && !c.log.caught {
			begin -= relayKept
		}
		c.log.caught = true
		c.log.seq.Store(begin)
		c.relay.skipped(begin)
		c.n.gaps.Add(1)
		if !c.log.heardAt().IsZero() { // at the start there is nothing to lose, and old entries are trimmed
			c.opts.Events(Event{Kind: PurgeLogGap, Err: err})
		}
		if begin == after { // it would say so again at once
			return err
		}
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range purges {
		if p.Seq <= after {
			return fmt.Errorf("cache: the purge log answered %d after %d", p.Seq, after)
		}
		c.shardOf(p.Blob).purge(p.Blob)
		c.n.purges.Add(1)
		after = p.Seq
		c.log.seq.Store(after)
		c.relay.applied(p)
	}
	if len(purges) < purgeBatch { // else there may be more that were there when we asked
		as := asked.Add(-age)
		if now := c.clock.Now(); as.After(now) { // a clock was stepped: so young, no proof can be
			as = now
		}
		c.log.heard.Store(&as)
		c.relay.hear(as)
	}
	return nil
}
