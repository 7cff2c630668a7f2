package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/client"
	"hayloft/internal/mesh/meshtest"
	"hayloft/testdata/photos"
)

// chain is a node and two tiers in front of it, one behind the other, each a process.
// Their links can be cut.
type chain struct {
	store, shield, edge *server
	inner, outer        *meshtest.Proxy // store – shield, shield – edge
}

func startChain(t *testing.T) *chain {
	t.Helper()
	dir := t.TempDir()
	certified(t, dir, "store", "shield")
	if out, log, code := run(t, "cert", "client", "--ca", filepath.Join(dir, "ca"), "--name", "edge", "--out", filepath.Join(dir, "edge-certs")); code != 0 {
		t.Fatal(out, log)
	}
	c := &chain{}
	c.store = start(t, filepath.Join(dir, "store"), "--disk-reserve", "64MiB", "--node-listen", "127.0.0.1:0", "--certs", filepath.Join(dir, "store-certs"))
	c.inner = meshtest.NewProxy(t, nodeAddr(t, c.store))
	c.shield = start(t, filepath.Join(dir, "none"), "--roles", "cache", "--upstream", "https://"+c.inner.Addr(),
		"--node-listen", "127.0.0.1:0", "--certs", filepath.Join(dir, "shield-certs"))
	c.outer = meshtest.NewProxy(t, nodeAddr(t, c.shield))
	c.edge = start(t, filepath.Join(dir, "none"), "--roles", "cache", "--upstream", "https://"+c.outer.Addr(), "--certs", filepath.Join(dir, "edge-certs"))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("shield:\n%s\nedge:\n%s", c.shield.log, c.edge.log)
		}
	})
	return c
}

// tiers are the three, by name.
func (c *chain) tiers() map[string]*server {
	return map[string]*server{"store": c.store, "shield": c.shield, "edge": c.edge}
}

// hidden wants nothing to be served two seconds after photos were deleted or made private,
// nor for a while after that.
func (c *chain) hidden(t *testing.T, since time.Time, urls ...string) {
	t.Helper()
	<-time.After(time.Until(since.Add(2 * time.Second)))
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		for name, s := range c.tiers() {
			for _, url := range urls {
				asked := time.Now()
				if status, _ := get(t, rebase(url, s.url)); status != http.StatusNotFound && status != http.StatusServiceUnavailable {
					t.Fatalf("the %s answers %d to %s, hidden for %v", name, status, url, asked.Sub(since))
				}
			}
		}
	}
}

// comes waits for a status: a tier whose link was cut tries again after a pause.
func comes(t *testing.T, url string, want int, what string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(20 * time.Millisecond) {
		status, body := get(t, url)
		if status == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %d after 20 s, want %d: %s", what, status, want, body)
		}
	}
}

