package feed

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"hayloft/internal/id"
)

// markSeen moves a user's mark to something they may have in front of them.
func (h *history) markSeen() {
	u, p := h.someUser(), h.popular()
	if p == nil {
		return
	}
	err := h.feed.Seen(context.Background(), u, p.id)
	what := fmt.Sprintf("%v has seen %v", u, p.id)
	if !h.m.sees(u, p) {
		h.expect(what, err, ErrNotFound)
		return
	}
	h.expect(what, err)
	h.m.seen[u] = max(h.m.seen[u], p.rank)
}

// compareNew wants the number of new photos to be that of the feed above the mark.
func (h *history) compareNew(viewer id.ID, feed []id.ID) {
	want, latest := 0, id.ID(0)
	for _, photo := range feed {
		if h.m.photos[photo].rank > h.m.seen[viewer] {
			want++
		}
	}
	if len(feed) > 0 {
		latest = feed[0]
	}
	count, got, err := h.feed.FeedNew(context.Background(), viewer)
	if err != nil || count != min(want, maxNew) || got != latest {
		h.t.Errorf("new for %v: %d, latest %v, %v; want %d, %v", viewer, count, got, err, want, latest)
	}
}

// The number of new photos stops at 99, across pages of the feed.
func TestFeedNewIsCapped(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	h.must(h.feed.Follow(ctx, anna, bert))
	var photos []id.ID
	for range maxNew + 3 {
		photos = append(photos, h.post(bert, Details{}))
	}
	last := photos[len(photos)-1]
	for _, tc := range []struct {
		seen id.ID
		want int
	}{{0, 99}, {photos[0], 99}, {photos[3], 98}, {photos[1], 98}, {photos[60], 41}, {last, 0}} {
		if tc.seen != 0 {
			h.must(h.feed.Seen(ctx, anna, tc.seen))
		}
		if n, latest, err := h.feed.FeedNew(ctx, anna); err != nil || n != tc.want || latest != last {
			t.Errorf("seen %v: %d new, latest %v, %v; want %d", tc.seen, n, latest, err, tc.want)
		}
	}
}

// Somebody who has muted very much costs no more than a bounded look.
func TestFeedNewLooksOnlySoFar(t *testing.T) {
	h := newHouse(t, func(o *Options) { o.Timeline.Tighten(func(int) int { return 0 }) }) // pages look at two
	ctx := context.Background()
	anna, bert, muted := h.user("anna"), h.user("bert"), h.user("carl")
	for _, author := range []id.ID{bert, muted} {
		h.must(h.feed.Follow(ctx, anna, author))
	}
	below := h.post(bert, Details{})
	for range 20 {
		h.post(muted, Details{})
	}
	h.must(h.feed.Mute(ctx, anna, muted))
	for _, tc := range []struct {
		looks, want int
		latest      id.ID
	}{{newLooks, 1, below}, {21, 1, below}, {5, 0, 0}} {
		if n, latest, err := h.feed.feedNew(ctx, anna, tc.looks); err != nil || n != tc.want || latest != tc.latest {
			t.Errorf("%d looks: %d new, latest %v, %v; want %d, %v", tc.looks, n, latest, err, tc.want, tc.latest)
		}
	}
}

// A new password ends the other logins, and only who knew the old one sets it.
func TestSetPassword(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	login := func(n byte) Session {
		s, err := h.feed.CreateSession(ctx, anna, NewSession{TokenHash: [32]byte{n}, ExpiresAt: h.clock.Now().Add(time.Hour)})
		h.must(err)
		return s
	}
	keep := login(1)
	login(2)
	_, was, err := h.feed.Credentials(ctx, "anna")
	h.must(err)
	if err := h.feed.SetPassword(ctx, anna, "new", was+"?", keep.ID); !errors.Is(err, ErrConflict) {
		t.Errorf("with another old password: %v", err)
	}
	h.must(h.feed.SetPassword(ctx, anna, "new", was, keep.ID))
	if ss, err := h.feed.Sessions(ctx, anna); err != nil || len(ss) != 1 || ss[0].ID != keep.ID {
		t.Errorf("logins: %v, %v", ss, err)
	}
	if _, hash, err := h.feed.Credentials(ctx, "anna"); err != nil || hash != "new" {
		t.Errorf("password %q, %v", hash, err)
	}
	_, err = h.feed.CreateAPIKey(ctx, anna, [32]byte{3}, "key", ScopeRead)
	h.must(err)
	h.must(h.feed.SetPassword(ctx, anna, "operator's", "", 0))
	ss, err := h.feed.Sessions(ctx, anna)
	keys, err2 := h.feed.APIKeys(ctx, anna)
	if err != nil || err2 != nil || len(ss)+len(keys) != 0 {
		t.Errorf("an operator left %v and %v, %v, %v", ss, keys, err, err2)
	}
	h.check()
}

