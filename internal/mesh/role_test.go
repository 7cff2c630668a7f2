package mesh_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/mesh"
	"hayloft/internal/mesh/certs"
	"hayloft/internal/mesh/meshtest"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
)

// journal keeps events.
type journal struct {
	mu   sync.Mutex
	list []mesh.Event
}

func (j *journal) add(e mesh.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.list = append(j.list, e)
}

// find returns the first event of a kind.
func (j *journal) find(k mesh.EventKind) (mesh.Event, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.list {
		if e.Kind == k {
			return e, true
		}
	}
	return mesh.Event{}, false
}

// await waits until ok is true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(testenv.Patience)
	for !ok() {
		select {
		case <-time.After(time.Millisecond):
		case <-limit:
			t.Fatalf("in vain: %s", what)
		}
	}
}

// await waits for an event of a kind.
func (j *journal) await(t *testing.T, k mesh.EventKind) (e mesh.Event) {
	t.Helper()
	await(t, fmt.Sprintf("an event %s", k), func() (ok bool) { e, ok = j.find(k); return ok })
	return e
}

func nodeCalled(name string) certs.Subject   { return certs.Subject{Role: certs.Node, Name: name} }
func clientCalled(name string) certs.Subject { return certs.Subject{Role: certs.Client, Name: name} }

// Everybody who may not use a node listener is refused there, sees so when
// dialing, and is an event that says why.
func TestWhoIsRefused(t *testing.T) {
	ca, foreign := meshtest.CA(t), meshtest.CA(t)
	now := clock.Real{}.Now()
	expired := func() *mesh.Identity { // valid for whoever has it, by a clock that is behind
		fsys := vfs.NewMem(1)
		meshtest.Issue(t, fsys, "/c", ca, nodeCalled("late"), now.Add(-12*time.Hour), time.Hour)
		i, err := mesh.OpenIdentity(mesh.IdentityOptions{FS: fsys, Dir: "/c", Clock: clock.NewFake(now.Add(-12 * time.Hour))})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	tests := []struct {
		name   string
		who    *mesh.Identity
		clock  clock.Clock
		proto  string
		dialer string // in the error of who dials; "" is none
		event  string // at the listener
	}{
		{"node", meshtest.Identity(t, ca, nodeCalled("a")), nil, "nodes", "", ""},
		{"node, open to clients", meshtest.Identity(t, ca, nodeCalled("a")), nil, "all", "", ""},
		{"client", meshtest.Identity(t, ca, clientCalled("a")), nil, "nodes", "bad certificate", "client a is no node"},
		{"client, open to clients", meshtest.Identity(t, ca, clientCalled("a")), nil, "all", "", ""},
		{"unknown protocol", meshtest.Identity(t, ca, nodeCalled("a")), nil, "other", "no application protocol", "unsupported application protocols"},
		{"expired", expired(), clock.NewFake(now.Add(-12 * time.Hour)), "nodes", "bad certificate", "expired"},
		// It does not trust the listener either, and finds that out first.
		{"foreign CA", meshtest.Identity(t, foreign, nodeCalled("a")), nil, "nodes", "unknown authority", "bad certificate"},
		{"our own name", meshtest.Identity(t, ca, nodeCalled("b")), nil, "nodes", mesh.ErrDuplicate.Error(), mesh.ErrDuplicate.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var at, from journal
			l := meshtest.Listen(t)
			b := meshtest.Open(t, mesh.Options{Identity: meshtest.Identity(t, ca, nodeCalled("b")), Listener: l, Events: at.add})
			b.Handle("nodes", mesh.Answer(echo))
			b.Handle("all", mesh.Answer(echo), certs.Client)
			a := meshtest.Open(t, mesh.Options{Identity: tt.who, Clock: tt.clock, Events: from.add})
			a.SetAddr("b", l.Addr().String())
			got, err := a.Client(tt.proto).Call(within(t, 5*time.Second), "b", "/", nil)
			if tt.dialer == "" {
				if want := tt.who.Self().String() + ": "; err != nil || string(got) != want {
					t.Fatalf("%q, %v, want %q", got, err, want)
				}
				if e, ok := at.find(mesh.EventRefused); ok {
					t.Errorf("event %+v", e)
				}
				return
			}
			var away *mesh.UnreachableError
			if !errors.As(err, &away) || away.Sent || !strings.Contains(err.Error(), tt.dialer) {
				t.Errorf("dialing: %v, want %q", err, tt.dialer)
			}
			if e := from.await(t, mesh.EventMistaken); e.Peer.Name != "b" || e.Addr != l.Addr().String() {
				t.Errorf("event at who dials: %+v", e)
			}
			if e := at.await(t, mesh.EventRefused); !strings.Contains(e.Err.Error(), tt.event) || e.Addr == "" {
				t.Errorf("event at the listener: %+v, want %q", e, tt.event)
			}
			if n := b.Stats(); n.Refused == 0 || n.Open != 0 {
				t.Errorf("at the listener: %+v", n)
			}
		})
	}
}

