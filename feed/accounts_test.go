package feed

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"hayloft/internal/id"
)

func TestHandles(t *testing.T) {
	for handle, ok := range map[string]bool{
		"a": true, "a.b": true, "_": true, "x9_": true, strings.Repeat("a", 32): true,
		"": false, ".a": false, "a.": false, "a..b": false, "A": false, "a-b": false, "ä": false, "a b": false, "a\n": false,
		strings.Repeat("a", 33): false, "me": false, "admin": false,
		"0169n64001r02":  false, // an id
		"0169n64001r0":   true,  // a character short of one
		"z169n64001r02":  true,  // more than 64 bits
		"0169n64001r0il": true,
	} {
		err := Limits{}.CheckHandle(handle)
		if ok != (err == nil) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", handle, err)
		}
		var inv Invalid
		if err != nil && (!errors.As(err, &inv) || inv.Field != "handle" || inv.Reason == "") {
			t.Errorf("%q: no reason in %v", handle, err)
		}
	}
}

func TestDetailsAreChecked(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	nan := 0.0
	nan /= nan
	photo := h.post(anna, Details{})
	before := len(h.group.log)
	str := func(s string) *string { return &s }
	tags := func(s ...string) *[]string { return &s }
	people := func(p ...id.ID) *[]id.ID { return &p }
	where := func(lat, lng float64) **Location { p := &Location{Lat: lat, Lng: lng}; return &p }
	vis := func(v Visibility) *Visibility { return &v }
	for field, changes := range map[string][]PhotoChange{
		"title":      {{Title: str(strings.Repeat("ä", 101))}, {Title: str("a\nb")}, {Title: str("\xff")}},
		"caption":    {{Caption: str(strings.Repeat("x", 2201))}, {Caption: str("\x00")}},
		"alt":        {{Alt: str(strings.Repeat("x", 2201))}},
		"tags":       {{Tags: tags("two words")}, {Tags: tags("")}, {Tags: tags("#")}, {Tags: tags("a/b")}, {Tags: tags(many(31)...)}},
		"people":     {{People: people(0)}, {People: people(12345)}},
		"location":   {{Location: where(91, 0)}, {Location: where(0, -181)}, {Location: where(nan, 0)}},
		"visibility": {{Visibility: vis(3)}},
	} {
		for _, c := range changes {
			var inv Invalid
			if _, err := h.feed.UpdatePhoto(ctx, anna, photo, c); !errors.As(err, &inv) || inv.Field != field {
				t.Errorf("%s: %v", field, err)
			}
		}
	}
	for _, text := range []string{"", " \n", strings.Repeat("x", 2201), "\x07"} {
		_, err := h.feed.AddComment(ctx, anna, photo, text, 0)
		h.wants(err, ErrInvalid)
	}
	_, err := h.feed.UpdateProfile(ctx, anna, ProfileChange{Name: str(strings.Repeat("x", 65))})
	h.wants(err, ErrInvalid)
	_, err = h.feed.UpdateProfile(ctx, anna, ProfileChange{Bio: str(strings.Repeat("x", 151))})
	h.wants(err, ErrInvalid)
	if len(h.group.log) != before {
		t.Error("a refused input made a command")
	}
	p, err := h.feed.UpdatePhoto(ctx, anna, photo, PhotoChange{
		Title: str(strings.Repeat("ä", 100)), Caption: str("a\nb"), Tags: tags("#Sea", "sea", "Ünder"), People: people(anna, anna),
		Location: where(-90, 180),
	})
	h.must(err)
	if d := p.Details; strings.Join(d.Tags, ",") != "sea,ünder" || len(d.People) != 1 || d.Location.Lng != 180 || d.Caption != "a\nb" {
		t.Errorf("details %+v", d)
	}
	var none *Location
	p, err = h.feed.UpdatePhoto(ctx, anna, photo, PhotoChange{Location: &none})
	if err != nil || p.Details.Location != nil || len(p.Details.Tags) != 2 {
		t.Errorf("after removing the location: %+v, %v", p.Details, err)
	}
}

