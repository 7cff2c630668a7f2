package feed

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"hayloft/internal/id"
)

// everything reads a list of an export to its end, a row at a time.
func everything[T any](t *testing.T, user id.ID, list func(context.Context, id.ID, Page) ([]T, id.ID, error)) (out []T) {
	t.Helper()
	var p Page
	for {
		p.Limit = 1
		rows, next, err := list(t.Context(), user, p)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) > 1 {
			t.Fatalf("%d rows, 1 was asked for", len(rows))
		}
		if out = append(out, rows...); next == 0 {
			return out
		}
		p.After = next
	}
}

// What an account takes with it: all photos whose master is there, its words wherever they
// stand, and of what it likes and where it spoke what it may see now.
func TestWhatAnAccountTakesAway(t *testing.T) {
	h := newHouse(t, nil)
	ctx := t.Context()
	anna, ben := h.user("anna"), h.user("ben")
	h.must(h.feed.Follow(ctx, anna, ben))
	ready, deleted, purged := h.post(anna, Details{Visibility: OnlyMe}), h.post(anna, Details{}), h.post(anna, Details{})
	pending := h.upload(anna, Details{})
	h.must(h.feed.DeletePhoto(ctx, anna, deleted, false))
	h.must(h.feed.DeletePhoto(ctx, anna, purged, true))
	bens, other := h.post(ben, Details{}), h.post(ben, Details{})
	var said []id.ID
	for _, p := range []id.ID{bens, other} {
		h.must(h.feed.Like(ctx, anna, p))
		c, err := h.feed.AddComment(ctx, anna, p, "hello", 0)
		h.must(err)
		said = append(said, c.ID)
	}
	theirs, err := h.feed.AddComment(ctx, ben, bens, "welcome", 0)
	h.must(err)
	h.must(h.feed.LikeComment(ctx, anna, theirs.ID))

	owned := func() (out []id.ID) {
		for _, p := range everything(t, anna, h.feed.Owned) {
			out = append(out, p.ID)
		}
		return out
	}
	if got, want := owned(), []id.ID{ready, deleted, pending}; !slices.Equal(got, want) {
		t.Errorf("photos %v, want %v", got, want)
	}
	look := func(seen, liked int) {
		t.Helper()
		remarks, likings := everything(t, anna, h.feed.Said), everything(t, anna, h.feed.Liked)
		n := 0
		for i, r := range remarks {
			if r.ID != said[i] || r.Text != "hello" || r.Seen != (r.At == "ben") {
				t.Errorf("%+v", r)
			}
			if r.Seen {
				n++
			}
		}
		if len(remarks) != 2 || n != seen || len(likings) != liked {
			t.Errorf("%d comments, %d of them seen, %d likes; want 2, %d, %d", len(remarks), n, len(likings), seen, liked)
		}
	}
	look(2, 3)
	private := OnlyMe
	_, err = h.feed.UpdatePhoto(ctx, ben, other, PhotoChange{Visibility: &private})
	h.must(err)
	look(1, 2)
	h.must(h.feed.Block(ctx, ben, anna))
	look(0, 0)
	h.must(h.feed.Unblock(ctx, ben, anna))
	look(1, 2)

	h.clock.Advance(31 * 24 * time.Hour)
	if got, want := owned(), []id.ID{ready, pending}; !slices.Equal(got, want) {
		t.Errorf("photos %v when the grace is over, want %v", got, want)
	}
	h.must(h.feed.Suspend(ctx, anna, true))
	_, _, err1 := h.feed.Owned(ctx, anna, Page{Limit: 1})
	_, _, err2 := h.feed.Said(ctx, anna, Page{Limit: 1})
	_, _, err3 := h.feed.Liked(ctx, anna, Page{Limit: 1})
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("of a suspended account: %v", err)
		}
	}
}
