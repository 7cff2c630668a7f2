package meta

import (
	"errors"
	"hash/fnv"
	"net"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"hayloft/internal/clock"
	"hayloft/internal/spread"
)

const (
	maxFailures = 3 // in a row: the server is left alone
	minRest     = time.Second
	maxRest     = 30 * time.Second
)

// ring chooses the server of a key by rendezvous hashing: of those in use, the one
// whose hash with the key is largest. When a server leaves, its keys go to all others
// alike, and no other key moves.
type ring struct {
	clock   clock.Clock
	events  func(Event)
	servers []*server
}

var _ memcache.ServerSelector = (*ring)(nil)

// server is one memcached server, and its own net.Addr: the name is looked up at each
// dial.
type server struct {
	addr string
	seed uint64

	mu       sync.Mutex // guards all below
	failures int        // since it last answered
	rest     time.Duration
	until    time.Duration // it is left alone, by Clock.Elapsed
	left     bool          // it was told of
}

func (s *server) Network() string { return "tcp" }
func (s *server) String() string  { return s.addr }

func newRing(o Options) *ring {
	r := &ring{clock: o.Clock, events: o.Events}
	for _, addr := range o.Servers {
		r.servers = append(r.servers, &server{addr: addr, seed: hashOf(addr)})
	}
	return r
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s)) // never fails
	return spread.Mix(h.Sum64())
}

// PickServer implements memcache.ServerSelector.
func (r *ring) PickServer(key string) (net.Addr, error) {
	now := r.clock.Elapsed()
	h := hashOf(key)
	var best *server
	var most uint64
	for _, s := range r.servers {
		if score := spread.Mix(h ^ s.seed); (best == nil || score > most) && s.inUse(now) {
			best, most = s, score
		}
	}
	if best == nil {
		return nil, memcache.ErrNoServers
	}
	return best, nil
}

// Each implements memcache.ServerSelector.
func (r *ring) Each(f func(net.Addr) error) error {
	for _, s := range r.servers {
		if err := f(s); err != nil {
			return err
		}
	}
	return nil
}

func (r *ring) alive() (n int64) {
	now := r.clock.Elapsed()
	for _, s := range r.servers {
		if s.inUse(now) {
			n++
		}
	}
	return n
}

func (r *ring) find(addr string) *server {
	for _, s := range r.servers {
		if s.addr == addr {
			return s
		}
	}
	return nil
}

func (s *server) inUse(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now >= s.until
}

// failed counts a failure of s, or as many as it takes. After some in a row the server
// is left alone, which failed reports, and longer each time it does not do well for long.
func (r *ring) failed(s *server, err error, count int) bool {
	now := r.clock.Elapsed()
	s.mu.Lock()
	if s.failures += count; s.failures < maxFailures || now < s.until {
		s.mu.Unlock()
		return false
	}
	if now-s.until > maxRest {
		s.rest = 0
	}
	s.rest = min(max(2*s.rest, minRest), maxRest)
	s.until = now + s.rest
	told := s.left
	s.left = true
	s.mu.Unlock()
	if !told {
		r.events(Event{Kind: ServerLeft, Server: s.addr, Err: err})
	}
	return true
}

// answered says that s works.
func (r *ring) answered(s *server) {
	s.mu.Lock()
	told := s.left
	s.failures, s.left = 0, false
	s.mu.Unlock()
	if told {
		r.events(Event{Kind: ServerBack, Server: s.addr})
	}
}

var errNoServer = errors.New("meta: no such server")
