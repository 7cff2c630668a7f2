package client

import (
	"context"
	"net/http"
	"net/url"
)

// Calls about what people are to one another. A user is an id, "@handle" or a handle.
// All may be repeated but answers to a request, which fail with 404 when there is none.

// RemoveFollower ends a user's follow of the caller.
func (c *Client) RemoveFollower(ctx context.Context, user string) error {
	return c.onNamed(ctx, http.MethodDelete, "/followers/", user, "")
}

// FollowRequests returns one page of who asks to follow the caller.
func (c *Client) FollowRequests(ctx context.Context, p PageOptions) (Page[User], error) {
	return page[User](ctx, c, "/follow-requests", p)
}

// ApproveFollow accepts a user's request.
func (c *Client) ApproveFollow(ctx context.Context, user string) error {
	return c.onNamed(ctx, http.MethodPost, "/follow-requests/", user, "/approve")
}

// DeclineFollow drops a user's request.
func (c *Client) DeclineFollow(ctx context.Context, user string) error {
	return c.onNamed(ctx, http.MethodPost, "/follow-requests/", user, "/decline")
}

// Block hides the caller and a user from each other and ends follows both ways.
func (c *Client) Block(ctx context.Context, user string) error {
	return c.onNamed(ctx, http.MethodPost, "/users/", user, "/block")
}

// Unblock ends a block. Follows do not come back.
func (c *Client) Unblock(ctx context.Context, user string) error {
	return c.onNamed(ctx, http.MethodDelete, "/users/", user, "/block")
}

// Blocks returns one page of whom the caller has blocked.
func (c *Client) Blocks(ctx context.Context, p PageOptions) (Page[User], error) {
	return page[User](ctx, c, "/blocks", p)
}

// Mute keeps a user's photos out of the caller's feed.
func (c *Client) Mute(ctx context.Context, user string) error {
	return c.onNamed(ctx, http.MethodPost, "/users/", user, "/mute")
}

// Unmute ends a mute.
func (c *Client) Unmute(ctx context.Context, user string) error {
	return c.onNamed(ctx, http.MethodDelete, "/users/", user, "/mute")
}

// Mutes returns one page of whom the caller has muted.
func (c *Client) Mutes(ctx context.Context, p PageOptions) (Page[User], error) {
	return page[User](ctx, c, "/mutes", p)
}

// onNamed makes a repeatable call without a body on something with a name.
func (c *Client) onNamed(ctx context.Context, method, before, name, after string) error {
	if name == "" {
		return errEmptyName
	}
	return c.do(ctx, call{method: method, path: before + url.PathEscape(name) + after, repeatable: true}, nil)
}
