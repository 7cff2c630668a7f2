package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var problemHeader = map[string]string{"Content-Type": "application/problem+json"}

func TestProblem(t *testing.T) {
	for _, tc := range []struct {
		answer answer
		want   Problem
		text   string
	}{
		{answer{status: 409, header: map[string]string{"Content-Type": "application/problem+json; charset=utf-8"},
			body: `{"type":"https://h/problems/handle-taken","title":"Handle is taken","detail":"ada is taken","status":409,"extra":1}`},
			Problem{Status: 409, Type: "https://h/problems/handle-taken", Title: "Handle is taken", Detail: "ada is taken"},
			"409 https://h/problems/handle-taken: ada is taken"},
		{answer{status: 404, header: problemHeader, body: `{"type":"about:blank","title":"Not Found"}`},
			Problem{Status: 404, Type: "about:blank", Title: "Not Found"}, "404: Not Found"},
		{answer{status: 422, header: problemHeader, body: `{"type":"/problems/invalid","title":"Some values are not allowed","errors":[{"pointer":"/handle","detail":"is reserved"},{"parameter":"limit","detail":"is below 1"}]}`},
			Problem{Status: 422, Type: "/problems/invalid", Title: "Some values are not allowed", Faults: []Fault{{Pointer: "/handle", Detail: "is reserved"}, {Parameter: "limit", Detail: "is below 1"}}},
			"422 /problems/invalid: Some values are not allowed (handle is reserved; limit is below 1)"},
		{answer{status: 502, header: map[string]string{"Content-Type": "text/html"}, body: "<h1>bad</h1>"},
			Problem{Status: 502}, "502: Bad Gateway"},
		{answer{status: 400, header: problemHeader, body: `{"type":`}, Problem{Status: 400}, "400: Bad Request"},
		{answer{status: 429, header: map[string]string{"Content-Type": "application/problem+json", "Retry-After": "7"}, body: `{"type":"/problems/rate-limited","title":"Slow down"}`},
			Problem{Status: 429, Type: "/problems/rate-limited", Title: "Slow down", RetryAfter: 7 * time.Second}, "429 /problems/rate-limited: Slow down"},
		{answer{status: 503, header: map[string]string{"Date": "Sun, 01 Mar 2026 10:00:00 GMT", "Retry-After": "Sun, 01 Mar 2026 10:00:30 GMT"}},
			Problem{Status: 503, RetryAfter: 30 * time.Second}, "503: Service Unavailable"},
		{answer{status: 503, header: map[string]string{"Date": "Sun, 01 Mar 2026 10:00:00 GMT", "Retry-After": "soon"}},
			Problem{Status: 503}, "503: Service Unavailable"},
	} {
		f := serve(t, tc.answer)
		c, _ := f.dial(t, Options{Retries: -1})
		_, err := c.Me(t.Context())
		var p *Problem
		if !errors.As(err, &p) || !reflect.DeepEqual(*p, tc.want) || err.Error() != tc.text {
			t.Errorf("got %+v %q\nwant %+v %q", p, err, tc.want, tc.text)
		}
	}
	err := fmt.Errorf("upload: %w", &Problem{Status: 409, Type: "/problems/bytes-missing"})
	if !IsStatus(err, 409) || IsStatus(err, 404) || !IsType(err, "bytes-missing") || !IsType(err, "/problems/bytes-missing") || IsType(err, "missing") || IsType(nil, "x") {
		t.Error("IsStatus or IsType misjudge")
	}
}

