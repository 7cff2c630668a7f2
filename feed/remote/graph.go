package remote

import (
	"context"

	"hayloft/feed"
	"hayloft/internal/id"
)

// What people are to one another, by the contracts of feed.Feed.

// graphMethods are the methods of a feed that this file calls.
func graphMethods(f *feed.Feed) map[string]any {
	return map[string]any{
		"Follow":         f.Follow,
		"FollowOrAsk":    f.FollowOrAsk,
		"Unfollow":       f.Unfollow,
		"Followers":      f.Followers,
		"Following":      f.Following,
		"RemoveFollower": f.RemoveFollower,
		"ApproveFollow":  f.ApproveFollow,
		"DeclineFollow":  f.DeclineFollow,
		"FollowRequests": f.FollowRequests,
		"Block":          f.Block,
		"Unblock":        f.Unblock,
		"Blocks":         f.Blocks,
		"Mute":           f.Mute,
		"Unmute":         f.Unmute,
		"Mutes":          f.Mutes,
	}
}

// Follow is that of feed.Feed.
func (c *Client) Follow(ctx context.Context, reader, author id.ID) error {
	return c.call(ctx, "Follow", true, []any{reader, author})
}

// Unfollow is that of feed.Feed.
func (c *Client) Unfollow(ctx context.Context, reader, author id.ID) error {
	return c.call(ctx, "Unfollow", true, []any{reader, author})
}

// Followers is that of feed.Feed.
func (c *Client) Followers(ctx context.Context, viewer, user id.ID, p feed.Page) ([]feed.UserView, id.ID, error) {
	return two[[]feed.UserView, id.ID](ctx, c, "Followers", true, viewer, user, p)
}

// Following is that of feed.Feed.
func (c *Client) Following(ctx context.Context, viewer, user id.ID, p feed.Page) ([]feed.UserView, id.ID, error) {
	return two[[]feed.UserView, id.ID](ctx, c, "Following", true, viewer, user, p)
}

// FollowOrAsk is that of feed.Feed.
func (c *Client) FollowOrAsk(ctx context.Context, reader, author id.ID) (bool, error) {
	return one[bool](ctx, c, "FollowOrAsk", true, reader, author)
}

// RemoveFollower is that of feed.Feed.
func (c *Client) RemoveFollower(ctx context.Context, author, reader id.ID) error {
	return c.call(ctx, "RemoveFollower", true, []any{author, reader})
}

// ApproveFollow is that of feed.Feed.
func (c *Client) ApproveFollow(ctx context.Context, author, reader id.ID) error {
	return gone(c.call(ctx, "ApproveFollow", true, []any{author, reader}))
}

// DeclineFollow is that of feed.Feed.
func (c *Client) DeclineFollow(ctx context.Context, author, reader id.ID) error {
	return gone(c.call(ctx, "DeclineFollow", true, []any{author, reader}))
}

// FollowRequests is that of feed.Feed.
func (c *Client) FollowRequests(ctx context.Context, user id.ID, p feed.Page) ([]feed.UserView, id.ID, error) {
	return two[[]feed.UserView, id.ID](ctx, c, "FollowRequests", true, user, p)
}

// Block is that of feed.Feed.
func (c *Client) Block(ctx context.Context, user, other id.ID) error {
	return c.call(ctx, "Block", true, []any{user, other})
}

// Unblock is that of feed.Feed.
func (c *Client) Unblock(ctx context.Context, user, other id.ID) error {
	return c.call(ctx, "Unblock", true, []any{user, other})
}

// Blocks is that of feed.Feed.
func (c *Client) Blocks(ctx context.Context, user id.ID, p feed.Page) ([]feed.UserView, id.ID, error) {
	return two[[]feed.UserView, id.ID](ctx, c, "Blocks", true, user, p)
}

// Mute is that of feed.Feed.
func (c *Client) Mute(ctx context.Context, user, other id.ID) error {
	return c.call(ctx, "Mute", true, []any{user, other})
}

// Unmute is that of feed.Feed.
func (c *Client) Unmute(ctx context.Context, user, other id.ID) error {
	return c.call(ctx, "Unmute", true, []any{user, other})
}

// Mutes is that of feed.Feed.
func (c *Client) Mutes(ctx context.Context, user id.ID, p feed.Page) ([]feed.UserView, id.ID, error) {
	return two[[]feed.UserView, id.ID](ctx, c, "Mutes", true, user, p)
}
