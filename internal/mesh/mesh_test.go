package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"hayloft/internal/mesh"
	"hayloft/internal/mesh/meshtest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers with the name of who asks and what it said.
func echo(_ context.Context, from mesh.Peer, body []byte) ([]byte, error) {
	return append([]byte(from.String()+": "), body...), nil
}

// within is a context for one call of a test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// pair opens two nodes that know each other; b answers "echo".
func pair(t *testing.T) (a, b *mesh.Mesh) {
	t.Helper()
	ca := meshtest.CA(t)
	a, b = meshtest.Node(t, ca, "a"), meshtest.Node(t, ca, "b")
	meshtest.Acquaint(a, b)
	b.Handle("echo", mesh.Answer(echo))
	return a, b
}

func TestCall(t *testing.T) {
	a, _ := pair(t)
	for _, size := range []int{0, 1, 100, 64 << 10, 5 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		got, err := a.Client("echo").Call(within(t, 10*time.Second), "b", "/", body)
		if err != nil || string(got) != "node a: "+string(body) {
			t.Fatalf("%d bytes: %d bytes back, %v", size, len(got), err)
		}
	}
	if n := a.Stats().Dialed; n != 1 {
		t.Errorf("%d connections for 5 calls one after another, want 1", n)
	}
}

func TestCallErrorsAreToldApart(t *testing.T) {
	a, b := pair(t)
	b.Handle("no", mesh.Answer(func(_ context.Context, _ mesh.Peer, body []byte) ([]byte, error) {
		switch string(body) {
		case "refuse":
			return nil, fmt.Errorf("wrapped: %w", &mesh.Refusal{Status: 409, Code: "taken", Text: "somebody else has it"})
		case "large":
			return make([]byte, mesh.MaxMessage+1), nil
		default:
			return nil, errors.New("the disk is gone")
		}
	}))
	ctx := within(t, 10*time.Second)
	call := func(node, path, body string) error {
		_, err := a.Client("no").Call(ctx, node, path, []byte(body))
		return err
	}
	var refused *mesh.RefusedError
	if err := call("b", "/", "refuse"); !errors.As(err, &refused) || refused.Status != 409 || refused.Code != "taken" || refused.Text != "somebody else has it" || refused.Node != "b" {
		t.Errorf("a refusal: %v", err)
	}
	if err := call("b", "/", ""); !errors.As(err, &refused) || refused.Status != 500 || !strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("an error: %v", err)
	}
	if err := call("b", "/", "large"); !errors.As(err, &refused) || !strings.Contains(refused.Text, mesh.ErrTooLarge.Error()) {
		t.Errorf("too large an answer: %v", err)
	}
	if _, err := a.Client("no").Call(ctx, "b", "/", make([]byte, mesh.MaxMessage+1)); !errors.Is(err, mesh.ErrTooLarge) {
		t.Errorf("too large a question: %v", err)
	}
	var away *mesh.UnreachableError
	if err := call("c", "/", ""); !errors.As(err, &away) || !errors.Is(err, mesh.ErrNoAddress) || away.Sent || away.Node != "c" {
		t.Errorf("an unknown node: %v", err)
	}
	l := meshtest.Listen(t)
	a.SetAddr("d", l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := call("d", "/", ""); !errors.As(err, &away) || away.Sent {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestLayer(t *testing.T) {
	a, b := pair(t)
	la, lb := a.Layer("raft"), b.Layer("raft")
	if la.Addr().String() != "a" || lb.Addr().String() != "b" {
		t.Errorf("addresses %s and %s", la.Addr(), lb.Addr())
	}
	got := make(chan string, 1)
	go func() {
		c, err := lb.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		text, err := io.ReadAll(c)
		got <- fmt.Sprint(c.(*mesh.Conn).Peer(), " ", string(text), " ", err, " ", c.Close())
	}()
	c, err := la.Dial("b", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "vote"); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if want := "node a vote <nil> <nil>"; <-got != want {
		t.Errorf("want %q", want)
	}
	if err := lb.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := la.Dial("b", 5*time.Second); err == nil {
		t.Error("dialed a protocol that was closed")
		_ = c.Close()
	}
	if c, err := lb.Accept(); err == nil {
		t.Error("accepted on a closed layer")
		_ = c.Close()
	}
}

func TestHandle(t *testing.T) {
	a, b := pair(t)
	b.Handle("files", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := mesh.PeerOf(r.Context())
		fmt.Fprintf(w, "%s %s %s", p, r.Method, r.URL)
	}))
	r, err := http.NewRequest(http.MethodGet, "/some/path?x=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := a.Client("files").Do(within(t, 5*time.Second), "b", r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if want := "node a GET /some/path?x=1"; err != nil || string(text) != want {
		t.Errorf("%q, %v, want %q", text, err, want)
	}
}

func TestHello(t *testing.T) {
	ca := meshtest.CA(t)
	a, b := meshtest.Node(t, ca, "a"), meshtest.Node(t, ca, "b")
	addr, _ := b.Addr("b")
	p := meshtest.NewProxy(t, addr)
	node, advertised, err := a.Hello(within(t, 5*time.Second), p.Addr())
	if err != nil || node != "b" || advertised != addr {
		t.Fatalf("Hello: %q at %q, %v; want b at %s", node, advertised, err, addr)
	}
	if got, _ := a.Addr("b"); got != addr {
		t.Errorf("the book has b at %q, want %s", got, addr)
	}
	own, _ := a.Addr("a")
	for { // b reads what a has said after a has its answer
		if got, ok := b.Addr("a"); ok {
			if got != own {
				t.Errorf("b has a at %q, want %s", got, own)
			}
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("b has not learned where a is")
		}
	}
	if _, _, err := a.Hello(within(t, 5*time.Second), own); !errors.Is(err, mesh.ErrSelf) {
		t.Errorf("Hello to itself: %v", err)
	}
}
