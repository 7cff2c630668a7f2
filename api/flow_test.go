package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/media"
)

// The road once: sign up, follow, upload both ways, feed, like, comment, delete.
func TestTheRoadOnce(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	bob, bobID := w.account("bob")
	w.call(bob, "POST", "/api/v1/follow/@ada", nil).is(204)
	w.call(bob, "POST", "/api/v1/users/%40ada/follow", nil).is(204)
	u := into[userBody](w.call(bob, "GET", "/api/v1/users/ada", nil).is(200))
	if u.ID != adaID || !u.Viewer.Follows || u.FollowerCount != 1 {
		t.Errorf("ada as bob sees her: %+v", u)
	}

	data := picture(64, 48, 1)
	first := w.post(ada, data, m{"caption": "one", "tags": []string{"#Sea", "sea", "sand"}, "people": []id.ID{bobID},
		"location": m{"lat": 52.5, "lng": 13.4, "name": "Berlin"}})
	p := into[photoSeen](w.call(ada, "GET", "/api/v1/photos/"+first.String(), nil).is(200))
	if p.Status != "pending" || p.Caption != "one" || len(p.Tags) != 2 || p.Tags[0] != "sea" || p.Location.Lat != 52.5 || p.People[0] != bobID || len(p.Media) != 0 {
		t.Errorf("pending photo: %+v", p)
	}
	w.call(bob, "GET", "/api/v1/photos/"+first.String(), nil).fails(pNotFound)
	w.call(ada, "GET", "/api/v1/photos/"+first.String()+"/large", nil).fails(pNotReady)
	w.call(bob, "GET", "/api/v1/photos/"+first.String()+"/large", nil).fails(pNotFound)
	w.makeReady(first)

	body, ct := form(t, picture(64, 48, 2), true, "title", "two", "tags", "x", "tags", "y", "location", `{"lat":1,"lng":2}`)
	f := into[formSeen](w.call(ada, "POST", "/api/v1/photos", body, "Content-Type", ct).is(201))
	if f.CDNURL != w.url+"/api/v1/photos/"+f.PhotoID.String()+"/large" || f.Photo.Title != "two" || len(f.Photo.Tags) != 2 || f.Photo.Location.Lng != 2 {
		t.Errorf("form: %+v", f)
	}
	w.makeReady(f.PhotoID)

	page := into[pageBody[photoSeen]](w.call(bob, "GET", "/api/v1/feed", nil).is(200))
	if len(page.Items) != 2 || page.Items[0].PhotoID != f.PhotoID || page.Items[1].PhotoID != first {
		t.Fatalf("feed: %+v", page)
	}
	one := page.Items[1]
	if len(one.URLs) != 5 || len(one.Media) != 1 || one.Media[0].URLs["large"].URL != one.URLs["large"] || one.Media[0].Width != 64 || one.PublishedAt == nil {
		t.Errorf("photo object: %+v", one)
	}
	loc := w.call(bob, "GET", "/api/v1/photos/"+first.String(), nil, "Accept", "text/html, */*").is(302).header
	if loc.Get("Location") != one.URLs["large"] || loc.Get("Cache-Control") != "no-store" {
		t.Errorf("redirect: %v", loc)
	}
	for name, url := range one.URLs {
		if got := w.call("", "GET", "/api/v1/photos/"+first.String()+"/"+name, nil).is(302).header.Get("Location"); got != url {
			t.Errorf("%s: %s, want %s", name, got, url)
		}
	}
	master := w.call(ada, "GET", "/api/v1/photos/"+first.String()+"/master", nil).is(200)
	if !bytes.Equal(master.body, data) {
		t.Error("the master is not what was uploaded")
	}
	w.call(bob, "GET", "/api/v1/photos/"+first.String()+"/master", nil).fails(pNotFound)

	w.talk(ada, bob, bobID, first)
	w.call(ada, "DELETE", "/api/v1/photos/"+first.String(), nil).is(204)
	for name := range one.URLs {
		w.call(bob, "GET", "/api/v1/photos/"+first.String()+"/"+name, nil).fails(pNotFound)
	}
	if d := into[pageBody[photoSeen]](w.call(ada, "GET", "/api/v1/photos/deleted", nil).is(200)); len(d.Items) != 1 || d.Items[0].Status != "deleted" {
		t.Errorf("deleted: %+v", d)
	}
	w.call(ada, "POST", "/api/v1/photos/"+first.String()+"/restore", nil).is(200)
	w.call(bob, "GET", "/api/v1/photos/"+first.String()+"/large", nil).is(302)
	w.call(ada, "DELETE", "/api/v1/photos/"+first.String()+"?purge=now", nil).is(204)
	// While the sweeper takes it away it is a conflict, then it is nothing.
	if a := w.call(ada, "POST", "/api/v1/photos/"+first.String()+"/restore", nil); a.status != 409 && a.status != 404 {
		t.Errorf("restoring a purged photo: %d", a.status)
	}
}

