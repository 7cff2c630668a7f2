package cache

import (
	"context"
	"errors"
	"slices"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// What get is asked on behalf of another tier, which decides by itself who may have
// what it gets. They are compared by address.
var (
	tierGrant   = &sign.MediaGrant{}
	gutterGrant = &sign.MediaGrant{} // of keys that have their home elsewhere
)

// forTier reports whether grant stands for a tier.
func forTier(grant *sign.MediaGrant) bool { return grant == tierGrant || grant == gutterGrant }

// Lent is an object in the cache's memory. Its user calls Release once, and reads
// nothing of Data after that, and before that as far as There and Wait say.
type Lent struct {
	Data        []byte
	ContentType string
	ETag        string        // quoted
	Hit         bool          // it was in memory
	Age         time.Duration // for how long caches had it
	e           *entry
}

// There reports whether the first n bytes of Data may be read: an object that is being
// fetched grows.
func (l Lent) There(n int) bool {
	return l.e.growth == nil || l.e.growth.there(n)
}

// Wait returns when the first n bytes are there, or why they will not be.
func (l Lent) Wait(n int) error {
	if l.e.growth == nil {
		return nil
	}
	have, err := l.e.growth.wait(n)
	if have >= n {
		return nil
	}
	return err
}

// Release gives the object back.
func (l Lent) Release() { l.e.unpin() }

// Lend returns an object for another tier, whoever may be served it: who that is the
// tier asks by Verdict. It fills as a request does, and fails as one does: with
// ErrNotFound, or without saying that there is none. What is lent as gutter has its home
// elsewhere: it does not count as popular, and soon makes room.
func (c *Cache) Lend(k Key, gutter bool) (Lent, error) {
	in, ok := c.internal(k)
	if !ok {
		return Lent{}, ErrNotFound
	}
	grant := tierGrant
	if gutter {
		grant = gutterGrant
	}
	e, from, err := c.get(in, grant)
	if err != nil {
		return Lent{}, err
	}
	return Lent{Data: e.data, ContentType: e.typ, ETag: e.etag, Hit: from == byHit || from == byRevalidation,
		Age: max(0, c.clock.Now().Sub(e.filled)), e: e}, nil
}

// Verdict answers another tier what Access says of a blob. It answers from memory when
// that is vouched for; else it asks, once for all who ask at the same time.
func (c *Cache) Verdict(ctx context.Context, blob id.ID) (Verdict, error) {
	s := c.shardOf(blob)
	called := c.clock.Now()
	for range 4 {
		heard := c.log.heardAt() // before the entry is looked up: it holds as of then
		s.mu.Lock()
		if e := s.blobs[blob]; e != nil && c.vouched(e.asked) {
			v, as := e.verdict, e.asked
			s.mu.Unlock()
			if heard.After(as) {
				as = heard
			}
			v.Age = called.Sub(as)
			return v, nil
		}
		a, err := c.question(s, blob) // unlocks
		if err != nil {
			return Verdict{}, err
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			return Verdict{}, ctx.Err()
		}
		if a.doomed {
			continue
		}
		v := a.verdict
		v.Age = called.Sub(a.asked)
		return v, a.err
	}
	return Verdict{}, errStale
}

// Key reads a media path without a query, as Handle does.
func (c *Cache) Key(path string) (Key, bool) {
	k, ok := c.parsePath(path)
	if !ok {
		return Key{}, false
	}
	return c.external(k), true
}

// Refusal reports what an error of Lend says: that there is no such object, or that
// it is not known now.
func Refusal(err error) (gone bool) {
	return errors.Is(err, ErrNotFound) || errors.Is(err, errDenied)
}

// Hot names up to limit public objects in memory, of each shard those first that the
// policy would keep longest, for a tier that begins with nothing.
func (c *Cache) Hot(limit int) (keys []Key) {
	var lists [][]key
	for _, s := range c.shards {
		var list []key
		s.mu.Lock()
		for n := range s.policy.All() {
			if e := entryOf(n); e.verdict.Audience == Public && c.vouched(e.asked) {
				list = append(list, e.key)
			}
		}
		s.mu.Unlock()
		slices.Reverse(list)
		lists = append(lists, list)
	}
	for i := 0; len(keys) < limit; i++ {
		before := len(keys)
		for _, list := range lists {
			if i < len(list) && len(keys) < limit {
				keys = append(keys, c.external(list[i]))
			}
		}
		if len(keys) == before {
			break
		}
	}
	return keys
}

// Warm fills k before anybody asks for it. It counts as a miss, not as popular.
func (c *Cache) Warm(k Key) error {
	l, err := c.Lend(k, true)
	if err != nil {
		return err
	}
	defer l.Release()
	return l.Wait(len(l.Data))
}
