package api

import (
	"context"
	"testing"

	"hayloft/feed"
	"hayloft/internal/id"
)

// betweenFeed does something between the comparison of a password and the session.
type betweenFeed struct {
	Feed
	do func(user id.ID)
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
