package e2e

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"slices"
	"testing"

	"hayloft/client"
	people "hayloft/feed/oracle"
)

// TestRandomFeedOfSmallBounds has a few people follow, block, mute, post and delete at random
// over HTTP, on a server whose bounds are so small that all ways of delivery are met,
// and which is killed now and then. Every page must be the oracle's.
func TestRandomFeedOfSmallBounds(t *testing.T) {
	l := &feedLife{t: t, rng: rand.New(rand.NewPCG(seed(t), 1)), w: people.New(), dir: t.TempDir(), met: map[string]float64{}}
	l.start()
	for i := range 5 {
		l.who = append(l.who, l.s.account(t, fmt.Sprintf("person%d", i)))
		l.w.Join()
	}
	for i := 0; i < 60 || i < 600 && len(l.unmet()) > 0; i++ { // a life may be dull
		l.act()
		l.look(l.rng.IntN(len(l.who)))
		if i%20 == 19 {
			l.count()
			l.s.kill()
			l.start()
		}
	}
	for reader := range l.who {
		l.look(reader)
	}
	l.count()
	l.s.stop(t)
	if names := l.unmet(); len(names) > 0 {
		t.Errorf("not every way of delivery was met: %v are 0", names)
	}
}

// deliveryMetrics count the ways in which a photo comes to a page.
var deliveryMetrics = []string{"hayloft_timeline_deliveries_total", "hayloft_feed_pages_pulled_total", "hayloft_feed_pages_segment_total"}

// count adds up what this run of the server has counted.
func (l *feedLife) count() {
	for _, name := range deliveryMetrics {
		l.met[name] += l.s.metric(l.t, name)
	}
}

// unmet are those that have counted nothing yet.
func (l *feedLife) unmet() (names []string) {
	for _, name := range deliveryMetrics {
		if l.met[name] == 0 {
			names = append(names, name)
		}
	}
	return names
}

// feedLife is a server, and what the oracle knows of it.
type feedLife struct {
	t      *testing.T
	rng    *rand.Rand
	w      *people.World
	dir    string
	s      *server
	who    []*client.Client
	photos []string
	met    map[string]float64 // of deliveryMetrics
}

// start starts the server and takes the people along.
func (l *feedLife) start() {
	l.s = start(l.t, l.dir, "--celebrity-threshold", "2", "--timeline-cap", "3", "--timeline-segment", "2",
		"--followee-threshold", "3", "--active-window", "2s")
	for i, c := range l.who {
		l.who[i] = l.s.as(l.t, c)
		l.t.Cleanup(l.who[i].CloseIdle)
	}
}

func (l *feedLife) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *feedLife) act() {
	ctx := context.Background()
	a, b := l.rng.IntN(len(l.who)), l.rng.IntN(len(l.who))
	who, other := l.who[a], fmt.Sprintf("@person%d", b)
	switch n := l.rng.IntN(20); {
	case n < 8 || l.w.Photos() == 0:
		l.post(a)
	case n < 11:
		l.changePhoto(l.rng.IntN(l.w.Photos()))
	case a == b:
	case n < 17:
		_, err := who.Follow(ctx, other)
		if refused := l.w.Follow(a, b); refused != (err != nil) {
			l.t.Fatalf("%d follows %d: %v, refused %v", a, b, err, refused)
		}
	case l.w.Hidden(a, b): // they make it up
		_ = who.Unblock(ctx, other) // one of the two has nothing to end, and may not find the other
		_ = l.who[b].Unblock(ctx, fmt.Sprintf("@person%d", a))
		l.w.Unblock(a, b)
		l.w.Unblock(b, a)
	case n == 17:
		l.must(who.Unfollow(ctx, other))
		l.w.Unfollow(a, b)
	case n == 18:
		l.must(who.Mute(ctx, other))
		l.w.Mute(a, b, true)
	default:
		l.must(who.Block(ctx, other))
		l.w.Block(a, b)
		if l.rng.IntN(2) == 0 {
			l.must(who.Unblock(ctx, other))
			l.w.Unblock(a, b)
		}
	}
}

// post takes a tiny photo to ready.
func (l *feedLife) post(author int) {
	img := image.NewRGBA(image.Rect(0, 0, 32, 24))
	img.Set(1, 1, color.RGBA{uint8(len(l.photos)), 200, 100, 255})
	var data bytes.Buffer
	l.must(jpeg.Encode(&data, img, nil))
	c := l.who[author]
	photo, err := put(context.Background(), c, data.Bytes(), l.rng.IntN(2) == 0)
	l.must(err)
	p, err := c.WaitReady(context.Background(), photo)
	if err != nil || p.Status != client.StatusReady {
		l.t.Fatalf("photo %s: %q, %v", photo, p.Status, err)
	}
	l.w.Publish(author, people.Everybody)
	l.photos = append(l.photos, photo)
}

// changePhoto deletes one, or brings it back.
func (l *feedLife) changePhoto(p int) {
	c := l.who[l.w.Author(p)]
	if l.w.Deleted(p) {
		_, err := c.Restore(context.Background(), l.photos[p])
		l.must(err)
		l.w.Restore(p)
		return
	}
	l.must(c.Delete(context.Background(), l.photos[p]))
	l.w.Delete(p)
}

// look reads a whole feed in pages.
func (l *feedLife) look(reader int) {
	l.t.Helper()
	var got []int
	for page, err := range l.who[reader].FeedPages(context.Background(), 1+l.rng.IntN(4)) {
		l.must(err)
		for _, p := range page.Items {
			got = append(got, slices.Index(l.photos, p.ID))
		}
	}
	if want := l.w.Feed(reader); !slices.Equal(got, want) {
		l.t.Fatalf("feed of %d: got %v, want %v", reader, got, want)
	}
}
