package meta

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

const (
	putters  = 4
	maxQueue = 2048 // values that wait to be put
)

// servers keeps values at memcached servers.
type servers struct {
	c      *Cache
	o      Options
	ring   *ring
	client *memcache.Client
	places chan struct{} // one element for each call under way
	puts   chan task
	done   sync.WaitGroup

	mu     sync.Mutex // guards closed against puts after close
	closed bool
}

// task is a value to be put, or with free a lease to be ended.
type task struct {
	key  string
	e    entry
	free bool
}

func newServers(c *Cache) *servers {
	s := &servers{
		c: c, o: c.o, ring: newRing(c.o), places: make(chan struct{}, c.o.Calls), puts: make(chan task, maxQueue),
	}
	s.client = memcache.NewFromSelector(s.ring)
	s.client.DialContext, s.client.Timeout, s.client.MaxIdleConns = s.dial, c.o.Timeout, c.o.Calls+putters
	for range putters {
		s.done.Go(s.putAll)
	}
	return s
}

func (s *servers) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.puts)
	}
	s.mu.Unlock()
	s.done.Wait()
	_ = s.client.Close() // of idle connections
}

// failed counts a failure. When the other side has ended a connection, or is left alone,
// those that are idle are just as dead, and each would cost somebody his call.
func (s *servers) failed(at *server, err error) {
	s.c.n.failures.Add(1)
	var ne net.Error
	if left := s.ring.failed(at, err, 1); left || !errors.As(err, &ne) || !ne.Timeout() {
		_ = s.client.Close() // of idle connections; it may be used again
	}
}

// enter takes a place for a call; false: there is none.
func (s *servers) enter() bool {
	select {
	case s.places <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *servers) leave() { <-s.places }

func (s *servers) get(keys []string) (map[string]entry, bool) {
	secret := s.o.Secret()
	if len(secret) == 0 || s.ring.alive() == 0 || !s.enter() {
		return nil, false
	}
	defer s.leave()
	names := make([]string, len(keys))
	ours := make([]sealed, len(keys))
	for i, k := range keys {
		ours[i] = sealedKey(secret, k)
		names[i] = ours[i].name
	}
	items, _ := s.client.GetMulti(names) // an error is of one server: the others' items are there
	out := make(map[string]entry, len(items))
	for i, k := range keys {
		item := items[names[i]]
		if item == nil {
			continue
		}
		e, err := ours[i].open(item.Value)
		if err != nil {
			s.lied(names[i], err)
			continue
		}
		out[k] = e
	}
	return out, true
}

// lied counts a value that its server cannot have been given.
func (s *servers) lied(name string, err error) {
	s.c.n.lies.Add(1)
	if addr, perr := s.ring.PickServer(name); perr == nil {
		s.ring.failed(addr.(*server), err, maxFailures) // there is no reason to believe it the next time
	}
}

// lease leases by add: of all who try, the server lets one.
func (s *servers) lease(keys []string) (mine, others []string) {
	secret := s.o.Secret()
	if len(secret) == 0 {
		return keys, nil
	}
	taken := make([]bool, len(keys))
	var wg sync.WaitGroup
	for i, k := range keys {
		if !s.enter() {
			break // without a lease some load twice
		}
		wg.Go(func() {
			defer s.leave()
			err := s.client.Add(&memcache.Item{Key: leaseName(secret, k), Value: []byte("1"), Expiration: seconds(s.o.LeaseLife)})
			taken[i] = errors.Is(err, memcache.ErrNotStored)
		})
	}
	wg.Wait()
	for i, k := range keys {
		if taken[i] {
			others = append(others, k)
		} else { // ours, or nobody's: the server failed
			mine = append(mine, k)
		}
	}
	return mine, others
}

func leaseName(secret []byte, key string) string { return sealedKey(secret, key).name + ".l" }

// seconds is a life as servers know it; one second at least.
func seconds(d time.Duration) int32 { return int32(max(1, d/time.Second)) }

func (s *servers) put(key string, e entry) { s.queue(task{key: key, e: e}) }

func (s *servers) free(keys []string) {
	for _, k := range keys {
		s.queue(task{key: k, free: true})
	}
}

// queue has t done soon, or drops it: nobody waits for a server that is slow.
func (s *servers) queue(t task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	select {
	case s.puts <- t:
	default:
		s.c.n.dropped.Add(1)
	}
}

func (s *servers) putAll() {
	for t := range s.puts {
		secret := s.o.Secret()
		if len(secret) == 0 || s.ring.alive() == 0 {
			continue
		}
		if t.free {
			_ = s.client.Delete(leaseName(secret, t.key)) // else it ends by itself
			continue
		}
		life := s.o.Life
		if t.e.absent {
			life = s.o.AbsentLife
		}
		k := sealedKey(secret, t.key)
		b := k.seal(t.e)
		if len(b) > maxValue {
			s.c.n.dropped.Add(1)
			continue
		}
		_ = s.client.Set(&memcache.Item{Key: k.name, Value: b, Expiration: seconds(life)}) // a failure was counted
	}
}
