package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"hayloft/volume"
	"hayloft/volume/server"
)

// lab carries calls to a handler in the same process, and spoils bodies on the way.
type lab struct {
	h        http.Handler
	request  func([]byte) ([]byte, error) // nil: as it is. The error is where it ends; nil: EOF
	answer   func([]byte) ([]byte, error)
	sent     []byte // of the last call
	answered []byte
	status   int
}

func (l *lab) Do(ctx context.Context, _ string, r *http.Request) (*http.Response, error) {
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	l.sent = sent
	w := httptest.NewRecorder()
	r = r.WithContext(ctx)
	r.Body = spoilt(sent, l.request)
	cut := func() (cut bool) {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			} else if p != nil {
				cut = true
			}
		}()
		l.h.ServeHTTP(w, r)
		return false
	}()
	resp := w.Result()
	l.answered, l.status = w.Body.Bytes(), resp.StatusCode
	resp.Body = spoilt(l.answered, l.answer)
	if cut {
		resp.Body = spoilt(l.answered, func(b []byte) ([]byte, error) { return b, io.ErrUnexpectedEOF })
	}
	return resp, nil
}

func spoilt(b []byte, how func([]byte) ([]byte, error)) io.ReadCloser {
	var end error
	if how != nil {
		b, end = how(b)
	}
	if end == nil {
		end = io.EOF
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(b), errReader{end}))
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

// places draws offsets in n bytes: all if they are few, else all of both ends and
// some between.
func places(r *rand.Rand, n int) []int {
	const ends = 60
	var out []int
	for i := range n {
		if i < ends || i >= n-ends || r.IntN(n) < 30 {
			out = append(out, i)
		}
	}
	return out
}

// TestCutOffAnywhere: a request of which anything is missing asks nothing, and an
// answer of which anything is missing says nothing.
func TestCutOffAnywhere(t *testing.T) {
	r := seeded(t)
	for _, fail := range []bool{false, true} {
		p := &echo{fail: fail}
		l := &lab{h: Handler(p, HandlerOptions{Caller: known})}
		budget := volume.NewReadBudget(1<<20, 1)
		c := NewClients(l, Options{Reads: budget}).Node("echo")
		for _, q := range questions(r) {
			whole, err := q.ask(bg, c)
			if kinds(err) == "" && err != nil || len(p.heard()) != 1 {
				t.Fatal(q.name, err)
			}
			sent, answered := l.sent, l.answered
			for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed} {
				for _, at := range places(r, len(sent)) {
					l.request = func(b []byte) ([]byte, error) { return b[:at], end }
					if _, err := q.ask(bg, c); !errors.Is(err, server.ErrUnavailable) {
						t.Fatalf("%s: request cut at %d of %d: %v", q.name, at, len(sent), err)
					}
					if heard := p.heard(); len(heard) > 0 {
						t.Fatalf("%s: request cut at %d of %d asks %.200q", q.name, at, len(sent), heard)
					}
				}
				l.request = nil
				for _, at := range places(r, len(answered)) {
					l.answer = func(b []byte) ([]byte, error) { return b[:at], end }
					got, err := q.ask(bg, c)
					if !errors.Is(err, server.ErrUnavailable) {
						t.Fatalf("%s: answer cut at %d of %d: %v, %.100v of %.100v", q.name, at, len(answered), err, got, whole)
					}
				}
				l.answer = nil
				p.heard()
			}
		}
		if budget.Held() != 0 {
			t.Errorf("%d bytes are held", budget.Held())
		}
	}
}

// TestDamageAnywhere: no byte can change between the two sides unnoticed.
func TestDamageAnywhere(t *testing.T) {
	r := seeded(t)
	p := &echo{}
	l := &lab{h: Handler(p, HandlerOptions{Caller: known})}
	c := NewClients(l, Options{}).Node("echo")
	flip := func(at int) func([]byte) ([]byte, error) {
		bit := byte(1) << r.IntN(8)
		return func(b []byte) ([]byte, error) {
			b = slices.Clone(b)
			b[at] ^= bit
			return b, nil
		}
	}
	for _, q := range questions(r) {
		if _, err := q.ask(bg, c); err != nil {
			t.Fatal(q.name, err)
		}
		p.heard()
		for _, at := range places(r, len(l.sent)) {
			l.request = flip(at)
			if _, err := q.ask(bg, c); !errors.Is(err, server.ErrUnavailable) || l.status != http.StatusBadRequest {
				t.Fatalf("%s: request damaged at %d of %d: status %d, %v", q.name, at, len(l.sent), l.status, err)
			}
			if heard := p.heard(); len(heard) > 0 {
				t.Fatalf("%s: request damaged at %d of %d asks %.200q", q.name, at, len(l.sent), heard)
			}
		}
		l.request = nil
		if _, err := q.ask(bg, c); err != nil {
			t.Fatal(q.name, err)
		}
		for _, at := range places(r, len(l.answered)) {
			l.answer = flip(at)
			if _, err := q.ask(bg, c); !errors.Is(err, server.ErrUnavailable) || errors.Is(err, volume.ErrCorrupt) {
				t.Fatalf("%s: answer damaged at %d of %d: %v", q.name, at, len(l.answered), err)
			}
		}
		l.answer = nil
	}
}

