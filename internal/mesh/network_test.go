package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"hayloft/internal/mesh"
	"hayloft/internal/mesh/meshtest"

	"golang.org/x/sys/unix"
)

// proxied opens two nodes: a reaches b through a proxy.
func proxied(t *testing.T) (a, b *mesh.Mesh, p *meshtest.Proxy) {
	t.Helper()
	ca := meshtest.CA(t)
	l := meshtest.Listen(t)
	p = meshtest.NewProxy(t, l.Addr().String())
	a = meshtest.Node(t, ca, "a")
	b = meshtest.Open(t, mesh.Options{Identity: meshtest.Identity(t, ca, nodeCalled("b")), Listener: l, Advertise: p.Addr()})
	a.SetAddr("b", p.Addr())
	b.Handle("echo", mesh.Answer(echo))
	return a, b, p
}

// A node that is cut off costs a call its deadline, and a dial three seconds at most.
// When the network is back, so are the calls.
func TestCutOff(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(*meshtest.Proxy)
	}{
		{"both ways", (*meshtest.Proxy).Cut},
		{"questions", func(p *meshtest.Proxy) { p.CutOneWay(meshtest.Forth) }},
		{"answers", func(p *meshtest.Proxy) { p.CutOneWay(meshtest.Back) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, _, p := proxied(t)
			c := a.Client("echo")
			if _, err := c.Call(within(t, 5*time.Second), "b", "/", nil); err != nil {
				t.Fatal(err)
			}
			tt.cut(p)
			began := time.Now()
			var away *mesh.UnreachableError
			_, err := c.Call(within(t, 200*time.Millisecond), "b", "/", nil)
			if !errors.As(err, &away) || !away.Sent || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("on a connection that was there: %v", err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("a call of 200 ms took %v", took)
			}
			began = time.Now()
			_, err = c.Call(within(t, 30*time.Second), "b", "/", nil)
			if !errors.As(err, &away) || away.Sent {
				t.Errorf("on a new one: %v", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("a dial took %v", took)
			}
			p.Heal()
			if _, err := c.Call(within(t, 5*time.Second), "b", "/", nil); err != nil {
				t.Errorf("the network is back: %v", err)
			}
		})
	}
}

