package mesh_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/mesh"
	"hayloft/internal/mesh/certs"
	"hayloft/internal/mesh/meshtest"
	"hayloft/internal/vfs"
)

// put writes a file of some parts.
func put(t *testing.T, fsys vfs.FS, name string, parts ...[]byte) {
	t.Helper()
	var text []byte
	for _, p := range parts {
		text = append(text, p...)
	}
	if err := vfs.WriteFile(fsys, name, text); err != nil {
		t.Fatal(err)
	}
}

func TestIdentityRefusesWhatCannotWork(t *testing.T) {
	ca, other := meshtest.CA(t), meshtest.CA(t)
	now := clock.Real{}.Now()
	made := func(a *certs.Authority, s certs.Subject, life time.Duration) vfs.FS {
		fsys := vfs.NewMem(1)
		meshtest.Issue(t, fsys, "/c", a, s, now, life)
		return fsys
	}
	good := made(ca, nodeCalled("a"), time.Hour)
	from := func(change func(fsys vfs.FS)) vfs.FS {
		fsys := made(ca, nodeCalled("a"), time.Hour)
		change(fsys)
		return fsys
	}
	for _, tt := range []struct {
		name string
		fsys vfs.FS
		want string // "" is none
	}{
		{"good", good, ""},
		{"nothing", vfs.NewMem(1), "ca.pem"},
		{"expired", made(ca, nodeCalled("a"), -time.Hour), "node.pem: x509: certificate has expired"},
		{"of another CA", from(func(f vfs.FS) { put(t, f, "/c/ca.pem", other.CertPEM()) }), "node.pem: x509: certificate signed by unknown authority"},
		{"of one of two CAs", from(func(f vfs.FS) { put(t, f, "/c/ca.pem", other.CertPEM(), ca.CertPEM()) }), ""},
		{"a node's certificate for a CA's", from(func(f vfs.FS) {
			text, err := vfs.ReadFile(f, "/c/node.pem", 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			put(t, f, "/c/ca.pem", ca.CertPEM(), text)
		}), "not that of a CA"},
		{"another key", from(func(f vfs.FS) {
			key, err := certs.NewKey()
			if err != nil {
				t.Fatal(err)
			}
			text, err := certs.KeyPEM(key)
			if err != nil {
				t.Fatal(err)
			}
			put(t, f, "/c/node.key", text)
		}), "node.key is not the key of"},
		{"torn", from(func(f vfs.FS) { put(t, f, "/c/node.pem", ca.CertPEM()[:100]) }), "no certificate"},
		{"key for a certificate", from(func(f vfs.FS) {
			text, err := ca.KeyPEM()
			if err != nil {
				t.Fatal(err)
			}
			put(t, f, "/c/node.pem", text)
		}), `a block of kind "PRIVATE KEY"`},
		{"a client's", from(func(f vfs.FS) {
			c := made(ca, clientCalled("a"), time.Hour)
			for _, ext := range []string{"pem", "key"} {
				text, err := vfs.ReadFile(c, "/c/client."+ext, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				put(t, f, "/c/node."+ext, text)
			}
		}), "incompatible key usage"},
	} {
		i, err := mesh.OpenIdentity(mesh.IdentityOptions{FS: tt.fsys, Dir: "/c", Clock: clock.Real{}})
		switch {
		case tt.want == "" && (err != nil || i.Self() != nodeCalled("a")):
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// New files are taken when they are whole, and told about once when they are not.
func TestIdentityCheck(t *testing.T) {
	ca := meshtest.CA(t)
	clk := clock.NewFake(clock.Real{}.Now())
	fsys := vfs.NewMem(1)
	var j journal
	meshtest.Issue(t, fsys, "/c", ca, nodeCalled("a"), clk.Now(), 30*24*time.Hour)
	i, err := mesh.OpenIdentity(mesh.IdentityOptions{FS: fsys, Dir: "/c", Clock: clk, Events: j.add})
	if err != nil {
		t.Fatal(err)
	}
	first := i.Until()
	check := func(want bool, what string, events int) {
		t.Helper()
		if got := i.Check(); got != want {
			t.Errorf("%s: Check is %t", what, got)
		}
		if len(j.list) != events {
			t.Errorf("%s: %d events, want %d: %v", what, len(j.list), events, j.list)
		}
	}
	check(false, "nothing changed", 0)
	put(t, fsys, "/c/node.pem", []byte("broken"))
	check(false, "broken", 1)
	check(false, "broken still", 1)
	if err := fsys.Remove("/c/node.key"); err != nil {
		t.Fatal(err)
	}
	check(false, "gone", 2)
	check(false, "gone still", 2)
	meshtest.Issue(t, fsys, "/c", ca, nodeCalled("b"), clk.Now(), 100*24*time.Hour)
	check(false, "another node's", 3)
	if e := j.list[2]; e.Kind != mesh.EventBadFiles || !strings.Contains(e.Err.Error(), "node b now, and this is node a") {
		t.Errorf("event %+v", e)
	}
	if i.Self().Name != "a" || i.Until() != first {
		t.Errorf("in use: %v until %v", i.Self(), i.Until())
	}
	clk.Advance(20 * 24 * time.Hour)
	check(false, "near the end", 4)
	check(false, "near the end, told", 4)
	clk.Advance(25 * time.Hour)
	check(false, "a day later", 5)
	if e := j.list[4]; e.Kind != mesh.EventExpiring || e.Until != first {
		t.Errorf("event %+v", e)
	}
	meshtest.Issue(t, fsys, "/c", ca, nodeCalled("a"), clk.Now(), 100*24*time.Hour)
	check(true, "renewed", 6)
	if e := j.list[5]; e.Kind != mesh.EventIdentity || !e.Until.After(first) || !i.Until().After(first) {
		t.Errorf("event %+v", e)
	}
}

// rotating is a node whose certificates lie in files that a test replaces.
type rotating struct {
	*mesh.Mesh
	fsys *vfs.Mem
	clk  *clock.Fake
	j    journal
}

func newRotating(t *testing.T, ca *certs.Authority, name string) *rotating {
	t.Helper()
	r := &rotating{fsys: vfs.NewMem(1), clk: clock.NewFake(clock.Real{}.Now())}
	meshtest.Issue(t, r.fsys, "/c", ca, nodeCalled(name), r.clk.Now(), 24*time.Hour)
	i, err := mesh.OpenIdentity(mesh.IdentityOptions{FS: r.fsys, Dir: "/c", Clock: r.clk, Events: r.j.add})
	if err != nil {
		t.Fatal(err)
	}
	r.Mesh = meshtest.Open(t, mesh.Options{Identity: i, Listener: meshtest.Listen(t), Clock: r.clk, Events: r.j.add})
	return r
}

// pass lets so much time pass that certificates are looked at.
func (r *rotating) pass(t *testing.T) {
	t.Helper()
	await(t, "a node that waits", func() bool { return r.clk.Waiters() > 0 })
	r.clk.Advance(30 * time.Second)
	await(t, "a node that waits again", func() bool { return r.clk.Waiters() > 0 })
}

// The CA is replaced step by step while nodes talk, and no call fails. In the end
// what the old one has issued counts for nothing.
func TestRotationUnderTraffic(t *testing.T) {
	old, next := meshtest.CA(t), meshtest.CA(t)
	a, b := newRotating(t, old, "a"), newRotating(t, old, "b")
	meshtest.Acquaint(a.Mesh, b.Mesh)
	a.Handle("echo", mesh.Answer(echo))
	b.Handle("echo", mesh.Answer(echo))
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for _, c := range []struct {
		from *rotating
		to   string
	}{{a, "b"}, {b, "a"}} {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.from.Client("echo").Call(t.Context(), c.to, "/", []byte("x")); err != nil {
					t.Error(err)
					return
				}
				c.from.Client("echo").CloseIdle() // each call is a handshake
			}
		})
	}
	step := func(change func(r *rotating, name string)) {
		for _, r := range []*rotating{a, b} {
			change(r, r.Name())
			r.pass(t)
		}
	}
	step(func(r *rotating, _ string) { put(t, r.fsys, "/c/ca.pem", old.CertPEM(), next.CertPEM()) })
	step(func(r *rotating, name string) {
		// Written into another place first: ca.pem is not to change.
		meshtest.Issue(t, r.fsys, "/new", next, nodeCalled(name), r.clk.Now(), 48*time.Hour)
		key, err := vfs.ReadFile(r.fsys, "/new/node.key", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		former, err := vfs.ReadFile(r.fsys, "/c/node.key", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := vfs.ReadFile(r.fsys, "/new/node.pem", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		put(t, r.fsys, "/c/node.key", key, former) // a moment at which both keys are there
		r.pass(t)
		put(t, r.fsys, "/c/node.pem", cert)
	})
	b.Layer("raft")
	conn, err := a.Layer("raft").Dial("b", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	close(stop)
	callers.Wait()
	if t.Failed() {
		return
	}

	c := meshtest.Open(t, mesh.Options{Identity: meshtest.Identity(t, old, nodeCalled("c")), Listener: meshtest.Listen(t)})
	addr, _ := b.Addr("b")
	c.SetAddr("b", addr)
	if _, err := c.Client("echo").Call(within(t, 5*time.Second), "b", "/", nil); err == nil {
		t.Error("c does not know the new CA, and takes b for b")
	}
	step(func(r *rotating, _ string) { put(t, r.fsys, "/c/ca.pem", next.CertPEM()) })
	if _, err := a.Client("echo").Call(within(t, 5*time.Second), "b", "/", nil); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	if e, ok := b.j.find(mesh.EventBadFiles); ok {
		t.Errorf("event %+v", e)
	}
	if n := b.Stats().Open; n < 1 {
		t.Errorf("a connection with the new certificates was closed: %d", n)
	}
}

// A connection ends when the certificate it was made with does not count any more.
func TestConnectionsEndWithTheirCertificates(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, r *rotating)
	}{
		{"CA taken out", func(t *testing.T, r *rotating) {
			next := meshtest.CA(t)
			meshtest.Issue(t, r.fsys, "/c", next, nodeCalled(r.Name()), r.clk.Now(), time.Hour)
			r.pass(t)
		}},
		{"expired", func(t *testing.T, r *rotating) {
			await(t, "a node that waits", func() bool { return r.clk.Waiters() > 0 })
			r.clk.Advance(25 * time.Hour)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ca := meshtest.CA(t)
			a := newRotating(t, ca, "a") // its clock stays as it is
			b := newRotating(t, ca, "b")
			meshtest.Acquaint(a.Mesh, b.Mesh)
			la, lb := a.Layer("raft"), b.Layer("raft")
			conn, err := la.Dial("b", 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			theirs, err := lb.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			tt.end(t, b)
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("the connection is open: %v", err)
			}
			if e := b.j.await(t, mesh.EventCutOff); e.Peer != nodeCalled("a") || e.Proto != "raft" || e.Err == nil {
				t.Errorf("event %+v", e)
			}
		})
	}
}
