package api

import (
	"strings"
	"testing"

	"hayloft/internal/id"
)

func (w *world) user(token, name string) userBody {
	w.t.Helper()
	return into[userBody](w.call(token, "GET", "/api/v1/users/"+name, nil).is(200))
}

// newPhoto posts a ready photo.
func (w *world) newPhoto(token string, details m) id.ID {
	w.t.Helper()
	p := w.post(token, picture(16, 16, 1), details)
	w.makeReady(p)
	return p
}

func TestCommentLikes(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	bob, _ := w.account("bob")
	carl, _ := w.account("carl")
	comments := "/api/v1/photos/" + w.newPhoto(ada, nil).String() + "/comments"
	c := into[commentBody](w.call(bob, "POST", comments, m{"text": "fine"}).is(201))
	reply := into[commentBody](w.call(ada, "POST", comments, m{"text": "thanks", "parent_id": c.ID}).is(201))
	like := "/api/v1/comments/" + c.ID.String() + "/like"
	for range 2 {
		w.call(ada, "POST", like, nil).is(204)
	}
	w.call(carl, "POST", like, nil).is(204)
	w.call(carl, "POST", "/api/v1/comments/"+reply.ID.String()+"/like", nil).is(204)
	shows := func(token string, count uint64, liked bool) {
		t.Helper()
		got := into[pageBody[commentBody]](w.call(token, "GET", comments, nil).is(200)).Items
		if len(got) != 1 || got[0].LikeCount != count || got[0].Liked != liked {
			t.Errorf("comments: %+v, want %d likes, liked %v", got, count, liked)
		}
	}
	shows(ada, 2, true)
	shows(bob, 2, false)
	shows("", 2, false)
	replies := into[pageBody[commentBody]](w.call(carl, "GET", "/api/v1/comments/"+c.ID.String()+"/replies", nil).is(200)).Items
	if len(replies) != 1 || replies[0].LikeCount != 1 || !replies[0].Liked {
		t.Errorf("replies: %+v", replies)
	}
	for range 2 {
		w.call(ada, "DELETE", like, nil).is(204)
	}
	shows(ada, 1, false)
	w.call(bob, "POST", "/api/v1/users/carl/block", nil).is(204)
	w.call(carl, "POST", like, nil).fails(pNotFound)
	w.call(carl, "DELETE", like, nil).is(204) // what was liked can be taken back
	shows(ada, 0, false)
}

// Whoever deletes their account is nowhere from then on, and their sessions, keys
// and handle are nobody's.
func TestDeleteMe(t *testing.T) {
	w := newWorld(t)
	ada, user := w.account("ada")
	bob, _ := w.account("bob")
	w.call(bob, "POST", "/api/v1/follow/ada", nil).is(204)
	w.call(ada, "POST", "/api/v1/follow/bob", nil).is(204)
	key := into[keyBody](w.call(ada, "POST", "/api/v1/api-keys", m{"name": "k", "scopes": []string{"read", "write"}}).is(201))
	hers, his := w.newPhoto(ada, nil), w.newPhoto(bob, nil)
	w.call(ada, "POST", "/api/v1/like/"+his.String(), nil).is(204)
	w.call(ada, "POST", "/api/v1/photos/"+his.String()+"/comments", m{"text": "x"}).is(201)

	w.call(key.Key, "DELETE", "/api/v1/users/me", nil).fails(pScope)
	w.call(ada, "DELETE", "/api/v1/users/me", nil).is(204)
	for _, path := range []string{"/users/ada", "/users/" + user.String(), "/users/ada/photos", "/users/ada/followers", "/users/ada/following",
		"/photos/" + hers.String(), "/photos/" + hers.String() + "/large", "/photos/" + hers.String() + "/likes", "/photos/" + hers.String() + "/comments"} {
		w.call(bob, "GET", "/api/v1"+path, nil, "Accept", typeJSON).fails(pNotFound)
		w.call("", "GET", "/api/v1"+path, nil, "Accept", typeJSON).fails(pNotFound)
	}
	for _, path := range []string{"/users/bob/followers", "/users/bob/following", "/photos/" + his.String() + "/likes", "/photos/" + his.String() + "/comments"} {
		if got := into[pageBody[m]](w.call(bob, "GET", "/api/v1"+path, nil).is(200)).Items; len(got) != 0 {
			t.Errorf("%s: %v", path, got)
		}
	}
	if got := into[pageBody[photoSeen]](w.call(bob, "GET", "/api/v1/feed", nil).is(200)).Items; len(got) != 1 || got[0].PhotoID != his {
		t.Errorf("feed: %v", got)
	}
	for _, token := range []string{ada, key.Key} {
		w.call(token, "GET", "/api/v1/users/me", nil).fails(pUnauthorized)
		w.call(token, "POST", "/api/v1/follow/bob", nil).fails(pUnauthorized)
	}
	w.call("", "POST", "/api/v1/sessions", m{"handle": "ada", "password": "pass of ada"}).fails(pBadLogin)
	w.call("", "POST", "/api/v1/accounts", m{"handle": "ada", "password": "pass of another"}).fails(pHandleTaken)
	if len(w.eventsOf(EventAccountDeleted)) != 1 {
		t.Error("no audit event")
	}
	// The sweeper takes its part out of the counters.
	me := w.user(bob, "me").ID
	eventually(t, "counters of others without her", func() bool {
		u, err := w.feed.UserByID(t.Context(), me, me)
		must(t, err)
		p, err := w.feed.Photo(t.Context(), me, his)
		must(t, err)
		return u.Followers+u.Following+p.Likes+p.Comments == 0
	})
}

