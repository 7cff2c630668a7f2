package remote

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"hayloft/feed"
	"hayloft/internal/id"
)

var seedFlag = flag.Uint64("seed", 0, "repeat a random test with this seed")

// shelf is a Hydrator that keeps everything.
type shelf struct {
	values map[string][]byte
	loaded int
	before func() // is called before a load
}

func (s *shelf) Hydrate(ctx context.Context, keys []string, load func(context.Context, []string) (map[string][]byte, error)) (map[string][]byte, error) {
	out, missing := map[string][]byte{}, []string(nil)
	for _, k := range keys {
		if v, ok := s.values[k]; ok {
			out[k] = v
		} else {
			missing = append(missing, k)
		}
	}
	if len(missing) == 0 {
		return out, nil
	}
	if s.before != nil {
		s.before()
	}
	s.loaded += len(missing)
	got, err := load(ctx, missing)
	for k, v := range got {
		out[k], s.values[k] = v, v
	}
	return out, err
}

// hydrated is a world whose client has a shelf.
func hydrated(t *testing.T) (*world, *shelf) {
	w, s := newWorld(t), &shelf{values: map[string][]byte{}}
	w.c.CacheWith(s)
	return w, s
}

// samePage wants the pages of viewer, over the wire and here, to be equal.
func (w *world) samePage(viewer id.ID) {
	w.t.Helper()
	page := feed.Page{Limit: 10}
	rows, next, err := w.c.FeedPage(w.ctx, viewer, page)
	rows2, next2, err2 := w.feed.FeedPage(w.ctx, viewer, page)
	same(w, "page", rows, rows2, err, err2)
	same(w, "next", next, next2)
}

