package remote

import (
	"errors"
	"testing"

	"hayloft/feed"
)

// TestPersonalCalls: what an account does with itself has the same effect over the
// wire, also when answers are lost and calls are repeated.
func TestPersonalCalls(t *testing.T) {
	w := newWorld(t)
	anna, bob := w.account("anna"), w.account("bob")
	w.must(w.c.Follow(w.ctx, bob.ID, anna.ID))
	photo := w.post(anna.ID, &feed.Details{})
	w.ready(photo)
	comment, err := w.c.AddComment(w.ctx, bob.ID, photo, "hello", 0)
	w.must(err)

	key, err := w.c.CreateAPIKey(w.ctx, anna.ID, [32]byte{1}, "k", feed.ScopeRead)
	w.must(err)
	w.must(w.c.SetPassword(w.ctx, anna.ID, "y", "x", 0))
	if err := w.c.SetPassword(w.ctx, anna.ID, "z", "x", 0); !errors.Is(err, feed.ErrConflict) {
		t.Errorf("from an old password: %v", err)
	}
	w.to.twice.Store(true)
	got, err := w.c.KeyByToken(w.ctx, [32]byte{1})
	same(w, "key", got, key, err)
	keys, err := w.c.APIKeys(w.ctx, anna.ID)
	same(w, "keys", keys, []feed.APIKey{key}, err)
	w.must(w.c.DeleteAPIKey(w.ctx, anna.ID, key.ID))
	w.must(w.c.SetAvatar(w.ctx, anna.ID, photo))
	u, err := w.c.UserByID(w.ctx, bob.ID, anna.ID)
	u2, err2 := w.feed.UserByID(w.ctx, bob.ID, anna.ID)
	same(w, "avatar", u, u2, err, err2)
	if u.Avatar.Blob == 0 {
		t.Error("no avatar")
	}
	n, latest, err := w.c.FeedNew(w.ctx, bob.ID)
	if err != nil || n != 1 || latest != photo {
		t.Errorf("%d new, latest %v, %v", n, latest, err)
	}
	w.must(w.c.Seen(w.ctx, bob.ID, photo))
	if n, _, err := w.c.FeedNew(w.ctx, bob.ID); err != nil || n != 0 {
		t.Errorf("%d new, %v", n, err)
	}
	w.must(w.c.LikeComment(w.ctx, anna.ID, comment.ID))
	rows, _, err := w.c.Comments(w.ctx, anna.ID, photo, feed.Page{Limit: 1})
	if err != nil || len(rows) != 1 || rows[0].Likes != 1 || !rows[0].Liked {
		t.Errorf("comments %+v, %v", rows, err)
	}
	w.must(w.c.UnlikeComment(w.ctx, anna.ID, comment.ID))
	w.must(w.c.Suspend(w.ctx, bob.ID, true))
	all, next, err := w.c.Accounts(w.ctx, "anna", 5)
	all2, _, err2 := w.feed.Accounts(w.ctx, "anna", 5)
	same(w, "accounts", all, all2, err, err2)
	if a, err := w.c.Account(w.ctx, "bob"); err != nil || next != "" || len(all) != 1 || a != all[0] || !a.Suspended {
		t.Errorf("%+v of %+v, %v", a, all, err)
	}
	w.must(w.c.Suspend(w.ctx, bob.ID, false))
	w.must(w.c.DeleteAccount(w.ctx, anna.ID))
	if _, err := w.c.UserByID(w.ctx, bob.ID, anna.ID); !errors.Is(err, feed.ErrNotFound) {
		t.Errorf("who left: %v", err)
	}
}