// talk likes and comments on a photo of ada's.
func (w *world) talk(ada, bob string, bobID, first id.ID) {
	t := w.t
	t.Helper()
	w.call(bob, "POST", "/api/v1/photos/"+first.String()+"/like", nil).is(204)
	w.call(bob, "POST", "/api/v1/like/"+first.String(), nil).is(204)
	c := into[commentBody](w.call(bob, "POST", "/api/v1/photos/"+first.String()+"/comments", m{"text": "nice <b>"}).is(201))
	r := into[commentBody](w.call(ada, "POST", "/api/v1/photos/"+first.String()+"/comments", m{"text": "thanks", "parent_id": c.ID}).is(201))
	if *r.ParentID != c.ID || c.Author.ID != bobID || c.Author.Handle != "bob" {
		t.Errorf("comments: %+v %+v", c, r)
	}
	p := into[photoSeen](w.call(bob, "GET", "/api/v1/photos/"+first.String(), nil, "Accept", typeJSON).is(200))
	if p.LikeCount != 1 || p.CommentCount != 2 || !p.Liked {
		t.Errorf("counters: %+v", p)
	}
	if likes := into[pageBody[userBody]](w.call("", "GET", "/api/v1/photos/"+first.String()+"/likes", nil).is(200)); len(likes.Items) != 1 || likes.Items[0].ID != bobID {
		t.Errorf("likes: %+v", likes)
	}
	if cs := into[pageBody[commentBody]](w.call("", "GET", "/api/v1/photos/"+first.String()+"/comments", nil).is(200)); len(cs.Items) != 1 || cs.Items[0].ReplyCount != 1 {
		t.Errorf("comments: %+v", cs)
	}
	if rs := into[pageBody[commentBody]](w.call("", "GET", "/api/v1/comments/"+c.ID.String()+"/replies", nil).is(200)); len(rs.Items) != 1 || rs.Items[0].ID != r.ID {
		t.Errorf("replies: %+v", rs)
	}
	w.call(bob, "DELETE", "/api/v1/photos/"+first.String()+"/like", nil).is(204)
	w.call(bob, "DELETE", "/api/v1/comments/"+c.ID.String(), nil).is(204)
}

func TestPatchAndProfile(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	photo := w.post(ada, picture(64, 48, 1), m{"caption": "one", "location": m{"lat": 1, "lng": 2}, "tags": []string{"a"}})
	path := "/api/v1/photos/" + photo.String()
	p := into[photoSeen](w.call(ada, "PATCH", path, m{"title": "new", "status": "ready", "owner_id": "x", "author": m{}, "like_count": 7}).is(200))
	if p.Title != "new" || p.Caption != "one" || p.Status != "pending" || p.LikeCount != 0 || p.Location == nil {
		t.Errorf("after patch: %+v", p)
	}
	p = into[photoSeen](w.call(ada, "PATCH", path, m{"location": nil, "caption": nil, "tags": nil, "visibility": "only_me"}).is(200))
	if p.Location != nil || p.Caption != "" || len(p.Tags) != 0 || p.Visibility != "only_me" {
		t.Errorf("after emptying: %+v", p)
	}
	u := into[userBody](w.call(ada, "PATCH", "/api/v1/users/me", m{"name": "Ada L", "bio": "two\nlines", "role": "admin"}).is(200))
	if u.Name != "Ada L" || u.Bio != "two\nlines" {
		t.Errorf("profile: %+v", u)
	}
	w.makeReady(photo)
	got := w.call(ada, "GET", path+"/large", nil).is(302).header.Get("Location")
	if !strings.Contains(got, "&s=") {
		t.Errorf("URL of a private photo is not signed: %s", got)
	}
}

