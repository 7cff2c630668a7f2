package feed

import (
	"context"
	"errors"
	"time"

	"hayloft/internal/id"
)

// CreateAccount makes an account with its first login.
func (f *Feed) CreateAccount(ctx context.Context, a NewAccount) (User, Session, error) {
	limits := &f.policy.Limits
	if err := limits.CheckHandle(a.Handle); err != nil {
		return User{}, Session{}, err
	}
	if err := limits.checkProfile(&a.Name, nil); err != nil {
		return User{}, Session{}, err
	}
	if a.PasswordHash == "" {
		return User{}, Session{}, Invalid{"password", "is missing"}
	}
	if err := f.checkSession(a.Session); err != nil {
		return User{}, Session{}, err
	}
	user, err := f.newID(ctx)
	if err != nil {
		return User{}, Session{}, err
	}
	session, err := f.newID(ctx)
	if err != nil {
		return User{}, Session{}, err
	}
	out, err := f.propose(ctx, &cmdCreateAccount{
		User: user, Handle: a.Handle, Name: a.Name, PasswordHash: a.PasswordHash,
		Session: session, TokenHash: a.Session.TokenHash, ExpiresAt: a.Session.ExpiresAt, Cookie: a.Session.Cookie,
	})
	if err != nil {
		return User{}, Session{}, err
	}
	s, err := f.SessionByToken(ctx, a.Session.TokenHash)
	if out.Repeated && (errors.Is(err, ErrNotFound) || err == nil && s.User != out.ID) {
		return User{}, Session{}, ErrHandleTaken
	}
	if err != nil {
		return User{}, Session{}, err
	}
	u, err := f.UserByID(ctx, out.ID, out.ID)
	return u.User, s, err
}

func (f *Feed) checkSession(s NewSession) error {
	if s.TokenHash == [32]byte{} {
		return Invalid{"token", "hash is missing"}
	}
	if !s.ExpiresAt.After(f.now()) {
		return Invalid{"expires_at", "lies in the past"}
	}
	return nil
}

// Credentials returns the account and its password hash for a login.
func (f *Feed) Credentials(ctx context.Context, handle string) (user id.ID, passwordHash string, err error) {
	err = f.readSure(ctx, func(v *view) error {
		a, err := v.byHandle(handle)
		if err != nil {
			return err
		}
		user, passwordHash = a.ID, a.PasswordHash
		return nil
	})
	return user, passwordHash, err
}

// CreateSession makes another login. An account that has 200 loses its oldest.
func (f *Feed) CreateSession(ctx context.Context, user id.ID, s NewSession) (Session, error) {
	if err := f.checkSession(s); err != nil {
		return Session{}, err
	}
	session, err := f.newID(ctx)
	if err != nil {
		return Session{}, err
	}
	cmd := &cmdCreateSession{User: user, Session: session, TokenHash: s.TokenHash, ExpiresAt: s.ExpiresAt, Cookie: s.Cookie}
	if _, err := f.propose(withoutIdempotency(ctx), cmd); err != nil {
		return Session{}, err
	}
	return f.SessionByToken(ctx, s.TokenHash)
}

// SessionByToken returns the live session of a token's SHA-256.
func (f *Feed) SessionByToken(ctx context.Context, hash [32]byte) (Session, error) {
	var out Session
	now := f.now()
	err := f.readSure(ctx, func(v *view) error {
		s, err := v.session(hash)
		if err != nil {
			return err
		}
		if s == nil || !s.ExpiresAt.After(now) {
			return ErrNotFound
		}
		out = s.Session
		return nil
	})
	return out, err
}

func (s store) session(hash [32]byte) (*sessionRow, error) {
	return load[sessionRow](s, sessionKey(hash))
}

// Sessions returns a user's live sessions, newest first.
func (f *Feed) Sessions(ctx context.Context, user id.ID) ([]Session, error) {
	var out []Session
	now := f.now()
	err := f.serve(ctx, func(v *view) error {
		return v.list(tabUserSession, user, 0, func(_ id.ID, value []byte) error {
			hash, err := hashOf(value)
			if err != nil {
				return err
			}
			s, err := v.session(hash)
			if err != nil {
				return err
			}
			if s != nil && s.ExpiresAt.After(now) {
				out = append(out, s.Session)
			}
			return nil
		})
	})
	return out, err
}

// DeleteSession ends one login of a user.
func (f *Feed) DeleteSession(ctx context.Context, user, session id.ID) error {
	_, err := f.propose(ctx, &cmdDeleteSession{User: user, Session: session})
	return err
}

// DeleteSessions ends all logins of a user.
func (f *Feed) DeleteSessions(ctx context.Context, user id.ID) error {
	_, err := f.propose(ctx, &cmdDeleteSessions{User: user})
	return err
}

// byHandle returns the account of a handle or ErrNotFound.
func (v *view) byHandle(handle string) (*accountRow, error) {
	user, err := v.idAt(handleKey(handle))
	if err != nil {
		return nil, err
	}
	return v.mustAccount(user)
}

// mustAccount returns an account that is there for others, or ErrNotFound.
func (v *view) mustAccount(user id.ID) (*accountRow, error) {
	a, err := v.account(user)
	if err == nil && (a == nil || a.hidden()) {
		return nil, ErrNotFound
	}
	return a, err
}

