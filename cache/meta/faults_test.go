package meta

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMemcachedRestartsUnderLoad kills one of two servers and starts it again while
// clients ask: every answer is right, and in the end it serves again.
func TestMemcachedRestartsUnderLoad(t *testing.T) {
	ms := []*memcached{startMemcached(t, ""), startMemcached(t, "")}
	var left, back atomic.Int64
	c := open(t, Options{Servers: []string{ms[0].addr, ms[1].addr}, Events: func(e Event) {
		switch e.Kind {
		case ServerLeft:
			left.Add(1)
		case ServerBack:
			back.Add(1)
		}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 8 {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		wg.Go(func() {
			for ctx.Err() == nil {
				var keys []string
				for range 20 {
					keys = append(keys, fmt.Sprint("photo ", rng.IntN(500)))
				}
				hydrate(t, c, keys, loads)
			}
		})
	}
	for range 2 {
		hits := c.Stats().Hits
		until(t, "there are hits", func() bool { return c.Stats().Hits > hits+1000 })
		ms[0].kill()
		until(t, "it was noticed", func() bool { return c.Stats().Servers == 1 })
		hits = c.Stats().Hits
		until(t, "the other one takes over", func() bool { return c.Stats().Hits > hits+1000 })
		ms[0] = startMemcached(t, ms[0].addr)
		until(t, "it is asked again", func() bool { return c.Stats().Servers == 2 && back.Load() == left.Load() })
	}
	cancel()
	wg.Wait()
	if left.Load() == 0 || c.Stats().Lies != 0 {
		t.Errorf("%d events, %+v", left.Load(), c.Stats())
	}
}

// liar is a server that answers get as it likes.
func liar(t *testing.T, answer func(w io.Writer, names []string)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { nc.Close() })
			wg.Go(func() {
				defer stop()
				defer nc.Close()
				r := bufio.NewReader(nc)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					words := strings.Fields(line)
					switch words[0] {
					case "gets":
						answer(nc, words[1:])
					case "set", "add":
						size, _ := strconv.Atoi(words[4])
						io.CopyN(io.Discard, r, int64(size+2)) // or not at all: then the next read fails
						io.WriteString(nc, "STORED\r\n")
					default:
						io.WriteString(nc, "DELETED\r\n")
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// Whatever a server does: the values are right, nobody waits for long, and in the end
// it is not asked any more.
func TestBadServers(t *testing.T) {
	other := sealedKey(secret, "another key").seal(entry{value: []byte("its value")})
	values := func(of func(name string) []byte) func(io.Writer, []string) {
		return func(w io.Writer, names []string) {
			for _, n := range names {
				b := of(n)
				fmt.Fprintf(w, "VALUE %s 0 %d 1\r\n%s\r\n", n, len(b), b)
			}
			io.WriteString(w, "END\r\n")
		}
	}
	for name, answer := range map[string]func(w io.Writer, names []string){
		"garbage":          values(func(string) []byte { return []byte("garbage") }),
		"nothing":          values(func(string) []byte { return nil }),
		"another's value":  values(func(string) []byte { return other }),
		"under the secret": values(func(n string) []byte { return sealedKey([]byte("no secret"), n).seal(entry{value: []byte("x")}) }),
		"hangs":            func(io.Writer, []string) {},
		"huge":             func(w io.Writer, names []string) { fmt.Fprintf(w, "VALUE %s 0 4000000000 1\r\n", names[0]) },
		"never ends": func(w io.Writer, names []string) {
			for {
				if _, err := fmt.Fprintf(w, "VALUE %s 0 1 1\r\nx\r\n", names[0]); err != nil {
					return
				}
			}
		},
		"endless line": func(w io.Writer, _ []string) {
			for {
				if _, err := io.WriteString(w, "VALUE VALUE VALUE "); err != nil {
					return
				}
			}
		},
		"nonsense": func(w io.Writer, _ []string) { io.WriteString(w, "\r\n\r\nWHAT\r\n") },
		"cut": func(w io.Writer, names []string) {
			fmt.Fprintf(w, "VALUE %s 0 5 1\r\nab", names[0])
			w.(net.Conn).Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, Options{Servers: []string{liar(t, answer)}, Timeout: 100 * time.Millisecond})
			keys := names("photo", 5)
			begun := time.Now()
			for range 8 {
				hydrate(t, c, keys, loads)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if s := c.Stats(); s.Lies+s.Failures == 0 || s.Hits != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	t.Run("dead", func(t *testing.T) {
		c := open(t, Options{Servers: []string{freeAddr(t)}})
		for range 8 {
			hydrate(t, c, names("photo", 5), loads)
		}
		if s := c.Stats(); s.Failures == 0 || s.Servers != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A server learns neither keys nor values, and another secret finds nothing.
func TestServersLearnNothing(t *testing.T) {
	m := startMemcached(t, "")
	c := open(t, Options{Servers: []string{m.addr}})
	hydrate(t, c, []string{"photo 1"}, loads)
	k := sealedKey(secret, "photo 1")
	until(t, "it is there", func() bool { _, err := c.store.(*servers).client.Get(k.name); return err == nil })
	item, err := c.store.(*servers).client.Get(k.name)
	if err != nil || strings.Contains(k.name+string(item.Value), "photo") || strings.Contains(string(item.Value), "value") {
		t.Errorf("%q, %v", item.Value, err)
	}
	if e, err := k.open(item.Value); err != nil || string(e.value) != string(value("photo 1")) {
		t.Errorf("%q, %v", e.value, err)
	}
	stranger, err := New(Options{Servers: []string{m.addr}, Secret: func() []byte { return []byte("another secret") }, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	hydrate(t, stranger, []string{"photo 1"}, loads)
	stranger.Close()
	if s := stranger.Stats(); s.Hits != 0 || s.Lies != 0 {
		t.Errorf("%+v", s)
	}
}

// Without a secret, and with more calls than are allowed, everything is loaded.
func TestNothingIsCached(t *testing.T) {
	m := startMemcached(t, "")
	none, err := New(Options{Servers: []string{m.addr}, Secret: func() []byte { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	busy := open(t, Options{Servers: []string{m.addr}, Calls: 1})
	busy.store.(*servers).enter()
	for _, c := range []*Cache{none, busy} {
		for range 3 {
			hydrate(t, c, []string{"photo"}, loads)
		}
		if s := c.Stats(); s.Loaded != 3 || s.Busy != 3 {
			t.Errorf("%+v", s)
		}
	}
}
