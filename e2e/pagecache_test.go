package e2e

import (
	"net"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	"hayloft/client"
	"hayloft/testdata/photos"
)

// memcached starts a server on addr ("": any) and returns where it is, and what kills it.
func memcached(t *testing.T, addr string) (string, func()) {
	t.Helper()
	if addr == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr = l.Addr().String()
		l.Close()
	}
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("memcached", "-l", "127.0.0.1", "-p", port, "-U", "0", "-u", "root")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: make deps-test installs it", err)
	}
	kill := sync.OnceFunc(func() {
		cmd.Process.Kill() // an error means that it has ended
		cmd.Wait()
	})
	t.Cleanup(kill)
	must(t, "memcached takes connections", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return addr, kill
}

// Two nodes serve the API without a replica of the feed, and share a memcached. What one
// has learnt the other finds; changes show at once on both; and nothing of it depends on
// memcached, which is killed and started again under load.
func TestPagesFromMemcached(t *testing.T) {
	t.Parallel()
	addr, kill := memcached(t, "")
	o := operate(t, 3, 0)
	for _, n := range o.Nodes[1:] {
		n.With("--roles", "api", "--media-url", o.Nodes[0].URL, "--memcached", addr)
	}
	o.start(o.Nodes...)
	core := &server{url: o.Nodes[0].URL, admin: o.Nodes[0].Admin}
	front := []*server{{url: o.Nodes[1].URL, admin: o.Nodes[1].Admin}, {url: o.Nodes[2].URL, admin: o.Nodes[2].Admin}}
	author, reader := core.account(t, "author"), core.account(t, "reader")
	if _, err := reader.Follow(t.Context(), "@author"); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range 5 {
		photo, err := put(t.Context(), author, distinct(photos.ByName("nuthatch.jpg").Data, uint64(i)), false)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := author.WaitReady(t.Context(), photo); err != nil || p.Status != client.StatusReady {
			t.Fatalf("%v, %v", p.Status, err)
		}
		ids = append(ids, photo)
	}
	page := func(s *server) client.Page[client.Photo] {
		t.Helper()
		p, err := s.as(t, reader).Feed(client.Fresh(t.Context()), client.PageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	same := func(want int) {
		t.Helper()
		first := page(core)
		if len(first.Items) != want {
			t.Fatalf("%d photos, want %d", len(first.Items), want)
		}
		for _, s := range front {
			if p := page(s); !reflect.DeepEqual(p.Items, first.Items) {
				t.Fatalf("other pages:\n%+v\n%+v", p.Items, first.Items)
			}
		}
	}
	same(5)
	must(t, "the second finds what the first has put", func() bool {
		same(5)
		return front[1].metric(t, "hayloft_metadata_cache_hits_total") >= 5
	})
	change := func(round int) {
		t.Helper()
		private := round%2 == 0
		if _, err := author.UpdateMe(t.Context(), client.ProfileChange{IsPrivate: &private}); err != nil {
			t.Fatal(err)
		}
		if err := author.Like(t.Context(), ids[round%5]); err != nil {
			t.Fatal(err)
		}
		same(5)
		if u := page(front[0]).Items[0].URLs.Small; strings.Contains(u, "?") != private {
			t.Errorf("private is %v, and %s", private, u)
		}
	}
	change(0)
	kill()
	for round := range 5 {
		change(1 + round)
	}
	must(t, "it is noticed", func() bool {
		same(5)
		return front[0].metric(t, "hayloft_metadata_cache_servers") == 0
	})
	memcached(t, addr)
	hits := front[0].metric(t, "hayloft_metadata_cache_hits_total")
	must(t, "it is used again", func() bool {
		same(5)
		return front[0].metric(t, "hayloft_metadata_cache_hits_total") > hits
	})
	change(9)
	if err := author.Delete(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	same(4)
	for _, s := range front {
		if n := s.metric(t, "hayloft_metadata_cache_lies_total"); n != 0 {
			t.Errorf("%v lies", n)
		}
	}
}
