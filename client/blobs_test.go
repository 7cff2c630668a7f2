package client

import (
	"io"
	"strings"
	"testing"
)

// TestBlobCalls: what the calls of the blob API look like on the wire.
func TestBlobCalls(t *testing.T) {
	f := serve(t,
		answer{status: 503, body: `{"type":"/problems/busy","status":503}`, header: map[string]string{"Content-Type": "application/problem+json"}},
		answer{status: 201, body: `{"id":"06pgmjgfw8000","cookie":"8vrm1mxf0wsj9","etag":"\"dbdbb3bd\"","size":5,"variants":{}}`},
		answer{status: 200, body: "bytes"}, answer{status: 206, body: "yt"}, answer{status: 204})
	c, err := New(f.URL, Options{Token: "hlb_key", MinPause: 1, MaxPause: 1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.PutBlob(t.Context(), ClassOriginals, File{At: strings.NewReader("bytes"), Size: 5, ContentType: "image/jpeg"})
	if err != nil || b.Ref() != "06pgmjgfw8000-8vrm1mxf0wsj9" || b.Size != 5 {
		t.Fatalf("%+v, %v", b, err)
	}
	read := func(o *Object, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer o.Body.Close()
		text, err := io.ReadAll(o.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := read(c.GetBlob(t.Context(), b, "small")); got != "bytes" {
		t.Errorf("%q", got)
	}
	if got := read(c.GetBlobRange(t.Context(), b, "", 1, 2)); got != "yt" {
		t.Errorf("%q", got)
	}
	if err := c.DeleteBlob(t.Context(), b); err != nil {
		t.Error(err)
	}
	if err := c.DeleteBlob(t.Context(), Blob{}); err == nil {
		t.Error("a blob without a name is deleted")
	}
	want := []string{"POST /api/v1/blobs?class=originals", "POST /api/v1/blobs?class=originals", "GET /api/v1/blobs/06pgmjgfw8000-8vrm1mxf0wsj9/small",
		"GET /api/v1/blobs/06pgmjgfw8000-8vrm1mxf0wsj9", "DELETE /api/v1/blobs/06pgmjgfw8000-8vrm1mxf0wsj9"}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, g := range f.got {
		if g.method+" "+g.uri != want[i] || g.header.Get("Authorization") != "Bearer hlb_key" {
			t.Errorf("call %d: %s %s, %v", i, g.method, g.uri, g.header)
		}
	}
	if len(f.got) != len(want) || f.got[1].body != "bytes" || f.got[3].header.Get("Range") != "bytes=1-2" {
		t.Errorf("%d calls", len(f.got))
	}
}
