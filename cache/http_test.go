package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// site is a cache behind a real fasthttp server on an in-memory listener.
type site struct {
	*world
	c    *Cache
	ring *sign.Ring
	ln   *fasthttputil.InmemoryListener
	http *http.Client
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func serve(t *testing.T, w *world, o Options) *site {
	t.Helper()
	s := &site{world: w, ring: testRing(t), ln: fasthttputil.NewInmemoryListener()}
	o.Ring = s.ring
	s.c = open(t, w, o)
	srv := &fasthttp.Server{Handler: s.c.Handle, NoDefaultServerHeader: true, Logger: quiet{}, MaxIdleWorkerDuration: 20 * time.Millisecond}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(s.ln) }()
	tr := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return s.ln.Dial() },
		DisableCompression: true,
	}
	s.http = &http.Client{Transport: tr}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := srv.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return s
}

type answer struct {
	status int
	header http.Header
	body   []byte
	length int64
}

func (s *site) do(t *testing.T, method, target string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, "http://hayloft.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = target // raw: nothing is cleaned on the way
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b, resp.ContentLength}
}

// checkSafety: what must stand on every answer.
func checkSafety(t *testing.T, name string, a answer) {
	t.Helper()
	for field, want := range map[string]string{
		"X-Content-Type-Options":       "nosniff",
		"Content-Security-Policy":      "default-src 'none'; sandbox",
		"Cross-Origin-Resource-Policy": "cross-origin",
		"Via":                          "1.1 hayloft",
	} {
		if got := a.header.Get(field); got != want {
			t.Errorf("%s: %s: %q", name, field, got)
		}
	}
	if a.header.Get("Vary") != "" || a.header.Get("Set-Cookie") != "" {
		t.Errorf("%s: header %v", name, a.header)
	}
	if a.status >= 400 {
		var p struct {
			Type, Title string
			Status      int
		}
		if a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: header %v", name, a.header)
		}
		if len(a.body) > 0 {
			if err := json.Unmarshal(a.body, &p); err != nil || p.Status != a.status || p.Type == "" || p.Title == "" {
				t.Errorf("%s: body %s, %v", name, a.body, err)
			}
		}
		if a.header.Get("ETag") != "" && a.status == 404 {
			t.Errorf("%s: a 404 with an ETag", name)
		}
	}
}

const immutable = "public, max-age=31536000, immutable"

func TestHTTPGetAndHead(t *testing.T) {
	w := newWorld()
	w.verdicts[7] = public
	s := serve(t, w, Options{})
	k := keyOf(7, "large")
	want := content(k, 1000)
	etag := `"` + object(k, 1000).ETag + `"`

	a := s.do(t, "GET", k.Path())
	checkSafety(t, "miss", a)
	for field, v := range map[string]string{
		"Content-Type": "image/jpeg", "Etag": etag, "Cache-Control": immutable, "Accept-Ranges": "bytes",
		"Content-Length": "1000", "Cache-Status": "hayloft; fwd=uri-miss; stored", "Age": "",
	} {
		if got := a.header.Get(field); got != v {
			t.Errorf("miss: %s: %q, want %q", field, got, v)
		}
	}
	if a.status != 200 || !bytes.Equal(a.body, want) {
		t.Errorf("miss: %d with %d bytes", a.status, len(a.body))
	}

	w.clock.Advance(90 * time.Second)
	w.beat(s.c)
	a = s.do(t, "GET", k.Path())
	checkSafety(t, "hit", a)
	if a.status != 200 || !bytes.Equal(a.body, want) || a.header.Get("Age") != "90" || a.header.Get("Cache-Status") != "hayloft; hit" {
		t.Errorf("hit: %d, %v", a.status, a.header)
	}
	a = s.do(t, "HEAD", k.Path(), "Range", "bytes=0-9")
	checkSafety(t, "head", a)
	if a.status != 200 || len(a.body) != 0 || a.length != 1000 || a.header.Get("Etag") != etag || a.header.Get("Content-Type") != "image/jpeg" {
		t.Errorf("HEAD: %d, length %d, %v", a.status, a.length, a.header)
	}
	if e := s.c.shardOf(7).blobs[7]; e.refs.Load() != 1 {
		t.Errorf("%d references after all answers", e.refs.Load())
	}
	if st := s.c.Stats(); st.BytesServed != 2000 {
		t.Errorf("%d bytes served", st.BytesServed)
	}
}

// part names a 206 in the table below.
func part(first, n int) string { return fmt.Sprintf("206 %d+%d", first, n) }

