package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hayloft/feed"
	"hayloft/internal/raftgroup"

	"github.com/spf13/pflag"
)

func threeDirs(t *testing.T) []string {
	root := t.TempDir()
	return in([]string{filepath.Join(root, "a"), filepath.Join(root, "b"), filepath.Join(root, "c")})
}

// TestSmallFilesAreKept: each directory has a copy of the node's name and of the
// admin token; any is enough, and two that differ are refused.
func TestSmallFilesAreKept(t *testing.T) {
	dirs := threeDirs(t)
	claim := func() (name, token string, err error) {
		who, err := claimNode(dirs, "")
		defer who.close()
		if err == nil {
			token, _, _, err = adminToken(dirs...)
		}
		return who.name, token, err
	}
	name, token, err := claim()
	if err != nil {
		t.Fatal(err)
	}
	for i, dir := range dirs {
		other := dirs[(i+1)%3]
		if err := errors.Join(os.RemoveAll(dir), os.WriteFile(filepath.Join(other, nodeFile), []byte("?\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if n, tok, err := claim(); n != name || tok != token || err != nil {
			t.Errorf("without %s: %q %q %v", dir, n, tok, err)
		}
		for _, file := range append(in(dirs, nodeFile), in(dirs, adminTokenFile)...) {
			if b, err := os.ReadFile(file); err != nil || !strings.Contains(name+token, strings.TrimSpace(string(b))) {
				t.Errorf("%s holds %q, %v", file, b, err)
			}
		}
	}
	for _, file := range []string{nodeFile, adminTokenFile} {
		path := filepath.Join(dirs[1], file)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		odd := []byte(strings.Map(func(r rune) rune {
			if r != '\n' {
				r = 'A' + (r+1)%6
			}
			return r
		}, string(good)))
		if file == adminTokenFile {
			odd = []byte(strings.ToLower(string(odd)))
		}
		if err := os.WriteFile(path, odd, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := claim(); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), filepath.Join(dirs[0], file)) || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", file, err)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, err := claimNode(dirs[1:], "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claimNode(dirs, ""); !errors.Is(err, errInUse) {
		t.Errorf("another process has a directory: %v", err)
	}
	first.close()
}

// TestDiskLost takes the first data directories away from a running node, one
// after the other, and gives them back empty: it goes on, and everything is there.
func TestDiskLost(t *testing.T) {
	dirs := threeDirs(t)
	n := openNodeOn(t, dirs...)
	if err := n.openAdmin(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.feed.Run(ctx) }()
	made := 0
	account := func() {
		t.Helper()
		a := feed.NewAccount{Handle: fmt.Sprintf("user%d", made), PasswordHash: "x", Session: feed.NewSession{ExpiresAt: time.Now().Add(time.Hour)}}
		a.Session.TokenHash[0] = byte(made + 1)
		if _, _, err := n.feed.CreateAccount(t.Context(), a); err != nil {
			t.Fatalf("account %d: %v", made, err)
		}
		made++
		if _, err := n.directory.EnsureKey(t.Context(), fmt.Sprintf("key%d", made)); err != nil {
			t.Fatal(err)
		}
	}
	mirrors := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); mirrorsOf(n.directory.Mirrors()) != want || mirrorsOf(n.group.Mirrors()) != want; {
			if time.Now().After(deadline) {
				t.Fatalf("%+v, %+v", n.directory.Mirrors(), n.group.Mirrors())
			}
		}
	}
	mirrors(3)
	account()
	for _, dir := range dirs[:2] {
		n.diskLost(dir, errors.New("unplugged"))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		account()
		if err := n.ready(); err != nil {
			t.Fatal(err)
		}
	}
	mirrors(1)
	for _, dir := range dirs[:2] {
		n.diskUsable(dir)
	}
	mirrors(3)
	account()
	for i := range made {
		if _, _, err := n.feed.Credentials(t.Context(), fmt.Sprintf("user%d", i)); err != nil {
			t.Errorf("account %d: %v", i, err)
		}
	}
	for _, file := range append(in(dirs, nodeFile), in(dirs, adminTokenFile)...) {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("background work ended: %v", err)
	}
}

// TestMirrorsOfSettings: as many as the coding may lose and one more.
func TestMirrorsOfSettings(t *testing.T) {
	for _, c := range []struct {
		ec         string
		dirs, want int
	}{{"", 1, 1}, {"", 2, 2}, {"", 5, 3}, {"2+2", 4, 3}, {"4+1", 6, 2}, {"10+4", 14, 5}, {"10+4", 3, 3}} {
		s := &settings{data: make([]string, c.dirs)}
		if err := (policyValue{&s.ec}).Set(c.ec); err != nil {
			t.Fatal(err)
		}
		if got := s.mirrors(); got != c.want {
			t.Errorf("%q on %d: %d, want %d", c.ec, c.dirs, got, c.want)
		}
	}
	for ec, says := range map[string]string{"4": "no policy", "x+2": "no policy", "4+": "no policy", "4+0": "1 to", "0+2": "1 to"} {
		f := pflag.NewFlagSet("server", pflag.ContinueOnError)
		new(settings).define(f)
		err := f.Parse([]string{"--ec", ec})
		if err == nil || !strings.Contains(err.Error(), "--ec") || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", ec, err)
		}
	}
}

// TestMissingDirectoriesAreNamed: what a start says when too few are given.
func TestMissingDirectoriesAreNamed(t *testing.T) {
	err := nameAll(fmt.Errorf("open: %w", &raftgroup.MissingError{Dirs: []string{"/x"}, Text: "it is in /x"}))
	if !strings.Contains(err.Error(), "name all data directories") || !strings.Contains(err.Error(), "/x") {
		t.Error(err)
	}
	if other := errors.New("other"); nameAll(other) != other {
		t.Error("another error was changed")
	}
}