// serve answers TLS handshakes as somebody with the certificate would who does not
// care what it is for.
func serve(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	l := meshtest.Listen(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"hayloft/1/nodes", "hayloft/1/hello"}, ClientAuth: tls.RequireAnyClientCert})
			_, _ = io.Copy(io.Discard, s)
			_ = s.Close()
		}
	}()
	return l.Addr().String()
}

// certificate makes one as it would be shown in a handshake.
func certificate(t *testing.T, ca *certs.Authority, s certs.Subject, now time.Time, life time.Duration) tls.Certificate {
	t.Helper()
	key, err := certs.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.Issue(s, []string{"localhost"}, key.Public(), now, life)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}
}

// Whoever is dialed must be the node that was asked for.
func TestWhoIsDialed(t *testing.T) {
	ca, foreign := meshtest.CA(t), meshtest.CA(t)
	now := clock.Real{}.Now()
	const year = 365 * 24 * time.Hour
	plain := meshtest.Listen(t)
	t.Cleanup(func() { _ = plain.Close() })
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n")
			_ = c.Close()
		}
	}()
	for _, tt := range []struct{ name, addr, want string }{
		{"another node", serve(t, certificate(t, ca, nodeCalled("c"), now, year)), "another node answers there: c"},
		{"a client of that name", serve(t, certificate(t, ca, clientCalled("b"), now, year)), "incompatible key usage"},
		{"expired", serve(t, certificate(t, ca, nodeCalled("b"), now.Add(-2*year), year)), "expired"},
		{"not valid yet", serve(t, certificate(t, ca, nodeCalled("b"), now.Add(48*time.Hour), year)), "not yet valid"},
		{"foreign CA", serve(t, certificate(t, foreign, nodeCalled("b"), now, year)), "unknown authority"},
		{"no TLS", plain.Addr().String(), "no node listener is there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var j journal
			a := meshtest.Open(t, mesh.Options{Identity: meshtest.Identity(t, ca, nodeCalled("a")), Events: j.add})
			a.SetAddr("b", tt.addr)
			_, err := a.Client("nodes").Call(within(t, 5*time.Second), "b", "/", nil)
			var away *mesh.UnreachableError
			if !errors.As(err, &away) || away.Sent || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if e := j.await(t, mesh.EventMistaken); e.Peer.Name != "b" || !strings.Contains(e.Err.Error(), tt.want) {
				t.Errorf("event %+v", e)
			}
			if s := a.Stats(); s.Open != 0 || s.Failed == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// handshake knocks at a node listener by hand.
func handshake(addr string, conf *tls.Config) error {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, conf)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = c.Read(make([]byte, 1)) // the refusal of a certificate comes after the handshake
	return err
}

// Without a certificate, with an older TLS or with none at all, nothing is said.
func TestStrangersAtTheNodeListener(t *testing.T) {
	ca := meshtest.CA(t)
	var j journal
	l := meshtest.Listen(t)
	b := meshtest.Open(t, mesh.Options{Identity: meshtest.Identity(t, ca, nodeCalled("b")), Listener: l, Events: j.add})
	b.Handle("echo", mesh.Answer(echo))
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	mine := certificate(t, ca, nodeCalled("a"), clock.Real{}.Now(), time.Hour)
	protos := []string{"hayloft/1/echo"}
	if err := handshake(l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: protos, Certificates: []tls.Certificate{mine}}); err != nil {
		t.Fatalf("who should be let in is not: %v", err)
	}
	for _, tt := range []struct {
		name string
		conf *tls.Config
		want string
	}{
		{"no certificate", &tls.Config{NextProtos: protos}, "certificate required"},
		{"TLS 1.2", &tls.Config{NextProtos: protos, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{mine}}, "protocol version not supported"},
		{"no protocol", &tls.Config{Certificates: []tls.Certificate{mine}}, "bad certificate"},
		{"http/1.1", &tls.Config{NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{mine}}, "no application protocol"},
	} {
		tt.conf.RootCAs, tt.conf.ServerName = roots, "localhost"
		if err := handshake(l.Addr().String(), tt.conf); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
		t.Errorf("plain HTTP was answered: %s", resp.Status)
	}
	// The first has left without a greeting, which is a refusal too.
	await(t, "six refusals", func() bool { return b.Stats().Refused == 6 })
}

// Who looks whether somebody listens, as health checks of balancers do, is no event.
func TestPortLookedAt(t *testing.T) {
	var j journal
	l := meshtest.Listen(t)
	b := meshtest.Open(t, mesh.Options{Identity: meshtest.Identity(t, meshtest.CA(t), nodeCalled("b")), Listener: l, Events: j.add})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of it", func() bool { return b.Stats().Refused == 1 })
	if e, ok := j.find(mesh.EventRefused); ok {
		t.Errorf("event %+v", e)
	}
}

// A client has no listener, and nobody takes it for a node.
func TestClientCannotListen(t *testing.T) {
	l := meshtest.Listen(t)
	defer l.Close()
	m, err := mesh.Open(mesh.Options{Identity: meshtest.Identity(t, meshtest.CA(t), clientCalled("a")), Listener: l, Clock: clock.Real{}})
	if err == nil {
		t.Error("a client listens")
		_ = m.Close(context.Background())
	}
}