type conditionCase struct {
	want   string // status, for 206 first byte and length
	header []string
}

// conditionCases are requests for an object of 1,000 bytes with that tag.
func conditionCases(etag string) []conditionCase {
	return []conditionCase{
		{"304", []string{"If-None-Match", etag}},
		{"304", []string{"If-None-Match", "W/" + etag}},
		{"304", []string{"If-None-Match", "*"}},
		{"304", []string{"If-None-Match", `"a", ` + etag + `, "b"`}},
		{"304", []string{"If-None-Match", `"a,b"  ,, W/"c",` + etag}},
		{"304", []string{"If-None-Match", `"x"`, "If-None-Match", etag}},
		{"304", []string{"If-None-Match", etag, "Range", "bytes=0-1"}},
		{"200", []string{"If-None-Match", `"a"`}},
		{"200", []string{"If-None-Match", strings.Trim(etag, `"`)}},
		{"200", []string{"If-None-Match", `"a" ` + etag}},
		{"200", []string{"If-None-Match", `"` + etag}},
		{"200", []string{"If-None-Match", ""}},
		{"200", []string{"If-Modified-Since", "Fri, 20 Nov 2099 12:00:00 GMT"}},
		{"200", []string{"If-Match", etag}},
		{"200", []string{"If-Match", "*"}},
		{"412", []string{"If-Match", `"a"`}},
		{"412", []string{"If-Match", "W/" + etag}},

		{part(0, 10), []string{"Range", "bytes=0-9"}},
		{part(0, 1), []string{"Range", "bytes=0-0"}},
		{part(990, 10), []string{"Range", "bytes=990-"}},
		{part(990, 10), []string{"Range", "bytes=990-5000"}},
		{part(999, 1), []string{"Range", "bytes=999-999"}},
		{part(995, 5), []string{"Range", "bytes=-5"}},
		{part(0, 1000), []string{"Range", "bytes=-5000"}},
		{part(0, 1000), []string{"Range", "bytes=0-"}},
		{part(0, 1000), []string{"Range", "bytes=0-99999999999999999999999999"}},
		{part(5, 2), []string{"Range", "Bytes=5-6"}},
		{"416", []string{"Range", "bytes=1000-"}},
		{"416", []string{"Range", "bytes=1000-1001"}},
		{"416", []string{"Range", "bytes=99999999999999999999999999-"}},
		{"416", []string{"Range", "bytes=-0"}},
		{"200", []string{"Range", "bytes=9-5"}},
		{"200", []string{"Range", "bytes=-"}},
		{"200", []string{"Range", "bytes=a-5"}},
		{"200", []string{"Range", "bytes=5-a"}},
		{"200", []string{"Range", "bytes=+5-6"}},
		{"200", []string{"Range", "bytes=-5-6"}},
		{"200", []string{"Range", "bytes"}},
		{"200", []string{"Range", "items=0-5"}},
		{"206 0+2 5+2", []string{"Range", "bytes=0-1,5-6"}},
		{"206 990+10 0+2", []string{"Range", "bytes=-10, 0-1"}},
		{"206 0+2 990+10", []string{"Range", "bytes=0-1 ,\t990-"}},
		{part(5, 2), []string{"Range", "bytes=5000-,5-6"}},
		{"416", []string{"Range", "bytes=5000-,-0,7000-7001"}},
		{"200", []string{"Range", "bytes=0-1,5-a"}},
		{"200", []string{"Range", "bytes=0-1,,5-6"}},
		{"200", []string{"Range", "bytes=0-5,5-6"}}, // they overlap
		{"200", []string{"Range", "bytes=0-399,500-999"}},
		{"200", []string{"Range", "bytes=" + strings.Repeat("0-0,", 16) + "5-6"}},
		{"206 0+2 5+2", []string{"Range", "bytes=0-1,5-6", "If-Range", etag}},
		{"200", []string{"Range", "bytes=0-1,5-6", "If-Range", `"a"`}},
		{"200", []string{"Range", "bytes=0-1", "Range", "bytes=5-6"}},

		{part(0, 2), []string{"Range", "bytes=0-1", "If-Range", etag}},
		{"200", []string{"Range", "bytes=0-1", "If-Range", `"a"`}},
		{"200", []string{"Range", "bytes=0-1", "If-Range", "W/" + etag}},
		{"200", []string{"Range", "bytes=0-1", "If-Range", "Fri, 20 Nov 2099 12:00:00 GMT"}},
		{"200", []string{"Range", "bytes=5000-", "If-Range", `"a"`}},
	}
}