// Calls to others are as fast as ever while one node hangs.
func TestHungNodeKeepsNobodyWaiting(t *testing.T) {
	a, _ := pair(t)
	l := meshtest.Listen(t) // the kernel takes connections, and nobody else does
	defer l.Close()
	p := meshtest.NewProxy(t, l.Addr().String())
	a.SetAddr("hung", p.Addr())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var hung sync.WaitGroup
	for range 300 { // more than a client has connections to a node
		hung.Go(func() {
			if _, err := a.Client("echo").Call(ctx, "hung", "/", nil); err == nil {
				t.Error("a node that hangs has answered")
			}
		})
	}
	await(t, "calls that hang", func() bool { return p.Open() > 100 })
	for range 20 {
		if _, err := a.Client("echo").Call(within(t, time.Second), "b", "/", nil); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	hung.Wait()
}

// What the kernel is asked to notice by itself: a cut-off peer that no call waits for.
func TestKernelWatches(t *testing.T) {
	a, b := pair(t)
	accepted := make(chan net.Conn, 1)
	lb := b.Layer("other")
	go func() {
		c, _ := lb.Accept()
		accepted <- c
	}()
	dialed, err := a.Layer("other").Dial("b", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	other := <-accepted
	defer other.Close()
	for end, c := range map[string]net.Conn{"dialed": dialed, "accepted": other} {
		raw, err := c.(*mesh.Conn).NetConn().(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			for _, o := range []struct {
				name         string
				level, which int
				want         int
			}{
				{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 6000},
				{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
				{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 2},
				{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1},
				{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
			} {
				if got, err := unix.GetsockoptInt(int(fd), o.level, o.which); err != nil || got != o.want {
					t.Errorf("%s: %s is %d (%v), want %d", end, o.name, got, err, o.want)
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// A peer that takes too many connections is told so; others get theirs.
func TestConnectionsPerPeer(t *testing.T) {
	ca := meshtest.CA(t)
	a, c := meshtest.Node(t, ca, "a"), meshtest.Node(t, ca, "c")
	var j journal
	b := meshtest.Open(t, mesh.Options{Identity: meshtest.Identity(t, ca, nodeCalled("b")), Listener: meshtest.Listen(t), MaxPerPeer: 3, Events: j.add})
	meshtest.Acquaint(a, b, c)
	la, lb, lc := a.Layer("raft"), b.Layer("raft"), c.Layer("raft")
	dial := func(l *mesh.Layer) (net.Conn, error) {
		conn, err := l.Dial("b", 5*time.Second)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
		}
		return conn, err
	}
	var last net.Conn
	for range 3 {
		var err error
		if last, err = dial(la); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dial(la); !errors.Is(err, mesh.ErrBusy) {
		t.Errorf("the fourth: %v", err)
	}
	if e := j.await(t, mesh.EventRefused); !errors.Is(e.Err, mesh.ErrBusy) || e.Peer != nodeCalled("a") {
		t.Errorf("event %+v", e)
	}
	if _, err := dial(lc); err != nil {
		t.Errorf("another peer: %v", err)
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := lb.Accept() // the order is that of the dials
	for range 2 {
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn, err = lb.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil { // its other end is last
		t.Fatal(err)
	}
	if _, err := dial(la); err != nil {
		t.Errorf("one has ended: %v", err)
	}
}

// A protocol that nobody accepts on any more does not collect connections.
func TestLayerThatNobodyAccepts(t *testing.T) {
	a, b := pair(t)
	lb, la := b.Layer("raft"), a.Layer("raft")
	const more = 140 // than may wait
	for range more {
		c, err := la.Dial("b", 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	await(t, "refusals", func() bool { return b.Stats().Refused == more-128 })
	if err := lb.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of those that waited", func() bool { return b.Stats().Open == 0 })
}

// Close lets requests end, and cuts off those that take too long.
func TestClose(t *testing.T) {
	ca := meshtest.CA(t)
	open := func() (a, b *mesh.Mesh, asked chan struct{}, release chan struct{}) {
		a, b = meshtest.Node(t, ca, "a"), meshtest.Node(t, ca, "b")
		meshtest.Acquaint(a, b)
		asked, release = make(chan struct{}, 1), make(chan struct{})
		b.Handle("slow", mesh.Answer(func(ctx context.Context, _ mesh.Peer, _ []byte) ([]byte, error) {
			asked <- struct{}{}
			select {
			case <-release:
				return []byte("done"), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}))
		return a, b, asked, release
	}
	ask := func(a *mesh.Mesh) chan error {
		got := make(chan error, 1)
		go func() {
			_, err := a.Client("slow").Call(context.Background(), "b", "/", nil)
			got <- err
		}()
		return got
	}
	t.Run("drained", func(t *testing.T) {
		a, b, asked, release := open()
		got := ask(a)
		<-asked
		closed := make(chan error, 1)
		go func() { closed <- b.Close(context.Background()) }()
		addr, _ := b.Addr("b")
		await(t, "a listener that is closed", func() bool {
			_, _, err := a.Hello(context.Background(), addr)
			return err != nil
		})
		close(release)
		if err := <-got; err != nil {
			t.Errorf("the call: %v", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Run("cut off", func(t *testing.T) {
		a, b, asked, _ := open()
		got := ask(a)
		<-asked
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
		var away *mesh.UnreachableError
		if err := <-got; !errors.As(err, &away) || !away.Sent {
			t.Errorf("the call: %v", err)
		}
	})
	// net/http does not see that a peer is gone before its question was read.
	t.Run("cut off, with a question that is not read", func(t *testing.T) {
		a, b, _, _ := open()
		asked := make(chan struct{})
		b.Handle("deaf", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
		}))
		call, hangUp := context.WithCancel(t.Context())
		got := make(chan error, 1)
		go func() {
			_, err := a.Client("deaf").Call(call, "b", "/", make([]byte, 8<<20))
			got <- err
		}()
		<-asked
		hangUp()
		<-got
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Run("own calls", func(t *testing.T) {
		a, _, asked, _ := open()
		got := ask(a)
		<-asked
		meshtest.Close(t, a)
		if err := <-got; err == nil {
			t.Error("a call outlives its mesh")
		}
		if _, err := a.Client("slow").Call(t.Context(), "b", "/", nil); !errors.Is(err, mesh.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if _, err := a.Layer("raft").Dial("b", time.Second); !errors.Is(err, mesh.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A handler that panics costs its request, which fails, and is an event.
func TestPanic(t *testing.T) {
	ca := meshtest.CA(t)
	var j journal
	a := meshtest.Node(t, ca, "a")
	b := meshtest.Open(t, mesh.Options{Identity: meshtest.Identity(t, ca, nodeCalled("b")), Listener: meshtest.Listen(t), Events: j.add})
	meshtest.Acquaint(a, b)
	b.Handle("files", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half of it")
		panic("lost")
	}))
	if _, err := a.Client("files").Call(within(t, 5*time.Second), "b", "/", nil); err == nil {
		t.Error("half an answer was taken")
	}
	if e := j.await(t, mesh.EventPanic); e.Peer != nodeCalled("a") || e.Proto != "files" || !strings.Contains(e.Err.Error(), "lost") {
		t.Errorf("event %+v", e)
	}
}

// A body is the caller's again once a call is over, though HTTP goes on reading.
func TestBodyIsTheCallersAgain(t *testing.T) {
	a, b := pair(t)
	b.Handle("hasty", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "0") // without reading the question
	}))
	b.Handle("never", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	body := bytes.Repeat([]byte("x"), 8<<20)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		_, _ = a.Client("never").Call(ctx, "b", "/", body)
		cancel()
		clear(body) // the race detector sees who reads it still
		_, _ = a.Client("hasty").Call(t.Context(), "b", "/", body)
		clear(body)
	}
}

func TestBody(t *testing.T) {
	parts := [][]byte{[]byte("one"), nil, []byte("two"), []byte("three"), nil}
	b := mesh.NewBody(parts...)
	if b.Len() != 11 {
		t.Errorf("length %d", b.Len())
	}
	two := make([]byte, 4)
	if n, err := b.Read(two); n != 4 || err != nil || string(two) != "onet" || b.Len() != 7 {
		t.Errorf("%d %v %q, %d left", n, err, two, b.Len())
	}
	if rest, err := io.ReadAll(b); err != nil || string(rest) != "wothree" {
		t.Errorf("%q %v", rest, err)
	}
	b = mesh.NewBody([]byte("gone"))
	b.Release()
	if n, err := b.Read(two); n != 0 || err == nil || err == io.EOF {
		t.Errorf("released: %d %v", n, err)
	}
}

// The book keeps what was said last: by a row, or by the node itself.
func TestAddressBook(t *testing.T) {
	ca := meshtest.CA(t)
	a, b := meshtest.Node(t, ca, "a"), meshtest.Node(t, ca, "b")
	at := func(want string) {
		t.Helper()
		if got, ok := a.Addr("b"); got != want || ok != (want != "") {
			t.Errorf("b is at %q (%t), want %q", got, ok, want)
		}
	}
	at("")
	a.SetAddr("b", "old:1")
	at("old:1")
	own, _ := b.Addr("b")
	hello := func() {
		t.Helper()
		if _, _, err := a.Hello(within(t, 5*time.Second), own); err != nil {
			t.Fatal(err)
		}
	}
	hello()
	at(own)
	a.SetAddr("b", "old:1") // the same row read again
	at(own)
	a.SetAddr("b", "moved:1")
	at("moved:1")
	hello()
	at(own)
	a.Pin("b", "proxy:1") // what b says of itself leads elsewhere
	hello()
	at("proxy:1")
	a.SetAddr("b", "row:1")
	at("proxy:1")
	a.Forget("b")
	at("")
	hello()
	at(own)
}