func TestAPIKeys(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	key, err := h.feed.CreateAPIKey(ctx, anna, [32]byte{1}, "one", ScopeRead)
	h.must(err)
	if _, err := h.feed.CreateAPIKey(ctx, bert, [32]byte{1}, "same", ScopeRead); !errors.Is(err, ErrConflict) {
		t.Errorf("a token twice: %v", err)
	}
	for _, scopes := range []Scopes{0, 4, 7} {
		if _, err := h.feed.CreateAPIKey(ctx, anna, [32]byte{9}, "x", scopes); !errors.Is(err, ErrInvalid) {
			t.Errorf("scopes %d: %v", scopes, err)
		}
	}
	if err := h.feed.DeleteAPIKey(ctx, bert, key.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("another's key: %v", err)
	}
	for n := range maxKeys - 1 {
		_, err := h.feed.CreateAPIKey(ctx, anna, [32]byte{2, byte(n)}, "more", ScopeRead|ScopeWrite)
		h.must(err)
	}
	if _, err := h.feed.CreateAPIKey(ctx, anna, [32]byte{3}, "x", ScopeRead); !errors.Is(err, ErrConflict) {
		t.Errorf("one too many: %v", err)
	}
	if list, err := h.feed.APIKeys(ctx, anna); err != nil || len(list) != maxKeys || list[maxKeys-1] != key {
		t.Errorf("%d keys, %v", len(list), err)
	}
	h.must(h.feed.Suspend(ctx, anna, true))
	if _, err := h.feed.KeyByToken(ctx, [32]byte{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("key of one who is suspended: %v", err)
	}
	h.must(h.feed.Suspend(ctx, anna, false))
	if got, err := h.feed.KeyByToken(ctx, [32]byte{1}); err != nil || got != key {
		t.Errorf("key: %+v, %v", got, err)
	}
	h.check()
	h.must(h.feed.DeleteAPIKey(ctx, anna, key.ID))
	if _, err := h.feed.KeyByToken(ctx, [32]byte{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a deleted key: %v", err)
	}
	h.must(h.feed.DeleteAccount(ctx, anna))
	if _, err := h.feed.KeyByToken(ctx, [32]byte{2, 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("key of one who left: %v", err)
	}
	h.check()
}

// A face is a ready public photo of one's own, and shows no longer than it is that.
func TestAvatar(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	photo, secret := h.post(anna, Details{}), h.post(anna, Details{Visibility: Followers})
	if err := h.feed.SetAvatar(ctx, bert, photo); !errors.Is(err, ErrNotFound) {
		t.Errorf("another's photo: %v", err)
	}
	if err := h.feed.SetAvatar(ctx, anna, secret); !errors.Is(err, ErrInvalid) {
		t.Errorf("a photo for followers: %v", err)
	}
	h.must(h.feed.SetAvatar(ctx, anna, photo))
	shows := func(when string, want bool) {
		t.Helper()
		u, err := h.feed.UserByID(ctx, bert, anna)
		if err != nil || (u.Avatar.Blob != 0) != want {
			t.Errorf("%s: %+v, %v", when, u.Avatar, err)
		}
	}
	shows("set", true)
	only := OnlyMe
	_, err := h.feed.UpdatePhoto(ctx, anna, photo, PhotoChange{Visibility: &only})
	h.must(err)
	shows("narrowed", false)
	public := Public
	_, err = h.feed.UpdatePhoto(ctx, anna, photo, PhotoChange{Visibility: &public})
	h.must(err)
	shows("public again", true)
	h.must(h.feed.Block(ctx, bert, anna))
	shows("to one who has blocked her", false)
	h.must(h.feed.Unblock(ctx, bert, anna))
	h.must(h.feed.DeletePhoto(ctx, anna, photo, true))
	shows("deleted", false)
	h.must(second2(h.sweepNow()))
	shows("gone", false)
	h.must(h.feed.SetAvatar(ctx, anna, 0))
	h.check()
}

// Of the people that a photo names, those are left out who are gone or blocked.
func TestNamedPeople(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert, carl := h.user("anna"), h.user("bert"), h.user("carl")
	photo := h.post(anna, Details{People: []id.ID{bert, carl}})
	named := func(viewer id.ID, want int) {
		t.Helper()
		if p, err := h.feed.Photo(ctx, viewer, photo); err != nil || len(p.Details.People) != want {
			t.Errorf("%v sees %v, %v; want %d", viewer, p.Details.People, err, want)
		}
	}
	named(0, 2)
	h.must(h.feed.Block(ctx, carl, bert))
	named(bert, 1)
	named(anna, 2)
	h.must(h.feed.DeleteAccount(ctx, carl))
	named(anna, 1)
}
