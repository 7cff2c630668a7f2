package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

// slow is an echo whose calls wait: for its owner, or until their context ends.
type slow struct {
	echo
	came chan string // the name of each call that begins to wait
	gone chan string // of each whose context ended
	free chan struct{}
}

func newSlow() *slow {
	return &slow{came: make(chan string, 100), gone: make(chan string, 100), free: make(chan struct{})}
}

func (s *slow) wait(ctx context.Context, name string) error {
	s.came <- name
	select {
	case <-s.free:
		return nil
	case <-ctx.Done():
		s.gone <- name
		return ctx.Err()
	}
}

func (s *slow) Append(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error {
	return s.wait(ctx, "append")
}

func (s *slow) Delete(ctx context.Context, disk uint32, v volume.ID, key id.ID) error {
	return s.wait(ctx, "delete")
}

func (s *slow) Read(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie) (volume.Blob, error) {
	return volume.Blob{}, s.wait(ctx, "read")
}

func (s *slow) Seal(ctx context.Context, disk uint32, v volume.ID, info volume.SealInfo) (server.Sealed, error) {
	return server.Sealed{Needles: 7}, s.wait(ctx, "seal")
}

func (s *slow) Holdings(ctx context.Context, disk uint32, v volume.ID, fn func(server.Holding) error) error {
	if err := fn(server.Holding{Key: 1}); err != nil {
		return err
	}
	return s.wait(ctx, "holdings")
}

var oneNeedle = []volume.Needle{{Key: 1, Cookie: 2, Data: []byte("some data")}}

// TestCallsEndWithTheirContext: the caller has its answer at once, and the other side
// stops.
func TestCallsEndWithTheirContext(t *testing.T) {
	calls := map[string]func(ctx context.Context, c *Client) error{
		"append": func(ctx context.Context, c *Client) error { return c.Append(ctx, 1, volume.Identity{}, oneNeedle) },
		"delete": func(ctx context.Context, c *Client) error { return c.Delete(ctx, 1, 1, 1) },
		"read": func(ctx context.Context, c *Client) error {
			_, err := c.Read(ctx, 1, 1, 1, 0, 1)
			return err
		},
		"seal": func(ctx context.Context, c *Client) error {
			_, err := c.Seal(ctx, 1, 1, volume.SealInfo{})
			return err
		},
		"holdings": func(ctx context.Context, c *Client) error {
			return c.Holdings(ctx, 1, 1, func(server.Holding) error { return nil })
		},
	}
	why := errors.New("the reader has left")
	for name, call := range calls {
		s := newSlow()
		c := overTLS(t, s, HandlerOptions{}, Options{})
		ctx, cancel := context.WithCancelCause(bg)
		done := make(chan error)
		go func() { done <- call(ctx, c) }()
		if got := <-s.came; got != name {
			t.Fatal(got, name)
		}
		cancel(why)
		if err := <-done; !errors.Is(err, server.ErrUnavailable) || !errors.Is(err, why) {
			t.Errorf("%s: %v", name, err)
		}
		if got := <-s.gone; got != name {
			t.Errorf("%s ended instead of %s", got, name)
		}
		// The time that is left goes along: the called side needs no end of connection. A
		// machine that is busy may not bring the call there in time.
		for wait, came := 30*time.Millisecond, false; !came; wait *= 2 {
			late, cancelLate := context.WithTimeout(bg, wait)
			if err := call(late, c); !errors.Is(err, server.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s late: %v", name, err)
			}
			cancelLate()
			select {
			case <-s.came:
				came = true
				<-s.gone
			default:
			}
		}
	}
}

// TestTimeGoesAlong: the called side ends a call by itself when the time it was given
// is over, though the connection stands.
func TestTimeGoesAlong(t *testing.T) {
	s := newSlow()
	l := &lab{h: Handler(s, HandlerOptions{Caller: known})}
	b := &body{}
	b.add(kindArgs, func(buf []byte) []byte { return appendArgs(buf, &args{}) })
	b.complete()
	first, _ := b.reader()
	r, err := http.NewRequest(http.MethodPost, "/blobs/v1/read", first)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(headerTimeout, "20")
	if resp, err := l.Do(bg, "", r); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	if got := <-s.came + <-s.gone; got != "readread" {
		t.Fatal(got)
	}
	for _, text := range []string{"0", "-1", "soon", "99999999999"} {
		first, _ := b.reader()
		r.Body = first
		r.Header.Set(headerTimeout, text)
		if resp, err := l.Do(bg, "", r); err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Fatal(text, resp, err)
		}
	}
}

