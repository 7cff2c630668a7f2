package api

import (
	"context"
	"testing"

	"hayloft/feed"
	"hayloft/internal/id"
)

// betweenFeed does something between the moment in which a call is let in and what it
// makes: a session or a key.
type betweenFeed struct {
	Feed
	do func(user id.ID)
}

func (f betweenFeed) CreateAPIKey(ctx context.Context, user id.ID, hash [32]byte, name string, scopes feed.Scopes) (feed.APIKey, error) {
	f.do(user)
	return f.Feed.CreateAPIKey(ctx, user, hash, name, scopes)
}

func (f betweenFeed) CreateSession(ctx context.Context, user id.ID, s feed.NewSession) (feed.Session, error) {
	f.do(user)
	return f.Feed.CreateSession(ctx, user, s)
}

// Who signs in with a password while its owner replaces it is not signed in: the new
// password would not end that session.
func TestSignInLosesToANewPassword(t *testing.T) {
	var between func(user id.ID)
	w := newWorld(t, func(o *Options) { o.Feed = betweenFeed{o.Feed, func(user id.ID) { between(user) }} })
	between = func(id.ID) {}
	_, ada := w.account("ada")
	sessions := func() int {
		all, err := w.feed.Sessions(t.Context(), ada)
		must(t, err)
		return len(all)
	}
	before := sessions()
	login := m{"handle": "ada", "password": "pass of ada"}
	between = func(user id.ID) {
		_, was, err := w.feed.Credentials(t.Context(), "ada")
		must(t, err)
		must(t, w.feed.SetPassword(t.Context(), user, was+"x", was, 0))
	}
	w.call("", "POST", "/api/v1/sessions", login).fails(pBadLogin)
	if n := sessions(); before != 1 || n != 0 {
		t.Errorf("%d sessions before, %d after the password was replaced", before, n)
	}
}

// A session that a new password has ended makes no key, also if the call was let in before:
// who holds a stolen token may hold calls open with it.
func TestKeyLosesToANewPassword(t *testing.T) {
	between := func(id.ID) {}
	w := newWorld(t, func(o *Options) { o.Feed = betweenFeed{o.Feed, func(user id.ID) { between(user) }} })
	token, ada := w.account("ada")
	body := m{"name": "k", "scopes": []string{"read", "write"}}
	w.call(token, "POST", "/api/v1/api-keys", body).is(201)
	between = func(user id.ID) {
		_, was, err := w.feed.Credentials(t.Context(), "ada")
		must(t, err)
		must(t, w.feed.SetPassword(t.Context(), user, was+"x", was, 0))
	}
	w.call(token, "POST", "/api/v1/api-keys", body).fails(pUnauthorized)
	keys, err := w.feed.APIKeys(t.Context(), ada)
	must(t, err)
	if len(keys) != 1 {
		t.Errorf("%d keys, want the one from before", len(keys))
	}
}

// arrivingFeed does something once a call was let in.
type arrivingFeed struct {
	Feed
	do func(user id.ID)
}

func (f arrivingFeed) SessionByToken(ctx context.Context, hash [32]byte) (feed.Session, error) {
	s, err := f.Feed.SessionByToken(ctx, hash)
	if err == nil {
		f.do(s.User)
	}
	return s, err
}

// A call whose body was held back changes nothing with a session that has ended since.
func TestSlowBodyLosesItsSession(t *testing.T) {
	do := func(id.ID) {}
	w := newWorld(t, func(o *Options) { o.Feed = arrivingFeed{o.Feed, func(user id.ID) { do(user) }} })
	token, _ := w.account("ada")
	do = func(user id.ID) {
		w.clock.Advance(2 * slowBody)
		must(t, w.feed.DeleteSessions(t.Context(), user))
	}
	w.call(token, "PATCH", "/api/v1/users/me", m{"is_private": true}).fails(pUnauthorized)
	if w.user("", "ada").IsPrivate {
		t.Error("a session that has ended has changed the account")
	}
}

// Nothing is published with a session that has ended while the photo was on its way.
func TestSlowFormLosesItsSession(t *testing.T) {
	do := func(id.ID) {}
	w := newWorld(t, func(o *Options) { o.Feed = arrivingFeed{o.Feed, func(user id.ID) { do(user) }} })
	token, _ := w.account("ada")
	before := w.blobs.bytes()
	do = func(user id.ID) { must(t, w.feed.DeleteSessions(t.Context(), user)) }
	body, contentType := form(t, picture(16, 16, 1), false)
	w.call(token, "POST", "/api/v1/photos", body, "Content-Type", contentType).fails(pUnauthorized)
	if n := w.blobs.bytes(); n != before {
		t.Errorf("%d bytes were stored for a session that had ended", n-before)
	}
}
