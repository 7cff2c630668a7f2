package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hayloft/internal/mesh"
	"hayloft/internal/mesh/certs"
)

// What fills from other caches has no part in the cluster: settings that say both are
// refused, each with its reason.
func TestEdgeSettings(t *testing.T) {
	up := []string{"--roles", "cache", "--upstream", "https://10.0.0.1:9443,https://shield.example.org:9443", "--certs", "c"}
	for _, tt := range []struct {
		args  []string
		fault string // "" none
	}{
		{up, ""},
		{append([]string{"--listen", "0.0.0.0:8080"}, up...), ""},
		{append([]string{"--node-listen", "10.0.0.9:9443"}, up...), ""},
		{[]string{"--roles", "cache"}, "--roles"},
		{up[:4], "--certs"},
		{up[2:], "--roles cache"},
		{append([]string{"--node-listen", "10.0.0.9:9443", "--join", "10.0.0.1:9443"}, up...), "--join"},
		{append([]string{"--blob-keys", "k:" + strings.Repeat("0", 64)}, up...), "--blob-keys"},
		{[]string{"--roles", "cache", "--certs", "c", "--upstream", "http://10.0.0.1:9443"}, "node listener"},
		{[]string{"--roles", "cache", "--certs", "c", "--upstream", "10.0.0.1:9443"}, "node listener"},
		{[]string{"--roles", "cache", "--certs", "c", "--upstream", "https://10.0.0.1"}, "node listener"},
		{[]string{"--roles", "cache", "--certs", "c", "--upstream", "https://10.0.0.1:9443/media"}, "node listener"},
		{[]string{"--roles", "cache", "--certs", "c", "--upstream", "https://a:1,https://a:1"}, "twice"},
	} {
		s, _, _, err := parse(t, nil, tt.args...)
		if err != nil {
			t.Fatal(err)
		}
		switch err := s.validate(); {
		case tt.fault == "" && err != nil:
			t.Errorf("%v: %v", tt.args, err)
		case tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault)):
			t.Errorf("%v: %v, want %s", tt.args, err, tt.fault)
		}
	}
}

// An edge shows a client's certificate when it has one and nobody fills from it.
func TestEdgeCertificate(t *testing.T) {
	with, without := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(with, mesh.CertFile(certs.Client)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	up := []string{"https://10.0.0.1:9443"}
	for _, tt := range []struct {
		s    settings
		want certs.Role
	}{
		{settings{upstream: up, certs: with}, certs.Client},
		{settings{upstream: up, certs: without}, certs.Node},
		{settings{upstream: up, certs: with, nodeListen: "10.0.0.9:9443"}, certs.Node},
		{settings{certs: with, nodeListen: "10.0.0.9:9443"}, certs.Node},
	} {
		if got := tt.s.certRole(); got != tt.want {
			t.Errorf("%+v: %v", tt.s, got)
		}
	}
}