func TestSetPasswordOverHTTP(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	other := into[signedInBody](w.call("", "POST", "/api/v1/sessions", m{"handle": "ada", "password": "pass of ada"}).is(201)).Token
	const path = "/api/v1/users/me/password"
	w.call(ada, "PUT", path, m{"password": "wrong one", "new_password": "something new"}).fails(pBadLogin)
	w.call(ada, "PUT", path, m{"password": "pass of ada", "new_password": "short"}).fails(pInvalid)
	w.call(ada, "PUT", path, m{"new_password": "something new"}).fails(pInvalid)
	w.call(ada, "PUT", path, m{"password": "pass of ada", "new_password": "something new"}).is(200)
	w.call(ada, "GET", "/api/v1/users/me", nil).is(200)
	w.call(other, "GET", "/api/v1/users/me", nil).fails(pUnauthorized)
	w.call("", "POST", "/api/v1/sessions", m{"handle": "ada", "password": "pass of ada"}).fails(pBadLogin)
	w.call("", "POST", "/api/v1/sessions", m{"handle": "ada", "password": "something new"}).is(201)
}

func TestKeysOverHTTP(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	w.account("bob")
	make1 := func(scopes ...string) keyBody {
		t.Helper()
		return into[keyBody](w.call(ada, "POST", "/api/v1/api-keys", m{"name": "tool", "scopes": scopes}).is(201))
	}
	read, write := make1("read"), make1("write")
	if !strings.HasPrefix(read.Key, keyPrefix) {
		t.Errorf("key %q", read.Key)
	}
	for _, bad := range []m{{"name": "x"}, {"name": "x", "scopes": []string{}}, {"name": "x", "scopes": []string{"blob"}}, {"scopes": []string{"read"}}} {
		w.call(ada, "POST", "/api/v1/api-keys", bad).fails(pInvalid)
	}
	for _, header := range []string{"X-API-Key", "X-API-Dev-Key"} {
		if u := into[userBody](w.call("", "GET", "/api/v1/users/me", nil, header, read.Key).is(200)); u.Handle != "ada" {
			t.Errorf("%s: %+v", header, u)
		}
	}
	w.call(read.Key, "GET", "/api/v1/users/me", nil).is(200)
	w.call(read.Key, "POST", "/api/v1/follow/bob", nil).fails(pScope)
	w.call(write.Key, "POST", "/api/v1/follow/bob", nil).is(204)
	w.call(write.Key, "GET", "/api/v1/feed", nil).fails(pScope)
	w.call(write.Key, "GET", "/api/v1/users/bob", nil).fails(pScope)
	w.call("", "GET", "/api/v1/users/me", nil, "X-API-Key", read.Key, "Authorization", "Bearer "+ada).fails(pUnauthorized)
	w.call("", "GET", "/api/v1/users/me", nil, "X-API-Key", read.Key+"x").fails(pUnauthorized)
	w.call("", "GET", "/api/v1/users/me", nil, "Cookie", "hayloft="+read.Key).fails(pUnauthorized) // no cookie is a key
	for _, call := range []string{"GET /api-keys", "POST /api-keys", "DELETE /api-keys/" + read.ID.String(), "GET /sessions", "DELETE /sessions",
		"DELETE /sessions/" + read.ID.String(), "PUT /users/me/password", "DELETE /users/me"} {
		method, path, _ := strings.Cut(call, " ")
		for _, k := range []string{read.Key, write.Key} {
			w.call(k, method, "/api/v1"+path, nil).fails(pScope)
		}
	}
	list := into[pageBody[keyBody]](w.call(ada, "GET", "/api/v1/api-keys", nil).is(200)).Items
	if len(list) != 2 || list[0].Key+list[1].Key != "" {
		t.Errorf("list: %+v", list)
	}
	w.call(ada, "DELETE", "/api/v1/api-keys/"+read.ID.String(), nil).is(204)
	w.call(ada, "DELETE", "/api/v1/api-keys/"+read.ID.String(), nil).fails(pNotFound)
	w.call(read.Key, "GET", "/api/v1/users/me", nil).fails(pUnauthorized)
}

