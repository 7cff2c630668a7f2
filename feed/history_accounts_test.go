package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"hayloft/internal/id"
)

// freeHandle is a handle that nobody has: one that somebody had before, if there is.
func (h *history) freeHandle() string {
	for i := 0; ; i++ {
		handle := fmt.Sprintf("user%d", i)
		if _, kept := h.m.leaves[handle]; kept || slices.ContainsFunc(h.m.users, func(u id.ID) bool { return h.m.handles[u] == handle }) {
			continue
		}
		return handle
	}
}

func (h *history) suspend() {
	u := pick(h.rng, h.m.users)
	suspended := !h.m.hidden[u]
	if h.m.gone[u] || suspended && len(h.m.active()) <= 2 {
		return
	}
	h.expect(fmt.Sprintf("%v suspended: %v", u, suspended), h.feed.Suspend(context.Background(), u, suspended))
	h.m.hidden[u] = suspended
	h.m.epochs[u]++
}

func (h *history) deleteAccount() {
	u := pick(h.rng, h.m.users)
	if h.m.gone[u] {
		h.expect(fmt.Sprintf("%v leaves again", u), h.feed.DeleteAccount(context.Background(), u), ErrNotFound)
		return
	}
	if !h.m.hidden[u] && len(h.m.active()) <= 2 {
		return
	}
	h.expect(fmt.Sprintf("%v leaves", u), h.feed.DeleteAccount(context.Background(), u))
	h.m.hidden[u], h.m.gone[u] = true, true
	h.m.epochs[u]++
	h.m.leaves[h.m.handles[u]] = h.clock.Now().Add(h.m.grace)
	h.expect("handle of one who is leaving", h.takeHandle(h.m.handles[u]), ErrHandleTaken)
}

func (h *history) takeHandle(handle string) error {
	_, _, err := h.feed.CreateAccount(context.Background(), NewAccount{
		Handle: handle, PasswordHash: "x", Session: NewSession{TokenHash: [32]byte{8}, ExpiresAt: h.clock.Now().Add(time.Hour)},
	})
	return err
}

// hiddenIDs is everybody who is to look as if they were nobody.
func (h *history) hiddenIDs() []id.ID {
	return append(sortedKeys(h.m.hidden), h.m.departed...)
}

// approachHidden has somebody do something to, and something be done by, one who is
// hidden or gone.
func (h *history) approachHidden() {
	u := h.someUser()
	other := pick(h.rng, h.hiddenIDs())
	if other == 0 || !h.m.hidden[other] && !slices.Contains(h.m.departed, other) {
		return
	}
	ctx := context.Background()
	from, to := u, other
	if h.rng.IntN(2) == 0 {
		from, to = other, u
	}
	for what, do := range map[string]func() error{
		"follows":   func() error { return h.feed.Follow(ctx, from, to) },
		"unfollows": func() error { return h.feed.Unfollow(ctx, from, to) },
		"removes":   func() error { return h.feed.RemoveFollower(ctx, from, to) },
		"approves":  func() error { return h.feed.ApproveFollow(ctx, from, to) },
		"blocks":    func() error { return h.feed.Block(ctx, from, to) },
		"mutes":     func() error { return h.feed.Mute(ctx, from, to) },
	} {
		h.expect(fmt.Sprintf("%v %s %v, one of them hidden", from, what, to), do(), ErrNotFound)
	}
	if p := h.popular(); p != nil {
		h.expect("a hidden one likes", h.feed.Like(ctx, other, p.id), ErrNotFound)
		_, err := h.feed.AddComment(ctx, other, p.id, "x", 0)
		h.expect("a hidden one comments", err, ErrNotFound)
	}
	_, err := h.feed.BeginUpload(ctx, other, UploadSpec{Size: 1, ContentType: "image/png", ExpiresAt: h.clock.Now().Add(time.Minute)})
	h.expect("a hidden one uploads", err, ErrNotFound)
	_, err = h.feed.SetPrivate(ctx, other, true)
	h.expect("a hidden one changes", err, ErrNotFound)
	_, err = h.feed.CreateSession(ctx, other, NewSession{TokenHash: [32]byte{7}, ExpiresAt: h.clock.Now().Add(time.Hour)})
	h.expect("a hidden one signs in", err, ErrNotFound)
}