func TestSessions(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	creds := m{"handle": "ada", "password": "pass of ada"}
	w.call("", "POST", "/api/v1/sessions", m{"handle": "ada", "password": "wrong"}).fails(pBadLogin)
	w.call("", "POST", "/api/v1/sessions", m{"handle": "nobody", "password": "wrong"}).fails(pBadLogin)
	w.call("", "POST", "/api/v1/sessions", m{"handle": "no body", "password": "wrong"}).fails(pBadLogin)
	second := into[signedInBody](w.call("", "POST", "/api/v1/sessions", creds).is(201)).Token
	list := into[pageBody[sessionBody]](w.call(second, "GET", "/api/v1/sessions", nil).is(200)).Items
	if len(list) != 2 {
		t.Fatalf("sessions: %+v", list)
	}
	for _, s := range list {
		if s.Current {
			w.call(second, "DELETE", "/api/v1/sessions/"+s.ID.String(), nil).is(204)
		}
	}
	w.call(second, "GET", "/api/v1/users/me", nil).fails(pUnauthorized)
	w.call(second, "GET", "/api/v1/instance", nil).is(200)
	w.call(second, "GET", "/api/v1/users/ada", nil).fails(pUnauthorized) // a dead token is told, not ignored
	third := into[signedInBody](w.call("", "POST", "/api/v1/sessions", creds).is(201)).Token
	w.call(ada, "DELETE", "/api/v1/sessions", nil).is(204)
	for _, dead := range []string{ada, third, "hls_short", "x"} {
		w.call(dead, "GET", "/api/v1/users/me", nil).fails(pUnauthorized)
	}
	last := into[signedInBody](w.call("", "POST", "/api/v1/sessions", creds).is(201)).Token
	w.clock.Advance(91 * day)
	w.call(last, "GET", "/api/v1/users/me", nil).fails(pUnauthorized)
	if n := len(w.eventsOf(EventSignInFail)); n != 3 {
		t.Errorf("%d audit events of failed sign-ins", n)
	}
}

func TestCookieIsSameOrigin(t *testing.T) {
	w := newWorld(t)
	w.account("ada")
	creds := m{"handle": "ada", "password": "pass of ada", "cookie": true}
	w.call("", "POST", "/api/v1/sessions", creds).fails(pCrossSite)
	w.call("", "POST", "/api/v1/sessions", creds, "Origin", "https://evil.example").fails(pCrossSite)
	a := w.call("", "POST", "/api/v1/sessions", creds, "Sec-Fetch-Site", "same-origin").is(201)
	set := a.header.Get("Set-Cookie")
	if !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "SameSite=Strict") || !strings.Contains(set, "path=/") {
		t.Errorf("Set-Cookie: %s", set)
	}
	c, err := http.ParseSetCookie(set)
	must(t, err)
	cookie := c.Name + "=" + c.Value
	w.call("", "GET", "/api/v1/users/me", nil, "Cookie", cookie).is(200)
	like := func(headers ...string) *answer {
		return w.call("", "PATCH", "/api/v1/users/me", m{"name": "x"}, append(headers, "Cookie", cookie)...)
	}
	like().fails(pCrossSite)
	like("Origin", "https://evil.example").fails(pCrossSite)
	like("Origin", "null").fails(pCrossSite)
	like("Sec-Fetch-Site", "same-site", "Origin", w.url).fails(pCrossSite)
	like("Sec-Fetch-Site", "cross-site").fails(pCrossSite)
	like("Sec-Fetch-Site", "none").fails(pCrossSite)
	like("Origin", w.url).is(200)
	like("Sec-Fetch-Site", "same-origin").is(200)
	like("Origin", "http://localhost:1", "Host", "localhost:1").is(200)
	w.call("", "GET", "/api/v1/users/ada", nil, "Cookie", c.Name+"=stale").is(200) // sent unasked: anonymous
	out := w.call("", "DELETE", "/api/v1/sessions", nil, "Cookie", cookie, "Origin", w.url).is(204)
	if !strings.Contains(out.header.Get("Set-Cookie"), "max-age=0") {
		t.Errorf("sign-out leaves the cookie: %s", out.header.Get("Set-Cookie"))
	}
	w.call("", "GET", "/api/v1/users/me", nil, "Cookie", cookie).fails(pUnauthorized)
}