// TestRetries says for each kind of failure how often each kind of call arrives.
func TestRetries(t *testing.T) {
	busy := answer{status: 503}
	for _, tc := range []struct {
		name    string
		answers []answer
		call    func(c *Client) error
		want    int
		ok      bool
	}{
		{"read, twice busy", []answer{busy, busy, {status: 200, body: `{}`}}, me, 3, true},
		{"read, cut", []answer{{cut: true}, {status: 200, body: `{}`}}, me, 2, true},
		{"read, busy for good", []answer{busy}, me, 4, false},
		{"read, refused", []answer{{status: 404}, {status: 200, body: `{}`}}, me, 1, false},
		{"read, broken inside", []answer{{status: 500}, {status: 200, body: `{}`}}, me, 1, false},
		{"read, disk full", []answer{{status: 507}, {status: 200, body: `{}`}}, me, 1, false},
		{"read, no JSON", []answer{{status: 200, body: `{"id":`}, {status: 200, body: `{}`}}, me, 1, false},
		{"like", []answer{busy, {status: 204}}, func(c *Client) error { return c.Like(context.Background(), "p") }, 2, true},
		{"delete", []answer{{cut: true}, {status: 204}}, func(c *Client) error { return c.Delete(context.Background(), "p") }, 2, true},
		{"finalize", []answer{busy, {status: 202, body: `{}`}}, func(c *Client) error {
			_, err := c.Finalize(context.Background(), "p", Details{}, 0)
			return err
		}, 2, true},
		{"comment", []answer{busy, {status: 201, body: `{}`}}, func(c *Client) error {
			_, err := c.Comment(context.Background(), "p", NewComment{Text: "x"})
			return err
		}, 1, false},
		{"comment with a key", []answer{busy, {status: 201, body: `{}`}}, func(c *Client) error {
			_, err := c.Comment(context.Background(), "p", NewComment{Text: "x", IdempotencyKey: "k"})
			return err
		}, 2, true},
		{"account", []answer{{cut: true}, {status: 201, body: `{}`}}, func(c *Client) error {
			_, err := c.CreateAccount(context.Background(), NewAccount{})
			return err
		}, 1, false},
		{"multipart", []answer{busy, {status: 201, body: `{}`}}, post(File{At: strings.NewReader("x"), Size: 1}, ""), 1, false},
		{"multipart with a key", []answer{busy, {status: 201, body: `{}`}}, post(File{At: strings.NewReader("x"), Size: 1}, "k"), 2, true},
		{"multipart with a key, bytes gone", []answer{busy, {status: 201, body: `{}`}}, post(File{Reader: strings.NewReader("x"), Size: 1}, "k"), 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := serve(t, tc.answers...)
			c, pauses := f.dial(t, Options{})
			err := tc.call(c)
			if n := len(f.requests()); n != tc.want || (err == nil) != tc.ok {
				t.Errorf("%d requests, error %v; want %d, success %v", n, err, tc.want, tc.ok)
			}
			if len(*pauses) != tc.want-1 {
				t.Errorf("paused %d times", len(*pauses))
			}
		})
	}
}

func me(c *Client) error { _, err := c.Me(context.Background()); return err }

func post(f File, key string) func(*Client) error {
	return func(c *Client) error {
		_, err := c.PostPhoto(context.Background(), f, Details{}, 0, key)
		return err
	}
}

// TestPauses: they grow, are bounded, and yield to the server's own wish unless
// that is longer than the caller allows.
func TestPauses(t *testing.T) {
	f := serve(t, answer{status: 503})
	c, pauses := f.dial(t, Options{Retries: 12, MinPause: 10 * time.Millisecond, MaxPause: 80 * time.Millisecond})
	if me(c) == nil {
		t.Fatal("no error")
	}
	if len(*pauses) != 12 {
		t.Fatalf("%d pauses", len(*pauses))
	}
	for i, d := range *pauses {
		top := min(80*time.Millisecond, 10*time.Millisecond<<i)
		if d < top/2 || d > top {
			t.Errorf("pause %d is %v, want %v to %v", i, d, top/2, top)
		}
	}

	f = serve(t, answer{status: 429, header: map[string]string{"Retry-After": "2"}}, answer{status: 200, body: `{}`})
	c, pauses = f.dial(t, Options{})
	if err := me(c); err != nil || !slices.Equal(*pauses, []time.Duration{2 * time.Second}) {
		t.Errorf("%v, pauses %v", err, *pauses)
	}
	f = serve(t, answer{status: 429, header: map[string]string{"Retry-After": "3600"}})
	c, pauses = f.dial(t, Options{})
	if err := me(c); !IsStatus(err, 429) || len(*pauses) != 0 {
		t.Errorf("%v, pauses %v", err, *pauses)
	}
}