// asks answers with what a test has, without a server.
type asks func(ctx context.Context, r *http.Request) (*http.Response, error)

func (a asks) Do(ctx context.Context, _ string, r *http.Request) (*http.Response, error) {
	return a(ctx, r)
}

// TestDataIsTheCallersAgain: whatever the transport still has of a request, it reads
// no data any more when Append has returned.
func TestDataIsTheCallersAgain(t *testing.T) {
	var kept io.ReadCloser
	var again func() (io.ReadCloser, error)
	ctx, cancel := context.WithCancel(bg)
	c := NewClients(asks(func(ctx context.Context, r *http.Request) (*http.Response, error) {
		kept, again = r.Body, r.GetBody
		cancel()
		return nil, ctx.Err()
	}), Options{}).Node("echo")
	if err := c.Append(ctx, 1, volume.Identity{}, oneNeedle); !errors.Is(err, context.Canceled) || !errors.Is(err, server.ErrUnavailable) {
		t.Fatal(err)
	}
	for range 2 {
		if b, err := io.ReadAll(kept); len(b) > 0 || !errors.Is(err, errBodyEnded) {
			t.Fatalf("read %q: %v", b, err)
		}
		kept, _ = again()
	}
}

type callerKey struct{}

// as sends requests to a handler as a node.
func as(node string, h http.Handler) Doer {
	return asks(func(ctx context.Context, r *http.Request) (*http.Response, error) {
		l := lab{h: h}
		return l.Do(context.WithValue(ctx, callerKey{}, node), "", r)
	})
}

func namedCaller(ctx context.Context) (string, bool) {
	node, ok := ctx.Value(callerKey{}).(string)
	return node, ok
}

// TestEveryNodeHasItsShare: the calls of a node that waits take no place of another's,
// nor one kind of call that of another kind, on either side.
func TestEveryNodeHasItsShare(t *testing.T) {
	few := Limits{Writes: 2, WritesInAll: 3, Asks: 1, AsksInAll: 1}
	for name, sides := range map[string][2]Limits{"called": {few, {}}, "calling": {{}, few}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSlow()
				h := Handler(s, HandlerOptions{Caller: namedCaller, Limits: sides[0]})
				c := NewClients(asks(func(ctx context.Context, r *http.Request) (*http.Response, error) {
					return as(r.URL.Host, h).Do(ctx, "", r)
				}), Options{Limits: sides[1]})
				var wg sync.WaitGroup
				begin := func(ctx context.Context, node string, call func(context.Context, *Client) error) chan error {
					done := make(chan error, 1)
					wg.Go(func() { done <- call(ctx, c.Node(node)) })
					synctest.Wait()
					return done
				}
				write := func(ctx context.Context, c *Client) error { return c.Append(ctx, 1, volume.Identity{}, oneNeedle) }
				ask := func(ctx context.Context, c *Client) error { return c.Delete(ctx, 1, 1, 1) }
				for range 4 {
					begin(bg, "a", write)
				}
				if len(s.came) != 2 {
					t.Fatalf("%d calls of a node are under way", len(s.came))
				}
				begin(bg, "a", ask)
				if len(s.came) != 3 {
					t.Fatal("writes keep a delete from coming in")
				}
				begin(bg, "b", write)
				if len(s.came) != 4 {
					t.Fatal("a node takes the share of another")
				}
				ctx, cancel := context.WithCancel(bg)
				late := begin(ctx, "c", write)
				if len(s.came) != 4 {
					t.Fatal("more calls than there are places")
				}
				cancel()
				if err := <-late; !errors.Is(err, server.ErrUnavailable) || !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				close(s.free)
				wg.Wait()
				if len(s.came) != 6 {
					t.Fatalf("%d calls came in the end", len(s.came))
				}
			})
		})
	}
}

