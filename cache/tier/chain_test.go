package tier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/sign"
	"hayloft/internal/spread"
	"hayloft/internal/testenv"
)

// home is what stands behind the innermost tier: objects, verdicts and the purge log, of
// which it knows what was so a while ago.
type home struct {
	*truth
	behind time.Duration
}

// truth is what is so now.
type truth struct {
	mu      sync.Mutex
	changed chan struct{}
	log     []change
	fetches int
	down    bool
	hold    chan struct{} // Fetch waits for it when not nil
}

// change is one verdict from some moment on.
type change struct {
	at   time.Time
	blob id.ID
	v    cache.Verdict
}

var public = cache.Verdict{Audience: cache.Public}

func newHome(blobs ...id.ID) *home {
	h := &home{truth: &truth{changed: make(chan struct{})}}
	for _, b := range blobs {
		h.log = append(h.log, change{time.Now().Add(-time.Hour), b, public})
	}
	return h
}

func (h *home) set(blob id.ID, v cache.Verdict) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, change{time.Now(), blob, v})
	close(h.changed)
	h.changed = make(chan struct{})
}

func cookieOf(blob id.ID) id.Cookie { return id.Cookie(spread.Mix(uint64(blob)) | 1) }

func keyOf(blob id.ID, variant string) cache.Key {
	return cache.Key{Variant: variant, Blob: blob, Cookie: cookieOf(blob), Ext: "jpg"}
}

func bytesOf(k cache.Key) []byte {
	r := rand.New(rand.NewPCG(uint64(k.Blob), hashText(k.Variant)))
	b := make([]byte, 1000+r.IntN(3*chunk))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (h *home) Fetch(ctx context.Context, k cache.Key) (cache.Object, error) {
	h.mu.Lock()
	h.fetches++
	hold, down := h.hold, h.down
	h.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return cache.Object{}, ctx.Err()
		}
	}
	if down {
		return cache.Object{}, errors.New("the disk is away")
	}
	if k.Cookie != cookieOf(k.Blob) {
		return cache.Object{}, cache.ErrNotFound
	}
	b := bytesOf(k)
	return cache.Object{Data: b, ContentType: "image/jpeg", ETag: tagOf(crc32.Checksum(b, castagnoli))}, nil
}

func (h *home) Access(_ context.Context, blob id.ID) (v cache.Verdict, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.log {
		if c.blob == blob && !c.at.After(time.Now().Add(-h.behind)) {
			v = c.v
		}
	}
	v.Age = h.behind
	return v, nil
}