// shown posts a photo and waits until every tier serves it.
func (c *chain) shown(t *testing.T, author *client.Client, n uint64) client.Photo {
	t.Helper()
	id, err := put(t.Context(), author, distinct(photos.ByName("bridge.jpg").Data, n), true)
	if err != nil {
		t.Fatal(err)
	}
	p, err := author.WaitReady(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range c.tiers() {
		comes(t, rebase(p.URLs.Small, s.url), http.StatusOK, "a photo before, at the "+name)
	}
	return p
}

// TestEdgeForgets has photos deleted and made private, alone and with the account of
// their owner, while one of the links between three tiers is cut: two seconds later they
// are served nowhere. Once the links are whole, all tiers agree.
func TestEdgeForgets(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	ctx := t.Context()
	for i, cut := range []*meshtest.Proxy{nil, c.inner, c.outer} {
		author, owner := c.store.account(t, fmt.Sprint("author", i)), c.store.account(t, fmt.Sprint("owner", i))
		deleted, private := c.shown(t, author, uint64(10*i)), c.shown(t, author, uint64(10*i+1))
		owned := []client.Photo{c.shown(t, owner, uint64(10*i+2)), c.shown(t, owner, uint64(10*i+3))}
		if cut != nil {
			cut.Cut()
		}
		if err := author.Delete(ctx, deleted.ID); err != nil {
			t.Fatal(err)
		}
		patch(t, c.store, author, "/photos/"+private.ID, `{"visibility":"only_me"}`)
		patch(t, c.store, owner, "/users/me", `{"is_private":true}`)
		c.hidden(t, time.Now(), deleted.URLs.Small, private.URLs.Small, owned[0].URLs.Small, owned[1].URLs.Small)
		if cut != nil {
			cut.Heal()
		}
		for name, s := range c.tiers() {
			comes(t, rebase(deleted.URLs.Small, s.url), http.StatusNotFound, "deleted, links whole, at the "+name)
		}
		// Their owners see them everywhere, by URLs that were signed for that.
		for who, id := range map[*client.Client]string{author: private.ID, owner: owned[0].ID} {
			p, err := who.Photo(ctx, id)
			if err != nil || !strings.Contains(p.URLs.Small, "?") {
				t.Fatalf("%+v, %v", p, err)
			}
			for name, s := range c.tiers() {
				comes(t, rebase(p.URLs.Small, s.url), http.StatusOK, "private, signed, at the "+name)
			}
		}
	}
	for name, s := range c.tiers() {
		comes(t, s.admin+"/readyz", http.StatusOK, "readiness of the "+name)
	}
	// Nothing of what tiers say to one another is on the public listener.
	for _, s := range c.tiers() {
		for _, p := range []string{"/tier/1/keys", "/tier/1/purges?after=0&limit=10"} {
			if status, body := get(t, s.url+p); status != http.StatusNotFound {
				t.Errorf("%s is answered %d %s on the public listener", p, status, body)
			}
		}
	}
	c.edge.stop(t)
	c.shield.stop(t)
}

// TestEdgeKeys has another version of the key of private URLs drawn while an edge runs:
// what was signed with the one before and with the new one is served there.
func TestEdgeKeys(t *testing.T) {
	dir := t.TempDir()
	certified(t, dir, "store", "edge")
	flags := []string{"--disk-reserve", "64MiB", "--node-listen", "127.0.0.1:0", "--certs", filepath.Join(dir, "store-certs")}
	store := start(t, filepath.Join(dir, "store"), flags...)
	var at atomic.Pointer[string]
	listens := func() { addr := nodeAddr(t, store); at.Store(&addr) }
	listens()
	way := meshtest.NewProxyOn(t, meshtest.Listen(t), func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", *at.Load())
	})
	edge := start(t, filepath.Join(dir, "none"), "--roles", "cache", "--upstream", "https://"+way.Addr(), "--certs", filepath.Join(dir, "edge-certs"))
	author := store.account(t, "author")
	id, err := put(t.Context(), author, photos.ByName("bridge.jpg").Data, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := author.WaitReady(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	patch(t, store, author, "/photos/"+id, `{"visibility":"only_me"}`)
	signed := func(version string) string {
		t.Helper()
		p, err := author.Photo(t.Context(), id)
		if err != nil || !strings.Contains(p.URLs.Small, "?v="+version+"&") {
			t.Fatalf("%s, %v: want version %s", p.URLs.Small, err, version)
		}
		return p.URLs.Small
	}
	first := signed("1")
	comes(t, rebase(first, edge.url), http.StatusOK, "signed with version 1")
	if out, log, code := run(t, "cluster", "keys", "rotate", "media", "--apply", "--admin", store.admin, "--data", store.dir); code != 0 || !strings.Contains(out, "standby") {
		t.Fatal(out, log)
	}
	signed("1") // the new one only verifies
	if out, log, code := run(t, "cluster", "keys", "rotate", "media", "--apply", "--admin", store.admin, "--data", store.dir); code != 1 {
		t.Errorf("two at a time: %d %s %s", code, out, log)
	}
	store.stop(t)
	t.Setenv("HAYLOFT_CLOCK_OFFSET", "3m")
	store = start(t, store.dir, flags...)
	listens()
	author = store.as(t, author)
	second := signed("2")
	comes(t, rebase(second, edge.url), http.StatusOK, "signed with version 2")
	comes(t, rebase(first, edge.url), http.StatusOK, "signed with version 1, after version 2 came")
	comes(t, rebase(strings.Replace(second, "v=2", "v=1", 1), edge.url), http.StatusNotFound, "signed with another version than it says")
}

// patch changes something of a user's.
func patch(t *testing.T, at *server, who *client.Client, path, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, at.url+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+who.Token())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("PATCH %s: %s", path, res.Status)
	}
}
