package feed

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"hayloft/bench"
	service "hayloft/feed"
)

// What is seeded has no fault that the feed's own check finds, and everybody's
// timeline is full.
func TestSeededWorldIsSound(t *testing.T) {
	o := Options{Dir: t.TempDir(), Cap: 20}.withDefaults()
	w, err := newWorld(t.Context(), &o, 200)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	err = w.feed.Check(t.Context(), func(f service.Finding) { t.Errorf("%x: %s", f.Key, f.Text) })
	if err != nil {
		t.Fatal(err)
	}
	full := 0
	w.g.timelines(func(_ int, posts []uint32) bool {
		if len(posts) == o.Cap {
			full++
		}
		return true
	})
	if full < w.n {
		t.Errorf("%d of %d timelines are full", full, w.n)
	}
	if pulled := w.feed.TimelineStats().PulledPages; pulled > 0 {
		t.Errorf("%d pages were pulled", pulled)
	}
	for range 50 {
		if _, err := w.page(t.Context(), rand.IntN(w.n), 0); err != nil {
			t.Error(err)
		}
	}
}

// The whole bench, very small: each of its figures is there.
func TestRun(t *testing.T) {
	report, err := Run(t.Context(), Options{
		Dir: t.TempDir(), Duration: 400 * time.Millisecond, Readers: 200, Large: 400, Cap: 20, Redis: redisOf(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{
		"deliveries_per_s", "bytes_per_delivery", "fanout_200_s", "fanout_400_s", "feed_pages_per_s", "feed_page_p99",
		"feed_page_2000_p99", "feed_page_5000_p99", "feed_page_5000_seam_p99", "cpu_s_per_delivery", "cpu_s_per_page",
	}
	if redisOf(t) != "none" {
		names = append(names, "redis_deliveries_per_s")
	}
	for _, name := range names {
		i := slices.IndexFunc(report.Results, func(r bench.Result) bool { return r.Name == name })
		if i < 0 || report.Results[i].Value <= 0 {
			t.Errorf("no %s in %+v", name, report.Results)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "hayloft-bench-feed-*")); len(left) > 0 {
		t.Logf("others measure here too: %v", left)
	}
}

func TestRunRefusesAndEnds(t *testing.T) {
	if _, err := Run(t.Context(), Options{Readers: 7}); err == nil {
		t.Error("a world of seven readers is measured")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{Dir: t.TempDir(), Readers: 100, Large: 1, Cap: 5, Redis: "none", Duration: time.Minute}); err == nil {
		t.Error("a run that was ended says nothing of it")
	}
}

// Degrees follow the table: four of five have one or two followers, and the mean is
// that of LinkBench without its tail.
func TestDegree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	const n = 200_000
	sum, few := 0, 0
	for range n {
		d := degree(rng)
		if d < 1 || d > 2000 {
			t.Fatal(d)
		}
		if sum += d; d <= 2 {
			few++
		}
	}
	if mean := float64(sum) / n; mean < 3 || mean > 5 {
		t.Errorf("mean degree %.2f", mean)
	}
	if share := float64(few) / n; share < 0.74 || share > 0.79 {
		t.Errorf("%.3f have one or two followers", share)
	}
}

// A file of edges makes a graph in which both follow.
func TestGraphOfFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "edges")
	var text []byte
	for i := range 150 {
		text = append(text, []byte("n"+string(rune('a'+i%10))+string(rune('a'+i/10))+" hub\n")...)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := newGraph(&Options{Graph: name, Cap: 10, Seed: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if g.people() != 151 || len(g.followers[1]) != 150 {
		t.Errorf("%d people, the hub has %d followers", g.people(), len(g.followers[1]))
	}
}