func (h *home) Purges(ctx context.Context, after uint64, limit int) (list []cache.Purge, age time.Duration, err error) {
	called := time.Now()
	beat := time.After(500 * time.Millisecond)
	for over := false; ; {
		h.mu.Lock()
		as := time.Now().Add(-h.behind)
		for i, c := range h.log {
			if uint64(i) >= after && !c.at.After(as) && len(list) < limit {
				list = append(list, cache.Purge{Seq: uint64(i) + 1, Blob: c.blob})
			}
		}
		changed := h.changed
		h.mu.Unlock()
		if len(list) > 0 || over {
			return list, called.Sub(as), nil
		}
		select {
		case <-changed: // it may still be too young to be seen
			select {
			case <-time.After(h.behind):
			case <-beat:
				over = true
			}
		case <-beat:
			over = true
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// link is the way to a tier, which can be cut.
type link struct {
	to http.Handler

	mu    sync.Mutex
	cut   chan struct{} // closed while it is cut
	delay time.Duration // before the answer begins
	spoil func(http.Header, []byte) []byte
	// breakAfter is after how many bytes of each answer the connection breaks; 0: never.
	breakAfter int64
	calls      int
}

func (l *link) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.cut == nil:
		l.cut = make(chan struct{})
		fallthrough
	default:
		select {
		case <-l.cut:
			if !cut {
				l.cut = make(chan struct{})
			}
		default:
			if cut {
				close(l.cut)
			}
		}
	}
}

var errCut = errors.New("the link is cut")

// Do implements Dialer. A link that is cut answers nothing until the question's time
// is over.
func (l *link) Do(ctx context.Context, r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	if l.cut == nil {
		l.cut = make(chan struct{})
	}
	cut, delay, spoil := l.cut, l.delay, l.spoil
	l.calls++
	l.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if spoil == nil && r.Method == http.MethodGet {
		return l.stream(ctx, r, cut)
	}
	done := make(chan *recorded, 1)
	go func() {
		rec := &recorded{header: http.Header{}, status: http.StatusOK}
		l.to.ServeHTTP(rec, r.WithContext(ctx))
		done <- rec
	}()
	select {
	case rec := <-done:
		select {
		case <-cut:
		default:
			if spoil != nil {
				rec.body = spoil(rec.header, rec.body)
			}
			resp := &http.Response{StatusCode: rec.status, Header: rec.header, Body: io.NopCloser(bytes.NewReader(rec.body)), ContentLength: int64(len(rec.body))}
			return resp, nil
		}
	case <-cut:
	}
	<-ctx.Done()
	return nil, fmt.Errorf("%w: %w", errCut, ctx.Err())
}

// stream passes an answer on while it comes. A cut swallows what comes after it.
func (l *link) stream(ctx context.Context, r *http.Request, cut chan struct{}) (*http.Response, error) {
	body, w := io.Pipe()
	f := &flowing{recorded: recorded{header: http.Header{}, status: http.StatusOK}, w: w, head: make(chan struct{}), cut: cut, ctx: ctx}
	l.mu.Lock()
	f.breakAfter = l.breakAfter
	l.mu.Unlock()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		l.to.ServeHTTP(f, r.WithContext(ctx))
		f.WriteHeader(f.status)
		length, _ := strconv.ParseInt(f.header.Get("Content-Length"), 10, 64)
		if f.n < length {
			w.CloseWithError(io.ErrUnexpectedEOF)
		}
		w.Close()
	}()
	select {
	case <-f.head:
		length, err := strconv.ParseInt(f.header.Get("Content-Length"), 10, 64)
		if err != nil {
			length = -1
		}
		return &http.Response{StatusCode: f.status, Header: f.header, Body: body, ContentLength: length}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errCut, ctx.Err())
	}
}

// flowing is an answer on its way.
type flowing struct {
	recorded
	w          *io.PipeWriter
	head       chan struct{}
	begun      sync.Once
	cut        chan struct{}
	ctx        context.Context
	n          int64
	breakAfter int64 // bytes; 0: never
}

// swallowed waits for the end of the question when the link is cut.
func (f *flowing) swallowed() {
	select {
	case <-f.cut:
		<-f.ctx.Done()
	default:
	}
}

func (f *flowing) WriteHeader(status int) {
	f.swallowed()
	f.begun.Do(func() {
		f.status = status
		close(f.head)
	})
}

func (f *flowing) Write(b []byte) (int, error) {
	f.WriteHeader(f.status)
	if f.breakAfter > 0 && f.n+int64(len(b)) > f.breakAfter {
		f.w.CloseWithError(io.ErrUnexpectedEOF)
		return 0, io.ErrClosedPipe
	}
	n, err := f.w.Write(b)
	f.n += int64(n)
	return n, err
}

type recorded struct {
	header http.Header
	status int
	body   []byte
}

func (r *recorded) Header() http.Header         { return r.header }
func (r *recorded) WriteHeader(status int)      { r.status = status }
func (r *recorded) Write(b []byte) (int, error) { r.body = append(r.body, b...); return len(b), nil }

// node is one tier.
type node struct {
	*cache.Cache
	chain *Chain
	srv   *Server
}

var ring, _ = sign.NewRing(sign.Key{Version: 1, Secret: [32]byte{7}})

// inner is the tier in front of a home.
func inner(t *testing.T, name string, h *home) *node {
	t.Helper()
	return newNode(t, name, h, h, h, &Path{})
}

