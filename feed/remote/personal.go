package remote

import (
	"context"

	"hayloft/feed"
	"hayloft/internal/id"
)

// What an account does with itself, likes of comments, and what operators do, by the contracts of feed.Feed.

// personalMethods are the methods of a feed that this file calls.
func personalMethods(f *feed.Feed) map[string]any {
	return map[string]any{
		"DeleteAccount": f.DeleteAccount,
		"SetPassword":   f.SetPassword,
		"CreateAPIKey":  f.CreateAPIKey,
		"KeyByToken":    f.KeyByToken,
		"APIKeys":       f.APIKeys,
		"DeleteAPIKey":  f.DeleteAPIKey,
		"SetAvatar":     f.SetAvatar,
		"Seen":          f.Seen,
		"FeedNew":       f.FeedNew,
		"LikeComment":   f.LikeComment,
		"UnlikeComment": f.UnlikeComment,
		"Accounts":      f.Accounts,
		"Account":       f.Account,
		"Suspend":       f.Suspend,
	}
}

// DeleteAccount is that of feed.Feed.
func (c *Client) DeleteAccount(ctx context.Context, user id.ID) error {
	return gone(c.call(ctx, "DeleteAccount", true, []any{user}))
}

// SetPassword is that of feed.Feed.
func (c *Client) SetPassword(ctx context.Context, user id.ID, hash, was string, keep id.ID) error {
	return c.call(ctx, "SetPassword", false, []any{user, hash, was, keep})
}

// CreateAPIKey is that of feed.Feed.
func (c *Client) CreateAPIKey(ctx context.Context, user id.ID, hash [32]byte, name string, scopes feed.Scopes) (feed.APIKey, error) {
	return one[feed.APIKey](ctx, c, "CreateAPIKey", false, user, hash, name, scopes)
}

// KeyByToken is that of feed.Feed.
func (c *Client) KeyByToken(ctx context.Context, hash [32]byte) (feed.APIKey, error) {
	return one[feed.APIKey](ctx, c, "KeyByToken", true, hash)
}

// APIKeys is that of feed.Feed.
func (c *Client) APIKeys(ctx context.Context, user id.ID) ([]feed.APIKey, error) {
	return one[[]feed.APIKey](ctx, c, "APIKeys", true, user)
}

// DeleteAPIKey is that of feed.Feed.
func (c *Client) DeleteAPIKey(ctx context.Context, user, key id.ID) error {
	return gone(c.call(ctx, "DeleteAPIKey", true, []any{user, key}))
}

// SetAvatar is that of feed.Feed.
func (c *Client) SetAvatar(ctx context.Context, user, photo id.ID) error {
	return c.call(ctx, "SetAvatar", true, []any{user, photo})
}

// Seen is that of feed.Feed.
func (c *Client) Seen(ctx context.Context, user, photo id.ID) error {
	return c.call(ctx, "Seen", true, []any{user, photo})
}

// FeedNew is that of feed.Feed.
func (c *Client) FeedNew(ctx context.Context, user id.ID) (int, id.ID, error) {
	return two[int, id.ID](ctx, c, "FeedNew", true, user)
}

// LikeComment is that of feed.Feed.
func (c *Client) LikeComment(ctx context.Context, user, comment id.ID) error {
	return c.call(ctx, "LikeComment", true, []any{user, comment})
}

// UnlikeComment is that of feed.Feed.
func (c *Client) UnlikeComment(ctx context.Context, user, comment id.ID) error {
	return c.call(ctx, "UnlikeComment", true, []any{user, comment})
}

// Accounts is that of feed.Feed.
func (c *Client) Accounts(ctx context.Context, after string, limit int) ([]feed.Account, string, error) {
	return two[[]feed.Account, string](ctx, c, "Accounts", true, after, limit)
}

// Account is that of feed.Feed.
func (c *Client) Account(ctx context.Context, handle string) (feed.Account, error) {
	return one[feed.Account](ctx, c, "Account", true, handle)
}

// Suspend is that of feed.Feed.
func (c *Client) Suspend(ctx context.Context, user id.ID, suspended bool) error {
	return c.call(ctx, "Suspend", true, []any{user, suspended})
}
