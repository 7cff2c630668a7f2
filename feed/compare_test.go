package feed

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"hayloft/internal/id"
)

// compare wants everything that can be read to equal the model.
func (h *history) compare() {
	h.t.Helper()
	h.house.check()
	h.compareHidden()
	for _, viewer := range append([]id.ID{0}, h.m.active()...) {
		if viewer != 0 {
			h.compareFeed(viewer)
			h.compareOwnLists(viewer)
		}
		for _, user := range h.m.active() {
			h.compareUser(viewer, user)
		}
		for _, photo := range h.m.order {
			h.comparePhoto(viewer, photo)
		}
	}
	h.compareAccess()
}

// pages collects a list through pages of random sizes. A cursor must lead to
// an end, and no row may come twice.
func (h *history) pages(what string, page func(Page) (rows []id.ID, next id.ID, err error)) ([]id.ID, error) {
	var all []id.ID
	seen := map[id.ID]bool{}
	for p := (Page{Limit: 1 + h.rng.IntN(5)}); ; {
		rows, next, err := page(p)
		if err != nil {
			return all, err
		}
		if len(rows) > p.Limit {
			h.t.Errorf("%s: %d rows for a limit of %d", what, len(rows), p.Limit)
		}
		for _, row := range rows {
			if seen[row] {
				h.t.Errorf("%s: %v comes twice", what, row)
			}
			seen[row] = true
		}
		all = append(all, rows...)
		if next == 0 {
			return all, nil
		}
		if next == p.After {
			h.t.Fatalf("%s: the cursor does not move", what)
		}
		p = Page{After: next, Limit: 1 + h.rng.IntN(5)}
	}
}

