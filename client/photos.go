package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxWait is the longest that the server holds a call for "Prefer: wait".
const maxWait = 10 * time.Second

// Photo returns a photo by id. Its author sees it from pending on, everybody
// else once it is ready.
func (c *Client) Photo(ctx context.Context, photo string) (Photo, error) {
	return c.photo(ctx, photo, 0)
}

func (c *Client) photo(ctx context.Context, photo string, wait time.Duration) (Photo, error) {
	if photo == "" {
		return Photo{}, errEmptyName
	}
	k := get("/photos/" + url.PathEscape(photo))
	k.prefer(wait)
	var p Photo
	err := c.do(ctx, k, &p)
	return p, err
}

// WaitReady returns the photo once it is no longer pending: ready, or failed,
// which is told by Photo.Status and is no error here. It waits as long as ctx
// lets it, asking the server to hold each call (Prefer: wait) and pausing
// between calls should it answer at once.
func (c *Client) WaitReady(ctx context.Context, photo string) (Photo, error) {
	for attempt := 0; ; attempt++ {
		p, err := c.photo(ctx, photo, maxWait)
		if err != nil || p.Status != StatusPending {
			return p, err
		}
		// Early looks are close together: a photo is usually ready well within
		// a second.
		pause := min(20*time.Millisecond<<min(attempt, 6), time.Second)
		if err := c.sleep(ctx, pause); err != nil {
			return p, fmt.Errorf("client: photo %s is still pending: %w", photo, err)
		}
	}
}

// Delete makes a photo invisible at once. Its owner can restore it within the
// server's grace.
func (c *Client) Delete(ctx context.Context, photo string) error {
	return c.onPhoto(ctx, http.MethodDelete, photo, "")
}

// Purge deletes a photo for good, without the grace.
func (c *Client) Purge(ctx context.Context, photo string) error {
	return c.onPhoto(ctx, http.MethodDelete, photo, "?purge=now")
}

// Restore brings a deleted photo back, within the grace.
func (c *Client) Restore(ctx context.Context, photo string) (Photo, error) {
	if photo == "" {
		return Photo{}, errEmptyName
	}
	var p Photo
	// Not repeatable: when the first answer is lost, the second says conflict.
	err := c.do(ctx, call{method: http.MethodPost, path: "/photos/" + url.PathEscape(photo) + "/restore"}, &p)
	return p, err
}

// prefer asks the server to hold the call for up to wait while the photo is
// pending.
func (k *call) prefer(wait time.Duration) {
	if wait <= 0 {
		return
	}
	if k.header == nil {
		k.header = http.Header{}
	}
	s := int(min(wait, maxWait) / time.Second)
	k.header.Set("Prefer", "wait="+strconv.Itoa(max(s, 1)))
}