func many(n int) (out []string) {
	for i := range n {
		out = append(out, strings.Repeat("t", i+1))
	}
	return out
}

func TestSessions(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	user, hash, err := h.feed.Credentials(ctx, "anna")
	if err != nil || user != anna || hash != "hash" {
		t.Fatal(user, hash, err)
	}
	_, _, err = h.feed.Credentials(ctx, "nobody")
	h.wants(err, ErrNotFound)
	s, err := h.feed.CreateSession(ctx, anna, NewSession{TokenHash: [32]byte{1}, ExpiresAt: h.clock.Now().Add(time.Hour), Cookie: true})
	h.must(err)
	if s.User != anna || !s.Cookie || !s.CreatedAt.Equal(testStart) {
		t.Errorf("session %+v", s)
	}
	_, err = h.feed.CreateSession(ctx, bert, NewSession{TokenHash: [32]byte{1}, ExpiresAt: h.clock.Now().Add(time.Hour)})
	h.wants(err, ErrConflict)
	list, err := h.feed.Sessions(ctx, anna)
	if err != nil || len(list) != 2 || list[0] != s {
		t.Fatalf("sessions %+v, %v", list, err)
	}
	h.wants(h.feed.DeleteSession(ctx, bert, s.ID), ErrNotFound)
	h.clock.Advance(time.Hour)
	_, err = h.feed.SessionByToken(ctx, [32]byte{1})
	h.wants(err, ErrNotFound) // before the sweeper has come
	if list, _ := h.feed.Sessions(ctx, anna); len(list) != 1 {
		t.Errorf("an expired session is listed: %v", list)
	}
	_, err = h.sweepNow()
	h.must(err)
	h.wants(h.feed.DeleteSession(ctx, anna, s.ID), ErrNotFound)
	h.must(h.feed.DeleteSessions(ctx, anna))
	_, err = h.feed.SessionByToken(ctx, tokenHash("anna"))
	h.wants(err, ErrNotFound)
	_, err = h.feed.SessionByToken(ctx, tokenHash("bert"))
	h.must(err)
	h.check()
}

func TestIdempotency(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	photo := h.post(anna, Details{})
	var earlier id.ID
	key := Idempotency{Account: anna, Route: "POST /comments", Key: "k1", Fingerprint: [32]byte{1}, Earlier: &earlier}
	if _, found, err := h.feed.Repeated(ctx, key); found || err != nil {
		t.Fatal(found, err)
	}
	_, err := h.feed.AddComment(WithIdempotency(ctx, key), anna, 12345, "hello", 0)
	h.wants(err, ErrNotFound) // leaves no record
	first, err := h.feed.AddComment(WithIdempotency(ctx, key), anna, photo, "hello", 0)
	h.must(err)
	if earlier != 0 {
		t.Error("the first call is no repeat")
	}
	h.close()
	h.group.close(t)
	h.group.open(t) // the key survives
	h.open()
	again, err := h.feed.AddComment(WithIdempotency(ctx, key), anna, photo, "hello", 0)
	if err != nil || again != first || earlier != first.ID {
		t.Fatalf("again: %+v, %v, earlier %v", again, err, earlier)
	}
	if got, found, err := h.feed.Repeated(ctx, key); !found || got != first.ID || err != nil {
		t.Error(got, found, err)
	}
	other := key
	other.Fingerprint = [32]byte{2}
	_, err = h.feed.AddComment(WithIdempotency(ctx, other), anna, photo, "other", 0)
	h.wants(err, ErrIdempotencyReused)
	_, _, err = h.feed.Repeated(ctx, other)
	h.wants(err, ErrIdempotencyReused)
	bert := h.user("bert") // another account's key, another route: other keys
	for _, k := range []Idempotency{{Account: bert, Route: key.Route, Key: "k1"}, {Account: anna, Route: "POST /x", Key: "k1"}} {
		k.Fingerprint = key.Fingerprint
		c, err := h.feed.AddComment(WithIdempotency(ctx, k), k.Account, photo, "hello", 0)
		if err != nil || c.ID == first.ID {
			t.Errorf("%+v: %v, %v", k, c.ID, err)
		}
	}
	h.check()
	h.clock.Advance(24 * time.Hour) // ended, not swept
	late, err := h.feed.AddComment(WithIdempotency(ctx, key), anna, photo, "hello", 0)
	if err != nil || late.ID == first.ID {
		t.Errorf("after 24 hours: %v, %v", late, err)
	}
	h.check()
	h.clock.Advance(24 * time.Hour)
	_, err = h.sweepNow()
	h.must(err)
	if n, _ := (&checker{store: store{h.group.db}}).count([]byte{tabIdempotency}); n != 0 {
		t.Errorf("%d records left", n)
	}
	h.check()
}

