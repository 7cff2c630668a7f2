package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/feed"
	"hayloft/internal/clock"
)

// Many PUTs of one URL at once: one stores, all others are told so, and the
// bytes are appended once.
func TestOneOfManyPutsStores(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	data := picture(320, 240, 1)
	u := w.uploadURL(ada, data)
	before := w.blobs.vol.Stats().Appended
	const n = 8
	statuses := make(chan int, n)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { statuses <- w.call("", "PUT", u.UploadURL, data).status })
	}
	wg.Wait()
	close(statuses)
	count := map[int]int{}
	for s := range statuses {
		count[s]++
	}
	if count[201] != 1 || count[409] != n-1 {
		t.Errorf("answers: %v", count)
	}
	if got := w.blobs.vol.Stats().Appended - before; got != 1 {
		t.Errorf("%d masters were appended", got)
	}
}

// A PUT whose connection dies uses nothing up.
func TestInterruptedPutMayBeRepeated(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	data := picture(320, 240, 1)
	u := w.uploadURL(ada, data)
	path := strings.TrimPrefix(u.UploadURL, w.url)
	before := w.blobs.bytes()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	must(t, err)
	_, err = fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, len(data), data[:len(data)/2])
	must(t, err)
	must(t, c.(*net.TCPConn).CloseWrite())
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	if resp.StatusCode != pIncomplete.status {
		t.Errorf("half a body: %d", resp.StatusCode)
	}
	must(t, c.Close())
	if w.blobs.bytes() != before {
		t.Error("bytes were appended")
	}
	if n, owners := w.api.spool.held(); n != 0 || owners != 0 {
		t.Errorf("the spool still holds %d bytes for %d owners", n, owners)
	}
	w.call("", "PUT", u.UploadURL, data).is(201)
}

// held is what the spool has given out.
func (s *spool) held() (n int64, owners int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total - s.free, len(s.owners)
}

// Senders slower than the least rate are cut off, whatever they hold.
func TestSlowPeersAreCutOff(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Limits.HeaderTimeout = 200 * time.Millisecond
		o.Limits.BytesPerSecond = 1 << 20
	})
	ada, _ := w.account("ada")
	data := picture(320, 240, 1)
	u := w.uploadURL(ada, data)
	for name, text := range map[string]string{
		"header":     "GET /healthz HTTP/1.1\r\nHost:",
		"small body": "POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"upload":     fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", strings.TrimPrefix(u.UploadURL, w.url), len(data), data[:9000]),
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		must(t, err)
		_, err = io.WriteString(c, text)
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		answer, err := io.ReadAll(c) // the server says why and closes
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
			t.Errorf("%s: %.60q, %v", name, answer, err)
		}
		must(t, c.Close())
	}
	if n, _ := w.api.spool.held(); n != 0 {
		t.Errorf("the spool still holds %d bytes", n)
	}
	w.call("", "PUT", u.UploadURL, data).is(201)
}

// A reader that does not read is cut off too.
func TestSlowReaderIsCutOff(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	table := newConnTable(1, 1, nil)
	c := &conn{Conn: near, table: table, grace: 50 * time.Millisecond, rate: 1 << 20}
	if !table.add(c) {
		t.Fatal("no room in an empty table")
	}
	n, err := c.Write(make([]byte, 1<<20))
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("wrote %d bytes to nobody: %v", n, err)
	}
	must(t, c.Close())
	if len(table.open) != 0 || len(table.from) != 0 {
		t.Error("the connection is still counted")
	}
}

// An early refusal of a large body reaches the client although it was sending.
func TestEarlyAnswerIsReadable(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		w.call("", "PUT", "/api/v1/uploads/031gsq4000806?s=x", make([]byte, 8<<20)).fails(pBadSignature)
	}
}

func TestRateLimits(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Limits.Rates.Address = Rate{PerSecond: 1, Burst: 30}
		o.Limits.Rates.Account = Rate{PerSecond: 1, Burst: 5}
		o.Limits.Rates.Handle = Rate{PerSecond: 0.1, Burst: 3}
	})
	ada, _ := w.account("ada")
	for range 5 {
		w.call(ada, "GET", "/api/v1/users/me", nil).is(200)
	}
	a := w.call(ada, "GET", "/api/v1/users/me", nil).fails(pRateLimited)
	if a.header.Get("RateLimit") != `"account";r=0;t=5` || a.header.Get("RateLimit-Policy") != `"account";q=5;w=5` || a.header.Get("Retry-After") != "1" {
		t.Errorf("headers: %v", a.header)
	}
	w.call("", "GET", "/api/v1/instance", nil).is(200) // the account's limit is the account's
	w.clock.Advance(time.Second)
	w.call(ada, "GET", "/api/v1/users/me", nil).is(200)

	good := m{"handle": "ada", "password": "pass of ada"}
	for range 5 { // success costs nothing
		w.call("", "POST", "/api/v1/sessions", good).is(201)
	}
	for range 3 {
		w.call("", "POST", "/api/v1/sessions", m{"handle": "ada", "password": "guess"}).fails(pBadLogin)
	}
	w.call("", "POST", "/api/v1/sessions", good).fails(pRateLimited)
	w.clock.Advance(10 * time.Second)
	w.call("", "POST", "/api/v1/sessions", good).is(201)

	for range 100 {
		if w.call("", "GET", "/api/v1/instance", nil).status == 429 {
			w.call("", "GET", "/healthz", nil).is(200) // probes are not limited
			return
		}
	}
	t.Error("the address is never limited")
}

