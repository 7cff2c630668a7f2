package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The token of this machine goes to no other unless it is named.
func TestTokenStaysHere(t *testing.T) {
	dir := t.TempDir()
	token, _, _, err := adminToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HAYLOFT_DATA", dir)
	for host, sent := range map[string]bool{"127.0.0.1": true, "[::1]": true, "localhost": true, "10.0.0.9": false, "photos.example.org": false} {
		f := &volumeFlags{admin: "http://" + host + ":9090"}
		r, err := f.connect()
		if err != nil || (r.token == token) != sent || !sent && !strings.Contains(r.why, "no other") {
			t.Errorf("%s: %+v, %v", host, r, err)
		}
		f.data = []string{dir}
		if r, err := f.connect(); err != nil || r.token != token {
			t.Errorf("%s with --data: %v", host, err)
		}
	}
	t.Setenv("HAYLOFT_VOLUME_SIZE", "huge") // says nothing of where the server is
	if _, err := (&volumeFlags{admin: "http://127.0.0.1:9090"}).connect(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, adminTokenFile)); err != nil {
		t.Error(err)
	}
}
