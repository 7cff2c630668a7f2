package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/feed"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
	"hayloft/internal/sign"
	"hayloft/internal/vfs"
	"hayloft/media"
	"hayloft/volume"
)

// world is a whole API over the real feed on a real Raft group, with a real
// volume behind it, on a listener of its own. Its clock stands still unless a
// test moves it.
type world struct {
	t     *testing.T
	clock *clock.Fake
	feed  *feed.Feed
	blobs *volBlobs
	ring  *sign.Ring
	api   *API
	url   string
	key   string // of the blob API
	http  *http.Client

	mu     sync.Mutex // guards all below
	events []Event
}

// volBlobs is the blob store of the tests: one volume on a file system in
// memory.
type volBlobs struct {
	vol    *volume.Volume
	minter *id.Minter
	cookie atomic.Uint64
	clock  clock.Clock
	moves  atomic.Int32 // so many writes meet a closed tile first
	err    atomic.Pointer[error]
	hold   atomic.Pointer[chan struct{}]            // writes wait for its end
	onRead atomic.Pointer[func(off, n int64) error] // asked before each read of a master
	lent   atomic.Int64                             // pieces of blobs that are not released
}

func (b *volBlobs) Reserve(context.Context) (id.ID, id.Cookie, error) {
	blob, err := b.minter.Mint()
	return blob, id.Cookie(b.cookie.Add(1)), err
}

func (b *volBlobs) WriteMaster(ctx context.Context, blob id.ID, cookie id.Cookie, m MasterNeedle) error {
	if hold := b.hold.Load(); hold != nil {
		<-*hold
	}
	if b.moves.Add(-1) >= 0 {
		return fmt.Errorf("test: %w", ErrMoved)
	}
	if err := b.err.Load(); err != nil {
		return *err
	}
	return b.vol.Append(ctx, []volume.Needle{{Key: blob, Cookie: cookie, Data: m.Data,
		Master: &volume.MasterInfo{Photo: m.Photo, Owner: m.Owner, ContentType: m.ContentType, Time: b.clock.Now()}}})
}

func (b *volBlobs) ReadMaster(ctx context.Context, blob id.ID, cookie id.Cookie, off int64, to []byte) (int, error) {
	if look := b.onRead.Load(); look != nil {
		if err := (*look)(off, int64(len(to))); err != nil {
			return 0, err
		}
	}
	r, err := b.vol.ReadRange(ctx, blob, 0, cookie, off, int64(len(to)))
	defer r.Release()
	return copy(to, r.Data), err
}

// bytes is how many bytes were ever appended.
func (b *volBlobs) bytes() int64 { return b.vol.Stats().FileBytes }

var epoch = time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewFake(epoch)}
	lease := id.Lease{Slot: 1, Holder: 1, To: id.MaxMillis}
	minter := id.NewMinter(w.clock, lease)
	lease.Slot = 600
	w.blobs = &volBlobs{minter: id.NewMinter(w.clock, lease), clock: w.clock}
	w.openFeed(minter)
	fs := vfs.NewMem(1)
	must(t, fs.MkdirAll("/vol"))
	vol, err := volume.Create("/vol", volume.Identity{Volume: 1, Generation: 1, Class: volume.ClassOriginals}, volume.Options{FS: fs, Clock: w.clock})
	must(t, err)
	t.Cleanup(func() { must(t, vol.Close()) })
	w.blobs.vol = vol
	w.ring, err = sign.NewRing(sign.Key{Version: 1, Secret: sha256.Sum256([]byte("test ring"))})
	must(t, err)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.url = "http://" + ln.Addr().String()
	var key BlobKey
	w.key, key = NewBlobKey("tests", [tokenBytes]byte{1})
	o := Options{Feed: w.feed, Blobs: w.blobs, Store: w.blobs, BlobKeys: []BlobKey{key}, Ring: w.ring, Clock: w.clock, PublicURL: w.url, Version: "test", Events: w.event}
	for _, c := range change {
		c(&o)
	}
	w.api, err = New(o)
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- w.api.Serve(ln) }()
	w.http = &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		w.http.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		must(t, w.api.Shutdown(ctx))
		must(t, <-served)
	})
	return w
}

func (w *world) openFeed(minter *id.Minter) {
	t := w.t
	machine := feed.NewMachine()
	group, err := raftgroup.Open(t.Context(), raftgroup.Options{Dirs: []string{t.TempDir()}, Name: "feed", NodeID: "n1", Machine: machine})
	must(t, err)
	w.feed, err = feed.Open(feed.Options{Group: group, Machine: machine, Member: "n1", Clock: w.clock, TimelineDirs: []string{t.TempDir()}, SearchDirs: []string{t.TempDir()},
		Mint: func(context.Context) (id.ID, error) { return minter.Mint() }})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.feed.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ran // ends with ctx's error
		must(t, w.feed.Close())
		must(t, group.Close())
	})
}

