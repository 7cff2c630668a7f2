package feed

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"hayloft/internal/id"
)

func (h *house) purged(after uint64) (blobs []id.ID) {
	h.t.Helper()
	list, _, err := h.feed.Purges(context.Background(), after, 100)
	h.must(err)
	for _, p := range list {
		if after++; p.Seq != after {
			h.t.Fatalf("purge %d where %d is due", p.Seq, after)
		}
		blobs = append(blobs, p.Blob)
	}
	return blobs
}

// Whatever may change a verdict on a blob is in the purge log.
func TestPurgeLogHasEveryChangeOfVerdict(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	photo := h.post(anna, Details{})
	p, err := h.feed.Photo(ctx, anna, photo)
	h.must(err)
	seq := uint64(0)
	both := func(what string) {
		t.Helper()
		got := h.purged(seq)
		if len(got) != 2 || got[0] != p.Master.Blob || got[1] != p.Rendition.Blob {
			t.Fatalf("%s: purged %v, want %v and %v", what, got, p.Master.Blob, p.Rendition.Blob)
		}
		seq += 2
		if head, err := h.feed.PurgeHead(ctx); err != nil || head != seq {
			t.Fatalf("%s: head %d, %v", what, head, err)
		}
	}
	verdict := func(want Verdict) {
		t.Helper()
		for _, blob := range []id.ID{p.Master.Blob, p.Rendition.Blob} {
			if got, err := h.feed.Access(ctx, blob); err != nil || got != want {
				t.Fatalf("access to %v: %v, %v; want %v", blob, got, err, want)
			}
		}
	}
	verdict(Verdict{Access: AccessPublic})
	followers := Followers
	_, err = h.feed.UpdatePhoto(ctx, anna, photo, PhotoChange{Visibility: &followers})
	h.must(err)
	both("audience")
	verdict(Verdict{Access: AccessSigned, Epoch: 1})
	h.must(h.feed.DeletePhoto(ctx, anna, photo, false))
	both("delete")
	verdict(Verdict{})
	_, err = h.feed.RestorePhoto(ctx, anna, photo)
	h.must(err)
	both("restore")
	u, err := h.feed.SetPrivate(ctx, anna, true)
	h.must(err)
	_, err = h.sweepNow()
	h.must(err)
	both("privacy")
	verdict(Verdict{Access: AccessSigned, Epoch: 2})
	if u.Epoch != 1 || !u.IsPrivate {
		t.Errorf("user %+v", u)
	}
	title := "another"
	_, err = h.feed.UpdatePhoto(ctx, anna, photo, PhotoChange{Title: &title})
	h.must(err)
	if head, err := h.feed.PurgeHead(ctx); err != nil || head != seq {
		t.Errorf("a title is no business of caches: head %d", head)
	}
}

// Whoever loses sight of a photo loses the URLs that were signed for it: the
// epoch in them is no longer the verdict's, and caches are told. Photos whose
// audience stays keep theirs.
func TestSmallerAudienceEndsSignedURLs(t *testing.T) {
	h := newHouse(t, nil)
	h.feed.sweepRows = 2
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	h.must(h.feed.Follow(ctx, bert, anna))
	open, close1, close2 := h.post(anna, Details{}), h.post(anna, Details{Visibility: Followers}), h.post(anna, Details{Visibility: OnlyMe})
	epochs, seq := map[id.ID]uint32{}, uint64(0)
	// step wants exactly the URLs of some photos to have died.
	step := func(what string, died ...id.ID) {
		t.Helper()
		h.must(second2(h.sweepNow()))
		want := map[id.ID]bool{}
		for _, photo := range []id.ID{open, close1, close2} {
			p, err := h.feed.Photo(ctx, anna, photo)
			h.must(err)
			for _, blob := range []id.ID{p.Master.Blob, p.Rendition.Blob} {
				v, err := h.feed.Access(ctx, blob)
				if err != nil || v.Access == AccessSigned && v.Epoch != p.AuthorEpoch {
					t.Errorf("%s: verdict %v, %v; URLs are signed over %d", what, v, err, p.AuthorEpoch)
				}
				want[blob] = slices.Contains(died, photo)
			}
			if p.AuthorEpoch <= epochs[photo] && slices.Contains(died, photo) {
				t.Errorf("%s: URLs of %v live on", what, photo)
			}
			if p.AuthorEpoch != epochs[photo] && !slices.Contains(died, photo) && p.Signed {
				t.Errorf("%s: URLs of %v died", what, photo)
			}
			epochs[photo] = p.AuthorEpoch
		}
		purged := map[id.ID]bool{}
		list, err := h.feed.purgesNow(ctx, seq, 100)
		h.must(err)
		for _, p := range list {
			purged[p.Blob], seq = true, p.Seq
		}
		for blob, is := range want {
			if purged[blob] != is {
				t.Errorf("%s: blob %v purged: %v", what, blob, purged[blob])
			}
		}
		h.check()
	}
	show := func(photo id.ID, v Visibility) {
		_, err := h.feed.UpdatePhoto(ctx, anna, photo, PhotoChange{Visibility: &v})
		h.must(err)
	}
	step("at first")
	show(close1, OnlyMe)
	step("narrowed", close1)
	show(close1, Followers)
	if p, err := h.feed.Photo(ctx, anna, close1); err != nil || p.AuthorEpoch != epochs[close1] {
		t.Errorf("widened: %+v, %v", p, err)
	}
	seq += 2 // caches are told of that too
	h.must(h.feed.RemoveFollower(ctx, anna, bert))
	step("follower removed", close1, close2)
	h.must(h.feed.RemoveFollower(ctx, anna, bert))
	step("nobody removed")
	h.must(h.feed.Follow(ctx, bert, anna))
	h.must(h.feed.Unfollow(ctx, bert, anna))
	step("unfollowed of their own will")
	h.must(h.feed.Block(ctx, anna, bert))
	step("blocked", close1, close2)
	h.must(h.feed.Block(ctx, anna, bert))
	step("blocked again")
	show(open, Followers)
	step("no longer public", open)
	_, err := h.feed.SetPrivate(ctx, anna, true)
	h.must(err)
	step("private", open, close1, close2)
}