func photoIDs(rows []PhotoView) []id.ID {
	var out []id.ID
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

func userIDs(rows []UserView) []id.ID {
	var out []id.ID
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

func commentIDs(rows []Comment) []id.ID {
	var out []id.ID
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

func (h *history) compareFeed(viewer id.ID) {
	got, err := h.pages("feed", func(p Page) ([]id.ID, id.ID, error) {
		rows, next, err := h.feed.FeedPage(context.Background(), viewer, p)
		return photoIDs(rows), next, err
	})
	if err != nil {
		h.t.Errorf("feed of %v: %v", viewer, err)
		return
	}
	if want := h.m.feedOf(viewer); !slices.Equal(got, want) {
		h.t.Errorf("feed of %v:\n got %v\nwant %v", viewer, got, want)
	}
	h.compareNew(viewer, got)
}

func (h *history) compareUser(viewer, user id.ID) {
	ctx := context.Background()
	u, err := h.feed.UserByID(ctx, viewer, user)
	if h.m.blocks[[2]id.ID{viewer, user}] {
		if err != nil || u.User != (User{ID: user, Handle: u.Handle, CreatedAt: u.CreatedAt}) || !u.Viewer.Blocked || u.Viewer.Follows || u.Viewer.FollowedBy {
			h.t.Errorf("%v sees more than the handle of %v, whom they blocked: %+v, %v", viewer, user, u, err)
		}
		return
	}
	if h.m.blocks[[2]id.ID{user, viewer}] {
		if !errors.Is(err, ErrNotFound) {
			h.t.Errorf("%v sees %v, who blocked them: %v", viewer, user, err)
		}
		return
	}
	if err != nil {
		h.t.Errorf("user %v: %v", user, err)
		return
	}
	m := h.m
	want := Relation{
		Follows: m.follows[[2]id.ID{viewer, user}], FollowedBy: m.follows[[2]id.ID{user, viewer}],
		Requested: m.requests[[2]id.ID{viewer, user}], Blocked: m.blocks[[2]id.ID{viewer, user}],
		Muted: m.mutes[[2]id.ID{viewer, user}],
	}
	following := 0
	for e := range m.follows {
		if e[0] == user {
			following++
		}
	}
	if u.Viewer != want || u.IsPrivate != m.private[user] || u.Followers != uint64(m.followers(user)) ||
		u.Following != uint64(following) || u.Photos != uint64(len(m.photosOf(viewer, user))) || u.Celebrity != m.celebrity[user] {
		h.t.Errorf("user %v for %v: got %+v, want %+v, %d followers, %d following, %d photos, celebrity %v", user, viewer, u, want,
			m.followers(user), following, len(m.photosOf(user, user)), m.celebrity[user])
	}
	got, err := h.pages("profile", func(p Page) ([]id.ID, id.ID, error) {
		rows, next, err := h.feed.PhotosBy(ctx, viewer, user, p)
		return photoIDs(rows), next, err
	})
	if want := m.photosOf(viewer, user); err != nil || !slices.Equal(got, want) {
		h.t.Errorf("photos of %v for %v: %v\n got %v\nwant %v", user, viewer, err, got, want)
	}
	h.compareLists(viewer, user)
}

func (h *history) compareLists(viewer, user id.ID) {
	ctx := context.Background()
	followers := map[id.ID]bool{}
	for e := range h.m.follows {
		if e[1] == user && !h.m.hidden[e[0]] && !h.m.blocked(e[0], viewer) {
			followers[e[0]] = true
		}
	}
	got, err := h.pages("followers", func(p Page) ([]id.ID, id.ID, error) {
		rows, next, err := h.feed.Followers(ctx, viewer, user, p)
		return userIDs(rows), next, err
	})
	hidden := viewer != user && (h.m.blocked(viewer, user) || h.m.private[user] && !h.m.follows[[2]id.ID{viewer, user}])
	if hidden != errors.Is(err, ErrForbidden) || !hidden && !sameSet(got, followers) {
		h.t.Errorf("followers of %v for %v: %v %v, want %v", user, viewer, got, err, followers)
	}
	if viewer != user {
		return
	}
	now := h.clock.Now()
	deleted := map[id.ID]bool{}
	for _, p := range h.m.photos {
		if p.owner == user && p.status == Deleted && p.due.After(now) {
			deleted[p.id] = true
		}
	}
	got, err = h.pages("deleted", func(p Page) ([]id.ID, id.ID, error) {
		rows, next, err := h.feed.DeletedPhotos(ctx, user, p)
		return photoIDs(rows), next, err
	})
	if err != nil || !sameSet(got, deleted) {
		h.t.Errorf("deleted of %v: %v %v, want %v", user, got, err, deleted)
	}
}

func sameSet(got []id.ID, want map[id.ID]bool) bool {
	set := map[id.ID]bool{}
	for _, v := range got {
		set[v] = true
	}
	return maps.Equal(set, want)
}

func (h *history) comparePhoto(viewer, photo id.ID) {
	ctx := context.Background()
	p := h.m.photos[photo]
	got, err := h.feed.Photo(ctx, viewer, photo)
	if !h.m.sees(viewer, p) {
		if !errors.Is(err, ErrNotFound) {
			h.t.Errorf("photo %v for %v: %+v, %v; want not found", photo, viewer, got, err)
		}
		if _, _, err := h.feed.Likes(ctx, viewer, photo, Page{Limit: 5}); !errors.Is(err, ErrNotFound) {
			h.t.Errorf("likes of hidden photo %v: %v", photo, err)
		}
		return
	}
	if err != nil || got.Status != p.status || got.Likes != uint64(len(p.likes)) || got.Liked != p.likes[viewer] ||
		got.Comments != uint64(h.m.commentCount(photo)) || got.Details.Visibility != p.vis || got.Author != p.owner ||
		got.Signed != (p.vis != Public || h.m.private[p.owner]) || got.Status == Ready && got.Pull != p.pull {
		h.t.Errorf("photo %v for %v: got %+v, %v; want %+v with %d comments", photo, viewer, got, err, p, h.m.commentCount(photo))
	}
	tops, err := h.pages("comments", func(pg Page) ([]id.ID, id.ID, error) {
		rows, next, err := h.feed.Comments(ctx, viewer, photo, pg)
		for _, c := range rows {
			h.compareComment(viewer, c)
		}
		return commentIDs(rows), next, err
	})
	if err != nil || !sameSet(tops, h.m.commentsOf(viewer, photo, 0)) {
		h.t.Errorf("comments of %v for %v: %v %v", photo, viewer, tops, err)
	}
	for _, top := range tops {
		got, err := h.pages("replies", func(pg Page) ([]id.ID, id.ID, error) {
			rows, next, err := h.feed.Replies(ctx, viewer, top, pg)
			for _, c := range rows {
				h.compareComment(viewer, c)
			}
			return commentIDs(rows), next, err
		})
		if err != nil || !slices.IsSorted(got) || !sameSet(got, h.m.commentsOf(viewer, photo, top)) {
			h.t.Errorf("replies to %v for %v: %v %v", top, viewer, got, err)
		}
	}
}

// compareAccess asks for every blob that ever was.
func (h *history) compareAccess() {
	want := map[id.ID]Verdict{}
	for _, p := range h.m.photos {
		if p.status != Ready || h.m.hidden[p.owner] {
			continue
		}
		v := Verdict{Access: AccessPublic}
		if p.vis != Public || h.m.private[p.owner] {
			v = Verdict{Access: AccessSigned, Epoch: h.m.epochs[p.owner] + p.epoch}
		}
		want[p.master], want[p.rendition] = v, v
	}
	for blob := range h.m.blobs {
		got, err := h.feed.Access(context.Background(), blob)
		if err != nil || got != want[blob] {
			h.t.Errorf("access to %v: %v %v, want %v", blob, got, err, want[blob])
		}
	}
}

// end lets all time limits pass and everything be removed, and wants another
// machine that sees the same commands to hold the same bytes.
func (h *history) end() {
	h.clock.Advance(7 * 24 * time.Hour)
	h.sweepAll()
	h.compare()
	h.endBlobs()
	h.removeAll()
	twin := newLocalGroup(h.t)
	for _, cmd := range h.group.log {
		if _, err := twin.apply(cmd); err != nil && !refusal(err) {
			h.t.Fatal(err)
		}
	}
	if !slices.Equal(twin.dump(h.t), h.group.dump(h.t)) {
		h.t.Error("the same commands made different states")
	}
}

// removeAll deletes every photo and wants nothing to stay of any.
func (h *history) removeAll() {
	for _, photo := range sortedKeys(h.m.photos) {
		h.must(h.feed.DeletePhoto(context.Background(), h.m.photos[photo].owner, photo, h.rng.IntN(2) == 0))
	}
	h.clock.Advance(7 * 24 * time.Hour)
	h.must(second2(h.sweepNow()))
	h.house.check()
	for _, table := range []byte{
		tabPhoto, tabBlob, tabPosts, tabDeleted, tabLike, tabLikes, tabComment, tabThread, tabReplies, tabChore, tabDue,
	} {
		h.must(store{h.group.db}.scan([]byte{table}, []byte{table + 1}, func(k, _ []byte) error {
			h.t.Errorf("%x is left", k)
			return nil
		}))
	}
}

func second2[T any](_ T, err error) error { return err }

// endBlobs wants every blob that was ever intended to be needed or owed to the
// reclaimer, once.
func (h *history) endBlobs() {
	reclaimed := map[id.ID]int{}
	err := store{h.group.db}.scan([]byte{tabEffect}, []byte{tabEffect + 1}, func(_, v []byte) error {
		var e effectRow
		if err := decodeRow(v, &e); err != nil {
			return err
		}
		if e.Kind == EffectReclaim {
			reclaimed[e.Blob]++
		}
		return nil
	})
	h.must(err)
	attached := h.m.attached()
	for blob := range h.m.blobs {
		if want := !attached[blob]; (reclaimed[blob] == 1) != want || reclaimed[blob] > 1 {
			h.t.Errorf("blob %v: %d reclaims, attached %v", blob, reclaimed[blob], attached[blob])
		}
	}
}
