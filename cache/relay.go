package cache

import (
	"context"
	"sort"
	"sync"
	"time"
)

const (
	relayKept = 1 << 14 // purges that a tier which was away can catch up on
	relayBeat = 500 * time.Millisecond
	// neverAge is the age of what was never heard.
	neverAge = 365 * 24 * time.Hour
)

// relay keeps the last purges that were applied here, for the tiers that fill from
// this one.
type relay struct {
	mu      sync.Mutex // guards all below
	first   uint64     // every purge above it, up to through, is in list
	through uint64     // applied
	list    []Purge
	heard   time.Time     // as of when through is the head of the log; zero: never
	news    chan struct{} // closed at the next change of any of these
}

func newRelay() *relay { return &relay{news: make(chan struct{})} }

// change calls f with mu held and wakes those who wait.
func (r *relay) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.news)
	r.news = make(chan struct{})
}

// applied tells of a purge that has been applied.
func (r *relay) applied(p Purge) {
	r.change(func() {
		r.through = p.Seq
		r.list = append(r.list, p)
		if len(r.list) >= 2*relayKept {
			r.first = r.list[len(r.list)-relayKept-1].Seq
			r.list = append([]Purge(nil), r.list[len(r.list)-relayKept:]...)
		}
	})
}

// skipped tells that the log goes on after seq, and that what was before is unknown.
func (r *relay) skipped(seq uint64) {
	r.change(func() { r.first, r.through, r.list = seq, seq, nil })
}

func (r *relay) hear(as time.Time) { r.change(func() { r.heard = as }) }

// after returns up to limit purges above seq. known is false when there are some that
// are not here any more.
func (r *relay) after(seq uint64, limit int) (list []Purge, known bool) {
	if seq >= r.through {
		return nil, true // ahead of this node, or where it is
	}
	if seq < r.first {
		return nil, false
	}
	at := sort.Search(len(r.list), func(i int) bool { return r.list[i].Seq > seq })
	rest := r.list[at:]
	return append([]Purge(nil), rest[:min(limit, len(rest))]...), true
}

// Purges is the purge log as far as this cache has applied it: a Purger for tiers
// that fill from it, which many may ask at once. Unlike another Purger it answers a
// caller that is ahead, with nothing; through tells how far it is.
func (c *Cache) Purges(ctx context.Context, after uint64, limit int) (list []Purge, through uint64, age time.Duration, err error) {
	called := c.clock.Now()
	var beat <-chan time.Time
	for over := false; ; {
		r := c.relay
		r.mu.Lock()
		list, known := r.after(after, max(limit, 1))
		through, heard, news := r.through, r.heard, r.news
		r.mu.Unlock()
		if !known {
			return nil, through, 0, &GapError{Head: through}
		}
		age = neverAge
		if !heard.IsZero() {
			age = called.Sub(heard)
		}
		if len(list) > 0 || over || age < 0 {
			return list, through, age, nil
		}
		if beat == nil {
			beat = c.clock.After(relayBeat)
		}
		select {
		case <-news:
		case <-beat:
			over = true
		case <-ctx.Done():
			return nil, through, 0, ctx.Err()
		case <-c.ctx.Done():
			return nil, through, 0, errClosed
		}
	}
}

// AwaitPurge returns when every purge up to seq is applied here, or ctx's error. It does
// not wait while nothing is heard of the log.
func (c *Cache) AwaitPurge(ctx context.Context, seq uint64) error {
	for {
		c.relay.mu.Lock()
		through, news := c.relay.through, c.relay.news
		c.relay.mu.Unlock()
		if through >= seq {
			return nil
		}
		if !c.young(c.clock.Now(), c.log.heardAt()) {
			return errStale
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return errClosed
		}
	}
}
