package api

import (
	"errors"
	"slices"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

const (
	maxHandle   = 32
	maxName     = 64
	maxBio      = 150
	minPassword = 8
	maxPassword = 1024 // bytes; a bound on work, not on taste
)

// handleFault says why a handle cannot be one, or nothing.
func handleFault(h string) string {
	err := feed.Limits{}.CheckHandle(h)
	if inv, ok := errors.AsType[feed.Invalid](err); ok {
		return inv.Reason
	}
	if err != nil {
		return "is not allowed"
	}
	return ""
}

// signedInBody is the answer to a sign-up or a sign-in.
type signedInBody struct {
	User  userBody `json:"user"`
	Token string   `json:"token"`
}

// createAccount is POST /accounts {handle, password, name?, cookie?}.
func (r *request) createAccount() error {
	if r.a.opt.Signup != SignupOpen {
		return pSignupClosed.because("")
	}
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	handle, password, name := f.raw("handle"), f.raw("password"), f.text("name", maxName, false)
	cookie := f.boolean("cookie")
	if handle == nil {
		f.fault("handle", "is needed")
	} else if why := handleFault(*handle); why != "" {
		f.fault("handle", "%s", why)
	}
	f.newPassword("password", password)
	if err := f.done(); err != nil {
		return err
	}
	if cookie {
		if err := r.sameOrigin(); err != nil {
			return err
		}
	}
	if err := r.a.limits.signup.take(r, addrKey(r.addr)); err != nil {
		return err
	}
	// Asked first to spare a hash; CreateAccount decides.
	if _, err := r.a.opt.Feed.UserByHandle(r.ctx, 0, *handle); err == nil {
		return pHandleTaken.because("")
	}
	hash, err := r.a.hasher.hash(r.ctx, *password)
	if err != nil {
		return err
	}
	token, session, err := r.a.newToken(cookie)
	if err != nil {
		return err
	}
	account := feed.NewAccount{Handle: *handle, PasswordHash: hash, Session: session}
	if name != nil {
		account.Name = *name
	}
	u, _, err := r.a.opt.Feed.CreateAccount(r.ctx, account)
	if err != nil {
		return err
	}
	r.audit(EventSignUp, u.ID)
	return r.signedIn(feed.UserView{User: u}, token, cookie)
}

// createSession is POST /sessions {handle, password, cookie?}.
func (r *request) createSession() error {
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	handle, password := f.raw("handle"), f.raw("password")
	cookie := f.boolean("cookie")
	if handle == nil {
		f.fault("handle", "is needed")
	}
	if password == nil {
		f.fault("password", "is needed")
	}
	if err := f.done(); err != nil {
		return err
	}
	if cookie {
		if err := r.sameOrigin(); err != nil {
			return err
		}
	}
	account, hash, err := r.checkPassword(*handle, *password)
	if err != nil {
		return err
	}
	token, session, err := r.a.newToken(cookie)
	if err != nil {
		return err
	}
	s, err := r.a.opt.Feed.CreateSession(r.ctx, account, session)
	if err != nil {
		return err
	}
	if err := r.stillOpens(*handle, hash, s); err != nil {
		return err
	}
	u, err := r.a.opt.Feed.UserByID(r.ctx, account, account)
	if err != nil {
		return err
	}
	r.audit(EventSignIn, account)
	return r.signedIn(u, token, cookie)
}

// stillOpens refuses a session whose password was replaced since it was compared, and ends
// it. Whoever replaces a password ends the sessions there are: this one may have come
// right after.
func (r *request) stillOpens(handle, hash string, s feed.Session) error {
	account, now, err := r.a.opt.Feed.Credentials(r.ctx, handle)
	switch {
	case err == nil && account == s.User && now == hash:
		return nil
	case err != nil && !errors.Is(err, feed.ErrNotFound):
		return err // nobody is told the session's token
	}
	if err := r.a.opt.Feed.DeleteSession(r.ctx, s.User, s.ID); err != nil && !errors.Is(err, feed.ErrNotFound) {
		return err
	}
	r.audit(EventSignInFail, s.User)
	return pBadLogin.because("")
}

// checkPassword takes as long for a handle that does not exist, so that time
// tells nobody which do. Tokens of the limits are taken first and given back on
// success: many guesses at once count as many. It answers with the hash that it has
// compared with, too.
func (r *request) checkPassword(handle, password string) (account id.ID, hash string, err error) {
	l := r.a.limits
	known := handleFault(handle) == "" && len(password) <= maxPassword
	from, pair := addrKey(r.addr), handle+" "+networkKey(r.addr)
	if err := l.login.take(r, from); err != nil {
		return 0, "", err
	}
	if known { // else nothing to guess, and no reason to remember arbitrary text
		// The network's own share first: what it refuses must not count
		// everywhere, or one network could sign an account's owner out of all.
		if err := l.handle.take(r, pair); err != nil {
			return 0, "", err
		}
		if err := l.handles.take(r, handle); err != nil {
			l.handle.refund(pair)
			return 0, "", err
		}
		account, hash, err = r.a.opt.Feed.Credentials(r.ctx, handle)
		if err != nil && !errors.Is(err, feed.ErrNotFound) {
			return 0, "", err
		}
	}
	ok, err := r.a.hasher.verify(r.ctx, password[:min(len(password), maxPassword)], hash)
	if err != nil {
		return 0, "", err
	}
	if !ok {
		r.audit(EventSignInFail, account)
		return 0, "", pBadLogin.because("")
	}
	l.login.refund(from)
	l.handle.refund(pair)
	l.handles.refund(handle)
	return account, hash, nil
}

func (r *request) signedIn(u feed.UserView, token string, cookie bool) error {
	if cookie {
		r.setCookie(token)
	}
	return r.json(201, signedInBody{User: r.user(u), Token: token})
}

// sessionBody is a login as its owner sees it.
type sessionBody struct {
	ID        id.ID     `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Cookie    bool      `json:"cookie"`
	Current   bool      `json:"current"`
}

// listSessions is GET /sessions: all at once, newest first.
func (r *request) listSessions() error {
	ss, err := r.a.opt.Feed.Sessions(r.ctx, r.viewer)
	if err != nil {
		return err
	}
	slices.SortFunc(ss, func(a, b feed.Session) int { return b.CreatedAt.Compare(a.CreatedAt) })
	body := pageBody[sessionBody]{Items: make([]sessionBody, 0, len(ss))}
	for _, s := range ss {
		body.Items = append(body.Items, sessionBody{s.ID, utc(s.CreatedAt), utc(s.ExpiresAt), s.Cookie, s.ID == r.session.ID})
	}
	return r.json(200, body)
}

// deleteSession is DELETE /sessions/{id}.
func (r *request) deleteSession() error {
	session, err := r.pathID(0)
	if err != nil {
		return err
	}
	if err := r.a.opt.Feed.DeleteSession(r.ctx, r.viewer, session); err != nil {
		return err
	}
	r.signedOut(session == r.session.ID)
	return r.noContent()
}

// deleteSessions is DELETE /sessions: all of the account's, this one too.
func (r *request) deleteSessions() error {
	if err := r.a.opt.Feed.DeleteSessions(r.ctx, r.viewer); err != nil {
		return err
	}
	r.signedOut(true)
	return r.noContent()
}

func (r *request) signedOut(own bool) {
	if own && r.byCookie {
		r.setCookie("")
	}
	r.audit(EventSignOut, r.viewer)
}

// utc makes a time one that JSON shows as RFC 3339 in UTC with milliseconds at
// most.
func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