// outcome checks that an answer is whole in itself and names it as the table does.
func outcome(t *testing.T, name string, a answer, all []byte, etag string) string {
	t.Helper()
	got := fmt.Sprint(a.status)
	cr := a.header.Get("Content-Range")
	switch a.status {
	case 206:
		if strings.HasPrefix(a.header.Get("Content-Type"), "multipart/") {
			return "206" + partsOf(t, name, a, all)
		}
		var first, last, size int
		if _, err := fmt.Sscanf(cr, "bytes %d-%d/%d", &first, &last, &size); err != nil || size != 1000 || last-first+1 != len(a.body) {
			t.Errorf("%s: Content-Range %q for %d bytes", name, cr, len(a.body))
		} else if !bytes.Equal(a.body, all[first:last+1]) {
			t.Errorf("%s: wrong bytes", name)
		}
		got = part(first, len(a.body))
	case 200:
		if !bytes.Equal(a.body, all) || cr != "" {
			t.Errorf("%s: %d bytes, Content-Range %q", name, len(a.body), cr)
		}
	case 304:
		if len(a.body) != 0 || a.header.Get("Etag") != etag || a.header.Get("Cache-Control") != immutable {
			t.Errorf("%s: header %v", name, a.header)
		}
	case 416:
		if cr != "bytes */1000" {
			t.Errorf("%s: Content-Range %q", name, cr)
		}
	}
	return got
}

// partsOf checks the parts of an answer and names them.
func partsOf(t *testing.T, name string, a answer, all []byte) (list string) {
	t.Helper()
	typ, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || typ != "multipart/byteranges" || a.header.Get("Content-Range") != "" || a.length != int64(len(a.body)) {
		t.Fatalf("%s: %d bytes of %d, %v, header %v", name, len(a.body), a.length, err, a.header)
	}
	for r := multipart.NewReader(bytes.NewReader(a.body), params["boundary"]); ; {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%s: %v in %q", name, err, a.body)
		}
		b, err := io.ReadAll(p)
		var first, last, size int
		if _, err2 := fmt.Sscanf(p.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err2 != nil || err != nil || size != 1000 ||
			last-first+1 != len(b) || !bytes.Equal(b, all[first:last+1]) || p.Header.Get("Content-Type") != "image/jpeg" {
			t.Errorf("%s: part %v, %d bytes, %v, %v", name, p.Header, len(b), err, err2)
		}
		list += fmt.Sprintf(" %d+%d", first, len(b))
	}
}

