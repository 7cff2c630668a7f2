package client

import (
	"context"
	"net/http"
	"net/url"
)

// NewComment is what Comment needs.
type NewComment struct {
	Text     string `json:"text"`
	ParentID string `json:"parent_id,omitempty"` // a reply to this comment
	// IdempotencyKey, when set, makes the server take the call once within 24
	// hours however often it arrives, so the client may repeat it.
	IdempotencyKey string `json:"-"`
}

// Like likes a photo. Liking twice is liking once.
func (c *Client) Like(ctx context.Context, photo string) error {
	return c.onPhoto(ctx, http.MethodPost, photo, "/like")
}

// Unlike takes a like back; it is no error when there was none.
func (c *Client) Unlike(ctx context.Context, photo string) error {
	return c.onPhoto(ctx, http.MethodDelete, photo, "/like")
}

// Comment adds a comment. It is repeated on failure only with an idempotency
// key.
func (c *Client) Comment(ctx context.Context, photo string, n NewComment) (Comment, error) {
	if photo == "" {
		return Comment{}, errEmptyName
	}
	k, err := jsonCall(http.MethodPost, "/photos/"+url.PathEscape(photo)+"/comments", n)
	if err != nil {
		return Comment{}, err
	}
	k.onceBy(n.IdempotencyKey)
	var out Comment
	err = c.do(ctx, k, &out)
	return out, err
}

// DeleteComment removes a comment of the caller's, or one on the caller's photo.
func (c *Client) DeleteComment(ctx context.Context, comment string) error {
	if comment == "" {
		return errEmptyName
	}
	return c.do(ctx, call{method: http.MethodDelete, path: "/comments/" + url.PathEscape(comment), repeatable: true}, nil)
}

// LikeComment likes a comment. Liking twice is liking once.
func (c *Client) LikeComment(ctx context.Context, comment string) error {
	return c.onNamed(ctx, http.MethodPost, "/comments/", comment, "/like")
}

// UnlikeComment takes a like of a comment back; it is no error when there was none.
func (c *Client) UnlikeComment(ctx context.Context, comment string) error {
	return c.onNamed(ctx, http.MethodDelete, "/comments/", comment, "/like")
}

// onPhoto makes a repeatable call without a body on a photo.
func (c *Client) onPhoto(ctx context.Context, method, photo, what string) error {
	if photo == "" {
		return errEmptyName
	}
	return c.do(ctx, call{method: method, path: "/photos/" + url.PathEscape(photo) + what, repeatable: true}, nil)
}

// onceBy marks the call with an idempotency key, which makes it repeatable.
func (k *call) onceBy(key string) {
	if key == "" {
		return
	}
	if k.header == nil {
		k.header = http.Header{}
	}
	k.header.Set("Idempotency-Key", key)
	k.repeatable = true
}
