package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// ErrTooLarge is returned by reads of an Object that goes beyond
// Options.MaxMediaBytes.
var ErrTooLarge = errors.New("client: media larger than allowed")

// Object is the bytes of an image as they arrive. Its owner closes Body.
type Object struct {
	Body        io.ReadCloser
	Size        int64 // bytes; -1 when the server did not say
	ContentType string
	ETag        string
}

// Media fetches an image by one of the URLs in a photo object. No login is
// sent: media URLs carry what they need.
func (c *Client) Media(ctx context.Context, mediaURL string) (*Object, error) {
	u, err := url.Parse(mediaURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("client: %q is no absolute media URL", mediaURL)
	}
	return c.object(ctx, call{method: http.MethodGet, url: mediaURL, repeatable: true})
}

// Variant fetches a rendition (VariantThumbnail …) of a photo by its id.
func (c *Client) Variant(ctx context.Context, photo, variant string) (*Object, error) {
	if photo == "" || variant == "" {
		return nil, errEmptyName
	}
	k := get("/photos/" + url.PathEscape(photo) + "/" + url.PathEscape(variant))
	res, err := c.send(ctx, k)
	if err != nil {
		return nil, err
	}
	defer discard(res.Body)
	at, err := res.Location()
	if err != nil || res.StatusCode < 300 {
		return nil, fmt.Errorf("client: photo %s, variant %s: status %d without a location", photo, variant, res.StatusCode)
	}
	return c.Media(ctx, at.String())
}

// Master fetches the verbatim upload. Only its owner may.
func (c *Client) Master(ctx context.Context, photo string) (*Object, error) {
	if photo == "" {
		return nil, errEmptyName
	}
	return c.object(ctx, get("/photos/"+url.PathEscape(photo)+"/master"))
}

func (c *Client) object(ctx context.Context, k call) (*Object, error) {
	res, err := c.send(ctx, k)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusPartialContent {
		discard(res.Body)
		return nil, fmt.Errorf("client: media: unexpected status %d", res.StatusCode)
	}
	if res.ContentLength > c.opts.MaxMediaBytes {
		res.Body.Close()
		return nil, ErrTooLarge
	}
	return &Object{
		Body:        &bounded{ReadCloser: res.Body, left: c.opts.MaxMediaBytes},
		Size:        res.ContentLength,
		ContentType: res.Header.Get("Content-Type"),
		ETag:        res.Header.Get("ETag"),
	}, nil
}

// bounded reads at most left bytes and then says that there was more, where an
// io.LimitReader would pass off the part as the whole.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		b.left = 0
		return n, ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}
