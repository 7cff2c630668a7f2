package feed

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// spoil writes a row or a key behind the machine's back.
func (h *house) spoil(key, value []byte) {
	h.must(h.group.db.Set(key, value, pebble.NoSync))
}

// town is a house with something of everything that is counted.
func town(t *testing.T) (h *house, anna, bert, photo, comment id.ID) {
	h = newHouse(t, nil)
	ctx := context.Background()
	anna, bert = h.user("anna"), h.user("bert")
	carl := h.user("carl")
	photo = h.post(anna, Details{})
	h.post(anna, Details{Visibility: Followers})
	h.must(h.feed.Follow(ctx, bert, anna))
	h.must(h.feed.Mute(ctx, bert, carl))
	h.must(h.feed.Block(ctx, anna, carl))
	h.must(h.feed.Like(ctx, bert, photo))
	c, err := h.feed.AddComment(ctx, bert, photo, "x", 0)
	h.must(err)
	_, err = h.feed.AddComment(ctx, anna, photo, "x", c.ID)
	h.must(err)
	h.must(h.feed.LikeComment(ctx, anna, c.ID))
	return h, anna, bert, photo, c.ID
}

func (h *house) reconcile(apply bool) Reconciliation {
	h.t.Helper()
	r, err := h.feed.Reconcile(context.Background(), apply, nil)
	h.must(err)
	return r
}

// Every counter that is wrong is found and put right, and every edge that lacks its
// other end, and nothing else is touched.
func TestReconcile(t *testing.T) {
	h, anna, bert, photo, comment := town(t)
	if r := h.reconcile(true); r.Drifts+r.Missing+r.Fixed != 0 || r.Counters == 0 || r.Edges == 0 {
		t.Fatalf("a sound feed: %+v", r)
	}
	good := h.group.dump(t)
	v := store{h.group.db}
	a, err := v.account(anna)
	h.must(err)
	a.Photos, a.ForFollowers, a.ForOnlyMe, a.Followers, a.Following = 5, 0, 2, 0, 7
	h.spoil(key1(tabAccount, anna), encodeRow(a))
	p, err := v.photo(photo)
	h.must(err)
	p.Likes, p.Comments = 0, 9
	h.spoil(key1(tabPhoto, photo), encodeRow(p))
	c, err := v.comment(comment)
	h.must(err)
	c.Replies, c.Likes = 3, 0
	h.spoil(key1(tabComment, comment), encodeRow(c))
	lost := [][]byte{key2(tabOwned, anna, photo), key2(tabSaid, bert, comment), key2(tabLiked, bert, photo)}
	for _, table := range []byte{tabBlockedBy, tabMutedBy} {
		h.must(v.scan([]byte{table}, []byte{table + 1}, func(k, _ []byte) error { lost = append(lost, append([]byte(nil), k...)); return nil }))
	}
	for _, key := range lost {
		h.must(h.group.db.Delete(key, pebble.NoSync))
	}
	for _, apply := range []bool{false, true} {
		r := h.reconcile(apply)
		fixed := uint64(0)
		if apply {
			fixed = 9 + 5
		}
		if r.Drifts != 9 || len(r.First) != 9 || r.Missing != 5 || r.Fixed != fixed {
			t.Errorf("apply %v: %+v", apply, r)
		}
	}
	if r := h.reconcile(false); r.Drifts+r.Missing != 0 {
		t.Errorf("afterwards: %+v", r)
	}
	h.check()
	h.must(h.group.db.Delete([]byte{tabReconciled}, pebble.NoSync))
	if !slices.Equal(h.group.dump(t), good) {
		t.Error("something else was changed")
	}
}

// A correction stays right when commands come between the count and it, and is
// refused when another correction did.
func TestReconcileBesideCommands(t *testing.T) {
	h, anna, _, photo, _ := town(t)
	ctx := context.Background()
	p, err := store{h.group.db}.photo(photo)
	h.must(err)
	p.Likes = 41
	h.spoil(key1(tabPhoto, photo), encodeRow(p))
	snapshot := h.feed.snapshot
	h.feed.snapshot = func() (pebble.Reader, error) { // a like comes right after each snapshot
		s := h.group.db.NewSnapshot()
		h.feed.snapshot = snapshot
		return s, h.feed.Like(ctx, anna, photo)
	}
	h.reconcile(true)
	if p, err := h.feed.Photo(ctx, anna, photo); err != nil || p.Likes != 2 {
		t.Errorf("%d likes, %v", p.Likes, err)
	}
	h.check()

	p, err = store{h.group.db}.photo(photo)
	h.must(err)
	p.Likes = 41
	h.spoil(key1(tabPhoto, photo), encodeRow(p))
	h.feed.snapshot = func() (pebble.Reader, error) {
		s := h.group.db.NewSnapshot()
		h.feed.snapshot = snapshot
		h.reconcile(true)
		return s, nil
	}
	if r, err := h.feed.Reconcile(ctx, true, nil); !errors.Is(err, ErrConflict) || r.Fixed != 0 {
		t.Errorf("two at once: %+v, %v", r, err)
	}
	if p, err := h.feed.Photo(ctx, anna, photo); err != nil || p.Likes != 2 {
		t.Errorf("%d likes, %v", p.Likes, err)
	}
	h.check()
}
