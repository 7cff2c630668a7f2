package api

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"

	"hayloft/cache"
	"hayloft/internal/testenv"
)

var laneSeed = flag.Uint64("lane-seed", 0, "repeat TestLaneAgreesAboutRequests with this seed")

const laneSize = 10_000 // of the photo that is asked for

// exchange sends a request on a connection of its own and returns the answer, and
// that to a second request, so that what each took for the end of the first shows.
// A request that is not alone is sent together with the second one.
func (g *gallery) exchange(text string, alone bool) (answers []*http.Response, bodies []string) {
	g.t.Helper()
	c := g.dial(0)
	r := bufio.NewReader(c)
	last := "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	asked := &http.Request{Method: strings.SplitN(text, " ", 2)[0]}
	read := func() error {
		resp, err := http.ReadResponse(r, asked)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		must(g.t, err)
		resp.Header.Del("Date")
		answers, bodies, asked = append(answers, resp), append(bodies, string(body)), nil
		return nil
	}
	if !alone {
		text, last = text+last, ""
	}
	_, err := io.WriteString(c, text)
	must(g.t, err)
	if alone && read() == nil {
		_, _ = io.WriteString(c, last) // the server may have closed
	}
	for read() == nil {
	}
	return answers, bodies
}

// TestLaneAnswersAsTheMachinery: whatever the request, a server with the lane answers
// as one without it, field by field, and goes on with the next request at the same
// byte; and the lane takes what it is for.
func TestLaneAnswersAsTheMachinery(t *testing.T) {
	https := func(o *Options) { o.PublicURL = "https://photos.example" }
	with, without := newGallery(t, nil, https), newGallery(t, nil, https, withoutLane)
	for _, g := range []*gallery{with, without} {
		g.exchange(get(laneSize), true)
	}
	path := photoOf(laneSize).Path()
	cases := map[string]bool{ // the lane is to answer it
		get(laneSize):                                                                        true,
		get(laneSize, "Host: y"):                                                             false,
		get(laneSize + 1):                                                                    false, // not in memory, and then it is: see below
		"GET " + path + " HTTP/1.1\r\n\r\n":                                                  false,
		"GET " + path + " HTTP/1.0\r\nHost: x\r\n\r\n":                                       false,
		"GET " + path + "  HTTP/1.1\r\nHost: x\r\n\r\n":                                      false,
		"GET  " + path + " HTTP/1.1\r\nHost: x\r\n\r\n":                                      false,
		"get " + path + " HTTP/1.1\r\nHost: x\r\n\r\n":                                       false,
		"HEAD " + path + " HTTP/1.1\r\nHost: x\r\n\r\n":                                      false,
		"POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n":                 false,
		"GET " + path + " HTTP/1.1\nHost: x\n\n":                                             false,
		"GET http://x" + path + " HTTP/1.1\r\nHost: x\r\n\r\n":                               false,
		"GET " + path + "? HTTP/1.1\r\nHost: x\r\n\r\n":                                      false,
		"GET " + path + "?e=1 HTTP/1.1\r\nHost: x\r\n\r\n":                                   false,
		"GET " + path + "#a HTTP/1.1\r\nHost: x\r\n\r\n":                                     false,
		"GET /media/%6carge/" + path[len("/media/large/"):] + " HTTP/1.1\r\nHost: x\r\n\r\n": false,
		"GET /media//" + path[len("/media/"):] + " HTTP/1.1\r\nHost: x\r\n\r\n":              false,
		"GET /media/./" + path[len("/media/"):] + " HTTP/1.1\r\nHost: x\r\n\r\n":             false,
		"GET /x/.." + path + " HTTP/1.1\r\nHost: x\r\n\r\n":                                  false,
		get(laneSize, "X-Forwarded-For: 1.2.3.4"):                                            true,
		get(laneSize, "X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 1.2.3.4"):                false,
		get(laneSize, " folded: x"):                                                          false,
		get(laneSize, "Accept : x"):                                                          false,
		get(laneSize, "Accept: a\x00b"):                                                      false,
	}
	for name, m := range meanings {
		if m == harmless {
			cases[get(laneSize, name+": no-cache, max-age=0, only-if-cached")] = true
			cases[get(laneSize, strings.ToUpper(name)+":")] = true
		}
	}
	for _, field := range []string{"Range: bytes=0-9", "Range: bytes=5-", "If-Range: \"x\"", "If-None-Match: *", "If-Match: \"x\"", "Connection: close", "Connection: keep-alive, close", "Connection: keep-alive\r\nConnection: close", "Connection: upgrade", "Connection:", "Connection: Accept",
		"Content-Length: 0", "Content-Length: 5", "Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Expect: 100-continue", "Upgrade: h2c", "TE: trailers", "X-Something: new"} {
		cases[get(laneSize, field)] = false
	}
	for _, browser := range []string{"Connection: keep-alive", "connection: Keep-Alive"} {
		cases[get(laneSize, browser, "Accept: image/avif,image/webp,*/*;q=0.8", "Sec-Fetch-Dest: image", "Accept-Encoding: gzip, deflate, br")] = true
	}
	for text, lane := range cases {
		for _, alone := range []bool{true, false} {
			if alone && (strings.Contains(text, "Content-Length: 5") || strings.Contains(text, "chunked")) {
				continue // waits for a body
			}
			before := with.laned.Load()
			got, gotBodies := with.exchange(text, alone)
			want, wantBodies := without.exchange(text, alone)
			if used := with.laned.Load() > before; used != (lane && alone) {
				t.Errorf("%q, alone %v: the lane answered: %v", text, alone, used)
			}
			if len(got) != len(want) || !reflect.DeepEqual(gotBodies, wantBodies) {
				t.Errorf("%q, alone %v: %d answers with the lane, %d without, or other bodies", text, alone, len(got), len(want))
				continue
			}
			for i := range got {
				if got[i].Status != want[i].Status || got[i].ContentLength != want[i].ContentLength || !reflect.DeepEqual(got[i].Header, want[i].Header) {
					t.Errorf("%q, alone %v, answer %d:\n%s %v\n%s %v", text, alone, i, got[i].Status, got[i].Header, want[i].Status, want[i].Header)
				}
			}
		}
	}
}