// TestGroupsWaitForMemory: a group is read when there is room for it, and what is
// too large for the budget goes alone.
func TestGroupsWaitForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow()
		h := Handler(s, HandlerOptions{Caller: known, WriteBytes: 100_000})
		c := NewClients(as("a", h), Options{}).Node("echo")
		var wg sync.WaitGroup
		put := func(n int) {
			wg.Go(func() {
				if err := c.Append(bg, 1, volume.Identity{}, []volume.Needle{{Key: 1, Cookie: 1, Data: make([]byte, n)}}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		put(60_000)
		put(60_000)
		put(3 << 20)
		if len(s.came) != 1 {
			t.Fatalf("%d groups are in memory", len(s.came))
		}
		for want := 2; want <= 3; want++ {
			s.free <- struct{}{}
			synctest.Wait()
			if len(s.came) != want {
				t.Fatalf("%d groups came, want %d", len(s.came), want)
			}
		}
		s.free <- struct{}{}
		wg.Wait()
		if held := h.(*handler).writes.Held(); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
	})
}

// pipes is a network of one listener in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// overPipe runs test in a bubble of time, with a client that reaches p by HTTP over
// pipes.
func overPipe(t *testing.T, p server.Peer, test func(t *testing.T, c *Client, dial func(context.Context, string, string) (net.Conn, error))) {
	synctest.Test(t, func(t *testing.T) {
		net := newPipes()
		s := &http.Server{Handler: Handler(p, HandlerOptions{Caller: known})}
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.Serve(net) })
		tr := &http.Transport{DialContext: net.dial}
		c := NewClients(asks(func(ctx context.Context, r *http.Request) (*http.Response, error) {
			r.URL.Scheme = "http"
			return (&http.Client{Transport: tr}).Do(r)
		}), Options{}).Node("echo")
		defer wg.Wait()
		defer func() {
			tr.CloseIdleConnections()
			_ = s.Close()
		}()
		test(t, c, net.dial)
	})
}

// TestLongCallsShowThatTheyWork: a call that takes hours ends well, though nothing is
// there to be sent before it is done.
func TestLongCallsShowThatTheyWork(t *testing.T) {
	s := newSlow()
	overPipe(t, s, func(t *testing.T, c *Client, _ func(context.Context, string, string) (net.Conn, error)) {
		s.free, s.came, s.gone = make(chan struct{}), make(chan string, 9), make(chan string, 9) // of the bubble
		go func() {
			<-s.came
			time.Sleep(3 * time.Hour)
			s.free <- struct{}{}
			<-s.came
			time.Sleep(time.Hour)
			s.free <- struct{}{}
		}()
		begin := time.Now()
		got, err := c.Seal(bg, 1, 1, volume.SealInfo{})
		if err != nil || got.Needles != 7 || time.Since(begin) < 3*time.Hour {
			t.Fatal(got, err, time.Since(begin))
		}
		n := 0
		err = c.Holdings(bg, 1, 1, func(server.Holding) error {
			n++
			time.Sleep(100 * time.Second) // who is given something may take its time
			return nil
		})
		if err != nil || n != 1 {
			t.Fatal(n, err)
		}
	})
}

