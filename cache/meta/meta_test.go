package meta

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestOptionsSayWhatIsWrong(t *testing.T) {
	_, err := New(Options{Servers: []string{"here"}, Calls: -1})
	for _, want := range []string{`"here" is not host:port`, "Secret", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: nothing about %s", err, want)
		}
	}
}

// both runs a test with a cache in this process and with two that share real servers.
func both(t *testing.T, f func(t *testing.T, a, b *Cache)) {
	t.Run("in process", func(t *testing.T) {
		c := open(t, Options{LeaseWait: 10 * time.Second})
		f(t, c, c)
	})
	t.Run("memcached", func(t *testing.T) {
		o := Options{Servers: []string{startMemcached(t, "").addr, startMemcached(t, "").addr}, LeaseWait: 10 * time.Second, Calls: 1000}
		f(t, open(t, o), open(t, o))
	})
}

func TestHydrate(t *testing.T) {
	both(t, func(t *testing.T, a, b *Cache) {
		keys := names("photo", 50)
		hydrate(t, a, keys, loads)
		if s := a.Stats(); s.Loaded != 50 || s.Misses != 50 {
			t.Errorf("%+v", s)
		}
		until(t, "all are there", func() bool {
			before := b.Stats().Hits
			hydrate(t, b, keys, loads)
			return b.Stats().Hits == before+50
		})
		for _, none := range [][]string{nil, {}} {
			hydrate(t, b, none, loads)
		}
	})
}

// Many ask for the same cold keys on two nodes: one of them loads, the others wait.
func TestLeases(t *testing.T) {
	both(t, func(t *testing.T, a, b *Cache) {
		keys := names("cold", 5)
		var asked atomic.Int64
		began, hold := make(chan struct{}), make(chan struct{})
		slow := func(ctx context.Context, keys []string) (map[string][]byte, error) {
			if asked.Add(int64(len(keys))) == 5 {
				close(began)
			}
			<-hold
			return loads(ctx, keys)
		}
		var wg sync.WaitGroup
		wg.Go(func() { hydrate(t, a, keys, slow) })
		<-began
		for i := range 30 {
			wg.Go(func() { hydrate(t, []*Cache{a, b}[i%2], keys, slow) })
		}
		until(t, "all others have missed", func() bool {
			n := a.Stats().Misses
			if a != b {
				n += b.Stats().Misses
			}
			return n >= 31*5
		})
		close(hold)
		wg.Wait()
		if n := asked.Load(); n != 5 {
			t.Errorf("%d keys were loaded, 5 would have done", n)
		}
	})
}

// Who loads fails, or never ends: the others load by themselves.
func TestLeaseOfOneThatFails(t *testing.T) {
	both(t, func(t *testing.T, a, b *Cache) {
		bad := errors.New("bad")
		_, err := a.Hydrate(context.Background(), []string{"k"}, func(context.Context, []string) (map[string][]byte, error) { return nil, bad })
		if !errors.Is(err, bad) {
			t.Errorf("%v", err)
		}
		hydrate(t, b, []string{"k"}, loads)
	})
	t.Run("hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, err := New(Options{})
			if err != nil {
				t.Fatal(err)
			}
			hold := make(chan struct{})
			go c.Hydrate(context.Background(), []string{"k"}, func(ctx context.Context, keys []string) (map[string][]byte, error) {
				<-hold
				return loads(ctx, keys)
			})
			synctest.Wait()
			begun := time.Now()
			hydrate(t, c, []string{"k", "l"}, loads)
			if took := time.Since(begun); took != 60*time.Millisecond {
				t.Errorf("waited for %v", took)
			}
			close(hold)
			synctest.Wait()
			hydrate(t, c, []string{"k", "l"}, nil)
			c.Close()
		})
	})
}

// What load knew nothing of is asked for again by everybody, without waiting for one another.
func TestAbsent(t *testing.T) {
	both(t, func(t *testing.T, a, b *Cache) {
		hydrate(t, a, []string{"nobody"}, loads)
		until(t, "it is remembered", func() bool {
			before := b.Stats().Absent
			hydrate(t, b, []string{"nobody", "somebody"}, loads)
			return b.Stats().Absent > before
		})
	})
	t.Run("for a short time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, err := New(Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			hydrate(t, c, []string{"nobody"}, loads)
			<-time.After(2 * time.Second)
			hydrate(t, c, []string{"nobody"}, loads)
			if s := c.Stats(); s.Absent != 0 {
				t.Errorf("%+v", s)
			}
		})
	})
}

func TestMemoryIsBounded(t *testing.T) {
	c := open(t, Options{Bytes: 100_000})
	for i := range 100 {
		hydrate(t, c, names(strings.Repeat("x", i), 20), loads)
	}
	hydrate(t, c, names(strings.Repeat("x", 99), 20), nil) // the latest are there
	if n := c.Stats().Bytes; n > 100_000 || n < 90_000 {
		t.Errorf("%d bytes", n)
	}
}

func TestRendezvous(t *testing.T) {
	o := Options{Servers: []string{"a:1", "b:1", "c:1", "d:1"}}.withDefaults()
	all, fewer := newRing(o), newRing(o)
	fewer.failed(fewer.servers[1], errors.New("dead"), maxFailures)
	count := map[string]int{}
	for _, k := range names("key", 4000) {
		one, _ := all.PickServer(k)
		two, _ := fewer.PickServer(k)
		if one.String() != "b:1" && two.String() != one.String() {
			t.Fatalf("%s moved from %v to %v", k, one, two)
		}
		if two.String() == "b:1" {
			t.Fatal("the dead one is asked")
		}
		count[one.String()]++
		count["then "+two.String()]++
	}
	for name, want := range map[string]int{"a:1": 1000, "b:1": 1000, "c:1": 1000, "d:1": 1000, "then a:1": 1333, "then c:1": 1333, "then d:1": 1333} {
		if n := count[name]; n < want*8/10 || n > want*12/10 {
			t.Errorf("%s has %d keys of about %d", name, n, want)
		}
	}
	if all.alive() != 4 || fewer.alive() != 3 {
		t.Errorf("%d and %d in use", all.alive(), fewer.alive())
	}
}