// TestMoreThanTheEnd: bytes behind the end of a body are none of the protocol's.
func TestMoreThanTheEnd(t *testing.T) {
	r := seeded(t)
	p := &echo{}
	l := &lab{h: Handler(p, HandlerOptions{Caller: known})}
	c := NewClients(l, Options{}).Node("echo")
	more := func(b []byte) ([]byte, error) { return append(slices.Clone(b), 0), nil }
	for _, q := range questions(r) {
		l.request = more
		if _, err := q.ask(bg, c); !errors.Is(err, server.ErrUnavailable) || len(p.heard()) > 0 {
			t.Fatalf("%s: a longer request: %v", q.name, err)
		}
		l.request, l.answer = nil, more
		if _, err := q.ask(bg, c); !errors.Is(err, server.ErrUnavailable) {
			t.Fatalf("%s: a longer answer: %v", q.name, err)
		}
		l.answer = nil
		p.heard()
	}
}

// proxy lets so many bytes through each way and then cuts the connection, or
// damages the byte there.
type proxy struct {
	target string
	l      net.Listener
	wg     sync.WaitGroup

	mu          sync.Mutex
	forth, back int // bytes; negative: all
	flip        byte
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: target, l: l, forth: -1, back: -1}
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) set(forth, back int, flip byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forth, p.back, p.flip = forth, back, flip
}

func (p *proxy) pass(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	to, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	p.mu.Lock()
	forth, back, flip := p.forth, p.back, p.flip
	p.mu.Unlock()
	p.wg.Go(func() {
		some(to, conn, forth, flip) // it ends with the connection, also when all was passed on
		_ = conn.Close()
		_ = to.Close()
	})
	some(conn, to, back, flip)
	_ = conn.Close()
	_ = to.Close()
}

func some(to, from net.Conn, n int, flip byte) {
	if n < 0 {
		_, _ = io.Copy(to, from)
		return
	}
	if _, err := io.CopyN(to, from, int64(n)); err != nil || flip == 0 {
		return
	}
	var b [1]byte
	if _, err := io.ReadFull(from, b[:]); err != nil {
		return
	}
	b[0] ^= flip
	if _, err := to.Write(b[:]); err == nil {
		_, _ = io.Copy(to, from)
	}
}

// plain reaches an address without TLS, by a new connection for each call.
type plain struct {
	addr   string
	client *http.Client
}

func (p plain) Do(_ context.Context, _ string, r *http.Request) (*http.Response, error) {
	r.URL.Scheme, r.URL.Host = "http", p.addr
	r.GetBody = nil // each connection is spoilt in the same way
	return p.client.Do(r)
}

// TestConnectionsEndAnywhere: whatever a connection that ends or damages does to
// HTTP, a call succeeds with the answer that was given, or not at all.
func TestConnectionsEndAnywhere(t *testing.T) {
	r := seeded(t)
	p := &echo{}
	s := httptest.NewServer(Handler(p, HandlerOptions{Caller: known}))
	t.Cleanup(s.Close)
	px := newProxy(t, s.Listener.Addr().String())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	do := plain{px.l.Addr().String(), client}
	sure := NewClients(do, Options{}).Node("echo")
	// Some damage leaves both sides waiting for one another.
	c := NewClients(do, Options{Timing: Timing{Timeout: 300 * time.Millisecond, Patience: 300 * time.Millisecond}}).Node("echo")
	for _, q := range questions(r) {
		if q.name == "log" || q.name == "bury" || q.name == "fetch" {
			continue // as append, and as deletes, and much longer
		}
		px.set(-1, -1, 0)
		want, err := q.ask(bg, sure)
		if err != nil {
			t.Fatal(q.name, err)
		}
		for _, damage := range []bool{false, true} {
			for way := range 2 {
				for at := 0; ; at += 1 + r.IntN(1+at/8+20) {
					n, flip := [2]int{-1, -1}, byte(0)
					n[way] = at
					if damage {
						flip = 1 << r.IntN(8)
					}
					px.set(n[0], n[1], flip)
					got, err := q.ask(bg, c)
					switch {
					case err == nil && !reflect.DeepEqual(got, want):
						t.Fatalf("%s: way %d, damage %v at %d: %.200v instead of %.200v", q.name, way, damage, at, got, want)
					case err != nil && !errors.Is(err, server.ErrUnavailable):
						t.Fatalf("%s: way %d, damage %v at %d: %v", q.name, way, damage, at, err)
					}
					if err == nil && !damage || at > 400_000 { // it was longer than all
						break
					}
					if damage && at > 6000 {
						break
					}
				}
			}
		}
	}
}
