package tier

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"hayloft/cache"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// Upstream is a tier to fill from. The name decides which keys have their home there:
// it is the same at every tier that fills from it, and after it has moved.
type Upstream struct {
	Name string
	Dialer
}

// Options are for New. Name, Upstreams and Path must be given; the zero value of all
// else works.
type Options struct {
	Name      string // of this tier, unique among all
	Upstreams []Upstream
	Path      *Path
	Clock     clock.Clock

	MaxFills int           // under way at one upstream; default 64
	Attempt  time.Duration // of one fill at one upstream; default 5 s
	Hedge    time.Duration // after so long without an answer another upstream is asked too; default 500 ms
	Ask      time.Duration // of one question for a verdict at one upstream; default 700 ms
	Poll     time.Duration // of one question for the purge log; default 1.5 s
}

// Chain is where the cache of a tier fills from: cache.Origin, cache.Access and
// cache.Purger over other tiers.
type Chain struct {
	o     Options
	ups   []*upstream
	seen  atomic.Uint64             // the largest purge that was returned
	heard atomic.Pointer[time.Time] // as of when the log is known; nil: never

	// Of the one goroutine that follows the purge log.
	at  int       // the upstream that is followed
	got time.Time // when the last purges came
}

var (
	_ cache.Origin = (*Chain)(nil)
	_ cache.Access = (*Chain)(nil)
	_ cache.Purger = (*Chain)(nil)
)

// Errors of calls that no upstream answered.
var (
	ErrDown = errors.New("tier: no upstream can be asked")
	ErrBusy = errors.New("tier: every upstream has too many fills under way")

	errNoKeys = errors.New("tier: it has no keys yet")
)

// New returns a Chain. It does not ask.
func New(o Options) (*Chain, error) {
	if o.Name == "" || o.Path == nil || len(o.Upstreams) == 0 {
		return nil, errors.New("tier: Name, Path and Upstreams must be given")
	}
	o.Clock = cmp.Or[clock.Clock](o.Clock, clock.Real{})
	o.MaxFills = cmp.Or(o.MaxFills, 64)
	o.Attempt = cmp.Or(o.Attempt, 5*time.Second)
	o.Hedge = cmp.Or(o.Hedge, 500*time.Millisecond)
	o.Ask = cmp.Or(o.Ask, 700*time.Millisecond)
	o.Poll = cmp.Or(o.Poll, 1500*time.Millisecond)
	c := &Chain{o: o}
	for i, u := range o.Upstreams {
		if u.Name == "" || slices.ContainsFunc(o.Upstreams[:i], func(b Upstream) bool { return b.Name == u.Name }) {
			return nil, fmt.Errorf("tier: upstream %q has no name of its own", u.Name)
		}
		c.ups = append(c.ups, &upstream{name: u.Name, hash: hashText(u.Name), dial: u.Dialer, clock: o.Clock})
	}
	return c, nil
}

// Ready returns nil when what is known of the purge log is as of the last seconds: else
// nothing can be served.
func (c *Chain) Ready() error {
	if as := c.heard.Load(); as == nil || c.o.Clock.Now().Sub(*as) > 3*time.Second {
		var errs []error
		for _, u := range c.ups {
			if st := u.stats(); st.Err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", st.Name, st.Err))
			}
		}
		return errors.Join(append([]error{ErrDown}, errs...)...)
	}
	return nil
}

// Stats are those of each upstream, in the order of Options.
func (c *Chain) Stats() (out []UpstreamStats) {
	for _, u := range c.ups {
		out = append(out, u.stats())
	}
	return out
}

