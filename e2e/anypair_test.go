package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/client"
	"hayloft/internal/testenv"
)

// TestAnyPairIsWiped empties pairs of the six directories of a server that codes 4+2,
// the first directory among them, while it is used: no call fails, everything that is
// lost is made again by itself, metadata too, and every master is what was
// acknowledged. In the end all but shards is wiped, with two directories whole, and
// every original comes back.
func TestAnyPairIsWiped(t *testing.T) {
	dirs := sixDirs(t)
	s := start(t, dirs[0], "--data", strings.Join(dirs[1:], ","), "--ec", "4+2", "--ec-grace", "1s", "--volume-size", "64MiB",
		"--disk-reserve", "64MiB", "--maintenance-rate", "10GiB", "--cache-memory", "1MiB")
	a := newAlbum(t, s)
	a.fill(t, s, 8)
	a.drop(t, s, 1)
	s.ask(t, 0, "ec", "encode", "--all", "--apply")
	a.drop(t, s, 1)
	s.awaitCoded(t, "the release of all sources", func(l codedList) bool {
		for _, v := range l.Volumes {
			if v.State != "released" {
				return false
			}
		}
		return l.Coded > 0 && l.Redundant == l.Coded
	})

	ctx, end := context.WithCancel(context.Background())
	var load sync.WaitGroup
	var calls atomic.Int64
	for range 2 {
		load.Go(func() { a.use(ctx, t, s, &calls) })
	}
	stop := sync.OnceFunc(func() { end(); load.Wait() })
	defer stop()
	pairs := [][2]int{{0, 1}, {5, 0}, {2, 3}}
	if testenv.Times("HAYLOFT_PAIRS", 3) > 3 {
		pairs = nil
		for x := range dirs {
			for y := range x {
				pairs = append(pairs, [2]int{x, y})
			}
		}
	}
	for _, p := range pairs {
		before, former := calls.Load(), disksOf(t, dirs)
		for _, n := range p {
			emptied(t, dirs[n])
		}
		s.awaitCoded(t, "full redundancy", func(l codedList) bool {
			for n, uuid := range disksOf(t, dirs) {
				if wiped := n == p[0] || n == p[1]; uuid == "" || wiped == (uuid == former[n]) {
					return false
				}
			}
			return l.Redundant == l.Coded && calls.Load() > before+20
		})
		if t.Failed() {
			t.Fatalf("after %s and %s were emptied", dirs[p[0]], dirs[p[1]])
		}
	}
	stop()
	a.check(t, s)
	for deadline := time.Now().Add(20 * time.Second); s.metric(t, "hayloft_metadata_mirrors") < 3; <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("metadata is not on three directories again")
		}
	}
	testenv.Tell(t, "%d pairs of directories wiped under %d calls, none failed", len(pairs), calls.Load())

	s.kill()
	for n, dir := range dirs {
		for _, e := range entries(t, dir) {
			if n < 2 || e != "shards" {
				if err := os.RemoveAll(filepath.Join(dir, e)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if text, log, code := run(t, "rescue", "--data", strings.Join(dirs[2:], ","), "-o", out); code != 0 {
		t.Fatalf("rescue: exit code %d\n%s\n%s", code, text, log)
	}
	a.rescued(t, out)
}

// use reads every master, likes and looks at the feed, until ctx ends.
func (a *album) use(ctx context.Context, t *testing.T, s *server, calls *atomic.Int64) {
	c := s.as(t, a.c)
	defer c.CloseIdle()
	pace := time.NewTicker(50 * time.Millisecond) // below the limits of an account
	defer pace.Stop()
	for ctx.Err() == nil {
		for photo, want := range a.masters {
			<-pace.C
			got, err := masterDigest(context.Background(), c, photo)
			if err == nil && got != want {
				err = errors.New("other bytes")
			}
			if err == nil {
				err = c.Like(context.Background(), photo)
			}
			if err == nil {
				_, err = c.Feed(context.Background(), client.PageOptions{Limit: 20})
			}
			if err != nil {
				t.Errorf("photo %s: %v", photo, err)
				return
			}
			calls.Add(1)
		}
	}
}

// awaitCoded asks for the state of coded volumes until it is ok.
func (s *server) awaitCoded(t *testing.T, what string, ok func(codedList) bool) {
	t.Helper()
	for deadline := time.Now().Add(testenv.Patience); ; <-time.After(100 * time.Millisecond) {
		out, log, _ := run(t, "ec", "status", "--json", "--admin", s.admin)
		var l codedList
		if err := json.Unmarshal([]byte(out), &l); err != nil {
			t.Fatalf("%v in %s%s", err, out, log)
		}
		if ok(l) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s: %s\n%s", what, out, s.log)
		}
	}
}

// disksOf are the identities in directories, "" where there is none.
func disksOf(t *testing.T, dirs []string) []string {
	t.Helper()
	out := make([]string, len(dirs))
	for i, d := range dirs {
		b, err := os.ReadFile(filepath.Join(d, "disk.id"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		out[i] = string(b)
	}
	return out
}

// emptied removes everything in a directory, as somebody would who has the wrong one.
func emptied(t *testing.T, dir string) {
	t.Helper()
	for _, e := range entries(t, dir) {
		if err := os.RemoveAll(filepath.Join(dir, e)); err != nil {
			t.Log(err) // the server makes files meanwhile
		}
	}
}
