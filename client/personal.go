package client

import (
	"context"
	"net/http"
	"time"
)

// The scopes of API keys.
const (
	ScopeRead  = "read"  // calls that change nothing
	ScopeWrite = "write" // the others
)

// Session is a login of the caller's.
type Session struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Cookie    bool      `json:"cookie"`
	Current   bool      `json:"current"` // that of this very call
}

// APIKey is a key for programs. Key is set only when it is made; use it as
// Options.Token.
type APIKey struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Scopes    []string  `json:"scopes"`
	CreatedAt time.Time `json:"created_at"`
	Key       string    `json:"key,omitempty"`
}

// ProfileChange is what UpdateMe changes; nil stays.
type ProfileChange struct {
	Name      *string `json:"name,omitempty"`
	Bio       *string `json:"bio,omitempty"`
	IsPrivate *bool   `json:"is_private,omitempty"`
}

// News says how much of the caller's feed is above the mark that Seen moves.
type News struct {
	Count    int    `json:"count"`     // 99: or more
	LatestID string `json:"latest_id"` // the newest photo; empty: the feed is
}

// UpdateMe changes the caller's profile.
func (c *Client) UpdateMe(ctx context.Context, p ProfileChange) (User, error) {
	return sent[User](ctx, c, http.MethodPatch, "/users/me", p, true)
}

// DeleteMe deletes the caller's account and all that it has, for good.
func (c *Client) DeleteMe(ctx context.Context) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/users/me"}, nil)
}

// SetPassword changes the caller's password and ends all other sessions. Not repeated
// on failure.
func (c *Client) SetPassword(ctx context.Context, password, fresh string) error {
	_, err := sent[User](ctx, c, http.MethodPut, "/users/me/password", map[string]string{"password": password, "new_password": fresh}, false)
	return err
}

// SetAvatar shows one of the caller's ready public photos as their face; "" is none.
func (c *Client) SetAvatar(ctx context.Context, photo string) (User, error) {
	body := map[string]*string{"photo_id": nil}
	if photo != "" {
		body["photo_id"] = &photo
	}
	return sent[User](ctx, c, http.MethodPut, "/users/me/avatar", body, true)
}

// Sessions returns the caller's logins, newest first.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	p, err := page[Session](ctx, c, "/sessions", PageOptions{})
	return p.Items, err
}

// EndSession ends one login of the caller's.
func (c *Client) EndSession(ctx context.Context, session string) error {
	return c.onNamed(ctx, http.MethodDelete, "/sessions/", session, "")
}

// EndSessions ends all logins of the caller's, this one too.
func (c *Client) EndSessions(ctx context.Context) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/sessions"}, nil)
}

// CreateAPIKey makes a key. Not repeated on failure.
func (c *Client) CreateAPIKey(ctx context.Context, name string, scopes ...string) (APIKey, error) {
	return sent[APIKey](ctx, c, http.MethodPost, "/api-keys", map[string]any{"name": name, "scopes": scopes}, false)
}

// APIKeys returns the caller's keys, newest first.
func (c *Client) APIKeys(ctx context.Context) ([]APIKey, error) {
	p, err := page[APIKey](ctx, c, "/api-keys", PageOptions{})
	return p.Items, err
}

// DeleteAPIKey ends a key of the caller's.
func (c *Client) DeleteAPIKey(ctx context.Context, key string) error {
	return c.onNamed(ctx, http.MethodDelete, "/api-keys/", key, "")
}

// FeedNew says how much of the caller's feed is new.
func (c *Client) FeedNew(ctx context.Context) (News, error) {
	var n News
	err := c.do(ctx, get("/feed/new"), &n)
	return n, err
}

// Seen moves the caller's mark up to a photo of the feed, never down.
func (c *Client) Seen(ctx context.Context, photo string) error {
	k, err := jsonCall(http.MethodPost, "/feed/seen", map[string]string{"photo_id": photo})
	if err != nil {
		return err
	}
	k.repeatable = true
	return c.do(ctx, k, nil)
}

// sent makes a call with a JSON body and reads its answer.
func sent[T any](ctx context.Context, c *Client, method, path string, body any, repeatable bool) (T, error) {
	var out T
	k, err := jsonCall(method, path, body)
	if err != nil {
		return out, err
	}
	k.repeatable = repeatable
	err = c.do(ctx, k, &out)
	return out, err
}