// Access asks who may be served a blob: the upstreams in the blob's order, one after the
// other.
func (c *Chain) Access(ctx context.Context, blob id.ID) (cache.Verdict, error) {
	began := c.o.Clock.Elapsed()
	q := url.Values{"blob": {blob.String()}, "seq": {strconv.FormatUint(c.seen.Load(), 10)}}
	var errs []error
	for _, u := range c.order(uint64(blob)) {
		if !u.begin() {
			continue
		}
		asked := c.o.Clock.Elapsed()
		var a verdictAnswer
		err := c.ask(ctx, u, c.o.Ask, pathVerdict, q, blob, &a)
		if err == nil && (a.Audience > cache.Signed || a.Age < -int64(time.Hour)) {
			err = fmt.Errorf("tier: a verdict that means nothing: %+v", a)
		}
		c.ended(ctx, u, err)
		if err == nil {
			// The age counts from this question; whoever called counts from its own.
			return cache.Verdict{Audience: a.Audience, Epoch: a.Epoch, Age: time.Duration(a.Age) - (asked - began)}, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", u.name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return cache.Verdict{}, errors.Join(append([]error{ErrDown}, errs...)...)
}

// Keys asks for what private URLs are checked with, of which there is always some.
func (c *Chain) Keys(ctx context.Context) ([]sign.Key, error) {
	var errs []error
	for _, u := range c.ups {
		if !u.begin() {
			continue
		}
		var list []keyAnswer
		err := c.ask(ctx, u, c.o.Ask, pathKeys, nil, 0, &list)
		c.ended(ctx, u, err)
		if err == nil && len(list) == 0 { // it has not heard of them yet: with none, every private URL is "not found"
			err = errNoKeys
		}
		if err == nil {
			return keysOf(list)
		}
		errs = append(errs, fmt.Errorf("%s: %w", u.name, err))
	}
	return nil, errors.Join(append([]error{ErrDown}, errs...)...)
}

// Purges follows the purge log at one upstream, and at the next when that fails or is late.
func (c *Chain) Purges(ctx context.Context, after uint64, limit int) (list []cache.Purge, age time.Duration, err error) {
	c.seen.Store(after)
	began := c.o.Clock.Now()
	q := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(limit)}}
	errs := []error{ErrDown}
	for range c.ups {
		u := c.ups[c.at]
		if u.begin() {
			asked := c.o.Clock.Now()
			var a purgesAnswer
			err := c.ask(ctx, u, c.o.Poll, pathPurges, q, 0, &a)
			c.ended(ctx, u, err)
			if err == nil {
				return c.heardOf(after, limit, &a, began, asked)
			}
			errs = append(errs, fmt.Errorf("%s: %w", u.name, err))
			if ctx.Err() != nil {
				break
			}
		}
		c.at = (c.at + 1) % len(c.ups)
	}
	return nil, 0, errors.Join(errs...)
}

// lateAfter is how old what an upstream knows of the purge log may be: then another is
// asked the next time, before what is served here has to be asked about.
const lateAfter = 1500 * time.Millisecond

// heardOf makes an answer of what an upstream said that was asked at that time.
func (c *Chain) heardOf(after uint64, limit int, a *purgesAnswer, began, asked time.Time) ([]cache.Purge, time.Duration, error) {
	as := asked.Add(-time.Duration(a.Age))
	// One upstream may be behind another. A log that is shorter than it was is another one:
	// it was restored from a backup.
	shrunk := a.Through < after && as.After(c.got)
	if a.Gap || shrunk {
		c.seen.Store(a.Through)
		return nil, 0, &cache.GapError{Head: a.Through}
	}
	if len(a.Purges) > limit {
		return nil, 0, fmt.Errorf("tier: %d purges, asked for %d", len(a.Purges), limit)
	}
	list := make([]cache.Purge, len(a.Purges))
	last := after
	for i, p := range a.Purges {
		if p.Seq <= last {
			return nil, 0, fmt.Errorf("tier: purge %d after %d", p.Seq, last)
		}
		list[i], last = cache.Purge(p), p.Seq
	}
	now := c.o.Clock.Now()
	if len(list) > 0 {
		c.got = now
	}
	if now.Sub(as) > lateAfter { // it may be cut off itself, and another not
		c.at = (c.at + 1) % len(c.ups)
	}
	known := as
	if known.After(now) { // so young, nothing can be known
		known = now
	}
	if heard := c.heard.Load(); heard == nil || known.After(*heard) {
		c.heard.Store(&known)
	}
	c.seen.Store(last)
	return list, began.Sub(as), nil
}

// ended tells the breaker how a question went.
func (c *Chain) ended(ctx context.Context, u *upstream, err error) {
	if alive(err) {
		err = nil
	}
	u.end(err, ctx.Err() != nil)
}

// ask puts a question whose answer is JSON.
func (c *Chain) ask(ctx context.Context, u *upstream, within time.Duration, path string, q url.Values, blob id.ID, to any) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	resp, err := c.do(ctx, u, path, q, blob)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

// do sends a question and returns an answer that is one.
func (c *Chain) do(ctx context.Context, u *upstream, path string, q url.Values, blob id.ID) (*http.Response, error) {
	r, err := http.NewRequest(http.MethodGet, path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set(headerVia, viaField(append(c.o.Path.of(blob), c.o.Name)))
	resp, err := u.dial.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))           // it only explains
	if resp.StatusCode == http.StatusNotFound && path == pathObject { // of a question it only says that it is not known there
		return nil, cache.ErrNotFound
	}
	return nil, &statusError{resp.StatusCode, strings.TrimSpace(string(text))}
}
