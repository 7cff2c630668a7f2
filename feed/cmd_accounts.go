package feed

import (
	"time"

	"hayloft/internal/id"
)

// active returns the account, or refuses when it does not exist or is hidden.
func (t *tx) active(user id.ID) (*accountRow, error) {
	a, err := t.mustAccount(user)
	if err == nil && a.hidden() {
		return nil, ErrNotFound
	}
	return a, err
}

// mustAccount returns the account, hidden or not, or refuses.
func (t *tx) mustAccount(user id.ID) (*accountRow, error) {
	a, err := t.account(user)
	if err == nil && a == nil {
		err = ErrNotFound
	}
	return a, err
}

type cmdCreateAccount struct {
	User         id.ID
	Handle       string
	Name         string
	PasswordHash string
	Session      id.ID
	TokenHash    [32]byte
	ExpiresAt    time.Time
	Cookie       bool
}

func (r *cmdCreateAccount) fields(c *codec) {
	c.id(1, &r.User)
	c.str(2, &r.Handle)
	c.str(3, &r.Name)
	c.str(4, &r.PasswordHash)
	c.id(5, &r.Session)
	c.hash(6, &r.TokenHash)
	c.time(7, &r.ExpiresAt)
	c.bool(8, &r.Cookie)
}

func (r *cmdCreateAccount) apply(t *tx) (outcome, error) {
	for _, key := range [][]byte{handleKey(r.Handle), retiredKey(r.Handle)} {
		if taken, err := t.has(key); err != nil || taken {
			return outcome{}, firstErr(err, ErrHandleTaken)
		}
	}
	if a, err := t.account(r.User); err != nil || a != nil {
		return outcome{}, firstErr(err, ErrConflict)
	}
	t.setID(handleKey(r.Handle), r.User)
	t.putAccount(&accountRow{
		User:         User{ID: r.User, Handle: r.Handle, Name: r.Name, CreatedAt: t.now},
		PasswordHash: r.PasswordHash,
	})
	t.changedAccount(r.User)
	s := cmdCreateSession{r.User, r.Session, r.TokenHash, r.ExpiresAt, r.Cookie}
	if _, err := s.apply(t); err != nil {
		return outcome{}, err
	}
	return outcome{ID: r.User}, nil
}

// firstErr is err, or instead when there is none.
func firstErr(err, instead error) error {
	if err != nil {
		return err
	}
	return instead
}

type cmdCreateSession struct {
	User      id.ID
	Session   id.ID
	TokenHash [32]byte
	ExpiresAt time.Time
	Cookie    bool
}

func (r *cmdCreateSession) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Session)
	c.hash(3, &r.TokenHash)
	c.time(4, &r.ExpiresAt)
	c.bool(5, &r.Cookie)
}

func (r *cmdCreateSession) apply(t *tx) (outcome, error) {
	if _, err := t.active(r.User); err != nil {
		return outcome{}, err
	}
	used, err := t.has(sessionKey(r.TokenHash))
	if err != nil || used {
		return outcome{}, firstErr(err, ErrConflict)
	}
	if err := t.makeRoom(r.User); err != nil {
		return outcome{}, err
	}
	t.setRow(sessionKey(r.TokenHash), &sessionRow{Session{
		ID: r.Session, User: r.User, CreatedAt: t.now, ExpiresAt: r.ExpiresAt, Cookie: r.Cookie,
	}})
	t.set(keyDesc(tabUserSession, r.User, r.Session), r.TokenHash[:])
	t.setDue(dueSession, r.TokenHash[:], time.Time{}, r.ExpiresAt)
	return outcome{ID: r.Session}, nil
}

// maxSessions is how many logins an account has at most. Part of the format.
const maxSessions = 200

// makeRoom drops a user's oldest sessions so that one more may be added.
func (t *tx) makeRoom(user id.ID) error {
	kept := 0
	return t.list(tabUserSession, user, 0, func(_ id.ID, v []byte) error {
		if kept++; kept < maxSessions {
			return nil
		}
		hash, err := hashOf(v)
		if err != nil {
			return err
		}
		return t.dropSession(hash)
	})
}

// dropSession removes the session with a token hash; a missing one is nothing.
func (t *tx) dropSession(hash [32]byte) error {
	s, err := load[sessionRow](t.store, sessionKey(hash))
	if err != nil || s == nil {
		return err
	}
	t.del(sessionKey(hash))
	t.del(keyDesc(tabUserSession, s.User, s.ID))
	t.setDue(dueSession, hash[:], s.ExpiresAt, time.Time{})
	return nil
}

func hashOf(v []byte) ([32]byte, error) {
	if len(v) != 32 {
		return [32]byte{}, corrupt("hash of %d bytes", len(v))
	}
	return [32]byte(v), nil
}

type cmdDeleteSession struct{ User, Session id.ID }

func (r *cmdDeleteSession) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Session)
}

func (r *cmdDeleteSession) apply(t *tx) (outcome, error) {
	v, err := t.get(keyDesc(tabUserSession, r.User, r.Session))
	if err != nil || v == nil {
		return outcome{}, firstErr(err, ErrNotFound)
	}
	hash, err := hashOf(v)
	if err != nil {
		return outcome{}, err
	}
	return outcome{ID: r.Session}, t.dropSession(hash)
}

type cmdDeleteSessions struct{ User id.ID }

func (r *cmdDeleteSessions) fields(c *codec) { c.id(1, &r.User) }

func (r *cmdDeleteSessions) apply(t *tx) (outcome, error) {
	return outcome{ID: r.User}, t.dropSessions(r.User, 0)
}

// dropSessions removes the sessions of a user, at most maxSessions, but one.
func (t *tx) dropSessions(user, but id.ID) error {
	return t.list(tabUserSession, user, 0, func(session id.ID, v []byte) error {
		if session == but {
			return nil
		}
		hash, err := hashOf(v)
		if err != nil {
			return err
		}
		return t.dropSession(hash)
	})
}

// textValue, boolValue and the like are the optional values of a change.
type textValue struct{ V string }

func (r *textValue) fields(c *codec) { c.str(1, &r.V) }

type boolValue struct{ V bool }

func (r *boolValue) fields(c *codec) { c.bool(1, &r.V) }

func textPtr(p *string) *textValue {
	if p == nil {
		return nil
	}
	return &textValue{*p}
}

type cmdUpdateProfile struct {
	User    id.ID
	Name    *textValue
	Bio     *textValue
	Private *boolValue
}

func (r *cmdUpdateProfile) fields(c *codec) {
	c.id(1, &r.User)
	opt(c, 2, &r.Name)
	opt(c, 3, &r.Bio)
	opt(c, 4, &r.Private)
}

func (r *cmdUpdateProfile) apply(t *tx) (outcome, error) {
	a, err := t.active(r.User)
	if err != nil {
		return outcome{}, err
	}
	if r.Private != nil && r.Private.V != a.IsPrivate {
		if err := t.chore(choreRow{Kind: chorePrivacy, Subject: r.User}); err != nil {
			return outcome{}, err
		}
		a.IsPrivate = r.Private.V
		a.Epoch++
	}
	if r.Name != nil {
		a.Name = r.Name.V
		t.changedAccount(a.ID)
	}
	if r.Bio != nil {
		a.Bio = r.Bio.V
	}
	t.putAccount(a)
	return outcome{ID: r.User}, nil
}
