package feed

import (
	"context"
	"testing"
	"time"

	"hayloft/internal/id"
)

func TestUploadByURL(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	digest := [32]byte{1, 2, 3}
	spec := UploadSpec{Size: 1000, ContentType: "image/jpeg", Digest: &digest, ExpiresAt: h.clock.Now().Add(15 * time.Minute)}
	photo, err := h.feed.BeginUpload(ctx, anna, spec)
	h.must(err)
	up, err := h.feed.Upload(ctx, photo)
	if err != nil || up.Owner != anna || up.Status != Reserved || *up.Spec.Digest != digest || !up.Spec.ExpiresAt.Equal(spec.ExpiresAt) {
		t.Fatalf("upload %+v, %v", up, err)
	}
	_, err = h.feed.Finalize(ctx, anna, photo, Details{})
	h.wants(err, ErrBytesMissing)
	_, err = h.feed.Finalize(ctx, bert, photo, Details{})
	h.wants(err, ErrNotFound)
	_, err = h.feed.Photo(ctx, anna, photo)
	h.wants(err, ErrNotFound)

	blob, late := h.mint(), h.mint()
	h.wants(h.feed.Stored(ctx, photo, master(blob), nil), ErrExpired) // never intended
	h.must(h.feed.Intend(ctx, photo, blob))
	h.must(h.feed.Intend(ctx, photo, late)) // the same PUT, repeated
	h.wants(h.feed.Intend(ctx, h.reserve(bert), blob), ErrConflict)
	short := master(blob)
	short.Size--
	h.wants(h.feed.Stored(ctx, photo, short, nil), ErrInvalid)
	h.must(h.feed.Stored(ctx, photo, master(blob), nil))
	h.must(h.feed.Stored(ctx, photo, master(blob), nil)) // its answer was lost
	h.wants(h.feed.Stored(ctx, photo, master(late), nil), ErrStored)
	h.wants(h.feed.Intend(ctx, photo, h.mint()), ErrStored)
	up, err = h.feed.Upload(ctx, photo)
	if err != nil || up.Status != Stored || up.Spec.Size != 1000 || *up.Spec.Digest != digest {
		t.Fatalf("stored upload %+v, %v", up, err)
	}
	_, err = h.feed.Finalize(ctx, bert, photo, Details{})
	h.wants(err, ErrNotFound)
	p, err := h.feed.Finalize(ctx, anna, photo, Details{Caption: "one"})
	h.must(err)
	if p.Status != Pending || p.Details.Caption != "one" || p.AuthorHandle != "anna" {
		t.Errorf("finalized %+v", p)
	}
	p, err = h.feed.Finalize(ctx, anna, photo, Details{Caption: "two"})
	if err != nil || p.Details.Caption != "one" {
		t.Errorf("again: %q, %v", p.Details.Caption, err)
	}
	_, err = h.feed.Photo(ctx, bert, photo)
	h.wants(err, ErrNotFound)
	h.must(h.ready(photo))
	p, err = h.feed.Photo(ctx, bert, photo)
	if err != nil || p.PublishedAt.Before(testStart) || len(p.Rendition.Variants) != 2 || p.Master.Blob != blob {
		t.Errorf("ready %+v, %v", p, err)
	}
	h.check()
}

func TestUploadsThatEnd(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	sweep := func() {
		t.Helper()
		_, err := h.sweepNow()
		h.must(err)
		h.check()
	}
	reserved, intended, slow := h.reserve(anna), h.reserve(anna), h.reserve(anna)
	blob, slowBlob := h.mint(), h.mint()
	h.must(h.feed.Intend(ctx, intended, blob))
	h.clock.Advance(74 * time.Minute) // a minute before the end of URL and slack
	sweep()
	h.must(h.feed.Intend(ctx, slow, slowBlob))
	h.wants(h.feed.Stored(ctx, intended, master(blob), nil), ErrExpired) // its intent has ended
	h.clock.Advance(2 * time.Minute)
	h.wants(h.feed.Intend(ctx, reserved, h.mint()), ErrExpired)
	sweep()
	for _, photo := range []id.ID{reserved, intended} {
		_, err := h.feed.Upload(ctx, photo)
		h.wants(err, ErrNotFound)
		h.wants(h.feed.Stored(ctx, photo, master(h.mint()), nil), ErrExpired)
	}
	h.must(h.feed.Stored(ctx, slow, master(slowBlob), nil)) // was under way, lives on
	h.clock.Advance(24*time.Hour - time.Second)
	sweep()
	_, err := h.feed.Upload(ctx, slow)
	h.must(err)
	h.clock.Advance(time.Second) // nobody finalized it
	sweep()
	_, err = h.feed.Finalize(ctx, anna, slow, Details{})
	h.wants(err, ErrNotFound)
	got := map[id.ID]bool{}
	for _, e := range h.queued() {
		got[e.Blob] = e.Kind == EffectReclaim
	}
	if len(got) != 2 || !got[blob] || !got[slowBlob] {
		t.Errorf("reclaimed %v", got)
	}
}

// A worker that comes too late leaves its blob to the sweeper.
func TestLateReady(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	photo := h.upload(anna, Details{})
	blob := h.mint()
	h.must(h.feed.Intend(ctx, photo, blob))
	h.must(h.feed.DeletePhoto(ctx, anna, photo, false))
	h.wants(h.feed.MarkReady(ctx, photo, rendition(blob)), ErrNotFound)
	_, err := h.feed.Master(ctx, photo)
	h.wants(err, ErrNotFound)
	h.clock.Advance(2 * time.Hour)
	_, err = h.sweepNow()
	h.must(err)
	if q := h.queued(); len(q) != 1 || q[0].Kind != EffectReclaim || q[0].Blob != blob {
		t.Errorf("owed: %+v", q)
	}
	p, err := h.feed.RestorePhoto(ctx, anna, photo)
	if err != nil || p.Status != Pending {
		t.Fatalf("restored %v, %v", p.Status, err)
	}
	h.wants(h.feed.MarkReady(ctx, photo, rendition(blob)), ErrExpired)
	h.must(h.ready(photo))
	h.check()
}

// The sweeper of Run wakes at the end of what ends next, and at a chore.
func TestRunSweepsByItself(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	h.run()
	gone := func(photo id.ID) <-chan bool {
		ch := make(chan bool)
		go func() {
			for {
				if p, err := (store{h.group.db}).photo(photo); err == nil && p == nil {
					ch <- true
					return
				}
			}
		}()
		return ch
	}
	start := h.clock.Now()
	await(h, gone(h.reserve(anna)), time.Second)
	if took := h.clock.Now().Sub(start); took < 75*time.Minute {
		t.Errorf("an upload ended after %v", took)
	}
	photo := h.post(anna, Details{})
	h.must(h.feed.DeletePhoto(ctx, anna, photo, true))
	<-gone(photo) // without the clock
	photo = h.post(anna, Details{})
	h.must(h.feed.DeletePhoto(ctx, anna, photo, false))
	await(h, gone(photo), time.Hour)
	h.halt()
	h.check()
}

// A begin upload that is repeated after the PUT still finds the expiry it told.
func TestStoredUploadKeepsItsExpiry(t *testing.T) {
	h := newHouse(t, nil)
	expires := h.clock.Now().Add(15 * time.Minute)
	photo := h.upload(h.user("anna"), Details{})
	u, err := h.feed.Upload(context.Background(), photo)
	if err != nil || u.Status != Pending || !u.Spec.ExpiresAt.Equal(expires) || u.Spec.Size != 1000 || u.Spec.Digest == nil {
		t.Errorf("got %+v, %v", u, err)
	}
}
