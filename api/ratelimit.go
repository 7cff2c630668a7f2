package api

import (
	"container/list"
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/internal/clock"
)

// limiters are the limits of one process. They hold no promise across
// processes: each api node counts for itself.
type limiters struct {
	address, account, signup, login, handle, handles *limiter
}

func newLimiters(c clock.Clock, r Rates) *limiters {
	return &limiters{
		address: newLimiter("address", c, r.Address),
		account: newLimiter("account", c, r.Account),
		signup:  newLimiter("signup", c, r.Signup),
		login:   newLimiter("login", c, r.Login),
		handle:  newLimiter("handle", c, r.Handle),
		handles: newLimiter("handle-everywhere", c, r.Handles),
	}
}

const (
	limiterShards  = 16
	limiterPerShar = 4096 // buckets kept per shard; the least recently used is forgotten
)

// limiter is a set of token buckets of one rate, bounded in memory. A bucket
// that is forgotten starts full again, so an attacker needs some 65,000
// addresses to gain anything by it.
type limiter struct {
	name   string
	rate   Rate
	clock  clock.Clock
	seed   maphash.Seed
	shards [limiterShards]limiterShard
}

type limiterShard struct {
	mu   sync.Mutex // guards all below
	by   map[string]*list.Element
	used *list.List // of *bucket, most recent first
}

type bucket struct {
	key    string
	tokens float64
	at     time.Time
}

func newLimiter(name string, c clock.Clock, rate Rate) *limiter {
	l := &limiter{name: name, rate: rate, clock: c, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].by = make(map[string]*list.Element)
		l.shards[i].used = list.New()
	}
	return l
}

// change refills key's bucket, then takes n tokens if it holds them (n below
// zero gives back). It returns what is left.
func (l *limiter) change(key string, n float64) (left float64, ok bool) {
	s := &l.shards[maphash.String(l.seed, key)%limiterShards]
	now := l.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := s.by[key]
	if !found {
		e = s.used.PushFront(&bucket{key: key, tokens: l.rate.Burst, at: now})
		s.by[key] = e
		if s.used.Len() > limiterPerShar {
			oldest := s.used.Back()
			s.used.Remove(oldest)
			delete(s.by, oldest.Value.(*bucket).key)
		}
	} else {
		s.used.MoveToFront(e)
	}
	b := e.Value.(*bucket)
	if d := now.Sub(b.at); d > 0 { // a clock that steps back refills nothing
		b.tokens += d.Seconds() * l.rate.PerSecond
	}
	b.at = now
	b.tokens = math.Min(b.tokens, l.rate.Burst)
	if b.tokens < n {
		return b.tokens, false
	}
	b.tokens = math.Min(b.tokens-n, l.rate.Burst)
	return b.tokens, true
}

// take takes one token for a call, or refuses it. Either way the answer says
// how things stand.
func (l *limiter) take(r *request, key string) error {
	left, ok := l.change(key, 1)
	l.describe(&r.rc.Response.Header, left)
	if ok {
		return nil
	}
	r.a.emit(Event{Kind: EventRateLimit, Note: l.name, Route: r.route.pattern, Account: r.viewer, Address: r.addr})
	wait := time.Duration((1 - left) / l.rate.PerSecond * float64(time.Second))
	return &problem{kind: pRateLimited, retryAfter: max(wait, time.Millisecond)}
}

// refund gives a token back: what was taken in advance for a failure that did
// not happen.
func (l *limiter) refund(key string) { l.change(key, -1) }

// describe writes the fields of draft-ietf-httpapi-ratelimit-headers: q tokens
// per window w, r left, t seconds until it is full again.
func (l *limiter) describe(h *fasthttp.ResponseHeader, left float64) {
	window := math.Ceil(l.rate.Burst / l.rate.PerSecond)
	full := math.Ceil((l.rate.Burst - left) / l.rate.PerSecond)
	h.Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d;w=%d", l.name, int(l.rate.Burst), int(window)))
	h.Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", l.name, int(left), int(full)))
}

// addrKey is what an address is counted under: a host has a whole IPv6 /64.
func addrKey(a netip.Addr) string { return prefixKey(a, 64) }

// networkKey is coarser: whoever has one IPv6 /64 often has the /48 around it.
func networkKey(a netip.Addr) string { return prefixKey(a, 48) }

func prefixKey(a netip.Addr, bits int) string {
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(bits); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// trusted reports whether a peer's X-Forwarded-For is believed.
func (a *API) trusted(addr netip.Addr) bool {
	for _, p := range a.opt.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// clientAddr returns the address of the client: the peer's, or behind trusted
// proxies the last one in X-Forwarded-For that is not such a proxy. What a
// client wrote there itself lies further to the left and is never reached.
func (a *API) clientAddr(rc *fasthttp.RequestCtx) netip.Addr {
	return a.behindProxies(addrOf(rc.RemoteAddr()), rc.Request.Header.PeekAll("X-Forwarded-For")...)
}

// behindProxies is clientAddr of a peer that sent these values of X-Forwarded-For.
func (a *API) behindProxies(addr netip.Addr, values ...[]byte) netip.Addr {
	if len(a.opt.TrustedProxies) == 0 || !a.trusted(addr) {
		return addr
	}
	var hops []string
	for _, v := range values {
		hops = append(hops, strings.Split(string(v), ",")...)
	}
	for i := len(hops) - 1; i >= 0 && a.trusted(addr); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = next.Unmap()
	}
	return addr
}
