package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"
	"unicode/utf8"

	"hayloft/feed"
	"hayloft/internal/id"
)

// What accounts do with themselves.

// Personal is what the API needs of the feed for that. DeleteAPIKey and DeleteAccount
// answer feed.ErrNotFound when there is nothing to delete.
type Personal interface {
	DeleteAccount(ctx context.Context, user id.ID) error
	// SetPassword ends all sessions but keep. feed.ErrConflict: was is not the hash by now.
	SetPassword(ctx context.Context, user id.ID, hash, was string, keep id.ID) error
	SetAvatar(ctx context.Context, user, photo id.ID) error // photo 0: none

	CreateAPIKey(ctx context.Context, user id.ID, hash [32]byte, name string, scopes feed.Scopes) (feed.APIKey, error)
	// KeyByToken returns the key of a token's SHA-256.
	KeyByToken(ctx context.Context, hash [32]byte) (feed.APIKey, error)
	APIKeys(ctx context.Context, user id.ID) ([]feed.APIKey, error) // newest first
	DeleteAPIKey(ctx context.Context, user, key id.ID) error

	// FeedNew counts what the feed shows above the mark that Seen moves, up to 99.
	FeedNew(ctx context.Context, user id.ID) (count int, latest id.ID, err error)
	Seen(ctx context.Context, user, photo id.ID) error // idempotent
}

func personalRoutes() []route {
	return []route{
		{method: "DELETE", pattern: v1 + "/users/me", access: signedIn, login: true, handle: (*request).deleteMe},
		{method: "PUT", pattern: v1 + "/users/me/password", access: signedIn, login: true, handle: (*request).setPassword},
		{method: "PUT", pattern: v1 + "/users/me/avatar", access: signedIn, handle: (*request).setAvatar},

		{method: "POST", pattern: v1 + "/api-keys", access: signedIn, login: true, handle: (*request).createKey},
		{method: "GET", pattern: v1 + "/api-keys", access: signedIn, login: true, handle: (*request).listKeys},
		{method: "DELETE", pattern: v1 + "/api-keys/{id}", access: signedIn, login: true, handle: (*request).deleteKey},

		{method: "GET", pattern: v1 + "/feed/new", access: signedIn, handle: (*request).feedNew},
		{method: "POST", pattern: v1 + "/feed/seen", access: signedIn, handle: (*request).feedSeen},
	}
}

// deleteMe is DELETE /users/me: the account and all that it has, for good.
func (r *request) deleteMe() error {
	if err := r.a.opt.Feed.DeleteAccount(r.ctx, r.viewer); err != nil {
		return err
	}
	if r.byCookie {
		r.setCookie("")
	}
	r.audit(EventAccountDeleted, r.viewer)
	return r.noContent()
}

// setPassword is PUT /users/me/password {password, new_password}. It ends every other
// session of the account.
func (r *request) setPassword() error {
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	old, fresh := f.raw("password"), f.raw("new_password")
	if old == nil {
		f.fault("password", "is needed")
	}
	f.newPassword("new_password", fresh)
	if err := f.done(); err != nil {
		return err
	}
	me, err := r.a.opt.Feed.UserByID(r.ctx, r.viewer, r.viewer)
	if err != nil {
		return err
	}
	account, was, err := r.checkPassword(me.Handle, *old)
	if err != nil {
		return err
	}
	hash, err := r.a.hasher.hash(r.ctx, *fresh)
	if err != nil {
		return err
	}
	if err := r.a.opt.Feed.SetPassword(r.ctx, account, hash, was, r.session.ID); err != nil {
		return err
	}
	r.audit(EventPassword, account)
	return r.json(200, r.user(me))
}

// newPassword checks a password that is to be one.
func (f *fields) newPassword(name string, password *string) {
	if password == nil || utf8.RuneCountInString(*password) < minPassword || len(*password) > maxPassword {
		f.fault(name, "must have at least %d characters and at most %d bytes", minPassword, maxPassword)
	}
}

// setAvatar is PUT /users/me/avatar {photo_id}; null is none.
func (r *request) setAvatar() error {
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	photo := f.ident("photo_id")
	if !f.has("photo_id") {
		f.fault("photo_id", "is needed; null is no avatar")
	}
	if err := f.done(); err != nil {
		return err
	}
	if err := r.a.opt.Feed.SetAvatar(r.ctx, r.viewer, photo); err != nil {
		return err
	}
	return r.me()
}

// keyPrefix begins each API key of an account, so that scanners find one that leaked.
const keyPrefix = "hlk_"

// scopeNames are the scopes that an account can give.
var scopeNames = map[string]feed.Scopes{"read": feed.ScopeRead, "write": feed.ScopeWrite}

// keyBody is an API key as its owner sees it. The key itself is shown once.
type keyBody struct {
	ID        id.ID     `json:"id"`
	Name      string    `json:"name"`
	Scopes    []string  `json:"scopes"`
	CreatedAt time.Time `json:"created_at"`
	Key       string    `json:"key,omitempty"`
}