// TestContext: a cancelled call ends and is not repeated; a pause ends with its
// context and the failure that caused it is what the caller learns.
func TestContext(t *testing.T) {
	f := serve(t, answer{status: 503})
	c, _ := f.dial(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Me(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := len(f.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
	ctx, cancel = context.WithCancel(t.Context())
	c.sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	if _, err := c.Me(ctx); !IsStatus(err, 503) {
		t.Errorf("got %v", err)
	}
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("sleep: %v", err)
	}
}

func TestWaitReady(t *testing.T) {
	pending := answer{status: 200, body: `{"photo_id":"p","status":"pending"}`}
	f := serve(t, pending, pending, answer{status: 200, body: `{"photo_id":"p","status":"ready"}`})
	c, pauses := f.dial(t, Options{})
	p, err := c.WaitReady(t.Context(), "p")
	if err != nil || p.Status != StatusReady || len(*pauses) != 2 {
		t.Fatalf("%+v, %v, pauses %v", p, err, *pauses)
	}
	if g := f.requests()[0]; g.uri != "/api/v1/photos/p" || g.header.Get("Prefer") != "wait=10" {
		t.Errorf("sent %+v", g)
	}
	f = serve(t, pending)
	c, _ = f.dial(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	c.sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	if _, err := c.WaitReady(ctx, "p"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f = serve(t, answer{status: 200, body: `{"status":"failed","failure":{"type":"t","title":"no image"}}`})
	c, _ = f.dial(t, Options{})
	if p, err := c.WaitReady(t.Context(), "p"); err != nil || p.Failure.Title != "no image" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestFeedPages(t *testing.T) {
	f := serve(t,
		answer{status: 200, body: `{"items":[{"photo_id":"a"},{"photo_id":"b"}],"next_cursor":"n1"}`},
		answer{status: 200, body: `{"items":[],"next_cursor":"n2"}`}, // a short page in the middle is no end
		answer{status: 200, body: `{"items":[{"photo_id":"c"}]}`})
	c, _ := f.dial(t, Options{})
	var ids []string
	for p, err := range c.FeedPages(t.Context(), 2) {
		if err != nil {
			t.Fatal(err)
		}
		for _, ph := range p.Items {
			ids = append(ids, ph.ID)
		}
	}
	if !slices.Equal(ids, []string{"a", "b", "c"}) {
		t.Errorf("walked %v", ids)
	}
	var uris []string
	for _, g := range f.requests() {
		uris = append(uris, g.uri)
	}
	want := []string{"/api/v1/feed?limit=2", "/api/v1/feed?cursor=n1&limit=2", "/api/v1/feed?cursor=n2&limit=2"}
	if !slices.Equal(uris, want) {
		t.Errorf("asked %v", uris)
	}

	// Leaving early asks for no more; a cursor that stands still is an error.
	f = serve(t, answer{status: 200, body: `{"items":[],"next_cursor":"same"}`})
	c, _ = f.dial(t, Options{})
	for range c.FeedPages(t.Context(), 0) {
		break
	}
	if n := len(f.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	var last error
	for _, err := range c.FeedPages(t.Context(), 0) {
		last = err
	}
	if last == nil || len(f.requests()) != 3 {
		t.Errorf("%v after %d requests", last, len(f.requests()))
	}
}

// TestIndex: the largest index answered goes along with later calls, and not
// with another login or to other hosts.
func TestIndex(t *testing.T) {
	at := func(i string) answer {
		return answer{status: 200, body: `{}`, header: map[string]string{"Hayloft-Index": i}}
	}
	f := serve(t, at("41"), at("7"), at("x"), at("43"))
	c, _ := f.dial(t, Options{Token: "a"})
	for range 4 {
		if err := me(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := me(c.WithToken("b")); err != nil {
		t.Fatal(err)
	}
	o, err := c.Media(t.Context(), f.URL+"/media/x.jpg")
	if err != nil {
		t.Fatal(err)
	}
	o.Body.Close()
	var got []string
	for _, g := range f.requests() {
		got = append(got, g.header.Get("Hayloft-Index"))
	}
	if want := []string{"", "41", "41", "41", "", ""}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	if f.requests()[4].header.Get("Authorization") != "Bearer b" || c.Token() != "a" {
		t.Error("WithToken mixed up the logins")
	}
}

// TestFresh: a context of Fresh asks for whatever there is instead.
func TestFresh(t *testing.T) {
	f := serve(t, answer{status: 200, body: `{}`, header: map[string]string{"Hayloft-Index": "41"}})
	c, _ := f.dial(t, Options{Token: "a"})
	for _, ctx := range []context.Context{t.Context(), Fresh(t.Context()), t.Context()} {
		if _, err := c.Me(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, g := range f.requests() {
		got = append(got, g.header.Get("Hayloft-Index"))
	}
	if want := []string{"", "fresh", "41"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}

func TestOptions(t *testing.T) {
	err := Options{MinPause: -1, MaxMediaBytes: -1, Token: "a\r\nX: y"}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three faults reported as: %v", err)
	}
	if (Options{MinPause: 2, MaxPause: 1}).Validate() == nil {
		t.Error("pauses the wrong way round were taken")
	}
	if err := (Options{}).Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "127.0.0.1:8080", "ftp://h", "http://", "http://u:p@h", "http://h?x=1", "http://h#f", ":"} {
		if _, err := New(bad, Options{}); err == nil {
			t.Errorf("New took %q", bad)
		}
	}
	c, err := New("http://h:1/under/", Options{})
	if err != nil || c.base != "http://h:1/under" {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestRedirectNotFollowed: an API call that answers with a redirect would carry
// the login to wherever it points.
func TestRedirectNotFollowed(t *testing.T) {
	f := serve(t, answer{status: 302, header: map[string]string{"Location": "/elsewhere"}})
	mine := &http.Client{}
	c, _ := f.dial(t, Options{Token: "secret", HTTPClient: mine})
	if me(c) == nil {
		t.Error("a redirect was taken for an answer")
	}
	if n := len(f.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	if mine.CheckRedirect != nil {
		t.Error("the caller's http.Client was changed")
	}
}