// compareHidden wants those who are hidden or gone to be nowhere.
func (h *history) compareHidden() {
	ctx := context.Background()
	for handle := range h.m.leaves {
		if err := h.takeHandle(handle); !errors.Is(err, ErrHandleTaken) {
			h.t.Errorf("handle %s, whose owner just left, is somebody else's: %v", handle, err)
		}
	}
	for _, other := range h.hiddenIDs() {
		if !h.m.hidden[other] && !slices.Contains(h.m.departed, other) {
			continue // shown again
		}
		for _, viewer := range []id.ID{0, other, h.someUser()} {
			_, err := h.feed.UserByID(ctx, viewer, other)
			_, _, err2 := h.feed.PhotosBy(ctx, viewer, other, Page{Limit: 5})
			_, _, err3 := h.feed.Followers(ctx, viewer, other, Page{Limit: 5})
			if !errors.Is(err, ErrNotFound) || !errors.Is(err2, ErrNotFound) || !errors.Is(err3, ErrNotFound) {
				h.t.Errorf("%v sees %v, who is hidden: %v, %v, %v", viewer, other, err, err2, err3)
			}
		}
		if _, _, err := h.feed.FeedPage(ctx, other, Page{Limit: 5}); !errors.Is(err, ErrNotFound) {
			h.t.Errorf("feed of %v, who is hidden: %v", other, err)
		}
		if h.m.hidden[other] {
			_, _, err := h.feed.Credentials(ctx, h.m.handles[other])
			_, err2 := h.feed.SessionByToken(ctx, tokenHash(h.m.handles[other]))
			if !errors.Is(err, ErrNotFound) || !errors.Is(err2, ErrNotFound) {
				h.t.Errorf("%v is hidden and can sign in: %v, %v", other, err, err2)
			}
		}
	}
}

// An account that leaves takes everything along in small steps, and nothing of it or
// of what others did to it is left.
func TestDeletedAccountLeavesNothing(t *testing.T) {
	h := newHouse(t, nil)
	h.feed.sweepRows = 3
	ctx := context.Background()
	anna, bert, carl := h.user("anna"), h.user("bert"), h.user("carl")
	_, err := h.feed.SetPrivate(ctx, carl, true)
	h.must(err)
	h.reserve(anna)
	h.upload(anna, Details{})
	kept := h.post(bert, Details{})
	own := h.post(anna, Details{})
	for range 3 {
		h.post(anna, Details{Visibility: Followers})
	}
	h.must(h.feed.DeletePhoto(ctx, anna, h.post(anna, Details{}), false))
	hidden := h.post(bert, Details{})
	say := func(who, photo, parent id.ID) id.ID {
		c, err := h.feed.AddComment(ctx, who, photo, "x", parent)
		h.must(err)
		return c.ID
	}
	thread := say(anna, kept, 0)
	say(bert, kept, thread)
	say(anna, kept, thread)
	say(anna, kept, say(bert, kept, 0))
	say(bert, own, 0)
	say(anna, hidden, 0)
	h.must(h.feed.Like(ctx, anna, kept))
	h.must(h.feed.Like(ctx, anna, hidden))
	h.must(h.feed.Like(ctx, bert, own))
	h.must(h.feed.DeletePhoto(ctx, bert, hidden, false))
	h.must(h.feed.Follow(ctx, anna, bert))
	h.must(h.feed.Follow(ctx, bert, anna))
	h.must(h.feed.Follow(ctx, anna, carl)) // a request
	h.must(h.feed.Mute(ctx, anna, bert))
	h.must(h.feed.Mute(ctx, bert, anna))
	h.must(h.feed.Block(ctx, h.user("dora"), anna))
	h.must(h.feed.Block(ctx, anna, h.user("emil")))
	h.check()

	h.must(h.feed.DeleteAccount(ctx, anna))
	if _, err := h.feed.Photo(ctx, bert, own); !errors.Is(err, ErrNotFound) {
		t.Errorf("a photo of hers: %v", err)
	}
	if cs, _, err := h.feed.Comments(ctx, bert, kept, Page{Limit: 9}); err != nil || len(cs) != 1 {
		t.Errorf("comments at once: %v, %v", cs, err)
	}
	h.check()
	h.must(second2(h.sweepNow()))
	h.check()
	h.must(h.feed.read(ctx, func(v *view) error {
		return v.scan([]byte{tabAccount}, []byte{0xff}, func(k, _ []byte) error {
			for i := 1; i+8 <= len(k); i++ {
				if part := id.ID(parseBE(k[i : i+8])); (part == anna || part == ^anna) && k[0] != tabEvent && k[0] != tabChangeOf { // both tell others to forget
					t.Errorf("%x is left", k)
				}
			}
			return nil
		})
	}))
	b, err := h.feed.UserByID(ctx, bert, bert)
	if err != nil || b.Followers != 0 || b.Following != 0 {
		t.Errorf("bert: %+v, %v", b, err)
	}
	p, err := h.feed.Photo(ctx, bert, kept)
	if err != nil || p.Likes != 0 || p.Comments != 1 {
		t.Errorf("what she liked and commented on: %+v, %v", p, err)
	}
	p, err = h.feed.RestorePhoto(ctx, bert, hidden)
	if err != nil || p.Likes != 0 || p.Comments != 0 {
		t.Errorf("what she had liked and was deleted: %+v, %v", p, err)
	}
	if _, _, err := h.feed.CreateAccount(ctx, NewAccount{
		Handle: "anna", PasswordHash: "x", Session: NewSession{TokenHash: [32]byte{8}, ExpiresAt: h.clock.Now().Add(time.Hour)},
	}); !errors.Is(err, ErrHandleTaken) {
		t.Errorf("her handle at once: %v", err)
	}
	h.clock.Advance(h.feed.policy.DeleteGrace)
	h.must(second2(h.sweepNow()))
	if again := h.user("anna"); again == anna {
		t.Error("the same account again")
	}
	h.check()
}

