package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"hayloft/internal/id"
	"hayloft/media"
	"hayloft/volume"
)

func (b *volBlobs) ReserveBlob(ctx context.Context, _ BlobClass) (id.ID, id.Cookie, error) {
	return b.Reserve(ctx)
}

func (b *volBlobs) WriteBlob(ctx context.Context, blob id.ID, cookie id.Cookie, variants []BlobVariant) error {
	if b.moves.Add(-1) >= 0 {
		return fmt.Errorf("test: %w", ErrMoved)
	}
	if err := b.err.Load(); err != nil {
		return *err
	}
	var group []volume.Needle
	for _, v := range variants {
		n := volume.Needle{Key: blob, Alt: v.Variant, Cookie: cookie, Data: v.Data}
		if v.Owner != 0 {
			n.Master = &volume.MasterInfo{Photo: blob, Owner: v.Owner, ContentType: v.ContentType, Time: b.clock.Now()}
		}
		group = append(group, n)
	}
	return b.vol.Append(ctx, group)
}

func (b *volBlobs) ReadBlob(ctx context.Context, blob id.ID, cookie id.Cookie, variant uint8, off, n int64) (BlobPiece, error) {
	r, err := b.vol.ReadRange(ctx, blob, variant, cookie, off, n)
	if errors.Is(err, volume.ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrNoBlob, err)
	}
	b.lent.Add(1)
	p := BlobPiece{Data: r.Data, Size: r.Size, ETag: r.ETag, Release: func() { b.lent.Add(-1); r.Release() }}
	if r.Master != nil {
		p.ContentType = r.Master.ContentType
	}
	return p, err
}

func (b *volBlobs) DeleteBlob(ctx context.Context, blob id.ID) error { return b.vol.Delete(ctx, blob) }

// putBlob stores one body and returns what names it.
func (w *world) putBlob(body []byte, headers ...string) (string, blobBody) {
	w.t.Helper()
	b := into[blobBody](w.call(w.key, "POST", "/api/v1/blobs", body, headers...).is(201))
	return "/api/v1/blobs/" + b.ID.String() + "-" + b.Cookie, b
}

// TestBlobs walks through the life of a blob: stored, read whole and in parts,
// deleted, gone.
func TestBlobs(t *testing.T) {
	w := newWorld(t)
	body := bytes.Repeat([]byte("abcdefgh"), 400_000) // several pieces
	path, b := w.putBlob(body, "Content-Type", "image/jpeg")
	if b.Size != int64(len(body)) || b.Variants["original"] != b.ETag {
		t.Errorf("stored: %+v", b)
	}
	got := w.call(w.key, "GET", path, nil).is(200)
	if !bytes.Equal(got.body, body) || got.header.Get("Content-Type") != "image/jpeg" || got.header.Get("ETag") != b.ETag {
		t.Errorf("%d bytes, %v", len(got.body), got.header)
	}
	if got.header.Get("Content-Disposition") != "attachment" || !strings.Contains(got.header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("a browser might run it: %v", got.header)
	}
	if h := w.call(w.key, "HEAD", path, nil).is(200); h.header.Get("Content-Length") != fmt.Sprint(len(body)) {
		t.Errorf("HEAD: %v", h.header)
	}
	w.call(w.key, "GET", path, nil, "If-None-Match", b.ETag).is(304)
	w.call(w.key, "GET", path, nil, "If-Match", `"other"`).is(412)
	part := w.call(w.key, "GET", path, nil, "Range", "bytes=1500000-2999999").is(206)
	if !bytes.Equal(part.body, body[1500000:3000000]) || part.header.Get("Content-Range") != fmt.Sprintf("bytes 1500000-2999999/%d", len(body)) {
		t.Errorf("%d bytes, %v", len(part.body), part.header)
	}
	w.call(w.key, "GET", path, nil, "Range", "bytes=9999999-").is(416)
	w.call(w.key, "GET", path+"/small", nil).is(404)
	w.call(w.key, "GET", path+"/nosuch", nil).is(404)

	other := strings.Replace(path, b.Cookie, id.Cookie(7).String(), 1)
	for _, method := range []string{"GET", "DELETE"} {
		w.call(w.key, method, other, nil).is(404)
	}
	w.call(w.key, "DELETE", path, nil).is(204)
	w.call(w.key, "GET", path, nil).is(404)
	w.call(w.key, "DELETE", path, nil).is(404)
}

// TestBlobGroup: the parts of a form are one group, each read by its name.
func TestBlobGroup(t *testing.T) {
	w := newWorld(t)
	var form bytes.Buffer
	mw := multipart.NewWriter(&form)
	want := map[string][]byte{}
	for i, v := range media.Made() {
		want[v.String()] = bytes.Repeat([]byte{byte(i + 1)}, 1000*(i+1))
		p, err := mw.CreateFormField(v.String())
		must(t, err)
		_, err = p.Write(want[v.String()])
		must(t, err)
	}
	must(t, mw.Close())
	w.blobs.moves.Store(2) // tiles that close under it
	b := into[blobBody](w.call(w.key, "POST", "/api/v1/blobs?class=variants", form.Bytes(), "Content-Type", mw.FormDataContentType()).is(201))
	path := "/api/v1/blobs/" + b.ID.String() + "-" + b.Cookie
	for name, data := range want {
		got := w.call(w.key, "GET", path+"/"+name, nil).is(200)
		if !bytes.Equal(got.body, data) || got.header.Get("ETag") != b.Variants[name] || got.header.Get("Content-Type") != typeBytes {
			t.Errorf("%s: %d bytes, %v", name, len(got.body), got.header)
		}
	}
	w.call(w.key, "GET", path, nil).is(404) // there is no original
	w.call(w.key, "DELETE", path, nil).is(204)
	w.call(w.key, "GET", path+"/small", nil).is(404)
}

