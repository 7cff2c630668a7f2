package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

// The storage classes of blobs.
const (
	ClassOriginals = "originals" // cool early, coded early
	ClassVariants  = "variants"  // hot
)

// Blob names stored bytes: storage without accounts. A Client needs an API key of
// scope blob for its token (hayloft user blob-key).
type Blob struct {
	ID     string `json:"id"`
	Cookie string `json:"cookie"` // who does not have it cannot read or delete
	ETag   string `json:"etag"`
	Size   int64  `json:"size"` // bytes
}

// Ref is the blob's name in paths.
func (b Blob) Ref() string { return b.ID + "-" + b.Cookie }

// PutBlob stores one body and returns when it is durable. A file with At is sent
// again when the answer is lost or the server is not available for a moment: a
// blob that nobody learns of may be left then.
func (c *Client) PutBlob(ctx context.Context, class string, f File) (Blob, error) {
	open, again, err := f.body()
	if err != nil {
		return Blob{}, err
	}
	k := call{method: http.MethodPost, path: "/blobs", query: url.Values{"class": {class}}, body: open, size: f.Size, mime: f.ContentType, fresh: again, repeatable: again}
	var b Blob
	err = c.do(ctx, k, &b)
	return b, err
}

// GetBlob fetches a variant of a blob; "" is the one that PutBlob stores. Its owner
// closes Body.
func (c *Client) GetBlob(ctx context.Context, b Blob, variant string) (*Object, error) {
	k, err := blobCall(http.MethodGet, b, variant)
	if err != nil {
		return nil, err
	}
	return c.object(ctx, k)
}

// GetBlobRange fetches n bytes from offset off on, fewer at the end.
func (c *Client) GetBlobRange(ctx context.Context, b Blob, variant string, off, n int64) (*Object, error) {
	k, err := blobCall(http.MethodGet, b, variant)
	if err != nil {
		return nil, err
	}
	if off < 0 || n < 1 {
		return nil, errors.New("client: not a range")
	}
	k.header = http.Header{"Range": {"bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+n-1, 10)}}
	return c.object(ctx, k)
}

// DeleteBlob makes a blob unreadable for ever and returns when that is durable. One
// that is gone already is a Problem of status 404.
func (c *Client) DeleteBlob(ctx context.Context, b Blob) error {
	k, err := blobCall(http.MethodDelete, b, "")
	if err != nil {
		return err
	}
	return c.do(ctx, k, nil)
}

func blobCall(method string, b Blob, variant string) (call, error) {
	if b.ID == "" || b.Cookie == "" {
		return call{}, errEmptyName
	}
	path := "/blobs/" + url.PathEscape(b.Ref())
	if variant != "" {
		path += "/" + url.PathEscape(variant)
	}
	return call{method: method, path: path, repeatable: true}, nil
}