// Chores of an account that other chores come to meanwhile do not wait for each
// other: each step of a sweep gets on.
func TestDeletedAccountBesideOtherChores(t *testing.T) {
	h := newHouse(t, nil)
	h.feed.sweepRows = 1
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	photo := h.post(bert, Details{})
	for range 5 {
		c, err := h.feed.AddComment(ctx, anna, photo, "x", 0)
		h.must(err)
		_, err = h.feed.AddComment(ctx, anna, photo, "x", c.ID)
		h.must(err)
	}
	h.must(h.feed.DeleteAccount(ctx, anna))
	h.must(h.feed.DeletePhoto(ctx, bert, photo, true))
	h.must(h.feed.DeleteAccount(ctx, bert))
	h.must(second2(h.sweepNow()))
	h.check()
}

// Two who follow and block and like each other leave at the same time: one sweep
// must not take the same edge twice.
func TestTwoLeaveAtOnce(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	h.must(h.feed.Follow(ctx, anna, bert))
	h.must(h.feed.Follow(ctx, bert, anna))
	h.must(h.feed.Mute(ctx, anna, bert))
	photo := h.post(bert, Details{})
	h.must(h.feed.Like(ctx, anna, photo))
	c, err := h.feed.AddComment(ctx, anna, photo, "x", 0)
	h.must(err)
	h.must(h.feed.LikeComment(ctx, bert, c.ID))
	h.must(h.feed.DeleteAccount(ctx, anna))
	h.must(h.feed.DeleteAccount(ctx, bert))
	h.must(second2(h.sweepNow()))
	h.check()
}

func (h *history) likeComment() {
	u, c := h.someUser(), h.someComment()
	if c == nil {
		return
	}
	err := h.feed.LikeComment(context.Background(), u, c.id)
	what := fmt.Sprintf("%v likes comment %v", u, c.id)
	if !h.m.hears(u, c) {
		h.expect(what, err, ErrNotFound)
		return
	}
	h.expect(what, err)
	c.likes[u] = true
}

func (h *history) unlikeComment() {
	u, c := h.someUser(), h.someComment()
	if c == nil {
		return
	}
	err := h.feed.UnlikeComment(context.Background(), u, c.id)
	what := fmt.Sprintf("%v unlikes comment %v", u, c.id)
	if c.likes[u] && h.m.photos[c.photo].status != Deleted || h.m.hears(u, c) {
		h.expect(what, err)
		delete(c.likes, u)
		return
	}
	h.expect(what, err, ErrNotFound)
}

// compareComment wants a comment that is shown to say how it is liked.
func (h *history) compareComment(viewer id.ID, c Comment) {
	want := h.m.comments[c.ID]
	if want == nil || c.Likes != uint64(len(want.likes)) || c.Liked != want.likes[viewer] || c.Author != want.author {
		h.t.Errorf("comment %v for %v: %+v, want %+v", c.ID, viewer, c, want)
	}
}

// Who has many followers leaves in many small steps: none of them passes over what
// the steps before have removed.
func TestDeletedAccountGoesOn(t *testing.T) {
	h := newHouse(t, nil)
	h.feed.sweepRows = 4
	ctx := context.Background()
	star := h.user("star")
	for i := range 10 {
		fan := h.user(fmt.Sprintf("fan%d", i))
		h.must(h.feed.Follow(ctx, fan, star))
		h.must(h.feed.Follow(ctx, star, fan))
	}
	h.must(h.feed.DeleteAccount(ctx, star))
	reached := map[uint64]id.ID{}
	for range 100 {
		if wait, err := h.feed.untilDue(ctx, h.clock.Now()); err != nil || wait > 0 {
			break
		}
		_, err := h.feed.propose(ctx, &cmdSweep{Limit: 4, Through: h.clock.Now()})
		h.must(err)
		h.check()
		h.must(store{h.group.db}.scan([]byte{tabChore}, []byte{tabChore + 1}, func(_, v []byte) error {
			var row choreRow
			if err := decodeRow(v, &row); err != nil || row.Kind != choreAccount {
				return err
			}
			if row.After < reached[row.Step] {
				t.Errorf("step %d is back at %v from %v", row.Step, row.After, reached[row.Step])
			}
			reached[row.Step] = row.After
			return nil
		}))
	}
	if reached[3] == 0 || reached[4] == 0 {
		t.Errorf("where the steps were: %v", reached)
	}
	if there, err := (store{h.group.db}).has(key1(tabAccount, star)); err != nil || there {
		t.Errorf("the account is there: %v, %v", there, err)
	}
}