// A flip is carried out in steps for an account with many posts.
func TestPrivacyFlipOfManyPosts(t *testing.T) {
	h := newHouse(t, nil)
	h.feed.sweepRows = 3
	anna := h.user("anna")
	for range 10 {
		h.post(anna, Details{})
	}
	_, err := h.feed.SetPrivate(context.Background(), anna, true)
	h.must(err)
	_, err = h.sweepNow()
	h.must(err)
	seen := map[id.ID]int{}
	for _, blob := range h.purged(0) {
		seen[blob]++
	}
	if len(seen) != 20 {
		t.Errorf("%d blobs purged, want 20", len(seen))
	}
	h.check()
}

func TestPurgesWaitsAndSaysItLives(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	photo := h.post(anna, Details{})
	type answer struct {
		list []Purge
		age  time.Duration
		err  error
	}
	ask := func(ctx context.Context) <-chan answer {
		ch := make(chan answer, 1)
		go func() {
			list, age, err := h.feed.Purges(ctx, 0, 1)
			ch <- answer{list, age, err}
		}()
		return ch
	}
	start := h.clock.Now()
	if a := await(h, ask(ctx), time.Millisecond); a.err != nil || len(a.list) != 0 || h.clock.Now().Sub(start) < purgeHeartbeat {
		t.Errorf("heartbeat: %+v after %v", a, h.clock.Now().Sub(start))
	}
	if a := await(h, ask(ctx), time.Millisecond); a.age > -purgeHeartbeat {
		t.Errorf("the heartbeat is as of %v before the question: it was looked at again", a.age)
	}
	ch := ask(ctx)
	for h.clock.Waiters() == 0 {
	}
	h.must(h.feed.DeletePhoto(ctx, anna, photo, false))
	if a := <-ch; a.err != nil || len(a.list) != 1 || a.list[0].Seq != 1 {
		t.Errorf("woken: %+v", a)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if a := <-ask(gone); !errors.Is(a.err, context.Canceled) {
		t.Errorf("ended: %+v", a)
	}
}

func TestPurgeGap(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	photo := h.post(anna, Details{})
	h.must(h.feed.DeletePhoto(ctx, anna, photo, false))
	_, _, err := h.feed.Purges(ctx, 7, 10)
	var gap *PurgeGap
	if !errors.As(err, &gap) || !errors.Is(err, ErrPurgeGap) || gap.Resume != 2 {
		t.Fatalf("a follower of another log: %v", err)
	}
	h.clock.Advance(49 * time.Hour)
	h.feed.guard.start(h.clock.Now(), time.Time{}) // which believes it
	_, err = h.feed.RestorePhoto(ctx, anna, photo)
	h.must(err) // entries 3 and 4, young
	h.must(h.feed.trimNow(ctx))
	_, _, err = h.feed.Purges(ctx, 1, 10)
	if !errors.As(err, &gap) || gap.Resume != 4 {
		t.Fatalf("trimmed: %v", err)
	}
	if got := h.purged(2); len(got) != 2 {
		t.Errorf("kept: %v", got)
	}
	h.check()
}

// Events are trimmed only as far as the timelines are durable.
func TestEventsAreTrimmedBehindTheTimelines(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	for range trimMinimum {
		h.must(h.feed.Follow(ctx, anna, bert))
		h.must(h.feed.Unfollow(ctx, anna, bert))
	}
	h.must(h.feed.trimNow(ctx))
	snap := source{h.feed}.Snapshot()
	defer snap.Close()
	events, first, err := snap.Events(0, 10)
	if err != nil || first != 1 || len(events) != 10 || events[0].Seq != 1 {
		t.Fatalf("before the timelines moved: %v from %d, %v", events, first, err)
	}
	_, err = h.feed.propose(ctx, &cmdTrimEvents{Through: 100})
	h.must(err)
	later := source{h.feed}.Snapshot()
	defer later.Close()
	if events, first, err = later.Events(0, 1); err != nil || first != 101 || events[0].Seq != 101 {
		t.Errorf("after: %v from %d, %v", events, first, err)
	}
	if events, _, err = later.Events(300, 1); err != nil || events[0].Seq != 301 {
		t.Errorf("later: %v, %v", events, err)
	}
	h.check()
	_, err = h.feed.propose(ctx, &cmdTrimEvents{Through: 1 << 40}) // beyond the end
	h.must(err)
	h.must(h.feed.Follow(ctx, anna, bert))
	h.check()
}
