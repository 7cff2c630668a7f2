package main

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hayloft/internal/admin"
)

func TestAdminToken(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, adminTokenFile)
	if err := os.WriteFile(name+".tmp", []byte("of a crash"), 0o644); err != nil {
		t.Fatal(err)
	}
	first, loose, _, err := adminToken(dir)
	if err != nil || loose != "" || len(first) != 2*adminTokenBytes {
		t.Fatalf("%q %q %v", first, loose, err)
	}
	mode := func() fs.FileMode {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return st.Mode().Perm()
	}
	if mode() != 0o600 {
		t.Errorf("mode %v", mode())
	}
	if again, loose, _, err := adminToken(dir); again != first || loose != "" || err != nil {
		t.Errorf("%q, then %q %q %v", first, again, loose, err)
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	if again, loose, _, err := adminToken(dir); again != first || loose == "" || err != nil || mode() != 0o600 {
		t.Errorf("readable for others: %q %q %v, mode %v", again, loose, err, mode())
	}
	other, _, _, err := adminToken(t.TempDir())
	if err != nil || other == first {
		t.Errorf("two directories have the token %q, %v", other, err)
	}
	for _, bad := range []string{"", "secret\n", first[1:] + "\n", first + "00\n", strings.Repeat("x", 64)} {
		if err := os.WriteFile(name, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if token, _, _, err := adminToken(dir); err == nil || !strings.Contains(err.Error(), "remove the file") || strings.Contains(err.Error(), first) {
			t.Errorf("%q gave %q, %v", bad, token, err)
		}
	}
	if _, _, _, err := adminToken(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// The audit quotes what came from outside, and calls what failed a warning.
func TestAdminAudit(t *testing.T) {
	var log bytes.Buffer
	n := &node{log: slog.New(slog.NewTextHandler(&log, nil))}
	n.adminAction(admin.Action{Address: "10.0.0.9:1", Method: "POST", Path: "/admin/volumes/7/seal\nlevel=ERROR", Query: "a=\n", Status: 200})
	n.adminAction(admin.Action{Address: "10.0.0.9:1", Method: "POST", Path: "/admin/volumes/7/seal", Status: 401, Err: errors.New("no\ntoken")})
	text := log.String()
	if strings.Count(text, "\n") != 2 || strings.Count(text, "level=INFO") != 1 || strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, `err="no; token"`) || strings.Contains(text, "nil") {
		t.Errorf("%s", text)
	}
}

// The admin listener serves what looks, and the door.
func TestAdminListener(t *testing.T) {
	n := openNode(t)
	if err := n.openAdmin(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.s.adminListen, n.s.adminNames = "hayloft.internal:9090", []string{"vault"}
	a := newAdmin(n, n.log)
	host := "hayloft.internal:9090"
	ask := func(method, path, token string) int {
		t.Helper()
		r := httptest.NewRequest(method, path, nil)
		r.Host = host
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		a.srv.Handler.ServeHTTP(w, r)
		return w.Code
	}
	for _, c := range []struct {
		method, path, token string
		status              int
	}{
		{"GET", "/healthz", "", 200}, {"GET", "/readyz", "", 200}, {"GET", "/metrics", "", 200}, {"POST", "/metrics", "", 405},
		{"GET", "/admin/volumes", "", 200}, {"GET", "/admin/volumes/7", "", 404}, {"GET", "/admin/volumes/x", "", 400},
		{"GET", "/admin/volumes/7/dump", "", 401}, {"GET", "/admin/volumes/7/dump", n.adminToken, 404},
		{"POST", "/admin/volumes/7/seal", "", 401}, {"POST", "/admin/volumes/7/seal", n.adminToken, 404},
		{"POST", "/admin/volumes/7/seal?force=1", n.adminToken, 400}, {"GET", "/admin/volumes/7/seal", n.adminToken, 405},
		{"DELETE", "/admin/volumes/7", n.adminToken, 405}, {"GET", "/admin/", n.adminToken, 404}, {"GET", "/admin/volumes/7/seal/", n.adminToken, 404},
	} {
		if got := ask(c.method, c.path, c.token); got != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, got, c.status)
		}
	}
	for name, status := range map[string]int{"127.0.0.1:9090": 200, "vault:9090": 200, "evil.example:9090": 421, "": 421} {
		host = name
		for _, path := range []string{"/metrics", "/healthz", "/debug/pprof/", "/admin/volumes"} {
			if got := ask(http.MethodGet, path, n.adminToken); got != status {
				t.Errorf("%s of %q: %d, want %d", path, host, got, status)
			}
		}
	}
	host = "localhost"
	if err := n.ready(); err != nil {
		t.Fatal(err)
	}
	why := errors.New("background work ended")
	n.broken.Store(&why)
	if got := ask(http.MethodGet, "/readyz", ""); got != http.StatusServiceUnavailable {
		t.Errorf("not ready: %d", got)
	}
}
