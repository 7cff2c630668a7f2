package feed

import (
	"time"

	"hayloft/internal/id"
)

type cmdSetPassword struct {
	User      id.ID
	Hash, Was string
	Keep      id.ID // a session that stays
}

func (r *cmdSetPassword) fields(c *codec) {
	c.id(1, &r.User)
	c.str(2, &r.Hash)
	c.str(3, &r.Was)
	c.id(4, &r.Keep)
}

// apply replaces the password, unless it is another one than Was by now, and ends all
// logins but one. Without Was it is an operator who takes an account back: its keys
// end, too.
func (r *cmdSetPassword) apply(t *tx) (outcome, error) {
	a, err := t.mustAccount(r.User)
	if err != nil || a.Gone {
		return outcome{}, firstErr(err, ErrNotFound)
	}
	if r.Was == "" {
		if err := t.dropKeys(a.ID); err != nil {
			return outcome{}, err
		}
	} else if a.hidden() || r.Was != a.PasswordHash {
		return outcome{}, ErrConflict
	}
	a.PasswordHash = r.Hash
	t.putAccount(a)
	return outcome{ID: a.ID}, t.dropSessions(a.ID, r.Keep)
}

// maxKeys is how many API keys an account has at most. Part of the format.
const maxKeys = 50

type cmdCreateKey struct {
	User, Key id.ID
	Hash      [32]byte
	Name      string
	Scopes    Scopes
}

func (r *cmdCreateKey) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Key)
	c.hash(3, &r.Hash)
	c.str(4, &r.Name)
	num(c, 5, &r.Scopes)
}

func (r *cmdCreateKey) apply(t *tx) (outcome, error) {
	if _, err := t.active(r.User); err != nil {
		return outcome{}, err
	}
	used, err := t.has(apiKeyKey(r.Hash))
	if err != nil || used {
		return outcome{}, firstErr(err, ErrConflict)
	}
	n := 0
	err = t.list(tabUserKeys, r.User, 0, func(id.ID, []byte) error { n++; return nil })
	if err != nil || n >= maxKeys {
		return outcome{}, firstErr(err, ErrConflict)
	}
	t.setRow(apiKeyKey(r.Hash), &apiKeyRow{APIKey{ID: r.Key, User: r.User, Name: r.Name, Scopes: r.Scopes, CreatedAt: t.now}})
	t.set(keyDesc(tabUserKeys, r.User, r.Key), r.Hash[:])
	return outcome{ID: r.Key}, nil
}

type cmdDeleteKey struct{ User, Key id.ID }

func (r *cmdDeleteKey) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Key)
}

func (r *cmdDeleteKey) apply(t *tx) (outcome, error) {
	v, err := t.get(keyDesc(tabUserKeys, r.User, r.Key))
	if err != nil || v == nil {
		return outcome{}, firstErr(err, ErrNotFound)
	}
	hash, err := hashOf(v)
	if err != nil {
		return outcome{}, err
	}
	t.dropKey(r.User, r.Key, hash)
	return outcome{ID: r.Key}, nil
}

func (t *tx) dropKey(user, key id.ID, hash [32]byte) {
	t.del(apiKeyKey(hash))
	t.del(keyDesc(tabUserKeys, user, key))
}

// dropKeys removes the API keys of a user, at most maxKeys.
func (t *tx) dropKeys(user id.ID) error {
	return t.list(tabUserKeys, user, 0, func(key id.ID, v []byte) error {
		hash, err := hashOf(v)
		if err == nil {
			t.dropKey(user, key, hash)
		}
		return err
	})
}

type cmdSeen struct{ User, Photo id.ID }

func (r *cmdSeen) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Photo)
}

// apply moves the mark up to a photo, never down.
func (r *cmdSeen) apply(t *tx) (outcome, error) {
	if _, err := t.active(r.User); err != nil {
		return outcome{}, err
	}
	p, err := t.mustSee(r.User, r.Photo)
	if err != nil {
		return outcome{}, err
	}
	seen, err := t.idAt(key1(tabSeen, r.User))
	if err == nil && p.Pos > seen { // a photo that is not ready has none
		t.setID(key1(tabSeen, r.User), p.Pos)
	}
	return outcome{}, err
}

type cmdSetAvatar struct{ User, Photo id.ID }

func (r *cmdSetAvatar) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Photo)
}

// apply shows a photo of the user's as their face, or none.
func (r *cmdSetAvatar) apply(t *tx) (outcome, error) {
	a, err := t.active(r.User)
	if err != nil {
		return outcome{}, err
	}
	if r.Photo != 0 {
		p, err := t.photo(r.Photo)
		switch {
		case err != nil:
			return outcome{}, err
		case p == nil || p.Author != r.User || p.Status < Pending || p.Status == Deleted:
			return outcome{}, ErrNotFound
		case p.Status != Ready || p.Details.Visibility != Public:
			return outcome{}, Invalid{"photo_id", "is not a ready, public photo"}
		}
	}
	a.Avatar = r.Photo
	t.putAccount(a)
	return outcome{ID: a.ID}, nil
}

type apiKeyRow struct{ APIKey }

func (r *apiKeyRow) fields(c *codec) {
	c.id(1, &r.ID)
	c.id(2, &r.User)
	c.str(3, &r.Name)
	num(c, 4, &r.Scopes)
	c.time(5, &r.CreatedAt)
}

// Scopes is what an API key may be used for.
type Scopes uint8

// The scopes.
const (
	ScopeRead  Scopes = 1 << iota // calls that change nothing
	ScopeWrite                    // calls that change something
)

// APIKey is a key that a program uses in the name of an account. Only the hash of its
// token is stored.
type APIKey struct {
	ID        id.ID
	User      id.ID
	Name      string
	Scopes    Scopes
	CreatedAt time.Time
}