func newNode(t *testing.T, name string, o cache.Origin, a cache.Access, p cache.Purger, path *Path) *node {
	t.Helper()
	c, err := cache.New(cache.Options{Origin: o, Access: a, Purges: p, Ring: ring, Budget: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	keys := func() []sign.Key { return []sign.Key{{Version: 1, Secret: [32]byte{7}}} }
	return &node{c, nil, NewServer(ServerOptions{Name: name, Cache: c, Keys: keys, Path: path, Push: func(context.Context) bool { return true }})}
}

// outer is a tier that fills from others.
func outer(t *testing.T, name string, o Options, ups ...*link) *node {
	t.Helper()
	for i, l := range ups {
		o.Upstreams = append(o.Upstreams, Upstream{fmt.Sprintf("up%d", i), l})
	}
	o.Name, o.Path = name, &Path{}
	ch, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, name, ch, ch, ch, o.Path)
	n.chain = ch
	return n
}

// cutOff is what get returns of an answer that broke off.
const cutOff = -1

// get asks as a client does. The body is compared, also as far as it came.
func (n *node) get(t *testing.T, k cache.Key, query string) int {
	t.Helper()
	var ctx fasthttp.RequestCtx
	ctx.Request.SetRequestURI(k.Path() + query)
	n.Handle(&ctx)
	status := ctx.Response.StatusCode()
	if status == http.StatusOK {
		b, err := io.ReadAll(ctx.Response.BodyStream())
		if !bytes.HasPrefix(bytesOf(k), b) || err == nil && len(b) != len(bytesOf(k)) {
			t.Errorf("wrong bytes of %s: %d, %v", k.Path(), len(b), err)
		}
		if err != nil {
			status = cutOff
		}
	}
	if err := ctx.Response.CloseBodyStream(); err != nil {
		t.Error(err)
	}
	return status
}

func status(t *testing.T, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d, want %d", what, got, want)
	}
}

// pass lets fake time pass.
func pass(d time.Duration) { <-time.After(d) }

func TestThreeTiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(7, 8)
		a := inner(t, "a", h)
		b := outer(t, "b", Options{}, &link{to: a.srv})
		c := outer(t, "c", Options{}, &link{to: b.srv})
		pass(3 * time.Second)
		k := keyOf(7, "large")
		status(t, "edge", c.get(t, k, ""), 200)
		status(t, "again", c.get(t, k, ""), 200)
		status(t, "wrong cookie", c.get(t, cache.Key{Variant: "large", Blob: 7, Cookie: 5, Ext: "jpg"}, ""), 404)
		status(t, "unknown", c.get(t, keyOf(9, "large"), ""), 404)
		if h.fetches != 2 {
			t.Errorf("%d reads of the store", h.fetches)
		}
		asked := c.Stats().Revalidations
		for range 40 {
			pass(100 * time.Millisecond)
			status(t, "a hit", c.get(t, k, ""), 200)
		}
		if n := c.Stats().Revalidations - asked; n != 0 {
			t.Errorf("asked %d times for a photo whose log is followed", n)
		}
		if h.fetches != 2 || c.Stats().Hits < 41 {
			t.Errorf("%d reads, %+v", h.fetches, c.Stats())
		}

		h.set(8, cache.Verdict{Audience: cache.Signed, Epoch: 3})
		private := keyOf(8, "small")
		status(t, "private, unsigned", c.get(t, private, ""), 404)
		status(t, "private, signed", c.get(t, private, "?"+sign.MediaQuery(ring, private.Path(), 3, time.Now(), time.Hour)), 200)
		status(t, "private, epoch of before", c.get(t, private, "?"+sign.MediaQuery(ring, private.Path(), 2, time.Now(), time.Hour)), 404)
		h.set(7, cache.Verdict{})
		pass(10 * time.Millisecond)
		for name, n := range map[string]*node{"a": a, "b": b, "c": c} {
			status(t, "deleted, at "+name, n.get(t, k, ""), 404)
			if n.Stats().Entries > 1 {
				t.Errorf("%s keeps %d", name, n.Stats().Entries)
			}
		}
		if err := c.chain.Ready(); err != nil {
			t.Error(err)
		}
	})
}

