package meshtest

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/mesh"
	"hayloft/internal/mesh/certs"
	"hayloft/internal/vfs"
)

// lasting is how long certificates of tests are valid.
const lasting = 365 * 24 * time.Hour

// CA makes a CA that is valid now.
func CA(t testing.TB) *certs.Authority {
	t.Helper()
	ca, err := certs.NewAuthority(clock.Real{}.Now(), 2*lasting)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// Dir makes a directory with the certificate of a node, as --certs wants it.
func Dir(t testing.TB, ca *certs.Authority, name string) string {
	t.Helper()
	dir := t.TempDir()
	Issue(t, vfs.OS{}, dir, ca, certs.Subject{Role: certs.Node, Name: name}, clock.Real{}.Now(), lasting)
	return dir
}

// Issue puts a new key and certificate, and the CA, into a directory.
func Issue(t testing.TB, fsys vfs.FS, dir string, ca *certs.Authority, s certs.Subject, now time.Time, life time.Duration) {
	t.Helper()
	key, err := certs.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.Issue(s, []string{"localhost", "127.0.0.1"}, key.Public(), now, life)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := certs.KeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		mesh.CAFile: ca.CertPEM(), mesh.CertFile(s.Role): certs.CertPEM(c), mesh.KeyFile(s.Role): keyPEM,
	} {
		if err := vfs.WriteFile(fsys, filepath.Join(dir, name), text); err != nil {
			t.Fatal(err)
		}
	}
}

// Identity makes a certificate in memory and reads it.
func Identity(t testing.TB, ca *certs.Authority, s certs.Subject) *mesh.Identity {
	t.Helper()
	fsys := vfs.NewMem(1)
	Issue(t, fsys, "/certs", ca, s, clock.Real{}.Now(), lasting)
	i, err := mesh.OpenIdentity(mesh.IdentityOptions{FS: fsys, Dir: "/certs", Role: s.Role, Clock: clock.Real{}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// Node opens the mesh of a node on a free port of loopback, and closes it when the
// test ends. It advertises that address, and knows no other node yet: see Acquaint.
func Node(t testing.TB, ca *certs.Authority, name string) *mesh.Mesh {
	t.Helper()
	return Open(t, mesh.Options{Identity: Identity(t, ca, certs.Subject{Role: certs.Node, Name: name}), Listener: Listen(t)})
}

// Open opens a mesh, and closes it when the test ends. The clock is the machine's
// and the listener's address is advertised, unless the options say otherwise.
func Open(t testing.TB, o mesh.Options) *mesh.Mesh {
	t.Helper()
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Advertise == "" && o.Listener != nil {
		o.Advertise = o.Listener.Addr().String()
	}
	m, err := mesh.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if o.Listener != nil {
		m.SetAddr(m.Name(), o.Advertise)
	}
	t.Cleanup(func() { Close(t, m) })
	return m
}

// Close closes a mesh, and fails the test when that takes too long.
func Close(t testing.TB, m *mesh.Mesh) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Error(err)
	}
	if ctx.Err() != nil {
		t.Error("a mesh did not close in time")
	}
}

// Listen listens on a free port of loopback.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Acquaint tells each of the nodes where the others are.
func Acquaint(nodes ...*mesh.Mesh) {
	for _, n := range nodes {
		addr, _ := n.Addr(n.Name())
		for _, other := range nodes {
			if other != n {
				other.SetAddr(n.Name(), addr)
			}
		}
	}
}