// agree holds what the lane makes of some bytes against what the machinery does: a
// request that the lane takes must be one whole GET for the same target, alone and
// without a body, and ask for nothing that the lane does not do.
func agree(t testing.TB, p []byte) (taken bool) {
	t.Helper()
	req, ok := plainGet(p)
	if !ok {
		return false
	}
	var theirs fasthttp.Request
	r := bufio.NewReaderSize(bytes.NewReader(p), 16*kib)
	if err := theirs.ReadLimitBody(r, 1); err != nil {
		t.Fatalf("the lane takes %q, of which the machinery says %v", p, err)
	}
	h := &theirs.Header
	if rest, _ := io.ReadAll(r); len(rest) > 0 || !h.IsGet() || !h.IsHTTP11() || h.ConnectionClose() || len(theirs.Body()) > 0 ||
		!bytes.Equal(h.RequestURI(), req.target) || !bytes.Equal(theirs.URI().PathOriginal(), bytes.SplitN(req.target, []byte("?"), 2)[0]) {
		t.Fatalf("the lane takes %q: the machinery reads %s %s and leaves %q", p, h.Method(), h.RequestURI(), rest)
	}
	for _, name := range []string{"Range", "If-Range", "If-Match", "If-None-Match", "Expect", "Transfer-Encoding", "Content-Length", "Upgrade"} {
		if len(h.Peek(name)) > 0 {
			t.Fatalf("the lane takes %q, which has %s", p, name)
		}
	}
	if got := h.PeekAll("X-Forwarded-For"); len(got) > 1 || len(got) == 1 && !bytes.Equal(got[0], req.forwarded) {
		t.Fatalf("the lane takes %q: X-Forwarded-For is %q, not %q", p, got, req.forwarded)
	}
	return true
}

var laneSeeds = []string{
	get(laneSize), get(laneSize, "Accept: */*", "User-Agent: x y", "X-Forwarded-For: 1.2.3.4, 5.6.7.8"), get(laneSize, "Range: bytes=0-5"),
	get(laneSize, "Content-Length: 5") + "12345", get(laneSize, "Transfer-Encoding: chunked") + "0\r\n\r\n", get(laneSize) + get(laneSize),
	"GET /media/large/x?v=1&e=2 HTTP/1.1\r\nHost: photos.example:8080\r\nCookie: a=b\r\nConnection: close\r\n\r\n",
	get(laneSize, "Connection: keep-alive", "Accept: */*"), get(laneSize, "Connection: keep-alive", "Connection: close"),
}

// TestLaneAgreesAboutRequests: no request, however mangled, is one thing for the
// lane and another for the machinery.
func TestLaneAgreesAboutRequests(t *testing.T) {
	seed := *laneSeed
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./api -run TestLaneAgreesAboutRequests -lane-seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	pieces := []string{"\r\n", "\n", "\r", " ", "\t", ":", "Host: y\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "Accept: z\r\n", "Connection: close\r\n", " close", " x", "GET ", "HTTP/1.1", "HTTP/1.0", "\x00", "%2e", "/", "..", "?", "\x80", "-", "_"}
	taken := 0
	for range testenv.Rounds(300_000) {
		p := []byte(laneSeeds[rng.IntN(len(laneSeeds))])
		for range rng.IntN(4) {
			at := rng.IntN(len(p) + 1)
			to := min(len(p), at+rng.IntN(3))
			p = append(append(append([]byte(nil), p[:at]...), pieces[rng.IntN(len(pieces))]...), p[to:]...)
		}
		if agree(t, p) {
			taken++
		}
	}
	if taken < testenv.Rounds(300_000)/20 {
		t.Errorf("the lane took %d requests only", taken)
	}
}

func FuzzLaneAgreesAboutRequests(f *testing.F) {
	for _, s := range laneSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) { agree(t, p) })
}

// ask sends a request on c and reads the photo.
func (g *gallery) ask(c io.Writer, r *bufio.Reader, size int) {
	g.t.Helper()
	_, err := io.WriteString(c, get(size))
	must(g.t, err)
	g.expect(r, size, 0, size-1)
}