func TestHTTPConditionsAndRanges(t *testing.T) {
	w := newWorld()
	w.verdicts[7] = public
	s := serve(t, w, Options{})
	k := keyOf(7, "large")
	all := content(k, 1000)
	etag := `"` + object(k, 1000).ETag + `"`
	s.do(t, "GET", k.Path())

	for _, c := range conditionCases(etag) {
		name := fmt.Sprint(c.header)
		a := s.do(t, "GET", k.Path(), c.header...)
		checkSafety(t, name, a)
		if got := outcome(t, name, a, all, etag); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if e := s.c.shardOf(7).blobs[7]; e.refs.Load() != 1 {
		t.Errorf("%d references after all answers", e.refs.Load())
	}
}

// Every way of not getting a photo is the same answer.
func TestHTTPNotFoundIsOneAnswer(t *testing.T) {
	w := newWorld()
	const blob = id.ID(0xABCDEF0123456789) // has letters in its text
	w.verdicts[blob], w.verdicts[8] = public, Verdict{Audience: Signed, Epoch: 3}
	s := serve(t, w, Options{})
	good, private := keyOf(blob, "large"), keyOf(8, "large")
	p := good.Path()
	other := good
	other.Cookie++
	b, ck := good.Blob.String(), good.Cookie.String()
	foreign, err := sign.NewRing(sign.Key{Version: 1, Secret: [32]byte{8}})
	if err != nil {
		t.Fatal(err)
	}
	now := w.clock.Now()
	s.do(t, "GET", p)
	s.do(t, "GET", private.Path()+"?"+sign.MediaQuery(s.ring, private.Path(), 3, now, time.Hour))
	if n := s.c.Stats().Entries; n != 2 {
		t.Fatalf("%d entries are warm", n)
	}
	var first answer
	for name, target := range map[string]string{
		"wrong cookie":    other.Path(),
		"unknown blob":    keyOf(9, "large").Path(),
		"private":         private.Path(),
		"other epoch":     private.Path() + "?" + sign.MediaQuery(s.ring, private.Path(), 2, now, time.Hour),
		"other path":      private.Path() + "?" + sign.MediaQuery(s.ring, keyOf(8, "small").Path(), 3, now, time.Hour),
		"expired":         private.Path() + "?" + sign.MediaQuery(s.ring, private.Path(), 3, now.Add(-3*time.Hour), time.Hour),
		"foreign key":     private.Path() + "?" + sign.MediaQuery(foreign, private.Path(), 3, now, time.Hour),
		"bad sig, public": p + "?" + sign.MediaQuery(foreign, p, 3, now, time.Hour),
		"any query":       p + "?x=1",
		"empty query":     p + "?",
		"twice signed":    private.Path() + "?" + strings.Repeat(sign.MediaQuery(s.ring, private.Path(), 3, now, time.Hour)+"&", 2),
		"no cookie":       "/media/large/" + b + ".jpg",
		"zero cookie":     "/media/large/" + b + "-0000000000000.jpg",
		"upper case":      "/media/large/" + strings.ToUpper(b) + "-" + ck + ".jpg",
		"other variant":   "/media/huge/" + b + "-" + ck + ".jpg",
		"other extension": "/media/large/" + b + "-" + ck + ".webp",
		"unknown ext":     "/media/large/" + b + "-" + ck + ".svg",
		"two extensions":  p + ".jpg",
		"no extension":    strings.TrimSuffix(p, ".jpg"),
		"trailing slash":  p + "/",
		"double slash":    "/media//large/" + b + "-" + ck + ".jpg",
		"dot segment":     "/media/./large/" + b + "-" + ck + ".jpg",
		"dot dot":         "/media/x/../large/" + b + "-" + ck + ".jpg",
		"encoded dot":     "/media/%2e/large/" + b + "-" + ck + ".jpg",
		"encoded letter":  "/media/l%61rge/" + b + "-" + ck + ".jpg",
		"encoded slash":   "/media/large%2f" + b + "-" + ck + ".jpg",
		"double encoded":  "/media/large/%252e%252e/" + b + "-" + ck + ".jpg",
		"nul":             p + "%00",
		"backslash":       "/media\\large\\" + b + "-" + ck + ".jpg",
		"semicolon":       p + ";x",
		"root":            "/media/",
		"elsewhere":       "/etc/passwd",
		"long":            "/media/large/" + strings.Repeat("a", 2000),
	} {
		a := s.do(t, "GET", target)
		checkSafety(t, name, a)
		if a.status != 404 {
			t.Errorf("%s: %d", name, a.status)
		}
		a.header.Del("Date")
		if first.status == 0 {
			first = a
		}
		if !bytes.Equal(a.body, first.body) || fmt.Sprint(a.header) != fmt.Sprint(first.header) {
			t.Errorf("%s can be told apart:\n%.80q %v\n%.80q %v", name, a.body, a.header, first.body, first.header)
		}
	}
}

func TestHTTPSigned(t *testing.T) {
	w := newWorld()
	w.verdicts[8] = Verdict{Audience: Signed, Epoch: 3}
	s := serve(t, w, Options{})
	k := keyOf(8, "large")
	target := k.Path() + "?" + sign.MediaQuery(s.ring, k.Path(), 3, w.clock.Now(), time.Hour) // from 12:30 to 14:00
	for range 2 {
		a := s.do(t, "GET", target)
		checkSafety(t, "signed", a)
		if a.status != 200 || a.header.Get("Cache-Control") != "private, max-age=5400" || !bytes.Equal(a.body, content(k, 1000)) {
			t.Fatalf("%d %v", a.status, a.header)
		}
	}
	if n := w.fetched(k); n != 1 {
		t.Errorf("%d fetches: the signature must not be part of the key", n)
	}
	w.clock.Advance(90 * time.Minute)
	if a := s.do(t, "GET", target); a.status != 404 {
		t.Errorf("at expiry: %d", a.status)
	}
	// The owner's epoch moved on: what was signed for the former one is void.
	target = k.Path() + "?" + sign.MediaQuery(s.ring, k.Path(), 3, w.clock.Now(), time.Hour)
	w.with(func() { w.verdicts[8] = Verdict{Audience: Signed, Epoch: 4} })
	w.purge(8)
	w.settle(s.c)
	if a := s.do(t, "GET", target); a.status != 404 {
		t.Errorf("former epoch: %d", a.status)
	}
	// A public photo may be asked for with a signature, but is then no public answer.
	w.with(func() { w.verdicts[8] = public })
	w.purge(8)
	w.settle(s.c)
	if a := s.do(t, "GET", target); a.status != 200 || !strings.HasPrefix(a.header.Get("Cache-Control"), "private") {
		t.Errorf("signed and public: %d %v", a.status, a.header)
	}
}

func TestHTTPMethodsAndBodies(t *testing.T) {
	w := newWorld()
	w.verdicts[7] = public
	s := serve(t, w, Options{})
	p := keyOf(7, "large").Path()
	for _, m := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"} {
		a := s.do(t, m, p)
		checkSafety(t, m, a)
		if a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %v", m, a.status, a.header)
		}
	}
	// A body that nobody reads must not become the next request.
	conn, err := s.ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	inner := "GET " + p + " HTTP/1.1\r\nHost: x\r\n\r\n"
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", p, len(inner), inner)
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b, []byte("HTTP/1.1 ")); n != 1 || !bytes.HasPrefix(b, []byte("HTTP/1.1 400")) {
		t.Errorf("%d answers: %s", n, b)
	}
}

