package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/cache"
	"hayloft/internal/clock"
	"hayloft/internal/id"
)

// gallery is a cache of public photos, each as many bytes long as its blob's number
// says, behind an API on TCP.
type gallery struct {
	t     *testing.T
	cache *cache.Cache
	api   *API
	addr  string
	laned atomic.Int64 // answers of the lane

	mu     sync.Mutex // guards all below
	events []Event
}

func (g *gallery) Fetch(_ context.Context, k cache.Key) (cache.Object, error) {
	if int(k.Blob) > 64*mib {
		return cache.Object{}, cache.ErrNotFound
	}
	return cache.Object{Data: bytesOf(k), ContentType: "image/jpeg", ETag: k.Blob.String()}, nil
}

func (*gallery) Access(context.Context, id.ID) (cache.Verdict, error) {
	return cache.Verdict{Audience: cache.Public}, nil
}

func (*gallery) Purges(ctx context.Context, _ uint64, _ int) ([]cache.Purge, time.Duration, error) {
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

func photoOf(size int) cache.Key {
	return cache.Key{Variant: "large", Blob: id.ID(size), Cookie: id.Cookie(size*7 + 1), Ext: "jpg"}
}

func bytesOf(k cache.Key) []byte {
	b := make([]byte, k.Blob)
	seed := uint32(k.Blob)
	for i := range b {
		seed = seed*1664525 + 1013904223
		b[i] = byte(seed >> 24)
	}
	return b
}

// newGallery serves on a listener that wrap may change.
func newGallery(t *testing.T, wrap func(net.Listener) net.Listener, change ...func(*Options)) *gallery {
	t.Helper()
	g := &gallery{t: t}
	standing := clock.NewFake(epoch) // verdicts stay young
	c, err := cache.New(cache.Options{Origin: g, Access: g, Purges: g, Clock: standing, Budget: 128 * mib})
	must(t, err)
	g.cache = c
	o := Options{Media: c.Handle, Hits: g.hit, PublicURL: "http://photos.example", Clock: standing, Events: func(e Event) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.events = append(g.events, e)
	}}
	for _, f := range change {
		f(&o)
	}
	g.api, err = New(o)
	must(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g.addr = ln.Addr().String()
	if wrap != nil {
		ln = wrap(ln)
	}
	done := make(chan error, 1)
	go func() { done <- g.api.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := g.api.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		must(t, <-done)
		c.Close()
		if st := c.Stats(); st.LeavingBytes+st.LooseBytes != 0 {
			t.Errorf("%d bytes are still pinned", st.LeavingBytes+st.LooseBytes)
		}
	})
	return g
}

func (g *gallery) hit(head, target []byte) ([]byte, cache.Pinned, bool) {
	head, p, ok := g.cache.Hit(head, target)
	if ok {
		g.laned.Add(1)
	}
	return head, p, ok
}

// eventsOf returns what was reported.
func (g *gallery) eventsOf(kind EventKind) (out []Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// withoutLane has the machinery answer everything.
func withoutLane(o *Options) { o.Hits = nil }

// dial opens a connection with a receive buffer of so many bytes; 0: the kernel's.
func (g *gallery) dial(buffer int) *net.TCPConn {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr)
	must(g.t, err)
	g.t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	tcp := c.(*net.TCPConn)
	if buffer > 0 {
		must(g.t, tcp.SetReadBuffer(buffer))
	}
	must(g.t, tcp.SetDeadline(time.Now().Add(2*time.Minute)))
	return tcp
}

func get(size int, fields ...string) string {
	return "GET " + photoOf(size).Path() + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(fields, "\r\n"), "\r\n")
}

// expect reads one answer and compares it with bytes first to last of the photo.
func (g *gallery) expect(r *bufio.Reader, size, first, last int) *http.Response {
	g.t.Helper()
	resp, err := http.ReadResponse(r, nil)
	must(g.t, err)
	body, err := io.ReadAll(resp.Body)
	must(g.t, err)
	if want := bytesOf(photoOf(size))[first : last+1]; !bytes.Equal(body, want) {
		g.t.Fatalf("photo of %d bytes, %d to %d: status %d, %d bytes, and not the right ones", size, first, last, resp.StatusCode, len(body))
	}
	return resp
}

// plainListener hands out connections that are no *net.TCPConn, as TLS does.
type plainListener struct{ net.Listener }

func (l plainListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return struct{ net.Conn }{c}, err
}