// unread is how many bytes the kernel holds that the server has not read from c. What
// was written to a connection on loopback is there when the write returns.
func (g *gallery) unread(c net.Conn) (n int) {
	g.t.Helper()
	g.api.conns.mu.Lock()
	defer g.api.conns.mu.Unlock()
	for s := range g.api.conns.open {
		if s.RemoteAddr().String() == c.LocalAddr().String() {
			must(g.t, s.raw.Control(func(fd uintptr) {
				var err error
				n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
				must(g.t, err)
			}))
			return n
		}
	}
	g.t.Fatal("the server has no such connection")
	return 0
}

// TestLaneAndMachineryTakeTurns on one connection, with requests in pieces.
func TestLaneAndMachineryTakeTurns(t *testing.T) {
	g := newGallery(t, nil)
	c := g.dial(0)
	r := bufio.NewReader(c)
	g.ask(c, r, laneSize)
	for cut := 1; cut < len(get(laneSize)); cut += 5 {
		_, err := io.WriteString(c, get(laneSize)[:cut])
		must(t, err)
		if cut%2 == 0 { // let the first piece arrive alone
			eventually(t, "the first piece is read", func() bool { return g.unread(c) == 0 })
		}
		_, err = io.WriteString(c, get(laneSize)[cut:])
		must(t, err)
		g.expect(r, laneSize, 0, laneSize-1)
		g.ask(c, r, laneSize)
		_, err = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		must(t, err)
		resp, err := http.ReadResponse(r, nil)
		must(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
		if resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		g.ask(c, r, laneSize)
	}
	events := g.eventsOf(EventRequest)
	for _, e := range events {
		if e.Method != "GET" || e.Status != 200 || e.Address.String() != "127.0.0.1" || e.Route != mediaRoute && e.Route != "/healthz" {
			t.Errorf("event %+v", e)
		}
	}
	if g.laned.Load() < int64(len(events)/3) {
		t.Errorf("the lane answered %d of %d", g.laned.Load(), len(events))
	}
}

// TestLaneKeepsTimes: an idle connection ends after the idle time without a word, a
// request that is begun and not finished after the header's with a 408, although the
// lane was there before.
func TestLaneKeepsTimes(t *testing.T) {
	g := newGallery(t, nil, func(o *Options) {
		o.Limits.IdleTimeout = 2 * time.Second
		o.Limits.HeaderTimeout = time.Second
	})
	idle, begun := g.dial(0), g.dial(0)
	for _, c := range []io.ReadWriter{idle, begun} {
		g.ask(c, bufio.NewReader(c), laneSize)
		g.ask(c, bufio.NewReader(c), laneSize)
	}
	_, err := io.WriteString(begun, get(laneSize)[:20])
	must(t, err)
	answer, err := io.ReadAll(begun)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Errorf("a request cut short: %.40q, %v", answer, err)
	}
	if answer, err := io.ReadAll(idle); err != nil || len(answer) > 0 {
		t.Errorf("an idle connection: %.40q, %v", answer, err)
	}
	if n := g.laned.Load(); n < 2 {
		t.Errorf("the lane answered %d", n)
	}
}

// TestShutdownKnowsTheLane: it ends idle connections of the lane at once, and
// lets an answer of the lane be finished.
func TestShutdownKnowsTheLane(t *testing.T) {
	g := newGallery(t, nil)
	const size = 24 * mib // more than sockets hold
	for _, n := range []int{size, laneSize} {
		warm := g.dial(0)
		g.ask(warm, bufio.NewReader(warm), n)
	}
	busy, idle := g.dial(128*kib), g.dial(0)
	g.ask(idle, bufio.NewReader(idle), laneSize)
	_, err := io.WriteString(busy, get(size))
	must(t, err)
	eventually(t, "the lane sends", func() bool { return g.laned.Load() == 2 })
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		done <- g.api.Shutdown(ctx)
	}()
	if n, err := idle.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the idle connection: %d bytes, %v", n, err)
	}
	r := bufio.NewReader(busy)
	g.expect(r, size, 0, size-1)
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the answer: %v", err)
	}
	must(t, <-done)
}

// TestPanicInTheLane ends the connection and nothing else.
func TestPanicInTheLane(t *testing.T) {
	g := newGallery(t, nil, func(o *Options) {
		hit := o.Hits
		o.Hits = func(head, target []byte) ([]byte, cache.Pinned, bool) {
			if strings.Contains(string(target), "panic") {
				panic("in the lane")
			}
			return hit(head, target)
		}
	})
	c := g.dial(0)
	_, err := io.WriteString(c, "GET /media/panic HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	if answer, err := io.ReadAll(c); len(answer) > 0 || err != nil {
		t.Errorf("%q, %v", answer, err)
	}
	if e := g.eventsOf(EventPanic); len(e) != 1 || !strings.Contains(fmt.Sprint(e[0].Err), "in the lane") {
		t.Errorf("events %+v", e)
	}
	c = g.dial(0)
	g.ask(c, bufio.NewReader(c), laneSize)
}
