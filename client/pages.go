package client

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"strconv"
)

// Feed returns one page of the caller's feed, newest first.
func (c *Client) Feed(ctx context.Context, p PageOptions) (Page[Photo], error) {
	return page[Photo](ctx, c, "/feed", p)
}

// FeedPages walks the whole feed, limit rows (1 to 100; 0: the server's
// default) at a time. It stops at the first error, which it yields.
func (c *Client) FeedPages(ctx context.Context, limit int) iter.Seq2[Page[Photo], error] {
	return pages(limit, func(p PageOptions) (Page[Photo], error) { return c.Feed(ctx, p) })
}

// UserPhotos returns one page of a user's photos, newest first.
func (c *Client) UserPhotos(ctx context.Context, user string, p PageOptions) (Page[Photo], error) {
	return named[Photo](ctx, c, "/users/", user, "/photos", p)
}

// Followers returns one page of who follows a user.
func (c *Client) Followers(ctx context.Context, user string, p PageOptions) (Page[User], error) {
	return named[User](ctx, c, "/users/", user, "/followers", p)
}

// Following returns one page of whom a user follows.
func (c *Client) Following(ctx context.Context, user string, p PageOptions) (Page[User], error) {
	return named[User](ctx, c, "/users/", user, "/following", p)
}

// Likes returns one page of who likes a photo.
func (c *Client) Likes(ctx context.Context, photo string, p PageOptions) (Page[User], error) {
	return named[User](ctx, c, "/photos/", photo, "/likes", p)
}

// Comments returns one page of a photo's top-level comments.
func (c *Client) Comments(ctx context.Context, photo string, p PageOptions) (Page[Comment], error) {
	return named[Comment](ctx, c, "/photos/", photo, "/comments", p)
}

// Replies returns one page of the replies to a comment.
func (c *Client) Replies(ctx context.Context, comment string, p PageOptions) (Page[Comment], error) {
	return named[Comment](ctx, c, "/comments/", comment, "/replies", p)
}

// DeletedPhotos returns one page of the caller's photos that can be restored.
func (c *Client) DeletedPhotos(ctx context.Context, p PageOptions) (Page[Photo], error) {
	return page[Photo](ctx, c, "/photos/deleted", p)
}

func named[T any](ctx context.Context, c *Client, before, name, after string, p PageOptions) (Page[T], error) {
	if name == "" {
		return Page[T]{}, errEmptyName
	}
	return page[T](ctx, c, before+url.PathEscape(name)+after, p)
}

func page[T any](ctx context.Context, c *Client, path string, p PageOptions) (Page[T], error) {
	k := get(path)
	k.query = p.values()
	var out Page[T]
	err := c.do(ctx, k, &out)
	return out, err
}

// values are the options as a query.
func (p PageOptions) values() url.Values {
	q := url.Values{}
	if p.Limit != 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	if p.Cursor != "" {
		q.Set("cursor", p.Cursor)
	}
	return q
}

// pages walks a list. A server that answers with the cursor it was given would
// be walked for ever; that is said instead.
func pages[T any](limit int, fetch func(PageOptions) (Page[T], error)) iter.Seq2[Page[T], error] {
	return func(yield func(Page[T], error) bool) {
		p := PageOptions{Limit: limit}
		for {
			got, err := fetch(p)
			if err == nil && got.NextCursor != "" && got.NextCursor == p.Cursor {
				err = errors.New("client: the list's cursor does not move on")
			}
			if !yield(got, err) || err != nil || got.NextCursor == "" {
				return
			}
			p.Cursor = got.NextCursor
		}
	}
}