func TestPagesAndCursors(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	bob, _ := w.account("bob")
	photo := w.post(ada, picture(64, 48, 1), nil)
	w.makeReady(photo)
	path := "/api/v1/photos/" + photo.String() + "/comments"
	for range 5 {
		w.call(bob, "POST", path, m{"text": "x"}).is(201)
	}
	var seen []id.ID
	next := ""
	for range 10 {
		p := into[pageBody[commentBody]](w.call(bob, "GET", path+"?limit=2"+next, nil).is(200))
		for _, c := range p.Items {
			seen = append(seen, c.ID)
		}
		if p.NextCursor == "" {
			break
		}
		next = "&cursor=" + p.NextCursor
		w.call(ada, "GET", path+"?cursor="+p.NextCursor, nil).fails(pBadCursor)                                   // another viewer
		w.call(bob, "GET", "/api/v1/feed?cursor="+p.NextCursor, nil).fails(pBadCursor)                            // another list
		w.call(bob, "GET", "/api/v1/photos/"+photo.String()+"/likes?cursor="+p.NextCursor, nil).fails(pBadCursor) // another list of the same photo
	}
	if len(seen) != 5 {
		t.Errorf("%d comments seen over all pages", len(seen))
	}
	for _, q := range []string{"limit=0", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=1.5"} {
		w.call(bob, "GET", path+"?"+q, nil).fails(pMalformed)
	}
	if p := into[pageBody[commentBody]](w.call(bob, "GET", path+"?limit=1000000", nil).is(200)); len(p.Items) != 5 {
		t.Errorf("clamped page: %d rows", len(p.Items))
	}
	w.call(bob, "GET", path+"?cursor=", nil).fails(pBadCursor)
	w.call(bob, "GET", path+"?cursor=abc", nil).fails(pBadCursor)
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	bob, _ := w.account("bob")
	photo := w.post(ada, picture(64, 48, 1), nil)
	w.makeReady(photo)
	path := "/api/v1/photos/" + photo.String() + "/comments"
	c1 := into[commentBody](w.call(bob, "POST", path, m{"text": "x"}, "Idempotency-Key", "k1").is(201))
	c2 := into[commentBody](w.call(bob, "POST", path, m{"text": "x"}, "Idempotency-Key", "k1").is(201))
	if c1.ID != c2.ID {
		t.Error("the same key made two comments")
	}
	w.call(bob, "POST", path, m{"text": "y"}, "Idempotency-Key", "k1").fails(pIdemOther)
	w.call(ada, "POST", path, m{"text": "y"}, "Idempotency-Key", "k1").is(201) // another account's key
	w.call(bob, "POST", path, m{"text": "x"}, "Idempotency-Key", strings.Repeat("k", 256)).fails(pMalformed)

	body, ct := form(t, picture(64, 48, 2), false, "caption", "c")
	f1 := into[formSeen](w.call(ada, "POST", "/api/v1/photos", body, "Content-Type", ct, "Idempotency-Key", "form").is(201))
	before := w.blobs.bytes()
	f2 := into[formSeen](w.call(ada, "POST", "/api/v1/photos", body, "Content-Type", ct, "Idempotency-Key", "form").is(201))
	if f1.PhotoID != f2.PhotoID || w.blobs.bytes() != before {
		t.Error("the same key stored the photo twice")
	}
	other, ct2 := form(t, picture(64, 48, 3), false, "caption", "c")
	w.call(ada, "POST", "/api/v1/photos", other, "Content-Type", ct2, "Idempotency-Key", "form").fails(pIdemOther)
	if w.blobs.bytes() != before {
		t.Error("a refused repeat appended bytes")
	}

	ask := m{"file_size": 100, "content_type": "image/jpeg"}
	u1 := into[uploadURLBody](w.call(ada, "POST", "/api/v1/photos/upload-url", ask, "Idempotency-Key", "u").is(201))
	u2 := into[uploadURLBody](w.call(ada, "POST", "/api/v1/photos/upload-url", ask, "Idempotency-Key", "u").is(201))
	if u1 != u2 {
		t.Errorf("the same key made two upload URLs: %+v %+v", u1, u2)
	}
}