func TestHTTPUnavailableIsNever404(t *testing.T) {
	for name, broken := range map[string]func(*world){
		"store away":  func(w *world) { w.fetchErr = errDown },
		"access away": func(w *world) { w.askErr = errDown },
	} {
		w := newWorld()
		w.verdicts[7] = public
		broken(w)
		s := serve(t, w, Options{})
		a := s.do(t, "GET", keyOf(7, "large").Path())
		checkSafety(t, name, a)
		if a.status != 503 || a.header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d %v", name, a.status, a.header)
		}
	}
	// Warm, cut off from the log, and nobody to ask.
	w := newWorld()
	s := serve(t, w, Options{})
	k := keyOf(7, "large")
	warm(t, w, s.c, k)
	w.with(func() { w.silent, w.askErr = true, errDown })
	w.clock.Advance(3 * time.Second)
	if a := s.do(t, "GET", k.Path()); a.status != 503 {
		t.Errorf("cut off: %d", a.status)
	}
	w.with(func() { w.askErr = nil })
	if a := s.do(t, "GET", k.Path()); a.status != 200 || a.header.Get("Cache-Status") != "hayloft; hit; detail=revalidated" {
		t.Errorf("asked again: %d %v", a.status, a.header)
	}
}

func TestVanishedClientsDoNotStopAFill(t *testing.T) {
	w := newWorld()
	w.verdicts[7] = public
	w.hold = make(chan struct{})
	s := serve(t, w, Options{})
	k := keyOf(7, "large")
	for range 20 {
		conn, err := s.ln.Dial()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", k.Path())
		conn.Close()
	}
	w.until(func() bool { return w.inFetch == 1 })
	close(w.hold)
	for s.c.Stats().Fills == 0 {
		w.until(func() bool { return true })
	}
	if a := s.do(t, "GET", k.Path()); a.status != 200 || a.header.Get("Cache-Status") != "hayloft; hit" || w.fetched(k) != 1 {
		t.Errorf("%d %v after %d fetches", a.status, a.header, w.fetched(k))
	}
}

// A slow reader gets the right bytes although its photo is purged and the
// memory wanted by others while it reads.
func TestSlowReaderKeepsItsBytes(t *testing.T) {
	eachMemory(t, slowReader)
}

func slowReader(t *testing.T, p memory) {
	w := newWorld()
	const size = 200 << 10
	w.size = func(Key) int { return size }
	w.verdicts[7] = public
	s := serve(t, w, Options{Budget: 1 << 20, alloc: p, shards: 1})
	k := keyOf(7, "large")
	conn, err := s.ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", k.Path())
	var got bytes.Buffer
	if _, err := io.CopyN(&got, conn, 1); err != nil { // the answer has begun
		t.Fatal(err)
	}
	w.purge(7)
	w.settle(s.c)
	for blob := id.ID(20); blob < 40; blob++ { // reuse every block there is
		w.with(func() { w.verdicts[blob] = public })
		if _, err := fetchOne(t, w, s.c, keyOf(blob, "large"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(&got, conn); err != nil {
		t.Fatal(err)
	}
	_, body, _ := bytes.Cut(got.Bytes(), []byte("\r\n\r\n"))
	if !bytes.Equal(body, content(k, size)) {
		t.Error("the reader got bytes that are not its photo's")
	}
	if len(p.faults()) > 0 {
		t.Error(p.faults())
	}
}