// UserByID returns a user as viewer sees it. Whoever blocked the viewer is not
// found, unless the viewer blocked them too: then, as always for the blocker, all
// that shows is the handle.
func (f *Feed) UserByID(ctx context.Context, viewer, user id.ID) (UserView, error) {
	var out UserView
	err := f.readSure(ctx, func(v *view) error {
		a, err := v.mustAccount(user)
		if err == nil {
			out, err = v.userView(viewer, a)
		}
		return err
	})
	return out, err
}

// UserByHandle is UserByID for a handle.
func (f *Feed) UserByHandle(ctx context.Context, viewer id.ID, handle string) (UserView, error) {
	var out UserView
	err := f.readSure(ctx, func(v *view) error {
		a, err := v.byHandle(handle)
		if err == nil {
			out, err = v.userView(viewer, a)
		}
		return err
	})
	return out, err
}

// userView adds how viewer stands to a user; ErrNotFound when the user blocked
// the viewer. Of whom the viewer has blocked only the handle is shown.
func (v *view) userView(viewer id.ID, a *accountRow) (UserView, error) {
	out := UserView{User: a.User}
	if a.hidden() {
		return UserView{}, ErrNotFound
	}
	var err error
	if out.Avatar, err = v.avatar(a); err != nil {
		return UserView{}, err
	}
	if viewer == a.ID && viewer != 0 {
		return out, nil
	}
	out.Photos = a.photosFor(false)
	if viewer == 0 {
		return out, nil
	}
	hidden, err := v.has(key2(tabBlock, a.ID, viewer))
	if err != nil {
		return UserView{}, err
	}
	r := &out.Viewer
	for _, q := range []struct {
		to  *bool
		key []byte
	}{
		{&r.Follows, key2(tabFollow, viewer, a.ID)},
		{&r.FollowedBy, key2(tabFollow, a.ID, viewer)},
		{&r.Requested, key2(tabRequest, a.ID, viewer)},
		{&r.Blocked, key2(tabBlock, viewer, a.ID)},
		{&r.Muted, key2(tabMute, viewer, a.ID)},
		{&r.Listens, key2(tabListener, a.ID, viewer)},
	} {
		has, err := v.has(q.key)
		if err != nil {
			return UserView{}, err
		}
		*q.to = has
	}
	switch {
	case r.Blocked:
		// The same whether or not they have blocked the viewer: a list of blocks must
		// show everybody, or it tells who blocked back.
		out.User = User{ID: a.ID, Handle: a.Handle, CreatedAt: a.CreatedAt}
		out.Avatar = Avatar{}
	case hidden:
		return UserView{}, ErrNotFound
	default:
		out.Photos = a.photosFor(r.Follows)
	}
	return out, nil
}

// UpdateProfile changes what is not nil. When an account becomes private or public,
// media URLs signed before die with the epoch, and caches forget the account's photos.
func (f *Feed) UpdateProfile(ctx context.Context, user id.ID, c ProfileChange) (User, error) {
	if err := f.policy.Limits.checkProfile(c.Name, c.Bio); err != nil {
		return User{}, err
	}
	cmd := &cmdUpdateProfile{User: user, Name: textPtr(c.Name), Bio: textPtr(c.Bio)}
	if c.Private != nil {
		cmd.Private = &boolValue{*c.Private}
	}
	if _, err := f.propose(ctx, cmd); err != nil {
		return User{}, err
	}
	u, err := f.UserByID(ctx, user, user)
	return u.User, err
}

// SetPrivate makes an account private or public.
func (f *Feed) SetPrivate(ctx context.Context, user id.ID, private bool) (User, error) {
	return f.UpdateProfile(ctx, user, ProfileChange{Private: &private})
}

// due is d from now on.
func (f *Feed) due(d time.Duration) time.Time { return f.now().Add(d) }

// mostBehind is how far this node's clock may be behind the latest command before
// rather that command's is taken for the wrong one.
const mostBehind = 24 * time.Hour

// behind is how far this node's clock is behind the latest command known. What an
// upload may take counts from there: else it would be over at once for all others.
func (f *Feed) behind() time.Duration {
	if by := timeOf(f.machine.latest.Load()).Sub(f.now()); by > 0 && by < mostBehind {
		return by
	}
	return 0
}

// photosFor is how many of the photos another user may see.
func (r *accountRow) photosFor(follows bool) uint64 {
	switch {
	case r.IsPrivate && !follows:
		return 0
	case follows:
		return r.Photos - r.ForOnlyMe
	default:
		return r.Photos - r.ForOnlyMe - r.ForFollowers
	}
}

// Suspend hides an account from everybody and ends its logins, or shows it again with
// all that it had. It is for operators. ErrNotFound when there is no such account.
func (f *Feed) Suspend(ctx context.Context, user id.ID, suspended bool) error {
	_, err := f.propose(ctx, &cmdSuspend{User: user, Suspended: suspended})
	return err
}

// DeleteAccount hides an account for good and ends its logins. What it has is removed
// by chores. Nobody gets its handle for DeleteGrace.
func (f *Feed) DeleteAccount(ctx context.Context, user id.ID) error {
	_, err := f.propose(ctx, &cmdDeleteAccount{User: user, Threshold: f.policy.CelebrityThreshold, Due: f.due(f.policy.DeleteGrace)})
	return err
}
