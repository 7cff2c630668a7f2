package api

import (
	"testing"

	"hayloft/internal/id"
)

func (w *world) relation(token, user string) relationBody {
	w.t.Helper()
	return into[userBody](w.call(token, "GET", "/api/v1/users/"+user, nil).is(200)).Viewer
}

func (w *world) users(token, path string) (list []id.ID) {
	w.t.Helper()
	for _, u := range into[pageBody[userBody]](w.call(token, "GET", path, nil).is(200)).Items {
		list = append(list, u.ID)
	}
	return list
}

// A private account: asked, declined, asked again, approved, removed.
func TestFollowRequests(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	bob, bobID := w.account("bob")
	carl, _ := w.account("carl")
	photo := w.post(ada, picture(16, 16, 1), m{})
	w.makeReady(photo)
	if u := into[userBody](w.call(ada, "PATCH", "/api/v1/users/me", m{"is_private": true}).is(200)); !u.IsPrivate {
		t.Errorf("after the change: %+v", u)
	}
	path := "/api/v1/photos/" + photo.String()
	w.call(bob, "GET", path, nil).fails(pNotFound)
	w.call(bob, "POST", "/api/v1/follow-requests/carl/approve", nil).fails(pNotFound)

	w.call(bob, "POST", "/api/v1/follow/ada", nil).is(202)
	w.call(bob, "POST", "/api/v1/users/ada/follow", nil).is(202)
	if r := w.relation(bob, "ada"); r != (relationBody{Requested: true}) {
		t.Errorf("bob has asked: %+v", r)
	}
	if got := w.users(ada, "/api/v1/follow-requests"); len(got) != 1 || got[0] != bobID {
		t.Errorf("requests: %v", got)
	}
	if got := w.users(bob, "/api/v1/follow-requests"); len(got) != 0 {
		t.Errorf("requests to bob: %v", got)
	}
	w.call(carl, "POST", "/api/v1/follow-requests/bob/approve", nil).fails(pNotFound)
	w.call(ada, "POST", "/api/v1/follow-requests/bob/decline", nil).is(204)
	w.call(ada, "POST", "/api/v1/follow-requests/bob/approve", nil).fails(pNotFound)
	w.call(bob, "GET", path, nil).fails(pNotFound)

	w.call(bob, "POST", "/api/v1/follow/ada", nil).is(202)
	w.call(bob, "DELETE", "/api/v1/follow/ada", nil).is(204) // changed his mind
	w.call(ada, "POST", "/api/v1/follow-requests/"+bobID.String()+"/approve", nil).fails(pNotFound)
	w.call(bob, "POST", "/api/v1/follow/ada", nil).is(202)
	w.call(ada, "POST", "/api/v1/follow-requests/@bob/approve", nil).is(204)
	w.call(bob, "POST", "/api/v1/follow/ada", nil).is(204) // follows already
	w.call(bob, "GET", path, nil, "Accept", typeJSON).is(200)
	if r := w.relation(bob, "ada"); r != (relationBody{Follows: true}) {
		t.Errorf("bob follows: %+v", r)
	}
	if r := w.relation(ada, "bob"); r != (relationBody{FollowedBy: true}) {
		t.Errorf("bob as ada sees him: %+v", r)
	}
	w.call(ada, "DELETE", "/api/v1/followers/bob", nil).is(204)
	w.call(ada, "DELETE", "/api/v1/followers/bob", nil).is(204)
	w.call(bob, "GET", path, nil).fails(pNotFound)
	if u := into[userBody](w.call(ada, "GET", "/api/v1/users/me", nil).is(200)); u.FollowerCount != 0 || u.ID != adaID {
		t.Errorf("ada: %+v", u)
	}
	w.call(ada, "PATCH", "/api/v1/users/me", m{"is_private": false}).is(200)
	w.call(bob, "GET", path, nil, "Accept", typeJSON).is(200)
	w.call(ada, "PATCH", "/api/v1/users/me", m{"is_private": "yes"}).fails(pMalformed)
}

// Blocked people see nothing of each other, and the list of blocks shows everybody in
// it, whatever they did in turn.
func TestBlockAndMute(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	bob, bobID := w.account("bob")
	w.call(bob, "PATCH", "/api/v1/users/me", m{"name": "Bob", "bio": "hello"}).is(200)
	w.call(bob, "POST", "/api/v1/follow/ada", nil).is(204)
	w.call(ada, "POST", "/api/v1/follow/bob", nil).is(204)
	photo := w.post(ada, picture(16, 16, 1), m{})
	w.makeReady(photo)
	items := func() int {
		return len(into[pageBody[photoSeen]](w.call(bob, "GET", "/api/v1/feed", nil).is(200)).Items)
	}

	w.call(bob, "POST", "/api/v1/users/ada/mute", nil).is(204)
	w.call(bob, "POST", "/api/v1/users/ada/mute", nil).is(204)
	if got := w.users(bob, "/api/v1/mutes"); len(got) != 1 || got[0] != adaID || items() != 0 {
		t.Errorf("muted: %v, %d in the feed", got, items())
	}
	if r := w.relation(bob, "ada"); r != (relationBody{Follows: true, FollowedBy: true, Muted: true}) {
		t.Errorf("muted: %+v", r)
	}
	w.call(bob, "GET", "/api/v1/photos/"+photo.String(), nil, "Accept", typeJSON).is(200)
	w.call(bob, "DELETE", "/api/v1/users/ada/mute", nil).is(204)
	if items() != 1 {
		t.Error("unmuted, and nothing in the feed")
	}

	w.call(ada, "POST", "/api/v1/users/bob/block", nil).is(204)
	w.call(bob, "GET", "/api/v1/users/ada", nil).fails(pNotFound)
	w.call(bob, "GET", "/api/v1/photos/"+photo.String(), nil).fails(pNotFound)
	w.call(bob, "POST", "/api/v1/follow/"+adaID.String(), nil).fails(pNotFound)
	w.call(ada, "POST", "/api/v1/follow/bob", nil).fails(pNotFound)
	u := into[userBody](w.call(ada, "GET", "/api/v1/users/bob", nil).is(200))
	if u.ID != bobID || u.Handle != "bob" || u.Name != "" || u.Bio != "" || u.FollowerCount != 0 || u.Viewer != (relationBody{Blocked: true}) {
		t.Errorf("bob, whom ada blocked: %+v", u)
	}
	before := w.call(ada, "GET", "/api/v1/blocks", nil).is(200).body
	w.call(bob, "POST", "/api/v1/users/"+adaID.String()+"/block", nil).fails(pNotFound) // whom he does not see
	must(t, w.feed.Block(t.Context(), bobID, adaID))                                    // as when both click at once
	if after := w.call(ada, "GET", "/api/v1/blocks", nil).is(200).body; string(after) != string(before) {
		t.Errorf("ada's blocks tell that bob blocked back: %s, %s", before, after)
	}
	w.call(ada, "DELETE", "/api/v1/users/bob/block", nil).is(204)
	w.call(ada, "GET", "/api/v1/users/bob", nil).fails(pNotFound)
	w.call(bob, "DELETE", "/api/v1/users/ada/block", nil).is(204)
	if r := w.relation(bob, "ada"); r != (relationBody{}) {
		t.Errorf("after all: %+v", r)
	}
	for _, path := range []string{"/api/v1/users/me/block", "/api/v1/users/ada/mute", "/api/v1/follow/ada"} {
		w.call(ada, "POST", path, nil).fails(pInvalid)
		w.call(ada, "DELETE", path, nil).is(204)
	}
	w.call(ada, "POST", "/api/v1/users/nobody/block", nil).fails(pNotFound)
}