// TestRandomChangesShowOnPages makes random changes to everything that a page shows or depends
// on. After each of them every viewer's page is what the feed says, though the shelf forgets
// nothing.
func TestRandomChangesShowOnPages(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./feed/remote -run TestRandomChangesShowOnPages -seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w, s := hydrated(t)
	var users []id.ID
	var photos []struct{ owner, photo id.ID }
	for _, h := range []string{"anna", "bob", "carl"} {
		users = append(users, w.account(h).ID)
	}
	one := func() id.ID { return users[rng.IntN(len(users))] }
	done := func(err error) { // a refusal is as good as a change
		if errors.Is(err, feed.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	for step := range 150 {
		a, b := one(), one()
		if rng.IntN(4) == 0 || len(photos) == 0 {
			p := w.post(a, &feed.Details{Caption: fmt.Sprint("step ", step), People: []id.ID{b}})
			w.ready(p)
			photos = append(photos, struct{ owner, photo id.ID }{a, p})
		}
		p := photos[rng.IntN(len(photos))]
		text, yes := fmt.Sprint("changed in ", step), rng.IntN(2) == 0
		switch rng.IntN(11) {
		case 0, 1:
			done(w.feed.Follow(w.ctx, a, b))
		case 2:
			done(w.feed.Like(w.ctx, a, p.photo))
		case 3:
			done(w.feed.Unlike(w.ctx, a, p.photo))
		case 4:
			_, err := w.feed.AddComment(w.ctx, a, p.photo, text, 0)
			done(err)
		case 5:
			_, err := w.feed.UpdatePhoto(w.ctx, p.owner, p.photo, feed.PhotoChange{Caption: &text})
			done(err)
		case 6:
			v := []feed.Visibility{feed.Public, feed.Followers, feed.OnlyMe}[rng.IntN(3)]
			_, err := w.feed.UpdatePhoto(w.ctx, p.owner, p.photo, feed.PhotoChange{Visibility: &v})
			done(err)
		case 7:
			_, err := w.feed.UpdateProfile(w.ctx, a, feed.ProfileChange{Name: &text, Private: &yes})
			done(err)
		case 8:
			done(w.feed.DeletePhoto(w.ctx, p.owner, p.photo, false))
		case 9:
			_, err := w.feed.RestorePhoto(w.ctx, p.owner, p.photo)
			done(err)
		default:
			done(w.feed.Block(w.ctx, a, b))
			done(w.feed.Unblock(w.ctx, a, b))
		}
		for _, u := range users {
			w.samePage(u)
			w.samePage(u)
		}
	}
	if s.loaded == 0 || s.loaded > 400 {
		t.Errorf("%d loaded: the test proved little", s.loaded)
	}
}

// What is known is not sent again: counts come with the brief.
func TestPagesComeFromTheShelf(t *testing.T) {
	w, s := hydrated(t)
	anna, bob := w.account("anna"), w.account("bob")
	w.must(w.c.Follow(w.ctx, bob.ID, anna.ID))
	for range 5 {
		w.ready(w.post(anna.ID, &feed.Details{Title: "one"}))
	}
	w.samePage(bob.ID)
	page, _, err := w.c.FeedPage(w.ctx, anna.ID, feed.Page{Limit: 1})
	w.must(err)
	w.must(w.c.Like(w.ctx, bob.ID, page[0].ID))
	w.samePage(bob.ID)
	w.samePage(anna.ID)
	if s.loaded != 5 {
		t.Errorf("%d loaded, of 5 photos", s.loaded)
	}
}

// A photo changes, or goes, after the page was briefed and before its rest is asked for.
func TestChangeBetweenBriefAndRest(t *testing.T) {
	w, s := hydrated(t)
	anna, bob := w.account("anna"), w.account("bob")
	w.must(w.c.Follow(w.ctx, bob.ID, anna.ID))
	var photos []id.ID
	for range 3 {
		photos = append(photos, w.post(anna.ID, &feed.Details{Title: "one"}))
		w.ready(photos[len(photos)-1])
	}
	changed := "two"
	s.before = func() {
		_, err := w.feed.UpdatePhoto(w.ctx, anna.ID, photos[1], feed.PhotoChange{Title: &changed})
		w.must(errors.Join(err, w.feed.DeletePhoto(w.ctx, anna.ID, photos[0], false)))
	}
	rows, _, err := w.c.FeedPage(w.ctx, bob.ID, feed.Page{Limit: 10})
	w.must(err)
	if len(rows) != 2 || rows[0].ID != photos[2] || rows[0].Details.Title != "one" || rows[1].Details.Title != "two" {
		t.Errorf("%+v", rows)
	}
	s.before = nil
	w.samePage(bob.ID)
}

// What cannot be read, or is another photo, and nodes that do not know briefs: the page
// comes whole.
func TestPagesWithoutTheShelf(t *testing.T) {
	w, s := hydrated(t)
	anna := w.account("anna")
	for range 2 {
		w.ready(w.post(anna.ID, &feed.Details{Title: "one"}))
	}
	w.samePage(anna.ID)
	for _, bad := range []string{"{", `{"ID":"nonsense"}`, "{}", "null"} {
		for k := range s.values {
			s.values[k] = []byte(bad)
		}
		w.samePage(anna.ID)
	}
	delete(w.to.s.methods, "FeedBriefs")
	w.samePage(anna.ID)
	delete(w.to.s.methods, "FeedPage")
	if _, _, err := w.c.FeedPage(w.ctx, anna.ID, feed.Page{Limit: 1}); !errors.Is(err, feed.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

// weighed is a Caller that weighs answers.
type weighed struct {
	Caller
	bytes int64
}

func (w *weighed) Call(ctx context.Context, again bool, req []byte) ([]byte, bool, error) {
	answer, repeated, err := w.Caller.Call(ctx, again, req)
	w.bytes += int64(len(answer))
	return answer, repeated, err
}

// BenchmarkPage is a page of 20 photos over the wire, both ends of it in this process.
func BenchmarkPage(b *testing.B) {
	w := newWorld(b)
	anna := w.account("anna")
	for range 20 {
		w.ready(w.post(anna.ID, &feed.Details{Title: "A title", Caption: "What people say of a photo, in a line or two of text.", Tags: []string{"one", "two"}}))
	}
	for _, hydrated := range []bool{false, true} {
		b.Run(fmt.Sprintf("hydrated=%v", hydrated), func(b *testing.B) {
			to := &weighed{Caller: w.to}
			c := New(to)
			if hydrated {
				c.CacheWith(&shelf{values: map[string][]byte{}})
			}
			for b.Loop() {
				if rows, _, err := c.FeedPage(w.ctx, anna.ID, feed.Page{Limit: 20}); err != nil || len(rows) != 20 {
					b.Fatal(len(rows), err)
				}
			}
			b.ReportMetric(float64(to.bytes)/float64(b.N), "wire-B/op")
		})
	}
}

// BenchmarkAnswer is the part of the node that is asked.
func BenchmarkAnswer(b *testing.B) {
	w := newWorld(b)
	anna := w.account("anna")
	for range 20 {
		w.ready(w.post(anna.ID, &feed.Details{Title: "A title", Caption: "What people say of a photo, in a line or two of text.", Tags: []string{"one", "two"}}))
	}
	for _, method := range []string{"FeedPage", "FeedBriefs"} {
		b.Run(method, func(b *testing.B) {
			page, _ := json.Marshal(feed.Page{Limit: 20})
			viewer, _ := json.Marshal(anna.ID)
			req, _ := json.Marshal(request{Method: method, Args: []json.RawMessage{viewer, page}})
			for b.Loop() {
				if _, err := w.to.s.Serve(w.ctx, req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
