package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"

	"hayloft/internal/offheap"
)

// TestServerSetsEveryLimit: the machinery's defaults are "without limit". Whatever it
// has of times, numbers and handlers is set, or is in the list of those that somebody
// else sees to. A new version with a new limit fails here.
func TestServerSetsEveryLimit(t *testing.T) {
	elsewhere := map[string]string{
		"WriteTimeout":                       "conn: by the least rate",
		"MaxConnsPerIP":                      "connTable; set, it costs the fast path",
		"MaxRequestsPerConn":                 "a connection may ask for ever: each request has its limits",
		"MaxKeepaliveDuration":               "no longer used",
		"TCPKeepalivePeriod":                 "conn",
		"SleepWhenConcurrencyLimitsExceeded": "connTable refuses at once",
		"HeaderReceived":                     "handlers have limits of their own",
		"ContinueHandler":                    "every upload may continue",
		"ExpectHandler":                      "the same",
		"FormValueFunc":                      "not used",
		"TLSConfig":                          "not here",
	}
	g := newGallery(t, nil)
	v := reflect.ValueOf(g.api.server).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Type.Kind() == reflect.Bool {
			continue
		}
		if _, ok := elsewhere[f.Name]; ok != v.Field(i).IsZero() {
			t.Errorf("%s is %v, and in the list of those that are not set: %v", f.Name, v.Field(i), ok)
		}
	}
	s := g.api.server
	if !s.SecureErrorLogMessage || !s.StreamRequestBody || s.LogAllErrors || s.ReduceMemoryUsage || s.DisableHeaderNamesNormalizing {
		t.Errorf("switches: %+v", v)
	}
	if _, ok := s.Logger.(serverLog); !ok {
		t.Errorf("the logger is a %T", s.Logger)
	}
	if s.MaxRequestBodySize > 4*mib { // so much is taken for what a client announces
		t.Errorf("bodies of %d bytes are read ahead", s.MaxRequestBodySize)
	}
}

// TestServeEndsAlthoughShutdownWasFirst: a listener that comes too late is closed.
func TestServeEndsAlthoughShutdownWasFirst(t *testing.T) {
	a, err := New(Options{Media: func(*fasthttp.RequestCtx) {}, PublicURL: "http://photos.example"})
	must(t, err)
	must(t, a.Shutdown(t.Context()))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, a.Serve(ln))
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener: %v", err)
	}
}

// TestNothingOfARequestIsLogged: requests that cannot be read, and what happens while
// they are answered, are told without a byte of theirs.
func TestNothingOfARequestIsLogged(t *testing.T) {
	g := newGallery(t, nil)
	const secret = "SeCreT"
	for _, text := range []string{
		secret + "\r\n\r\n", "GET /" + secret + "\r\n\r\n", "GET / HTTP/1.1\r\n" + secret + "\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n" + secret + "\x00: y\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + secret + "\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + secret + "\r\n",
		"GET / HTTP/1.1\r\nHost: " + secret + "\r\nCookie: " + strings.Repeat(secret, 4000) + "\r\n\r\n", "GET http://" + secret + ":port/ HTTP/1.1\r\nHost: x\r\n\r\n",
		secret + " / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / " + secret + "\r\nHost: x\r\n\r\n",
	} {
		c := g.dial(0)
		_, err := io.WriteString(c, text)
		must(t, err)
		must(t, c.CloseWrite())
		answer, _ := io.ReadAll(c) // a reset after the answer is as good
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 5")) {
			t.Errorf("%.40q: %.40q", text, answer)
		}
	}
	serverLog{g.api}.Printf("error when reading %q", secret)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.events) < 10 {
		t.Errorf("%d events", len(g.events))
	}
	for _, e := range g.events {
		if s := fmt.Sprintf("%+v", e); strings.Contains(s, secret) {
			t.Errorf("told: %.200s", s)
		}
	}
}

// TestConnectionsAreProbed: the kernel asks peers that say nothing.
func TestConnectionsAreProbed(t *testing.T) {
	g := newGallery(t, nil)
	c := g.dial(0)
	g.ask(c, bufio.NewReader(c), 100)
	g.api.conns.mu.Lock()
	defer g.api.conns.mu.Unlock()
	for s := range g.api.conns.open {
		must(t, s.raw.Control(func(fd uintptr) {
			for opt, want := range map[[2]int]int{{unix.SOL_SOCKET, unix.SO_KEEPALIVE}: 1, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}: 60,
				{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}: 30, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT}: 4, {unix.IPPROTO_TCP, unix.TCP_NODELAY}: 1} {
				if got, err := unix.GetsockoptInt(int(fd), opt[0], opt[1]); err != nil || got != want {
					t.Errorf("option %v is %d (%v), want %d", opt, got, err, want)
				}
			}
		}))
	}
}

// asked counts the questions for a place in a memory file.
type asked struct {
	*offheap.Arena
	n atomic.Int64
}

func (a *asked) File(part []byte) (fd int, off int64, ok bool) {
	a.n.Add(1)
	return a.Arena.File(part)
}

// TestNoFastPathIsLost: a body that the machinery writes reaches WriteTail on the
// connection itself, and from a size on the kernel takes the pages.
func TestNoFastPathIsLost(t *testing.T) {
	arena, err := offheap.New(offheap.Options{Limit: 4 * mib})
	must(t, err)
	defer arena.Close()
	for _, size := range []int{sendfileFrom - 1, sendfileFrom, mib} {
		block := arena.Alloc(size)
		copy(block, bytesOf(photoOf(size)))
		file, tails := &asked{Arena: arena}, atomic.Int64{}
		g := newGallery(t, nil, withoutLane, func(o *Options) {
			o.Media = func(rc *fasthttp.RequestCtx) {
				rc.Response.SetBodyStream(bodyFunc(func(w io.Writer) (int64, error) {
					bw, ok := w.(*bufio.Writer)
					if !ok {
						return 0, fmt.Errorf("the writer is a %T", w)
					}
					tails.Add(1)
					n, err := rc.Conn().(*conn).WriteTail(bw, block, file)
					return int64(n), err
				}), size)
			}
		})
		c := g.dial(0)
		r := bufio.NewReader(c)
		for range 3 {
			g.ask(c, r, size)
		}
		want := int64(0)
		if size >= sendfileFrom {
			want = 3
		}
		if tails.Load() != 3 || file.n.Load() != want {
			t.Errorf("%d bytes: %d tails, %d by pages", size, tails.Load(), file.n.Load())
		}
		arena.Free(block)
	}
}

// bodyFunc is a body that writes itself.
type bodyFunc func(io.Writer) (int64, error)

func (bodyFunc) Read([]byte) (int, error)             { return 0, io.ErrUnexpectedEOF }
func (f bodyFunc) WriteTo(w io.Writer) (int64, error) { return f(w) }