func TestIdempotencyOfManyAtOnce(t *testing.T) {
	h := newHouse(t, nil)
	anna := h.user("anna")
	photo := h.post(anna, Details{})
	key := Idempotency{Account: anna, Route: "r", Key: "k", Fingerprint: [32]byte{1}}
	var wg sync.WaitGroup
	ids := make([]id.ID, 8)
	for i := range ids {
		wg.Go(func() {
			c, err := h.feed.AddComment(WithIdempotency(context.Background(), key), anna, photo, "hello", 0)
			if err != nil {
				t.Error(err)
			}
			ids[i] = c.ID
		})
	}
	wg.Wait()
	for _, v := range ids {
		if v != ids[0] {
			t.Errorf("two comments: %v", ids)
		}
	}
}

func TestIdempotentSignup(t *testing.T) {
	h := newHouse(t, nil)
	ctx := WithIdempotency(context.Background(), Idempotency{Route: "POST /accounts", Key: "k", Fingerprint: [32]byte{1}})
	a := NewAccount{Handle: "anna", PasswordHash: "x", Session: NewSession{TokenHash: [32]byte{5}, ExpiresAt: h.clock.Now().Add(time.Hour)}}
	u, s, err := h.feed.CreateAccount(ctx, a)
	h.must(err)
	u2, s2, err := h.feed.CreateAccount(ctx, a)
	if err != nil || u2 != u || s2 != s {
		t.Errorf("repeat: %+v %+v %v", u2, s2, err)
	}
	a.Session.TokenHash = [32]byte{6}
	_, _, err = h.feed.CreateAccount(ctx, a)
	h.wants(err, ErrHandleTaken)
	_, err = h.feed.SessionByToken(ctx, [32]byte{6})
	h.wants(err, ErrNotFound)
}

// A multipart upload that is repeated has reserved another photo by the time
// its Stored finds the key: the first photo is the answer, the second ends by
// itself with its blob.
func TestIdempotentUpload(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	var earlier id.ID
	with := WithIdempotency(ctx, Idempotency{Account: anna, Route: "POST /photos", Key: "k", Fingerprint: [32]byte{1}, Earlier: &earlier})
	var photos, blobs []id.ID
	other := Idempotency{Account: anna, Route: "POST /photos/upload-url", Key: "k", Fingerprint: [32]byte{1}}
	spec := UploadSpec{Size: 1000, ContentType: "image/jpeg", ExpiresAt: h.clock.Now().Add(time.Minute)}
	one, err := h.feed.BeginUpload(WithIdempotency(ctx, other), anna, spec)
	h.must(err)
	if two, err := h.feed.BeginUpload(WithIdempotency(ctx, other), anna, spec); err != nil || two != one {
		t.Errorf("the same reservation again: %v and %v, %v", one, two, err)
	}
	for range 2 {
		photo, err := h.feed.BeginUpload(ctx, anna, UploadSpec{Size: 1000, ContentType: "image/jpeg", ExpiresAt: h.clock.Now().Add(time.Minute)})
		h.must(err)
		blob := h.mint()
		h.must(h.feed.Intend(with, photo, blob))
		h.must(h.feed.Stored(with, photo, master(blob), &Details{}))
		photos, blobs = append(photos, photo), append(blobs, blob)
	}
	if earlier != photos[0] {
		t.Errorf("earlier is %v, want %v", earlier, photos[0])
	}
	if up, err := h.feed.Upload(ctx, photos[1]); err != nil || up.Status != Reserved {
		t.Errorf("second photo: %+v, %v", up, err)
	}
	h.clock.Advance(3 * time.Hour)
	_, err = h.sweepNow()
	h.must(err)
	_, err = h.feed.Upload(ctx, photos[1])
	h.wants(err, ErrNotFound)
	var reclaimed []id.ID
	for _, e := range h.queued() {
		if e.Kind == EffectReclaim {
			reclaimed = append(reclaimed, e.Blob)
		}
	}
	if len(reclaimed) != 1 || reclaimed[0] != blobs[1] {
		t.Errorf("reclaimed %v, want %v", reclaimed, blobs[1])
	}
	h.check()
}

