package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hayloft/feed"
)

// hayloft search rebuild asks a running server and says what came of it.
func TestSearchRebuild(t *testing.T) {
	n := openNode(t)
	if err := n.openAdmin(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAdmin(n, n.log)
	served := make(chan error, 1)
	go func() { served <- serveAdmin(a.srv, l) }()
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.feed.Run(ctx) }()
	t.Cleanup(func() {
		a.stop()
		<-served
		stop()
		<-ran
	})
	account := feed.NewAccount{Handle: "ada", Name: "Ada", PasswordHash: "x", Session: feed.NewSession{TokenHash: [32]byte{1}, ExpiresAt: time.Now().Add(time.Hour)}}
	if _, _, err := n.feed.CreateAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(n.adminToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd, out := newRoot(), &bytes.Buffer{}
		cmd.SetOut(out)
		cmd.SetErr(out)
		cmd.SetArgs(append([]string{"search", "rebuild", "--admin", "http://" + l.Addr().String()}, args...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	out, err := run("--admin-token-file", token)
	if err != nil || !strings.HasPrefix(out, "rebuilt in ") {
		t.Errorf("%q, %v", out, err)
	}
	out, err = run("--admin-token-file", token, "--json")
	var s searchState
	if err != nil || json.Unmarshal([]byte(out), &s) != nil || s.Lag != 0 || s.Cursor != 1 {
		t.Errorf("%q, %v", out, err)
	}
	if got := n.feed.SearchStats().Rebuilds; got != 2 {
		t.Errorf("%d rebuilds, want 2", got)
	}
	if err := os.WriteFile(token, []byte("guessed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run("--admin-token-file", token); err == nil {
		t.Errorf("with a wrong token: %q", out)
	}
}
