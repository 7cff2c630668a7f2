package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
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

// TestEdgeForgets has photos deleted and made private while one of the links between
// three tiers is cut: two seconds later they are served nowhere.
func TestEdgeForgets(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	author, ctx := c.store.account(t, "author"), t.Context()
	for i, cut := range []*meshtest.Proxy{nil, c.inner, c.outer} {
		var shots []client.Photo
		for j := range 2 {
			id, err := put(ctx, author, distinct(photos.ByName("bridge.jpg").Data, uint64(10*i+j)), true)
			if err != nil {
				t.Fatal(err)
			}
			p, err := author.WaitReady(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			shots = append(shots, p)
			for name, s := range c.tiers() {
				comes(t, rebase(p.URLs.Small, s.url), http.StatusOK, "a photo before, at the "+name)
			}
		}
		if cut != nil {
			cut.Cut()
		}
		if err := author.Delete(ctx, shots[0].ID); err != nil {
			t.Fatal(err)
		}
		makePrivate(t, c.store, author, shots[1].ID)
		c.hidden(t, time.Now(), shots[0].URLs.Small, shots[1].URLs.Small)
		if cut != nil {
			cut.Heal()
		}
		for name, s := range c.tiers() {
			comes(t, rebase(shots[0].URLs.Small, s.url), http.StatusNotFound, "deleted, links whole, at the "+name)
		}
		// Its owner sees it everywhere, by the URL that was signed for that.
		p, err := author.Photo(ctx, shots[1].ID)
		if err != nil || !strings.Contains(p.URLs.Small, "?") {
			t.Fatalf("%+v, %v", p, err)
		}
		for name, s := range c.tiers() {
			comes(t, rebase(p.URLs.Small, s.url), http.StatusOK, "private, signed, at the "+name)
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

// makePrivate leaves a photo to its owner alone.
func makePrivate(t *testing.T, at *server, owner *client.Client, photo string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, at.url+"/api/v1/photos/"+photo, strings.NewReader(`{"visibility":"only_me"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+owner.Token())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("PATCH: %s", res.Status)
	}
}