// An account has a bounded number of sessions; the oldest make room.
func TestSessionsAreBounded(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	for i := range maxSessions + 5 {
		_, err := h.feed.CreateSession(ctx, anna, NewSession{
			TokenHash: [32]byte{1, byte(i), byte(i >> 8)}, ExpiresAt: h.clock.Now().Add(time.Hour),
		})
		h.must(err)
	}
	list, err := h.feed.Sessions(ctx, anna)
	if err != nil || len(list) != maxSessions {
		t.Fatalf("%d sessions, %v", len(list), err)
	}
	_, err = h.feed.SessionByToken(ctx, tokenHash("anna"))
	h.wants(err, ErrNotFound)
	_, err = h.feed.SessionByToken(ctx, [32]byte{1, 4})
	h.wants(err, ErrNotFound)
	_, err = h.feed.SessionByToken(ctx, [32]byte{1, 5})
	h.must(err)
	if list, err := h.feed.Sessions(ctx, bert); err != nil || len(list) != 1 {
		t.Errorf("of another: %v, %v", list, err)
	}
	h.check()
}

// The number of photos tells nobody of photos they may not see.
func TestPhotoCountIsTheViewers(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert, carl := h.user("anna"), h.user("bert"), h.user("carl")
	h.must(h.feed.Follow(ctx, bert, anna))
	for _, v := range []Visibility{Public, Followers, Followers, OnlyMe, OnlyMe, OnlyMe, OnlyMe} {
		h.post(anna, Details{Visibility: v})
	}
	for viewer, want := range map[id.ID]uint64{0: 1, carl: 1, bert: 3, anna: 7} {
		if u, err := h.feed.UserByID(ctx, viewer, anna); err != nil || u.Photos != want {
			t.Errorf("%v is told of %d photos, %v; want %d", viewer, u.Photos, err, want)
		}
	}
	h.check()
}

// The clock of the node that begins an upload is an hour behind the others': for them
// the upload is not over at once.
func TestUploadBeginsOnANodeThatIsBehind(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	others := h.clock.Now().Add(time.Hour)
	h.feed.machine.latest.Store(millis(others)) // of a command of theirs
	photo, err := h.feed.BeginUpload(ctx, anna, UploadSpec{Size: 1000, ContentType: "image/jpeg", ExpiresAt: h.clock.Now().Add(15 * time.Minute)})
	h.must(err)
	h.clock.Advance(others.Add(14 * time.Minute).Sub(h.clock.Now()))
	h.must(second2(h.sweepNow()))
	up, err := h.feed.Upload(ctx, photo)
	if err != nil || up.Status != Reserved || !up.Spec.ExpiresAt.After(h.clock.Now()) {
		t.Errorf("%+v, %v", up, err)
	}
}