func (w *world) event(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// eventsOf returns the events of one kind so far.
func (w *world) eventsOf(kind EventKind) (out []Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// answer is a response, read whole.
type answer struct {
	t      *testing.T
	call   string
	status int
	header http.Header
	body   []byte
}

// call makes one request. body is sent as it is ([]byte, string), or as JSON.
// Headers are name, value, …; a token goes as Bearer. Every answer is held
// against the OpenAPI document.
func (w *world) call(token, method, path string, body any, headers ...string) *answer {
	w.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = w.url + path
	}
	var rd io.Reader
	asJSON := false
	switch b := body.(type) {
	case nil:
	case string:
		rd = strings.NewReader(b)
	case []byte:
		rd = bytes.NewReader(b)
	case io.Reader:
		rd = b
	default:
		js, err := json.Marshal(b)
		must(w.t, err)
		rd, asJSON = bytes.NewReader(js), true
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, path, rd)
	must(w.t, err)
	if asJSON {
		req.Header.Set("Content-Type", typeJSON)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		if strings.EqualFold(headers[i], "Host") {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	a := &answer{t: w.t, call: method + " " + req.URL.Path, status: resp.StatusCode, header: resp.Header}
	a.body, err = io.ReadAll(resp.Body)
	must(w.t, err)
	a.checkHeaders()
	contract(w.t).check(a, method, req.URL.EscapedPath())
	return a
}

// checkHeaders asserts what every answer carries.
func (a *answer) checkHeaders() {
	a.t.Helper()
	for _, kv := range apiHeaders[:4] {
		if a.header.Get(kv[0]) == "" {
			a.t.Errorf("%s: no %s", a.call, kv[0])
		}
	}
	if a.status >= 400 && a.header.Get("Content-Type") != typeProblem {
		a.t.Errorf("%s: %d with Content-Type %q", a.call, a.status, a.header.Get("Content-Type"))
	}
	if (a.status == 429 || a.status == 503) && a.header.Get("Retry-After") == "" {
		a.t.Errorf("%s: %d without Retry-After", a.call, a.status)
	}
}

// is asserts the status.
func (a *answer) is(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d, want %d: %s", a.call, a.status, status, a.body)
	}
	return a
}

// fails asserts a problem.
func (a *answer) fails(k *problemKind) *answer {
	a.t.Helper()
	var p problemBody
	if err := json.Unmarshal(a.body, &p); err != nil {
		a.t.Fatalf("%s: %d, not a problem: %q", a.call, a.status, a.body)
	}
	if a.status != k.status || p.Type != problemBase+k.name || p.Status != k.status || p.Title != k.title {
		a.t.Fatalf("%s: %d %s, want %d %s", a.call, a.status, a.body, k.status, k.name)
	}
	return a
}

// into decodes the JSON body.
func into[T any](a *answer) T {
	a.t.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil {
		a.t.Fatalf("%s: %v in %s", a.call, err, a.body)
	}
	return v
}

type m = map[string]any

// account signs up and returns the token and the id.
func (w *world) account(handle string) (token string, user id.ID) {
	w.t.Helper()
	s := into[signedInBody](w.call("", "POST", "/api/v1/accounts", m{"handle": handle, "password": "pass of " + handle}).is(201))
	return s.Token, s.User.ID
}

// picture returns a JPEG of w × h whose bytes depend on seed.
func picture(wd, h int, seed byte) []byte {
	img := image.NewRGBA(image.Rect(0, 0, wd, h))
	for y := range h {
		for x := range wd {
			img.Set(x, y, color.RGBA{uint8(x) + seed, uint8(y), uint8(x*y) ^ seed, 255})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		panic(err) // into memory
	}
	return b.Bytes()
}

// uploadURL asks for an upload URL for data.
func (w *world) uploadURL(token string, data []byte) uploadURLBody {
	w.t.Helper()
	return into[uploadURLBody](w.call(token, "POST", "/api/v1/photos/upload-url", m{"file_size": len(data), "content_type": media.TypeJPEG}).is(201))
}

// post uploads and finalizes a photo.
func (w *world) post(token string, data []byte, details m) id.ID {
	w.t.Helper()
	u := w.uploadURL(token, data)
	w.call("", "PUT", u.UploadURL, data).is(201)
	body := m{"photo_id": u.PhotoID}
	for k, v := range details {
		body[k] = v
	}
	w.call(token, "POST", "/api/v1/photos", body).is(202)
	return u.PhotoID
}

// makeReady does what the transcoder does in the end.
func (w *world) makeReady(photo id.ID) {
	w.t.Helper()
	blob, cookie, err := w.blobs.Reserve(w.t.Context())
	must(w.t, err)
	must(w.t, w.feed.Intend(w.t.Context(), photo, blob))
	r := feed.Rendition{Blob: blob, Cookie: cookie, Placeholder: "LEHV6nWB2yk8pyo0adR*.7kCMdnj", Colour: "#aabbcc"}
	for _, v := range media.Made() {
		wd, h := v.Size(64, 48)
		r.Variants = append(r.Variants, feed.Variant{Alt: uint8(v), Width: wd, Height: h, Size: 100})
	}
	must(w.t, w.feed.MarkReady(w.t.Context(), photo, r))
}

// form builds a multipart body; fields are name, value, …, and the photo comes
// after them or, with first, before.
func form(t *testing.T, photo []byte, first bool, fields ...string) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	mw := multipart.NewWriter(&b)
	file := func() {
		if photo == nil {
			return
		}
		p, err := mw.CreateFormFile("photo", "holiday.exe")
		must(t, err)
		_, err = p.Write(photo)
		must(t, err)
	}
	if first {
		file()
	}
	for i := 0; i < len(fields); i += 2 {
		must(t, mw.WriteField(fields[i], fields[i+1]))
	}
	if !first {
		file()
	}
	must(t, mw.Close())
	return b.Bytes(), mw.FormDataContentType()
}
