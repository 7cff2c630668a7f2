package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// raw sends bytes on a connection of its own and reads answers until the server
// closes or has sent n.
func (w *world) raw(n int, text string) []*http.Response {
	w.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	must(w.t, err)
	defer c.Close()
	must(w.t, c.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(c, text)
	must(w.t, err)
	var out []*http.Response
	br := bufio.NewReader(c)
	for len(out) < n {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			break
		}
		body, err := io.ReadAll(resp.Body)
		must(w.t, err)
		resp.Body = io.NopCloser(strings.NewReader(string(body)))
		for _, kv := range apiHeaders {
			if resp.Header.Get(kv[0]) == "" {
				w.t.Errorf("answer %d to %.40q lacks %s", len(out), text, kv[0])
			}
		}
		out = append(out, resp)
	}
	return out
}

// No encoding of a path reaches a handler that its plain form would not.
func TestEncodedPaths(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Media = func(rc *fasthttp.RequestCtx) { rc.SetBodyString("media " + string(rc.Path())) }
		o.Page = func(rc *fasthttp.RequestCtx) bool {
			if p := string(rc.Path()); p != "/" && p != "/app.js" {
				return false
			}
			rc.SetBodyString("page")
			return true
		}
	})
	for path, want := range map[string]int{
		"/":                                    200,
		"/app.js":                              200,
		"/media/large/a-b.jpg":                 200,
		"/api/v1/instance":                     200,
		"/api/v1/instance/":                    404,
		"/api/v1//instance":                    404,
		"//api/v1/instance":                    404,
		"/api/v1/./instance":                   404,
		"/api/v1/users/../instance":            404,
		"/api/v1/%69nstance":                   404,
		"/api/v1/users/%2e%2e/instance":        404,
		"/api/v1/users/%252e%252e/instance":    404,
		"/api/v1/instance%00":                  404,
		"/api/v1/instance%2f":                  404,
		"/api/v1\\instance":                    404,
		"/api/v1/users\\..\\instance":          404,
		"/API/v1/instance":                     404,
		"/media/../api/v1/instance":            404,
		"/media/%2e%2e/api/v1/instance":        404,
		"/media/large/%40a":                    404,
		"/media/large/a%2eb":                   404,
		"/media/..":                            404,
		"/media":                               404,
		"/app.js/..":                           404,
		"/%61pp.js":                            404,
		"/api/v1/notified":                     404,
		"/api/v1/tags/caf%C3%A9/photos":        200,
		"/api/v1/tags/caf%c3%a9/photos":        200,
		"/api/v1/tags/caf%C3/photos":           404,
		"/api/v1/tags/%63af/photos":            404,
		"/api/v1/tags/%E2%80%A8/photos":        404, // a line separator
		"/api/v1/tags/%EF%BC%8F/photos":        404, // a wide slash
		"/api/v1/tags/a%2Fb/photos":            404,
		"/api/v1/exports":                      405,
		"/api/v1/exports/x/archive/y":          404,
		"/api/v1/users/me/face":                404,
		"/api/v1/photos/x/unknown":             404,
		"/api/v1/photos/0000000000000":         404,
		"/api/v1/photos/031gsq4000806x":        404,
		"/api/v1/photos/031gsq400080%00":       404,
		"/api/v1/photos/031GSQ4000806":         404,
		"/api/v1/photos/031gsq4000806?x=%zz":   404,
		"http://other.example/api/v1/instance": 200, // absolute form names the same path
	} {
		got := w.raw(1, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if len(got) != 1 || got[0].StatusCode != want {
			t.Errorf("%s: %v, want %d", path, status(got), want)
		}
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{{"PUT", "/api/v1/instance", 405}, {"POST", "/media/large/a-b.jpg", 405}, {"POST", "/", 404}, {"OPTIONS", "/api/v1/photos", 405},
		{"TRACE", "/api/v1/photos", 405}, {"CONNECT", "/", 404}, {"get", "/api/v1/instance", 405}} {
		got := w.raw(1, c.method+" "+c.path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if len(got) != 1 || got[0].StatusCode != c.want {
			t.Errorf("%s %s: %v, want %d", c.method, c.path, status(got), c.want)
		}
	}
}

func status(rs []*http.Response) (out []int) {
	for _, r := range rs {
		out = append(out, r.StatusCode)
	}
	return out
}

// What a handler leaves unread of a body is never taken for a request.
func TestNoSmuggling(t *testing.T) {
	w := newWorld(t)
	inner := "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	big := strings.Repeat(inner, 1000)
	for name, text := range map[string]string{
		"unread body":       fmt.Sprintf("PUT /api/v1/uploads/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", id.Make(1, 1, 1), len(big), big),
		"unread chunked":    fmt.Sprintf("POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(big), big),
		"both framings":     "POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"length twice":      "POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 4\r\n\r\n" + inner,
		"signed length":     "POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n" + inner,
		"odd coding":        "POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n" + inner,
		"space before name": "POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length : 4\r\n\r\n" + inner,
		"fragment":          "GET /healthz#x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
	} {
		got := w.raw(3, text)
		if len(got) != 1 || got[0].StatusCode < 400 {
			t.Errorf("%s: answers %v, want one refusal", name, status(got))
		}
	}
	// Two honest requests in a row are still two.
	if got := w.raw(2, inner+inner); len(got) != 2 || got[1].StatusCode != 200 {
		t.Errorf("pipelined: %v", status(got))
	}
	head := w.raw(1, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: "+strings.Repeat("a", 20<<10)+"\r\n\r\n")
	if len(head) != 1 || head[0].StatusCode != pHeaderLarge.status {
		t.Errorf("large header: %v", status(head))
	}
}

func TestSplitPathNormalisesNothing(t *testing.T) {
	f := func(path string) {
		segments, ok := splitPath(path)
		if ok && "/"+strings.Join(segments, "/") != strings.ReplaceAll(path, "%40", "@") {
			t.Errorf("%q became %q", path, segments)
		}
	}
	for _, p := range []string{"/a/b", "/%40a/b", "/a/@b", "/a%40b"} {
		f(p)
	}
}

func FuzzSplitPath(f *testing.F) {
	for _, s := range []string{"/", "/a", "/a/%40b", "/%2e%2e/a", "/%252e", "/a\\b", "/a//b", "/a/./b", "/\x00", "/a%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		segments, ok := splitPath(path)
		if !ok {
			return
		}
		var uri fasthttp.URI
		must(t, uri.Parse(nil, []byte(path)))
		joined := "/" + strings.Join(segments, "/")
		if string(uri.Path()) != joined {
			t.Fatalf("guard reads %q, the machinery reads %q", joined, uri.Path())
		}
		if strings.ContainsAny(joined, "%\\\x00") || strings.Contains(joined+"/", "/../") || strings.Contains(joined, "//") {
			t.Fatalf("%q passed as %q", path, joined)
		}
	})
}

func FuzzCursor(f *testing.F) {
	ring, err := sign.NewRing(sign.Key{Version: 3, Secret: [32]byte{1}})
	if err != nil {
		f.Fatal(err)
	}
	l := listing{name: "feed", subject: 1, viewer: 2}
	good := l.cursor(ring, 77)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good + "\n")
	f.Add("A" + good[1:])
	f.Fuzz(func(t *testing.T, text string) {
		after, ok := l.open(ring, text)
		if ok && (text != good || after != 77) {
			t.Fatalf("accepted %q, which nobody gave out", text)
		}
		for _, other := range []listing{{name: "likes", subject: 1, viewer: 2}, {name: "feed", viewer: 2}, {name: "feed", subject: 1}} {
			if _, ok := other.open(ring, text); ok {
				t.Fatalf("%q is good for another list", text)
			}
		}
	})
}

func FuzzDecodeObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,{"b":null}]}`, `{"a":1,"a":2}`, `[`, `{"a":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeObject(b); err == nil && m == nil {
			t.Fatal("neither object nor error")
		}
	})
}

func TestForwardedForOnlyFromTrustedProxies(t *testing.T) {
	prefix := netip.MustParsePrefix("127.0.0.0/8")
	for _, c := range []struct {
		trusted []netip.Prefix
		header  string
		want    string
	}{
		{nil, "203.0.113.9", "127.0.0.1"},
		{[]netip.Prefix{prefix}, "203.0.113.9", "203.0.113.9"},
		{[]netip.Prefix{prefix}, "6.6.6.6, 203.0.113.9", "203.0.113.9"},
		{[]netip.Prefix{prefix}, "203.0.113.9, 127.0.0.2", "203.0.113.9"},
		{[]netip.Prefix{prefix}, "nonsense", "127.0.0.1"},
		{[]netip.Prefix{prefix}, "", "127.0.0.1"},
	} {
		w := newWorld(t, func(o *Options) { o.TrustedProxies = c.trusted })
		w.call("", "GET", "/api/v1/instance", nil, "X-Forwarded-For", c.header).is(200)
		w.http.CloseIdleConnections()
		if e := w.eventsOf(EventRequest); len(e) != 1 || e[0].Address.String() != c.want {
			t.Errorf("%q: %+v, want %s", c.header, e, c.want)
		}
	}
}
