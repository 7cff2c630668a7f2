package remote

import (
	"context"
	"errors"
	"testing"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

// A node without a replica finds what a node with one finds, page by page.
func TestSameFindings(t *testing.T) {
	w := newWorld(t)
	anna, bob := w.account("anna"), w.account("bob")
	for _, name := range []string{"Café", "café de Paris", "the cafe"} {
		w.ready(w.post(anna.ID, &feed.Details{
			Title: "a sunset", Tags: []string{"sun", "sunset", "café"}, Location: &feed.Location{Lat: 48, Lng: 2, Name: name},
		}))
	}
	for limit := time.After(testenv.Patience); ; <-time.After(time.Millisecond) {
		_, _, err := w.feed.SearchPhotos(w.ctx, 0, "x", feed.Page{Limit: 1})
		if err == nil {
			break
		}
		if !errors.Is(err, feed.ErrUnavailable) {
			t.Fatal(err)
		}
		select {
		case <-limit:
			t.Fatal("the index does not answer")
		default:
		}
	}
	for p := (feed.Page{Limit: 2}); ; {
		rows, next, err := w.c.SearchPhotos(w.ctx, bob.ID, "sunset", p)
		rows2, next2, err2 := w.feed.SearchPhotos(w.ctx, bob.ID, "sunset", p)
		same(w, "photos", rows, rows2, err, err2)
		same(w, "next", next, next2)
		if p.After == 0 && len(rows) != 2 {
			t.Errorf("%d photos", len(rows))
		}
		if p.After = next; next == 0 {
			break
		}
	}
	rows, next, err := w.c.TagPhotos(w.ctx, 0, "café", feed.Page{Limit: 2})
	rows2, next2, err2 := w.feed.TagPhotos(w.ctx, 0, "café", feed.Page{Limit: 2})
	same(w, "photos of a tag", rows, rows2, err, err2)
	same(w, "next", next, next2)
	place := rows[0].Details.Location.Place()
	rows, _, err = w.c.PlacePhotos(w.ctx, 0, place, feed.Page{Limit: 2})
	rows2, _, err2 = w.feed.PlacePhotos(w.ctx, 0, place, feed.Page{Limit: 2})
	same(w, "photos of a place", rows, rows2, err, err2)

	sameTexts(w, "users", "ann", 1, w.c.SearchUsers, w.feed.SearchUsers)
	sameTexts(w, "tags", "s", 2, w.c.SearchTags, w.feed.SearchTags)
	sameTexts(w, "places", "cafe", 3, w.c.SearchPlaces, w.feed.SearchPlaces)
	if _, _, err := w.c.SearchTags(w.ctx, 0, "s", feed.SearchPage{After: "forged", Limit: 1}); !errors.Is(err, feed.ErrInvalid) {
		t.Errorf("a forged cursor: %v", err)
	}
}

// sameTexts walks a list by both ways, a row at a time.
func sameTexts[T any](w *world, what, text string, want int, remote, here finder[T]) {
	w.t.Helper()
	n := 0
	for p := (feed.SearchPage{Limit: 1}); ; {
		rows, next, err := remote(w.ctx, 0, text, p)
		rows2, next2, err2 := here(w.ctx, 0, text, p)
		same(w, what, rows, rows2, err, err2)
		same(w, "next", next, next2)
		n += len(rows)
		if p.After = next; next == "" {
			break
		}
	}
	if n != want {
		w.t.Errorf("%d %s begin with %q, want %d", n, what, text, want)
	}
}

type finder[T any] func(ctx context.Context, viewer id.ID, text string, p feed.SearchPage) ([]T, string, error)