// TestNothingServedAfterTwoSeconds cuts and mends links of a chain of three tiers at
// random, over a home that is itself behind. Whatever is cut: two seconds after it was
// deleted or made private a photo is served nowhere, and when all links are whole
// everything public is served everywhere.
func TestNothingServedAfterTwoSeconds(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for i := range testenv.Rounds(8) {
		t.Run(fmt.Sprint(seed+uint64(i)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { oneChain(t, rand.New(rand.NewPCG(seed+uint64(i), 1))) })
		})
	}
}

func oneChain(t *testing.T, r *rand.Rand) {
	blobs := []id.ID{1, 2, 3, 4, 5, 6}
	h := newHome(blobs...)
	behind := func() time.Duration { return time.Duration(r.IntN(900)) * time.Millisecond }
	a, a2 := inner(t, "a", &home{h.truth, behind()}), inner(t, "a2", &home{h.truth, behind()})
	ab, a2b := &link{to: a.srv}, &link{to: a2.srv}
	b := outer(t, "b", Options{}, ab, a2b)
	bc := &link{to: b.srv}
	c := outer(t, "c", Options{}, bc)
	links, nodes := []*link{ab, a2b, bc}, map[string]*node{"a": a, "a2": a2, "b": b, "c": c}
	pass(2 * time.Second)

	hidden, shown := map[id.ID]time.Time{}, map[id.ID]time.Time{} // since when
	served, last, variants := 0, blobs[0], []string{"thumbnail", "small", "medium", "large"}
	var until time.Time // links are cut until then
	for range 250 {
		switch n := r.IntN(12); {
		case time.Now().After(until) && n < 3:
			until = time.Now().Add(time.Duration(r.IntN(5000)) * time.Millisecond)
			for _, l := range links {
				l.setCut(r.IntN(2) == 0)
			}
		case time.Now().After(until):
			for _, l := range links {
				l.setCut(false)
			}
		}
		if r.IntN(4) == 0 {
			blob := blobs[r.IntN(len(blobs))]
			if _, gone := hidden[blob]; gone && r.IntN(2) == 0 {
				delete(hidden, blob)
				shown[blob] = time.Now()
				h.set(blob, public)
			} else if !gone {
				hidden[blob], last = time.Now(), blob
				h.set(blob, cache.Verdict{Audience: cache.Audience(2 * r.IntN(2)), Epoch: 4})
			}
		}
		pass(time.Duration(r.IntN(250)) * time.Millisecond)
		for name, n := range nodes {
			blob := last
			if r.IntN(2) == 0 {
				blob = blobs[r.IntN(len(blobs))]
			}
			since, gone := hidden[blob]
			late := gone && time.Since(since) >= 2*time.Second
			switch n.get(t, keyOf(blob, variants[r.IntN(len(variants))]), "") {
			case 200:
				if served++; late {
					t.Fatalf("%s serves %v, hidden for %v when it was asked for", name, blob, time.Since(since))
				}
			case 404:
				if !gone && time.Since(shown[blob]) >= 2*time.Second {
					t.Fatalf("%s says that there is no %v, public for %v", name, blob, time.Since(shown[blob]))
				}
			}
		}
	}
	for _, l := range links {
		l.setCut(false)
	}
	pass(10 * time.Second)
	for name, n := range nodes {
		for _, blob := range blobs {
			want := 200
			if _, gone := hidden[blob]; gone {
				want = 404
			}
			status(t, fmt.Sprintf("%s, all links whole, %v", name, blob), n.get(t, keyOf(blob, "large"), ""), want)
		}
	}
	if served < 100 {
		t.Errorf("only %d answers: the test shows little", served)
	}
}
