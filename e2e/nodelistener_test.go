package e2e

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/mesh"
	"hayloft/internal/vfs"
)

// What nodes say to one another is on a listener of its own, with certificates; the
// other listeners do not know of it.
func TestNodeListenerIsAlone(t *testing.T) {
	dir := t.TempDir()
	for _, line := range []string{
		"cert ca --out ca", "cert node --ca ca --name node-1 --host 127.0.0.1 --out one", "cert node --ca ca --name node-2 --host 127.0.0.1 --out two",
	} {
		args := strings.Fields(line)
		for i, a := range args {
			if args[i-min(i, 1)] == "--out" || args[i-min(i, 1)] == "--ca" {
				args[i] = filepath.Join(dir, a)
			}
		}
		if _, errs, code := command(t, args...); code != 0 {
			t.Fatalf("%s: %s", line, errs)
		}
	}
	s := start(t, filepath.Join(dir, "data"), "--node-listen", "127.0.0.1:0", "--certs", filepath.Join(dir, "one"))
	addr := await(t, s.log, regexp.MustCompile(`msg="node listener" node=node-1 listen=(\S+)`))[1]

	two, err := mesh.OpenIdentity(mesh.IdentityOptions{FS: vfs.OS{}, Dir: filepath.Join(dir, "two"), Clock: clock.Real{}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := mesh.Open(mesh.Options{Identity: two, Clock: clock.Real{}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close(t.Context())
	if name, advertised, err := m.Hello(t.Context(), addr); err != nil || name != "node-1" || advertised != addr {
		t.Fatalf("another node finds %q at %q, %v", name, advertised, err)
	}

	// The node listener answers nobody without a certificate.
	if resp, err := http.Get("http://" + addr + "/"); err == nil {
		t.Errorf("the node listener answers plain HTTP: %s", resp.Status)
		_ = resp.Body.Close()
	}
	// The others do not speak TLS, whatever protocol is asked for.
	for _, base := range []string{s.url, s.admin} {
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Hello(t.Context(), u.Host); err == nil {
			t.Errorf("%s answers a node", base)
		}
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", u.Host, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"hayloft/1/hello"}})
		if err == nil {
			t.Errorf("%s speaks TLS", base)
			_ = c.Close()
		}
	}
	if n := s.metric(t, "hayloft_mesh_accepted_total"); n != 1 {
		t.Errorf("%v connections were accepted, want the one of the other node", n)
	}
	s.stop(t)
}