// TestBlobRefusals: what is refused appends nothing.
func TestBlobRefusals(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.PhotoBytes = 1 << 20 })
	token, _ := w.account("ada")
	before := w.blobs.bytes()
	for _, tt := range []struct {
		name, key, path string
		body            any
		headers         []string
		want            int
	}{
		{"no key", "", "/api/v1/blobs", "x", nil, 401},
		{"a session is no key", token, "/api/v1/blobs", "x", nil, 401},
		{"nearly the key", w.key + "A", "/api/v1/blobs", "x", nil, 401},
		{"two keys", w.key, "/api/v1/blobs", "x", []string{"X-API-Key", w.key}, 401},
		{"class", w.key, "/api/v1/blobs?class=needles", "x", nil, 422},
		{"empty", w.key, "/api/v1/blobs", []byte{}, nil, 400},
		{"too large", w.key, "/api/v1/blobs", make([]byte, 1<<20+1), nil, 413},
		{"no boundary", w.key, "/api/v1/blobs", "x", []string{"Content-Type", "multipart/form-data"}, 400},
		{"unknown part", w.key, "/api/v1/blobs", "--b\r\nContent-Disposition: form-data; name=\"huge\"\r\n\r\nx\r\n--b--\r\n", []string{"Content-Type", "multipart/form-data; boundary=b"}, 400},
		{"no part", w.key, "/api/v1/blobs", "--b--\r\n", []string{"Content-Type", "multipart/form-data; boundary=b"}, 400},
	} {
		if got := w.call(tt.key, "POST", tt.path, tt.body, tt.headers...); got.status != tt.want {
			t.Errorf("%s: %d, want %d: %s", tt.name, got.status, tt.want, got.body)
		}
	}
	if after := w.blobs.bytes(); after != before {
		t.Errorf("%d bytes were appended", after-before)
	}
	w.call("", "POST", "/api/v1/blobs", "x", "X-API-Key", w.key).is(201)
	full := fmt.Errorf("disk: %w", ErrFull)
	w.blobs.err.Store(&full)
	w.call(w.key, "POST", "/api/v1/blobs", "x").is(507)
}

// TestStorageAlone: a process without accounts answers for blobs and for nothing
// else.
func TestStorageAlone(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Feed, o.Blobs, o.Ring = nil, nil, nil })
	path, _ := w.putBlob([]byte("bytes"))
	if got := w.call(w.key, "GET", path, nil).is(200); string(got.body) != "bytes" || got.header.Get("Hayloft-Index") != "" {
		t.Errorf("%q, %v", got.body, got.header)
	}
	w.call("", "GET", "/readyz", nil).is(200)
	for _, p := range []string{"/api/v1/feed", "/api/v1/users/me"} { // calls that the document has, and this process not
		resp, err := w.http.Get(w.url + p)
		must(t, err)
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", p, resp.StatusCode)
		}
		must(t, resp.Body.Close())
	}
}

// TestBlobKeyText: a key's text in settings is read back as it was, and nothing else is.
func TestBlobKeyText(t *testing.T) {
	text, k := NewBlobKey("backup.job", [tokenBytes]byte{9})
	got, err := ParseBlobKey(k.String())
	if err != nil || got != k || strings.Contains(k.String(), text) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, s := range []string{"", "name", ":" + strings.Repeat("0", 64), "a b:" + strings.Repeat("0", 64), "name:" + strings.Repeat("0", 63)} {
		if _, err := ParseBlobKey(s); err == nil {
			t.Errorf("%q is read", s)
		}
	}
}

// TestBlobKeysAreNotCounted: a program with a key makes as many calls as it likes, and
// has as many bytes under way; guesses at keys count per address.
func TestBlobKeysAreNotCounted(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Limits.Rates.Address = Rate{PerSecond: 0.001, Burst: 3}
		o.Limits.Rates.Account = Rate{PerSecond: 0.001, Burst: 3}
	})
	path, _ := w.putBlob([]byte("x"))
	for range 20 {
		w.call(w.key, "GET", path, nil).is(200)
	}
	hold, err := w.api.spool.begin(0, w.api.spool.total, nil)
	must(t, err)
	defer hold.close()
	w.putBlob(make([]byte, 300<<10))
	for range 3 {
		w.call(w.key+"A", "GET", path, nil).is(401)
	}
	w.call(w.key+"A", "GET", path, nil).is(429)
	w.call(w.key, "GET", path, nil).is(200)
}

// TestWaitingBlobHoldsNothingOfItsDisk: an answer that waits for room does not keep what
// it has read meanwhile. It did, and answers that waited kept everybody from a disk.
func TestWaitingBlobHoldsNothingOfItsDisk(t *testing.T) {
	w := newWorld(t)
	body := bytes.Repeat([]byte("abcdefgh"), 200_000) // two pieces
	path, _ := w.putBlob(body)
	room := w.api.masters.hold(t, 1, w.api.opt.Limits.MasterBytes)
	got := make(chan bool, 1)
	go func() {
		a := w.call(w.key, "GET", path, nil)
		got <- a.status == 200 && bytes.Equal(a.body, body)
	}()
	eventually(t, "the answer waits for room", func() bool {
		w.api.masters.mu.Lock()
		defer w.api.masters.mu.Unlock()
		return len(w.api.masters.queue) == 1
	})
	if n := w.blobs.lent.Load(); n != 0 {
		t.Errorf("%d pieces are held meanwhile", n)
	}
	room.close()
	if !<-got {
		t.Error("not the blob")
	}
	eventually(t, "everything is given back", func() bool { n, _ := w.api.masters.held(); return n == 0 && w.blobs.lent.Load() == 0 })
}