// Guessing at a handle shuts out the network that guesses, not the owner, and
// a handle that does not exist is treated alike.
func TestGuessingShutsOutNobodyElse(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		o.Limits.Rates.Handle = Rate{PerSecond: 0.001, Burst: 3}
		o.Limits.Rates.Handles = Rate{PerSecond: 0.001, Burst: 6}
	})
	w.account("ada")
	for _, handle := range []string{"ada", "nobody"} {
		try := func(from, password string) *answer {
			return w.call("", "POST", "/api/v1/sessions", m{"handle": handle, "password": password}, "X-Forwarded-For", from)
		}
		for i := range 3 { // other /64s of the same /48 are the same network
			try("2001:db8:1:"+itoa(i)+"::1", "guess").fails(pBadLogin)
		}
		for i := range 20 {
			a := try("2001:db8:1:"+itoa(i)+"::2", "pass of ada").fails(pRateLimited)
			if p := a.header.Get("RateLimit-Policy"); !strings.HasPrefix(p, `"handle";q=3`) {
				t.Fatalf("%s: limited by %s", handle, p)
			}
		}
		home := func() {
			t.Helper()
			if a := try("198.51.100.7", "pass of ada"); handle == "ada" {
				a.is(201)
			} else {
				a.fails(pBadLogin)
			}
		}
		home()
		if handle == "ada" { // success cost nothing: three more guesses in all
			try("203.0.113.1", "guess").fails(pBadLogin)
		}
		try("203.0.113.2", "guess").fails(pBadLogin)
		try("203.0.113.3", "guess").fails(pBadLogin)
		a := try("203.0.113.4", "guess").fails(pRateLimited)
		if p := a.header.Get("RateLimit-Policy"); !strings.HasPrefix(p, `"handle-everywhere";q=6`) {
			t.Errorf("%s: limited by %s", handle, p)
		}
	}
}

func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter("x", clock.NewFake(epoch), Rate{PerSecond: 1, Burst: 2})
	for i := range 3 * limiterShards * limiterPerShar {
		l.change(itoa(i), 1)
	}
	for i := range l.shards {
		if s := &l.shards[i]; len(s.by) > limiterPerShar || s.used.Len() != len(s.by) {
			t.Errorf("shard %d holds %d buckets, %d in order", i, len(s.by), s.used.Len())
		}
	}
}

func TestStorageFaults(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	data := picture(64, 48, 1)
	u := w.uploadURL(ada, data)
	for err, want := range map[error]*problemKind{fmt.Errorf("disk: %w", ErrFull): pStorageFull, errors.New("secret internals"): pInternal} {
		w.blobs.err.Store(&err)
		a := w.call("", "PUT", u.UploadURL, data).fails(want)
		if strings.Contains(string(a.body), "secret") {
			t.Errorf("the answer tells: %s", a.body)
		}
	}
	w.blobs.err.Store(nil)
	w.blobs.moves.Store(maxMoves)
	w.call("", "PUT", u.UploadURL, data).fails(pBusy)
	w.call("", "PUT", u.UploadURL, data).is(201)
	if n := len(w.eventsOf(EventFault)); n != 2 {
		t.Errorf("%d fault events", n)
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Page = func(rc *fasthttp.RequestCtx) bool { panic("at the page") }
	})
	w.call("", "GET", "/", nil).fails(pInternal)
	w.call("", "GET", "/healthz", nil).is(200)
	if e := w.eventsOf(EventPanic); len(e) != 1 || !strings.Contains(e[0].Err.Error(), "at the page") {
		t.Errorf("events: %+v", e)
	}
}

// Shutdown lets what runs finish and ends what waits.
func TestShutdownDrains(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	data := picture(64, 48, 1)
	first, second := w.uploadURL(ada, data), w.uploadURL(ada, data)
	w.call("", "PUT", second.UploadURL, data).is(201)
	hold := make(chan struct{})
	w.blobs.hold.Store(&hold)
	got := make(chan int, 2)
	go func() { got <- w.call("", "PUT", first.UploadURL, data).status }()
	go func() {
		got <- w.call(ada, "POST", "/api/v1/photos", m{"photo_id": second.PhotoID}, "Prefer", "wait=10").status
	}()
	eventually(t, "the PUT is writing", func() bool { return w.api.ingests.len() == 1 })
	eventually(t, "the photo is pending", func() bool {
		_, err := w.feed.Photo(t.Context(), adaID, second.PhotoID)
		return err == nil
	})
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- w.api.Shutdown(ctx)
	}()
	<-w.api.drain
	close(hold)
	must(t, <-done)
	if a, b := <-got, <-got; a+b != 201+202 {
		t.Errorf("answers %d and %d", a, b)
	}
}