func TestAvatarOverHTTP(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	bob, _ := w.account("bob")
	photo, other := w.newPhoto(ada, nil), w.newPhoto(bob, nil)
	const path = "/api/v1/users/me/avatar"
	w.call(ada, "PUT", path, m{}).fails(pInvalid)
	w.call(ada, "PUT", path, m{"photo_id": other}).fails(pNotFound)
	w.call(ada, "PUT", path, m{"photo_id": w.newPhoto(ada, m{"visibility": "only_me"})}).fails(pInvalid)
	u := into[userBody](w.call(ada, "PUT", path, m{"photo_id": photo}).is(200))
	if u.AvatarURL == nil || !strings.HasPrefix(*u.AvatarURL, w.url+"/media/thumbnail/") {
		t.Fatalf("avatar %v", u.AvatarURL)
	}
	p := into[photoSeen](w.call(bob, "GET", "/api/v1/photos/"+photo.String(), nil, "Accept", typeJSON).is(200))
	c := into[commentBody](w.call(ada, "POST", "/api/v1/photos/"+other.String()+"/comments", m{"text": "x"}).is(201))
	for what, url := range map[string]*string{"of a user": w.user("", "ada").AvatarURL, "of an author": p.Author.AvatarURL, "at a comment": c.Author.AvatarURL} {
		if url == nil || *url != *u.AvatarURL {
			t.Errorf("%s: %v", what, url)
		}
	}
	w.call(ada, "PATCH", "/api/v1/users/me", m{"is_private": true}).is(200)
	if url := w.user("", "ada").AvatarURL; url == nil || !strings.Contains(*url, "?") {
		t.Errorf("of a private account: %v", url)
	}
	w.call(ada, "PUT", path, m{"photo_id": nil}).is(200)
	if url := w.user("", "ada").AvatarURL; url != nil {
		t.Errorf("taken away: %v", *url)
	}
}

func TestFeedNew(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	bob, _ := w.account("bob")
	shows := func(count int, latest id.ID) {
		t.Helper()
		got := into[newBody](w.call(bob, "GET", "/api/v1/feed/new", nil).is(200))
		if got.Count != count || (got.LatestID == nil) != (latest == 0) || latest != 0 && *got.LatestID != latest {
			t.Errorf("%+v, want %d, %v", got, count, latest)
		}
	}
	seen := func(photo id.ID) *answer { return w.call(bob, "POST", "/api/v1/feed/seen", m{"photo_id": photo}) }
	shows(0, 0)
	w.call(bob, "POST", "/api/v1/follow/ada", nil).is(204)
	a, b, c := w.newPhoto(ada, nil), w.newPhoto(ada, nil), w.newPhoto(ada, nil)
	shows(3, c)
	seen(b).is(204)
	shows(1, c)
	seen(a).is(204) // never down
	shows(1, c)
	w.call(ada, "DELETE", "/api/v1/photos/"+c.String(), nil).is(204)
	shows(0, b)
	seen(c).fails(pNotFound)
	w.call(bob, "POST", "/api/v1/feed/seen", m{}).fails(pInvalid)
	w.call(bob, "POST", "/api/v1/feed/seen", m{"photo_id": "x"}).fails(pMalformedID)
}
