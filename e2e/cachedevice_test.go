package e2e

import (
	"bytes"
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"hayloft/client"
	"hayloft/internal/vfs"
	"hayloft/testdata/photos"
)

// gallery is photos whose variants a cache serves, and what they looked like at first.
type gallery struct {
	photos []client.Photo
	bytes  map[string][]byte // by media URL of the first run
}

// show uploads n photos.
func (s *server) show(t *testing.T, c *client.Client, n int) *gallery {
	t.Helper()
	ctx := context.Background()
	g := &gallery{bytes: map[string][]byte{}}
	for i := range n {
		photo, err := put(ctx, c, distinct(photos.ByName("bridge.jpg").Data, uint64(i)), false)
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.WaitReady(ctx, photo)
		if err != nil || p.Status != client.StatusReady {
			t.Fatalf("status %q, %v", p.Status, err)
		}
		g.photos = append(g.photos, p)
	}
	return g
}

// look fetches every variant, and compares it with what it was before.
func (g *gallery) look(t *testing.T, s *server) {
	t.Helper()
	for _, p := range g.photos {
		for name, url := range variantURLs(p) {
			if name == "original" {
				continue // never on the device
			}
			status, body := get(t, rebase(url, s.url))
			if status != http.StatusOK {
				t.Errorf("%s: %d", url, status)
			} else if before := g.bytes[url]; before != nil && !bytes.Equal(before, body) {
				t.Errorf("%s: %d bytes that are not the %d of before", url, len(body), len(before))
			} else {
				g.bytes[url] = body
			}
		}
	}
}

// A cache with a device is killed and started again: what was on the device serves
// without the store, what was deleted does not come back, and damage costs hits alone.
func TestCacheDeviceSurvivesRestarts(t *testing.T) {
	dir, device := t.TempDir(), t.TempDir()
	flags := []string{"--cache-memory", "1MiB", "--cache-dir", device, "--cache-dir-size", "64MiB"}
	s := start(t, dir, flags...)
	author := s.account(t, "author")
	g := s.show(t, author, 20) // 1.7 MB of variants
	must(t, "enough is on the device", func() bool {
		g.look(t, s)
		return s.metric(t, "hayloft_cache_device_objects") >= 25
	})
	deleted := g.photos[0]
	g.photos = g.photos[1:]
	if err := author.Delete(context.Background(), deleted.ID); err != nil {
		t.Fatal(err)
	}
	s.kill()

	s = start(t, dir, flags...)
	must(t, "the device is in use", func() bool { return s.metric(t, "hayloft_cache_device_objects") >= 20 })
	g.look(t, s)
	if hits := s.metric(t, "hayloft_cache_device_hits_total"); hits < 20 {
		t.Errorf("%v of %d fills were answered by the device", hits, len(g.bytes))
	}
	for _, url := range variantURLs(deleted) {
		if status, _ := get(t, rebase(url, s.url)); status != http.StatusNotFound {
			t.Errorf("%s of a deleted photo: %d", url, status)
		}
	}
	s.stop(t)

	spoil(t, filepath.Join(device, "hayloft-cache"))
	s = start(t, dir, flags...)
	must(t, "the device is in use", func() bool { return s.metric(t, "hayloft_cache_device_up") == 1 })
	g.look(t, s)
	if n := s.metric(t, "hayloft_cache_device_corrupt_total"); n == 0 {
		t.Error("no damage was noticed")
	}
	s.stop(t)
}

// must waits until cond holds.
func must(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if !eventually(time.Minute, cond) {
		t.Fatalf("not within a minute: %s", what)
	}
}

// spoil flips a bit in every fourth block of a file, its first one apart.
func spoil(t *testing.T, name string) {
	t.Helper()
	f, err := vfs.OS{}.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	for off := int64(4096 + 4*4096 + 777); off < size; off += 4 * 4096 {
		if _, err := f.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x10
		if _, err := f.WriteVAt([][]byte{b}, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