// TestSilentNodesAreGivenUp: a node that says nothing in a long call is given up, as
// is a caller that takes nothing.
func TestSilentNodesAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, q := range []string{"no answer", "no frame"} {
			c := NewClients(asks(func(ctx context.Context, r *http.Request) (*http.Response, error) {
				if q == "no frame" {
					stuck, _ := io.Pipe()
					context.AfterFunc(ctx, func() { _ = stuck.CloseWithError(ctx.Err()) })
					return &http.Response{StatusCode: http.StatusOK, Body: stuck}, nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}), Options{}).Node("echo")
			begin := time.Now()
			_, err := c.Make(bg, 1, 1, 2)
			if took := time.Since(begin); !errors.Is(err, server.ErrUnavailable) || !errors.Is(err, errSilent) || took < 30*time.Second || took > 45*time.Second {
				t.Errorf("%s: %v after %v", q, err, took)
			}
		}
	})
	s := &torrent{done: make(chan error, 1)}
	overPipe(t, s, func(t *testing.T, _ *Client, dial func(context.Context, string, string) (net.Conn, error)) {
		s.done = make(chan error, 1)
		conn, err := dial(bg, "", "")
		if err != nil {
			t.Fatal(err)
		}
		b := &body{}
		b.add(kindArgs, func(buf []byte) []byte { return appendArgs(buf, &args{}) })
		b.complete()
		head := "POST /blobs/v1/copy HTTP/1.1\r\nHost: x\r\nContent-Length: 112\r\n\r\n"
		if _, err := io.Copy(conn, io.MultiReader(strings.NewReader(head), strings.NewReader(string(b.parts[0])))); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := <-s.done; err == nil || time.Since(begin) > 3*time.Minute {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		_ = conn.Close()
	})
}

// torrent gives more of a file than anybody buffers.
type torrent struct {
	echo
	done chan error
}

func (t *torrent) Copy(ctx context.Context, disk uint32, v volume.ID, generation uint32, fn func([]byte) error) (server.Sealed, error) {
	b := make([]byte, 1<<20)
	for {
		if err := fn(b); err != nil {
			t.done <- err
			return server.Sealed{}, err
		}
	}
}

// TestFunctionsEndCalls: an error of the caller's own function ends a stream, and is
// what the caller gets; the other side stops.
func TestFunctionsEndCalls(t *testing.T) {
	s := &torrent{done: make(chan error, 1)}
	c := overTLS(t, s, HandlerOptions{}, Options{})
	full := errors.New("disk full")
	if _, err := c.Copy(bg, 1, 1, 1, func([]byte) error { return full }); err != full {
		t.Fatal(err)
	}
	if err := <-s.done; err == nil {
		t.Fatal("the other side went on")
	}
	if err := c.Holdings(bg, 1, 1, func(server.Holding) error { return full }); err != full {
		t.Fatal(err)
	}
	if err := c.Fetch(bg, 1, 1, []id.ID{3, 4}, func(volume.Needle) error { return full }); err != nil && err != full {
		t.Fatal(err)
	}
}

// TestWhatIsNotSpoken: another version is told apart from nonsense, and so are
// strangers.
func TestWhatIsNotSpoken(t *testing.T) {
	p := &echo{}
	c := overTLS(t, p, HandlerOptions{}, Options{})
	c.base = "https://echo/blobs/v2/"
	err := c.Entomb(bg, 1, 1, 1)
	if !errors.Is(err, ErrVersion) || !errors.Is(err, server.ErrUnavailable) || !strings.Contains(err.Error(), `speaks "1"`) {
		t.Errorf("a later version: %v", err)
	}
	for base, status := range map[string]string{"https://echo/blobs/v1/x": "404", "https://echo/blobs/": "404", "https://echo/": "404"} {
		c.base = base
		err := c.Entomb(bg, 1, 1, 1)
		if errors.Is(err, ErrVersion) || !errors.Is(err, server.ErrUnavailable) || !strings.Contains(err.Error(), status) {
			t.Errorf("%s: %v", base, err)
		}
	}
	stranger := overTLS(t, p, HandlerOptions{Caller: func(context.Context) (string, bool) { return "", false }}, Options{})
	if err := stranger.Entomb(bg, 1, 1, 1); !errors.Is(err, server.ErrUnavailable) || !strings.Contains(err.Error(), "403") {
		t.Errorf("a stranger: %v", err)
	}
	l := &lab{h: Handler(p, HandlerOptions{Caller: known})}
	r, err := http.NewRequest(http.MethodGet, "/blobs/v1/read", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := l.Do(bg, "", r); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Error(resp, err)
	}
	if heard := p.heard(); len(heard) > 0 {
		t.Errorf("asked %q", heard)
	}
}