// A repeat of the call for an upload URL never hands out a URL that cannot
// work: it is the first one while that is good, and a problem afterwards.
func TestRepeatedUploadURLIsNeverDead(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	data := picture(64, 48, 1)
	ask := func(key string) *answer {
		return w.call(ada, "POST", "/api/v1/photos/upload-url", m{"file_size": len(data), "content_type": media.TypeJPEG}, "Idempotency-Key", key)
	}
	first := into[uploadURLBody](ask("stored").is(201))
	w.clock.Advance(5 * time.Minute)
	again := into[uploadURLBody](ask("stored").is(201))
	if again.UploadURL != first.UploadURL || again.PhotoID != first.PhotoID || again.ExpiresIn != 600 {
		t.Errorf("after 5 minutes: %+v, first was %+v", again, first)
	}
	w.call("", "PUT", again.UploadURL, data).is(201)
	ask("stored").fails(pUploadStored)
	w.call(ada, "POST", "/api/v1/photos", m{"photo_id": first.PhotoID}).is(202)
	ask("stored").fails(pUploadStored)

	ask("late").is(201)
	w.clock.Advance(15 * time.Minute)
	ask("late").fails(pUploadExpired)
	w.clock.Advance(6 * time.Hour) // the reservation itself is gone by now
	ask("late").fails(pUploadExpired)
}

func TestFinalizeIsIdempotentPerPhoto(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	bob, _ := w.account("bob")
	data := picture(64, 48, 1)
	u := w.uploadURL(ada, data)
	w.call(ada, "POST", "/api/v1/photos", m{"photo_id": u.PhotoID}).fails(pBytesMissing)
	w.call("", "PUT", u.UploadURL, data).is(201)
	w.call(bob, "POST", "/api/v1/photos", m{"photo_id": u.PhotoID}).fails(pNotFound)
	a := w.call(ada, "POST", "/api/v1/photos", m{"photo_id": u.PhotoID, "caption": "c"}).is(202)
	if want := w.url + "/api/v1/photos/" + u.PhotoID.String(); a.header.Get("Location") != want {
		t.Errorf("Location %q, want %q", a.header.Get("Location"), want)
	}
	p := into[photoSeen](w.call(ada, "POST", "/api/v1/photos", m{"photo_id": u.PhotoID, "caption": "c"}).is(202))
	if p.Caption != "c" || p.Status != "pending" {
		t.Errorf("repeat: %+v", p)
	}
}

