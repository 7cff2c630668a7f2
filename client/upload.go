package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"path/filepath"
	"strings"
	"time"
)

// UploadRequest is what an upload URL binds.
type UploadRequest struct {
	FileSize    int64  `json:"file_size"` // bytes, exact
	ContentType string `json:"content_type"`
	// Digest, when set, is the file's SHA-256 (see Digest); the server refuses
	// other bytes.
	Digest string `json:"digest,omitempty"`
}

// Digest writes a file's SHA-256 as the API does: "sha256:" and lower-case
// hexadecimal digits.
func Digest(sum [32]byte) string { return "sha256:" + hex.EncodeToString(sum[:]) }

// Upload is a reserved photo and where its bytes go.
type Upload struct {
	URL       string `json:"upload_url"`
	PhotoID   string `json:"photo_id"`
	ExpiresIn int    `json:"upload_expires_in"` // seconds
}

// Stored is the answer to the bytes: they are on stable storage.
type Stored struct {
	PhotoID string `json:"photo_id"`
	Size    int64  `json:"size"`   // bytes
	Digest  string `json:"digest"` // as Digest writes it; empty when the answer was lost and the repetition found the bytes stored
}

// Posted is the answer to a multipart upload.
type Posted struct {
	PhotoID string `json:"photo_id"`
	CDNURL  string `json:"cdn_url"` // stable; redirects to the large variant
	Photo   Photo  `json:"photo"`
}

// File is a photo to be sent. Exactly one of At and Reader is set.
type File struct {
	// At gives the bytes from offset 0. It lets a call be repeated.
	At io.ReaderAt
	// Reader gives the bytes once: such a call is not repeated.
	Reader      io.Reader
	Size        int64 // bytes, exact: the server takes nothing of unknown length
	ContentType string
	// Name is the file's name, used by PostPhoto only; its folder is not sent.
	Name string
}

// body returns what gives the bytes of one attempt.
func (f File) body() (open func() io.Reader, repeatable bool, err error) {
	switch {
	case (f.At == nil) == (f.Reader == nil):
		return nil, false, errors.New("client: file needs exactly one of At and Reader")
	case f.Size < 0:
		return nil, false, errors.New("client: file with a negative size")
	case f.At != nil:
		return func() io.Reader { return io.NewSectionReader(f.At, 0, f.Size) }, true, nil
	}
	return func() io.Reader { return f.Reader }, false, nil
}

// UploadURL reserves a photo and a URL to put its bytes to. Not repeated on
// failure; what is reserved and never used expires by itself.
func (c *Client) UploadURL(ctx context.Context, r UploadRequest) (Upload, error) {
	k, err := jsonCall(http.MethodPost, "/photos/upload-url", r)
	if err != nil {
		return Upload{}, err
	}
	var u Upload
	err = c.do(ctx, k, &u)
	return u, err
}

// PutUpload sends the bytes to an upload URL. The URL itself is the permission:
// no login is sent. When it returns nil the bytes are on stable storage; an
// interrupted call may be made again.
func (c *Client) PutUpload(ctx context.Context, u Upload, f File) (Stored, error) {
	open, again, err := f.body()
	if err != nil {
		return Stored{}, err
	}
	var attempts int
	k := call{method: http.MethodPut, url: u.URL, size: f.Size, mime: f.ContentType, fresh: again, repeatable: again}
	k.body = func() io.Reader { attempts++; return open() }
	var s Stored
	err = c.do(ctx, k, &s)
	if attempts > 1 && IsType(err, "upload-already-stored") {
		// An earlier attempt arrived and only its answer was lost: nothing else
		// could have used this URL up with bytes of this size and type.
		return Stored{PhotoID: u.PhotoID, Size: f.Size}, nil
	}
	return s, err
}

// Finalize tells about an uploaded photo and makes it pending; the same call
// again returns the same photo. With wait above 0 (at most 10 s, whole seconds)
// the server holds the answer until the photo is ready.
func (c *Client) Finalize(ctx context.Context, photo string, d Details, wait time.Duration) (Photo, error) {
	if photo == "" {
		return Photo{}, errEmptyName
	}
	k, err := jsonCall(http.MethodPost, "/photos", struct {
		PhotoID string `json:"photo_id"`
		Details
	}{photo, d})
	if err != nil {
		return Photo{}, err
	}
	k.repeatable = true // idempotent per photo id
	k.prefer(wait)
	var p Photo
	err = c.do(ctx, k, &p)
	return p, err
}

// PostPhoto sends a photo and what is said about it in one call, streaming the
// file. idempotencyKey may be empty; with one, and with File.At, the call is
// repeated on failure. wait is as for Finalize.
func (c *Client) PostPhoto(ctx context.Context, f File, d Details, wait time.Duration, idempotencyKey string) (Posted, error) {
	open, again, err := f.body()
	if err != nil {
		return Posted{}, err
	}
	head, tail, boundary, err := multipartFrame(f, d)
	if err != nil {
		return Posted{}, err
	}
	k := call{method: http.MethodPost, path: "/photos", mime: "multipart/form-data; boundary=" + boundary, fresh: again}
	k.body = func() io.Reader {
		return io.MultiReader(bytes.NewReader(head), open(), bytes.NewReader(tail))
	}
	k.size = int64(len(head)) + f.Size + int64(len(tail))
	k.onceBy(idempotencyKey)
	k.repeatable = k.repeatable && again
	k.prefer(wait)
	var p Posted
	err = c.do(ctx, k, &p)
	return p, err
}

// multipartFrame writes what stands before and after the file's bytes, so that
// the body can be streamed with its length known and without a pipe. The texts
// come first: the server can refuse them before it takes the bytes.
func multipartFrame(f File, d Details) (head, tail []byte, boundary string, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	field := func(name, value string) {
		if err == nil && value != "" {
			err = w.WriteField(name, value)
		}
	}
	field("title", d.Title)
	field("caption", d.Caption)
	field("alt", d.Alt)
	field("visibility", d.Visibility)
	for _, t := range d.Tags {
		field("tags", t)
	}
	for _, p := range d.People {
		field("people", p)
	}
	if d.Location != nil {
		loc, merr := json.Marshal(d.Location)
		if merr != nil {
			return nil, nil, "", fmt.Errorf("client: location: %w", merr)
		}
		field("location", string(loc))
	}
	if err != nil {
		return nil, nil, "", fmt.Errorf("client: encode form: %w", err)
	}
	h := textproto.MIMEHeader{}
	h.Set("Content-Disposition", `form-data; name="photo"; filename="`+fileName(f.Name)+`"`)
	ct := f.ContentType
	if ct == "" {
		ct = "application/octet-stream"
	}
	h.Set("Content-Type", ct)
	if _, err := w.CreatePart(h); err != nil {
		return nil, nil, "", fmt.Errorf("client: encode form: %w", err)
	}
	n := b.Len()
	if err := w.Close(); err != nil {
		return nil, nil, "", fmt.Errorf("client: encode form: %w", err)
	}
	return b.Bytes()[:n], b.Bytes()[n:], w.Boundary(), nil
}

// fileName keeps the last element of a path, without what would end the quoted
// form.
func fileName(name string) string {
	name = filepath.Base(name)
	if name == "." || name == string(filepath.Separator) {
		name = "photo"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == '\\' || r == 0x7f {
			return '_'
		}
		return r
	}, name)
}