// eventually polls for an effect on another goroutine.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (m *mutexes) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.by)
}

// flakyListener runs out of file descriptors now and then.
type flakyListener struct {
	net.Listener
	mu    sync.Mutex
	fails int
}

func (l *flakyListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails > 0 {
		l.fails--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptOutlivesLackOfDescriptors(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Clock = clock.Real{} })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- w.api.Serve(&flakyListener{Listener: ln, fails: 3}) }()
	w.call("", "GET", "http://"+ln.Addr().String()+"/healthz", nil).is(200)
	if n := len(w.eventsOf(EventServer)); n != 3 {
		t.Errorf("%d events", n)
	}
	w.http.CloseIdleConnections()
	must(t, w.api.Shutdown(t.Context()))
	must(t, <-served)
}

func TestConnectionsAreBounded(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.PerAddress = 3 })
	var held []net.Conn
	addr := strings.TrimPrefix(w.url, "http://")
	for range 3 {
		c, err := net.Dial("tcp", addr)
		must(t, err)
		_, err = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		must(t, err)
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v %v", resp, err)
		}
		held = append(held, c)
	}
	if got := w.raw(1, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); len(got) != 1 || got[0].StatusCode != 503 {
		t.Errorf("one too many: %v", status(got))
	}
	for _, c := range held {
		must(t, c.Close())
	}
}

func TestPasswords(t *testing.T) {
	w := newWorld(t)
	h := w.api.hasher
	a, err := h.hash(t.Context(), "correct horse")
	must(t, err)
	b, err := h.hash(t.Context(), "correct horse")
	must(t, err)
	if a == b || !strings.HasPrefix(a, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hashes: %s %s", a, b)
	}
	for _, c := range []struct {
		password, encoded string
		want              bool
	}{{"correct horse", a, true}, {"correct horse", b, true}, {"Correct horse", a, false}, {"", a, false}, {"x", "", false}} {
		if ok, err := h.verify(t.Context(), c.password, c.encoded); err != nil || ok != c.want {
			t.Errorf("verify(%q): %v %v", c.password, ok, err)
		}
	}
	for _, bad := range []string{"x", "$argon2id$v=19$m=99999999,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "$argon2i$v=19$m=1,t=1,p=1$AAAAAAAAAAA$AAAA",
		"$argon2id$v=19$m=0,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=8,t=1,p=1,x=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA"} {
		if _, err := h.verify(t.Context(), "x", bad); !errors.Is(err, errHash) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestHasherQueueIsBounded(t *testing.T) {
	h := &hasher{slots: make(chan struct{}, 1), queue: 1}
	must(t, h.enter(t.Context()))
	waiting := make(chan error, 1)
	go func() { waiting <- h.enter(t.Context()) }()
	eventually(t, "the second has queued", func() bool { return h.waiting.Load() == 1 })
	if err := h.enter(t.Context()); asProblem(err).kind != pBusy {
		t.Errorf("a third: %v", err)
	}
	h.leave()
	must(t, <-waiting)
}

func TestOptionsValidate(t *testing.T) {
	if err := (Options{PublicURL: "https://x.example"}).Validate(); err == nil || !strings.Contains(err.Error(), "nothing to serve") {
		t.Errorf("an API of nothing: %v", err)
	}
	err := Options{Feed: (*feed.Feed)(nil), BlobKeys: make([]BlobKey, 1), PublicURL: "https://x.example/path", MediaURL: "ftp://y", Signup: "invite", Limits: Limits{BodyBytes: 8 << 20, SpoolBytes: 1}}.Validate()
	for _, want := range []string{"no Blobs", "no Ring", "no Store", "PublicURL", "MediaURL", "invite", "BodyBytes", "SpoolBytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate does not mention %s: %v", want, err)
		}
	}
}

func TestHayloftIndex(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Clock = clock.Real{} })
	a := w.call("", "GET", "/api/v1/instance", nil).is(200)
	index := a.header.Get("Hayloft-Index")
	if index == "" || index == "0" {
		t.Errorf("Hayloft-Index: %q", index)
	}
	w.call("", "GET", "/api/v1/instance", nil, "Hayloft-Index", index).is(200)
	w.call("", "GET", "/api/v1/instance", nil, "Hayloft-Index", "x").fails(pMalformed)
	w.call("", "GET", "/api/v1/instance", nil, "Hayloft-Index", "18446744073709551615").fails(pBehind)
}

// cutOff is a feed whose replica reaches no majority.
type cutOff struct{ Feed }

func (c cutOff) Fresh(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestFreshIndex: a call that wants to see everything is answered by a replica that
// can make sure of it, and by no other.
func TestFreshIndex(t *testing.T) {
	newWorld(t).call("", "GET", "/api/v1/instance", nil, "Hayloft-Index", "fresh").is(200)
	w := newWorld(t, func(o *Options) { o.Feed = cutOff{o.Feed} })
	w.call("", "GET", "/api/v1/instance", nil, "Hayloft-Index", "fresh").fails(pBehind)
	w.call("", "GET", "/api/v1/instance", nil).is(200)
}