func TestPreferWait(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	data := picture(64, 48, 1)
	u := w.uploadURL(ada, data)
	w.call("", "PUT", u.UploadURL, data).is(201)
	w.call(ada, "POST", "/api/v1/photos", m{"photo_id": u.PhotoID}, "Prefer", "wait=x").fails(pMalformed)
	w.call(ada, "POST", "/api/v1/photos", m{"photo_id": u.PhotoID}).is(202)
	posted, asked := make(chan *answer, 1), make(chan *answer, 1)
	go func() {
		posted <- w.call(ada, "POST", "/api/v1/photos", m{"photo_id": u.PhotoID}, "Prefer", "respond-async, wait=99")
	}()
	go func() {
		asked <- w.call(ada, "GET", "/api/v1/photos/"+u.PhotoID.String(), nil, "Accept", "application/json", "Prefer", "wait=99")
	}()
	w.makeReady(u.PhotoID)
	for _, a := range []*answer{(<-posted).is(202), (<-asked).is(200)} {
		if p := into[photoSeen](a); p.Status != "ready" || a.header.Get("Preference-Applied") != "wait=10" {
			t.Errorf("after waiting: %s, %q", p.Status, a.header.Get("Preference-Applied"))
		}
	}
}

// waits is a feed that says when a call begins to wait for variants.
type waits struct {
	Feed
	begin func(photo id.ID)
}

func (f waits) WaitReady(ctx context.Context, viewer, photo id.ID) (feed.PhotoView, error) {
	f.begin(photo)
	return f.Feed.WaitReady(ctx, viewer, photo)
}

// A form that waits for its variants holds no room in the spool meanwhile.
func TestWaitingFormHoldsNoRoom(t *testing.T) {
	var w *world
	held := int64(-1)
	w = newWorld(t, func(o *Options) {
		o.Feed = waits{o.Feed, func(photo id.ID) {
			held, _ = w.api.spool.held()
			w.makeReady(photo)
		}}
	})
	ada, _ := w.account("ada")
	body, ct := form(t, picture(64, 48, 1), false, "caption", "c")
	p := into[formSeen](w.call(ada, "POST", "/api/v1/photos", body, "Content-Type", ct, "Prefer", "wait=10").is(201)).Photo
	if p.Status != "ready" || held != 0 {
		t.Errorf("%s after waiting with %d bytes held", p.Status, held)
	}
}

func TestStoredBytesAreTheUpload(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	data := picture(640, 480, 9)
	w.blobs.moves.Store(2) // two tiles close under the write
	u := w.uploadURL(ada, data)
	s := into[storedBody](w.call("", "PUT", u.UploadURL, data).is(201))
	if s.Digest != digestName(sha256.Sum256(data)) || s.Size != int64(len(data)) || s.PhotoID != u.PhotoID {
		t.Errorf("stored: %+v", s)
	}
	w.call(ada, "POST", "/api/v1/photos", m{"photo_id": u.PhotoID}).is(202)
	a := w.call(ada, "GET", "/api/v1/photos/"+u.PhotoID.String()+"/master", nil).is(200)
	if sha256.Sum256(a.body) != sha256.Sum256(data) || !strings.HasPrefix(a.header.Get("Repr-Digest"), "sha-256=:") {
		t.Error("the master is not the upload")
	}
	h := w.call(ada, "HEAD", "/api/v1/photos/"+u.PhotoID.String()+"/master", nil).is(200)
	if h.header.Get("Content-Length") != itoa(len(data)) {
		t.Errorf("HEAD: Content-Length %s", h.header.Get("Content-Length"))
	}
	eventually(t, "all room is given back", func() bool {
		n, _ := w.api.spool.held()
		m, _ := w.api.masters.held()
		return n+m == 0
	})
}

func TestInstance(t *testing.T) {
	w := newWorld(t)
	b := into[instanceBody](w.call("", "GET", "/api/v1/instance", nil).is(200))
	if b.Limits.PhotoBytes != 32<<20 || len(b.Formats) != 4 || b.Signup != SignupOpen {
		t.Errorf("instance: %+v", b)
	}
	w.call("", "GET", "/openapi.yaml", nil).is(200)
	w.call("", "GET", "/healthz", nil).is(200)
	w.call("", "GET", "/readyz", nil).is(200)
	for name := range problemKinds {
		w.call("", "GET", problemBase+name, nil).is(200)
	}
	w.call("", "GET", problemBase+"nonsense", nil).fails(pNotFound)
}