func showKey(k feed.APIKey) keyBody {
	b := keyBody{ID: k.ID, Name: k.Name, CreatedAt: utc(k.CreatedAt)}
	for _, name := range []string{"read", "write"} {
		if k.Scopes&scopeNames[name] != 0 {
			b.Scopes = append(b.Scopes, name)
		}
	}
	return b
}

// createKey is POST /api-keys {name, scopes}.
func (r *request) createKey() error {
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	name := f.text("name", maxName, false)
	if name == nil || *name == "" {
		f.fault("name", "is needed")
	}
	var scopes feed.Scopes
	for i, text := range f.texts("scopes", len(scopeNames)) {
		scope, ok := scopeNames[text]
		if !ok {
			f.fault("scopes/"+itoa(i), "is neither read nor write")
		}
		scopes |= scope
	}
	if scopes == 0 && len(f.faults) == 0 {
		f.fault("scopes", "is empty; there are read and write")
	}
	if err := f.done(); err != nil {
		return err
	}
	token, err := r.a.random(keyPrefix)
	if err != nil {
		return err
	}
	k, err := r.a.opt.Feed.CreateAPIKey(r.ctx, r.viewer, sha256.Sum256([]byte(token)), *name, scopes)
	if err != nil {
		return err
	}
	if err := r.stillSignedIn(k); err != nil {
		return err
	}
	r.audit(EventKeyMade, r.viewer)
	b := showKey(k)
	b.Key = token
	return r.json(201, b)
}

// stillSignedIn refuses a key whose session ended while the call was under way, and ends
// the key: whoever replaced the password to be rid of that session has not seen it.
func (r *request) stillSignedIn(k feed.APIKey) error {
	err := r.alive(r.ctx)
	if !errors.Is(err, feed.ErrNotFound) {
		return err // if any: nobody is told the key
	}
	if err := r.a.opt.Feed.DeleteAPIKey(r.ctx, k.User, k.ID); err != nil && !errors.Is(err, feed.ErrNotFound) {
		return err
	}
	return pUnauthorized.because("the token is not valid")
}

// listKeys is GET /api-keys: all at once, newest first.
func (r *request) listKeys() error {
	keys, err := r.a.opt.Feed.APIKeys(r.ctx, r.viewer)
	if err != nil {
		return err
	}
	body := pageBody[keyBody]{Items: make([]keyBody, 0, len(keys))}
	for _, k := range keys {
		body.Items = append(body.Items, showKey(k))
	}
	return r.json(200, body)
}

// deleteKey is DELETE /api-keys/{id}.
func (r *request) deleteKey() error {
	key, err := r.pathID(0)
	if err != nil {
		return err
	}
	if err := r.a.opt.Feed.DeleteAPIKey(r.ctx, r.viewer, key); err != nil {
		return err
	}
	r.audit(EventKeyEnded, r.viewer)
	return r.noContent()
}

// newBody is how much a feed has that its reader has not seen.
type newBody struct {
	Count    int    `json:"count"` // 99: or more
	LatestID *id.ID `json:"latest_id"`
}

// feedNew is GET /feed/new.
func (r *request) feedNew() error {
	count, latest, err := r.a.opt.Feed.FeedNew(r.ctx, r.viewer)
	if err != nil {
		return err
	}
	b := newBody{Count: count}
	if latest != 0 {
		b.LatestID = &latest
	}
	return r.json(200, b)
}

// feedSeen is POST /feed/seen {photo_id}. A mark that is further already stays.
func (r *request) feedSeen() error {
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	photo := f.ident("photo_id")
	if photo == 0 {
		f.fault("photo_id", "is needed")
	}
	if err := f.done(); err != nil {
		return err
	}
	if err := r.a.opt.Feed.Seen(r.ctx, r.viewer, photo); err != nil {
		return err
	}
	return r.noContent()
}

// withAPIKey makes the account of an API key the call's.
func (r *request) withAPIKey(token string) error {
	hash, f := sha256.Sum256([]byte(token)), r.a.opt.Feed
	r.alive = func(ctx context.Context) error { _, err := f.KeyByToken(ctx, hash); return err }
	r.letIn = r.a.opt.Clock.Elapsed()
	k, err := f.KeyByToken(r.ctx, hash)
	switch {
	case errors.Is(err, feed.ErrNotFound):
		return pUnauthorized.because("the API key is not valid")
	case err != nil:
		return err
	}
	need, name := feed.ScopeWrite, "write"
	if isSafe(r.rc) {
		need, name = feed.ScopeRead, "read"
	}
	switch {
	case r.route.login:
		return pScope.because("only a sign-in with the password may do that")
	case k.Scopes&need == 0:
		return pScope.because("the key has not the scope %s", name)
	}
	r.viewer = k.User
	return nil
}