// TestPhotosArriveWhole: sizes about every threshold of sending, from the cache and
// not, whole and in part, one by one and several requests at once, over TCP and over
// what is not TCP, to readers with large and small buffers.
func TestPhotosArriveWhole(t *testing.T) {
	sizes := []int{1, 1000, 4096, 10 * kib, 16 * kib, sendfileFrom - 1, sendfileFrom, 64 * kib, 200 * kib, writeChunk, writeChunk + 1, 3*mib + 5}
	for name, open := range map[string]func(t *testing.T) *gallery{
		"lane":      func(t *testing.T) *gallery { return newGallery(t, nil) },
		"machinery": func(t *testing.T) *gallery { return newGallery(t, nil, withoutLane) },
		"not TCP": func(t *testing.T) *gallery {
			return newGallery(t, func(ln net.Listener) net.Listener { return plainListener{ln} })
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := open(t)
			for _, buffer := range []int{0, 128 * kib} {
				c := g.dial(buffer)
				r := bufio.NewReaderSize(c, 4096)
				for round := range 2 {
					for _, n := range sizes {
						mid := n / 2
						_, err := io.WriteString(c, get(n)+get(n, fmt.Sprintf("Range: bytes=%d-", mid))+get(n, "If-None-Match: *"))
						must(t, err)
						resp := g.expect(r, n, 0, n-1)
						if hit := strings.Contains(resp.Header.Get("Cache-Status"), "; hit"); hit != (round > 0 || buffer > 0) {
							t.Errorf("round %d: %q", round, resp.Header.Get("Cache-Status"))
						}
						g.expect(r, n, mid, n-1)
						if resp := g.expect(r, n, 0, -1); resp.StatusCode != 304 {
							t.Errorf("status %d", resp.StatusCode)
						}
						_, err = io.WriteString(c, get(n)) // alone
						must(t, err)
						g.expect(r, n, 0, n-1)
					}
				}
			}
			if n, want := g.laned.Load(), int64(4*len(sizes)); name == "lane" && n != want || name != "lane" && n != 0 {
				t.Errorf("the lane answered %d requests", n)
			}
		})
	}
}

// shallowListener gives its connections small send buffers.
type shallowListener struct{ net.Listener }

func (l shallowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(64 * kib)
	}
	return c, err
}

// TestFairSlowReaderGetsAll: who reads at twice the least rate gets a photo although
// that takes longer than any one deadline.
func TestFairSlowReaderGetsAll(t *testing.T) {
	const size = 14 * mib
	g := newGallery(t, func(ln net.Listener) net.Listener { return shallowListener{ln} }, func(o *Options) {
		o.Limits.HeaderTimeout = 700 * time.Millisecond
		o.Limits.BytesPerSecond = 2 * mib
	})
	c := g.dial(128 * kib)
	_, err := io.WriteString(c, get(size))
	must(t, err)
	g.expect(bufio.NewReaderSize(&paced{c, time.Now(), 4 * mib, 0}, 4096), size, 0, size-1)
}

// paced reads at so many bytes per second.
type paced struct {
	r     io.Reader
	since time.Time
	rate  int
	n     int
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += n
	if ahead := time.Duration(p.n)*time.Second/time.Duration(p.rate) - time.Since(p.since); ahead > time.Millisecond {
		<-time.After(ahead)
	}
	return n, err
}

// TestReadersThatStopAreCutOff: who stops reading in the middle of a photo loses the
// connection, and the photo's memory is free for others.
func TestReadersThatStopAreCutOff(t *testing.T) {
	const size = 24 * mib // more than sockets hold
	g := newGallery(t, nil, func(o *Options) {
		o.Limits.HeaderTimeout = 100 * time.Millisecond
		o.Limits.BytesPerSecond = 64 * mib
	})
	conns := make([]*net.TCPConn, 5)
	for i := range conns {
		conns[i] = g.dial(128 * kib)
		_, err := io.WriteString(conns[i], get(size))
		must(t, err)
	}
	eventually(t, "all are counted out", func() bool {
		g.api.conns.mu.Lock()
		defer g.api.conns.mu.Unlock()
		return len(g.api.conns.open) == 0 && g.cache.Stats().BytesServed > 0
	})
	for _, c := range conns {
		if n, err := io.Copy(io.Discard, c); n >= size || err == nil && n == 0 {
			t.Errorf("read %d bytes, %v", n, err)
		}
	}
}
