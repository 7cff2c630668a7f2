package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// seen is one request as the server got it.
type seen struct {
	method, uri, body string
	length            int64
	header            http.Header
}

// answer is one canned answer; cut ends the connection instead.
type answer struct {
	status int
	header map[string]string
	body   string
	cut    bool
}

// fake answers with its list in order and repeats the last one.
type fake struct {
	*httptest.Server
	mu      sync.Mutex
	got     []seen
	answers []answer
}

func serve(t *testing.T, answers ...answer) *fake {
	t.Helper()
	f := &fake{answers: answers}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		f.mu.Lock()
		n := min(len(f.got), len(f.answers)-1)
		f.got = append(f.got, seen{r.Method, r.RequestURI, string(b), r.ContentLength, r.Header.Clone()})
		a := f.answers[n]
		f.mu.Unlock()
		if a.cut {
			panic(http.ErrAbortHandler)
		}
		for k, v := range a.header {
			w.Header().Set(k, strings.ReplaceAll(v, "{self}", "http://"+r.Host))
		}
		if w.Header().Get("Content-Type") == "" && a.body != "" {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(a.status)
		io.WriteString(w, strings.ReplaceAll(a.body, "{self}", "http://"+r.Host)) //nolint:errcheck // the client sees it
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) requests() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]seen(nil), f.got...)
}

// dial makes a Client that counts its pauses instead of waiting.
func (f *fake) dial(t *testing.T, o Options) (*Client, *[]time.Duration) {
	t.Helper()
	c, err := New(f.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	var pauses []time.Duration
	c.sleep = func(ctx context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		return ctx.Err()
	}
	return c, &pauses
}

const photoJSON = `{"photo_id":"02mq4x0e3g5tr","author":{"id":"02mq4x0e3g000","handle":"ada","avatar_url":""},"title":"Dunes","caption":"at noon","alt":"sand",
"tags":["sea"],"people":[],"location":{"lat":54.1,"lng":8.2,"name":"Amrum"},"visibility":"public","status":"ready",
"urls":{"thumbnail":"{self}/media/thumbnail/b-c.jpg","large":"{self}/media/large/b-c.jpg"},
"media":[{"width":4000,"height":3000,"placeholder":"LKO2?U","urls":{"large":{"url":"{self}/media/large/b-c.jpg","width":1080,"height":810,"formats":{"jpeg":"{self}/media/large/b-c.jpg"}}}}],
"like_count":2,"comment_count":1,"liked":true,"saved":false,"created_at":"2026-03-01T10:00:00Z","published_at":"2026-03-01T10:00:01Z"}`

// TestWire holds the exact form of every call: method, target, body, headers.
func TestWire(t *testing.T) {
	ctx := t.Context()
	user := `{"id":"02mq4x0e3g000","handle":"ada","name":"Ada","photo_count":3,"follower_count":2,"following_count":1,"created_at":"2026-03-01T10:00:00Z","viewer":{"follows":true}}`
	login := answer{status: 201, body: `{"user":` + user + `,"token":"tok"}`}
	photo := answer{status: 200, body: photoJSON}
	none := answer{status: 204}
	for _, tc := range []struct {
		name   string
		answer answer
		call   func(c *Client) (any, error)
		want   string // method target
		body   string
		header map[string]string
		out    string // what fmt makes of the call's value, when stated
	}{
		{"CreateAccount", login, func(c *Client) (any, error) {
			l, err := c.CreateAccount(ctx, NewAccount{Handle: "ada", Password: "correct horse"})
			return l.Token + " " + l.User.Handle, err
		}, "POST /api/v1/accounts", `{"handle":"ada","password":"correct horse"}`, map[string]string{"Content-Type": "application/json", "Accept": "application/json"}, "tok ada"},
		{"Login", login, func(c *Client) (any, error) { l, err := c.Login(ctx, "ada", "correct horse"); return l.User.ID, err },
			"POST /api/v1/sessions", `{"handle":"ada","password":"correct horse"}`, nil, "02mq4x0e3g000"},
		{"Me", answer{status: 200, body: user}, func(c *Client) (any, error) { u, err := c.Me(ctx); return u.FollowerCount, err },
			"GET /api/v1/users/me", "", map[string]string{"Authorization": "Bearer secret"}, "2"},
		{"User", answer{status: 200, body: user}, func(c *Client) (any, error) { u, err := c.User(ctx, "@ada"); return u.Viewer.Follows, err },
			"GET /api/v1/users/@ada", "", nil, "true"},
		{"Follow", none, func(c *Client) (any, error) { return c.Follow(ctx, "ada") }, "POST /api/v1/follow/ada", "", nil, "false"},
		{"FollowPending", answer{status: 202}, func(c *Client) (any, error) { return c.Follow(ctx, "ada") }, "POST /api/v1/follow/ada", "", nil, "true"},
		{"Unfollow", none, func(c *Client) (any, error) { return nil, c.Unfollow(ctx, "ada") }, "DELETE /api/v1/follow/ada", "", nil, ""},
		{"UploadURL", answer{status: 201, body: `{"upload_url":"http://h/u?s=1","photo_id":"02mq4x0e3g5tr","upload_expires_in":900}`}, func(c *Client) (any, error) {
			return c.UploadURL(ctx, UploadRequest{FileSize: 42, ContentType: "image/jpeg"})
		}, "POST /api/v1/photos/upload-url", `{"file_size":42,"content_type":"image/jpeg"}`, nil, "{http://h/u?s=1 02mq4x0e3g5tr 900}"},
		{"Finalize", answer{status: 202, body: photoJSON}, func(c *Client) (any, error) {
			p, err := c.Finalize(ctx, "02mq4x0e3g5tr", Details{Caption: "at noon", Tags: []string{"sea"}, Location: &Location{Lat: 54.1, Lng: 8.2}, Visibility: VisibilityFollowers}, 4*time.Second)
			return p.Caption, err
		}, "POST /api/v1/photos", `{"photo_id":"02mq4x0e3g5tr","caption":"at noon","tags":["sea"],"location":{"lat":54.1,"lng":8.2},"visibility":"followers"}`,
			map[string]string{"Prefer": "wait=4"}, "at noon"},
		{"Photo", photo, func(c *Client) (any, error) {
			p, err := c.Photo(ctx, "02mq4x0e3g5tr")
			return fmt.Sprint(p.Media[0].URLs["large"].Width, p.Location.Name, p.PublishedAt.Year(), p.Liked), err
		}, "GET /api/v1/photos/02mq4x0e3g5tr", "", map[string]string{"Accept": "application/json", "Prefer": ""}, "1080Amrum2026 true"},
		{"Like", none, func(c *Client) (any, error) { return nil, c.Like(ctx, "p1") }, "POST /api/v1/photos/p1/like", "", nil, ""},
		{"Unlike", none, func(c *Client) (any, error) { return nil, c.Unlike(ctx, "p1") }, "DELETE /api/v1/photos/p1/like", "", nil, ""},
		{"Delete", none, func(c *Client) (any, error) { return nil, c.Delete(ctx, "p1") }, "DELETE /api/v1/photos/p1", "", nil, ""},
		{"Purge", none, func(c *Client) (any, error) { return nil, c.Purge(ctx, "p1") }, "DELETE /api/v1/photos/p1?purge=now", "", nil, ""},
		{"Restore", photo, func(c *Client) (any, error) { p, err := c.Restore(ctx, "p1"); return p.Status, err }, "POST /api/v1/photos/p1/restore", "", nil, "ready"},
		{"Comment", answer{status: 201, body: `{"id":"c1","photo_id":"p1","text":"nice","parent_id":"c0","author":{"handle":"bo"},"created_at":"2026-03-01T10:00:00Z"}`}, func(c *Client) (any, error) {
			m, err := c.Comment(ctx, "p1", NewComment{Text: "nice", ParentID: "c0", IdempotencyKey: "k1"})
			return m.ID + m.Author.Handle, err
		}, "POST /api/v1/photos/p1/comments", `{"text":"nice","parent_id":"c0"}`, map[string]string{"Idempotency-Key": "k1"}, "c1bo"},
		{"DeleteComment", none, func(c *Client) (any, error) { return nil, c.DeleteComment(ctx, "c1") }, "DELETE /api/v1/comments/c1", "", nil, ""},
		{"Feed", answer{status: 200, body: `{"items":[` + photoJSON + `],"next_cursor":"n+/="}`}, func(c *Client) (any, error) {
			p, err := c.Feed(ctx, PageOptions{Cursor: "a+/=", Limit: 7})
			return fmt.Sprint(len(p.Items), p.NextCursor), err
		}, "GET /api/v1/feed?cursor=a%2B%2F%3D&limit=7", "", nil, "1n+/="},
		{"UserPhotos", answer{status: 200, body: `{"items":[]}`}, func(c *Client) (any, error) { return c.UserPhotos(ctx, "me", PageOptions{}) }, "GET /api/v1/users/me/photos", "", nil, "{[] }"},
		{"Comments", answer{status: 200, body: `{"items":[]}`}, func(c *Client) (any, error) { return c.Comments(ctx, "p1", PageOptions{Limit: 1}) }, "GET /api/v1/photos/p1/comments?limit=1", "", nil, ""},
		{"Replies", answer{status: 200, body: `{"items":[]}`}, func(c *Client) (any, error) { return c.Replies(ctx, "c1", PageOptions{}) }, "GET /api/v1/comments/c1/replies", "", nil, ""},
		{"DeletedPhotos", answer{status: 200, body: `{"items":[]}`}, func(c *Client) (any, error) { return c.DeletedPhotos(ctx, PageOptions{}) }, "GET /api/v1/photos/deleted", "", nil, ""},
		{"LikeComment", answer{status: 204}, func(c *Client) (any, error) { return nil, c.LikeComment(ctx, "c1") }, "POST /api/v1/comments/c1/like", "", nil, ""},
		{"UnlikeComment", answer{status: 204}, func(c *Client) (any, error) { return nil, c.UnlikeComment(ctx, "c1") }, "DELETE /api/v1/comments/c1/like", "", nil, ""},
		{"RemoveFollower", answer{status: 204}, func(c *Client) (any, error) { return nil, c.RemoveFollower(ctx, "@bob") }, "DELETE /api/v1/followers/@bob", "", nil, ""},
		{"FollowRequests", answer{status: 200, body: `{"items":[]}`}, func(c *Client) (any, error) { return c.FollowRequests(ctx, PageOptions{Limit: 2}) }, "GET /api/v1/follow-requests?limit=2", "", nil, ""},
		{"ApproveFollow", answer{status: 204}, func(c *Client) (any, error) { return nil, c.ApproveFollow(ctx, "bob") }, "POST /api/v1/follow-requests/bob/approve", "", nil, ""},
		{"DeclineFollow", answer{status: 204}, func(c *Client) (any, error) { return nil, c.DeclineFollow(ctx, "bob") }, "POST /api/v1/follow-requests/bob/decline", "", nil, ""},
		{"Block", answer{status: 204}, func(c *Client) (any, error) { return nil, c.Block(ctx, "bob") }, "POST /api/v1/users/bob/block", "", nil, ""},
		{"Unblock", answer{status: 204}, func(c *Client) (any, error) { return nil, c.Unblock(ctx, "bob") }, "DELETE /api/v1/users/bob/block", "", nil, ""},
		{"Blocks", answer{status: 200, body: `{"items":[]}`}, func(c *Client) (any, error) { return c.Blocks(ctx, PageOptions{}) }, "GET /api/v1/blocks", "", nil, ""},
		{"Mute", answer{status: 204}, func(c *Client) (any, error) { return nil, c.Mute(ctx, "bob") }, "POST /api/v1/users/bob/mute", "", nil, ""},
		{"Unmute", answer{status: 204}, func(c *Client) (any, error) { return nil, c.Unmute(ctx, "bob") }, "DELETE /api/v1/users/bob/mute", "", nil, ""},
		{"Mutes", answer{status: 200, body: `{"items":[]}`}, func(c *Client) (any, error) { return c.Mutes(ctx, PageOptions{}) }, "GET /api/v1/mutes", "", nil, ""},
		{"UpdateMe", answer{status: 200, body: user}, func(c *Client) (any, error) {
			private := true
			return c.UpdateMe(ctx, ProfileChange{IsPrivate: &private})
		}, "PATCH /api/v1/users/me", `{"is_private":true}`, nil, ""},
		{"DeleteMe", answer{status: 204}, func(c *Client) (any, error) { return nil, c.DeleteMe(ctx) }, "DELETE /api/v1/users/me", "", nil, ""},
		{"SetPassword", answer{status: 200, body: user}, func(c *Client) (any, error) { return nil, c.SetPassword(ctx, "a", "b") }, "PUT /api/v1/users/me/password", `{"new_password":"b","password":"a"}`, nil, ""},
		{"SetAvatar", answer{status: 200, body: user}, func(c *Client) (any, error) { return c.SetAvatar(ctx, "p1") }, "PUT /api/v1/users/me/avatar", `{"photo_id":"p1"}`, nil, ""},
		{"NoAvatar", answer{status: 200, body: user}, func(c *Client) (any, error) { return c.SetAvatar(ctx, "") }, "PUT /api/v1/users/me/avatar", `{"photo_id":null}`, nil, ""},
		{"Sessions", answer{status: 200, body: `{"items":[{"id":"s1","current":true}]}`}, func(c *Client) (any, error) {
			s, err := c.Sessions(ctx)
			return fmt.Sprint(len(s), s[0].ID, s[0].Current), err
		}, "GET /api/v1/sessions", "", nil, "1s1true"},
		{"EndSession", answer{status: 204}, func(c *Client) (any, error) { return nil, c.EndSession(ctx, "s1") }, "DELETE /api/v1/sessions/s1", "", nil, ""},
		{"EndSessions", answer{status: 204}, func(c *Client) (any, error) { return nil, c.EndSessions(ctx) }, "DELETE /api/v1/sessions", "", nil, ""},
		{"CreateAPIKey", answer{status: 201, body: `{"id":"k1","key":"hlk_x","scopes":["read"]}`}, func(c *Client) (any, error) {
			k, err := c.CreateAPIKey(ctx, "n", ScopeRead)
			return k.ID + k.Key + k.Scopes[0], err
		}, "POST /api/v1/api-keys", `{"name":"n","scopes":["read"]}`, nil, "k1hlk_xread"},
		{"APIKeys", answer{status: 200, body: `{"items":[{"id":"k1"}]}`}, func(c *Client) (any, error) { k, err := c.APIKeys(ctx); return k[0].ID, err }, "GET /api/v1/api-keys", "", nil, "k1"},
		{"DeleteAPIKey", answer{status: 204}, func(c *Client) (any, error) { return nil, c.DeleteAPIKey(ctx, "k1") }, "DELETE /api/v1/api-keys/k1", "", nil, ""},
		{"FeedNew", answer{status: 200, body: `{"count":3,"latest_id":"p1"}`}, func(c *Client) (any, error) { return c.FeedNew(ctx) }, "GET /api/v1/feed/new", "", nil, "{3 p1}"},
		{"FeedNewNull", answer{status: 200, body: `{"count":0,"latest_id":null}`}, func(c *Client) (any, error) { return c.FeedNew(ctx) }, "GET /api/v1/feed/new", "", nil, "{0 }"},
		{"Seen", answer{status: 204}, func(c *Client) (any, error) { return nil, c.Seen(ctx, "p1") }, "POST /api/v1/feed/seen", `{"photo_id":"p1"}`, nil, ""},
		{"Search", answer{status: 200, body: `{"photos":[],"users":[` + user + `],"tags":[{"tag":"sea"}],"places":[{"id":"p1","name":"Amrum","lat":54.6,"lng":8.3}],"next_cursor":"n"}`}, func(c *Client) (any, error) {
			f, err := c.Search(ctx, "at #sea", SearchUsers, PageOptions{Cursor: "a+", Limit: 7})
			return fmt.Sprint(len(f.Users), f.Tags, f.Places, f.NextCursor), err
		}, "GET /api/v1/search?cursor=a%2B&limit=7&q=at+%23sea&type=users", "", nil, "1 [{sea}] [{p1 Amrum 54.6 8.3}]n"},
		{"SearchEverything", answer{status: 200, body: `{"photos":[],"users":[],"tags":[],"places":[]}`}, func(c *Client) (any, error) {
			f, err := c.Search(ctx, "x", SearchEverything, PageOptions{})
			return f.NextCursor, err
		}, "GET /api/v1/search?q=x", "", nil, ""},
		{"FoundPhotos", answer{status: 200, body: `{"photos":[` + photoJSON + `]}`}, func(c *Client) (any, error) {
			for p, err := range c.FoundPhotos(ctx, "sea", 3) {
				return fmt.Sprint(len(p.Items)), err
			}
			return nil, nil
		}, "GET /api/v1/search?limit=3&q=sea&type=photos", "", nil, "1"},
		{"TagPhotos", answer{status: 200, body: `{"items":[]}`}, func(c *Client) (any, error) { return c.TagPhotos(ctx, "café", PageOptions{}) }, "GET /api/v1/tags/caf%C3%A9/photos", "", nil, "{[] }"},
		{"PlacePhotos", answer{status: 200, body: `{"items":[]}`}, func(c *Client) (any, error) {
			return c.PlacePhotos(ctx, "p1", PageOptions{Limit: 1})
		}, "GET /api/v1/places/p1/photos?limit=1", "", nil, "{[] }"},
		{"EscapedName", answer{status: 200, body: user}, func(c *Client) (any, error) { return c.User(ctx, "a/../b?c") }, "GET /api/v1/users/a%2F..%2Fb%3Fc", "", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := serve(t, tc.answer)
			c, _ := f.dial(t, Options{Token: "secret"})
			out, err := tc.call(c)
			if err != nil {
				t.Fatal(err)
			}
			got := f.requests()
			if len(got) != 1 {
				t.Fatalf("%d requests, want 1", len(got))
			}
			if s := got[0].method + " " + got[0].uri; s != tc.want {
				t.Errorf("sent %q, want %q", s, tc.want)
			}
			if got[0].body != tc.body {
				t.Errorf("body %s\nwant %s", got[0].body, tc.body)
			}
			for k, v := range tc.header {
				if g := got[0].header.Get(k); g != v {
					t.Errorf("header %s: %q, want %q", k, g, v)
				}
			}
			if s := fmt.Sprint(out); tc.out != "" && s != tc.out {
				t.Errorf("answer read as %s, want %s", s, tc.out)
			}
		})
	}
}

// TestPutUpload: the URL is the permission, so the login stays at home; length
// and type are exactly what the URL binds.
func TestPutUpload(t *testing.T) {
	f := serve(t, answer{status: 201, body: `{"photo_id":"p1","size":9,"digest":"d"}`})
	c, _ := f.dial(t, Options{Token: "secret"})
	s, err := c.PutUpload(t.Context(), Upload{URL: f.URL + "/api/v1/uploads/p1?sig=x", PhotoID: "p1"},
		File{At: strings.NewReader("the bytes"), Size: 9, ContentType: "image/png"})
	if err != nil || s != (Stored{"p1", 9, "d"}) {
		t.Fatalf("%+v, %v", s, err)
	}
	g := f.requests()[0]
	if g.method != "PUT" || g.uri != "/api/v1/uploads/p1?sig=x" || g.body != "the bytes" || g.length != 9 || g.header.Get("Content-Type") != "image/png" {
		t.Errorf("sent %+v", g)
	}
	if a := g.header.Get("Authorization"); a != "" {
		t.Errorf("login sent to an upload URL: %q", a)
	}
}

// TestPutUploadCut: the answer is lost, the repetition is told that the bytes
// are stored, and that is success. Told so at the first attempt it is not.
func TestPutUploadCut(t *testing.T) {
	stored := answer{status: 409, header: map[string]string{"Content-Type": "application/problem+json"}, body: `{"type":"/problems/upload-already-stored","title":"t","status":409}`}
	file := func() File { return File{At: strings.NewReader("the bytes"), Size: 9, ContentType: "image/png"} }

	f := serve(t, answer{cut: true}, stored)
	c, _ := f.dial(t, Options{})
	s, err := c.PutUpload(t.Context(), Upload{URL: f.URL + "/u", PhotoID: "p1"}, file())
	if err != nil || s.PhotoID != "p1" || s.Size != 9 {
		t.Fatalf("%+v, %v", s, err)
	}
	for i, g := range f.requests() {
		if g.body != "the bytes" {
			t.Errorf("attempt %d sent %q", i, g.body)
		}
	}

	f = serve(t, stored)
	c, _ = f.dial(t, Options{})
	if _, err = c.PutUpload(t.Context(), Upload{URL: f.URL + "/u", PhotoID: "p1"}, file()); !IsType(err, "upload-already-stored") {
		t.Fatalf("a used upload URL: %v", err)
	}
}

// TestPostPhoto: a well-formed form with a known length, texts before bytes.
func TestPostPhoto(t *testing.T) {
	var form string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Prefer") != "wait=2" {
			t.Errorf("Prefer %q", r.Header.Get("Prefer"))
		}
		mr, err := r.MultipartReader()
		if err != nil {
			t.Error(err)
			return
		}
		for {
			p, err := mr.NextPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Error(err)
				return
			}
			b, err := io.ReadAll(p)
			if err != nil {
				t.Error(err)
			}
			form += fmt.Sprintf("%s(%s %s)=%s;", p.FormName(), p.FileName(), p.Header.Get("Content-Type"), b)
		}
		form += fmt.Sprint(r.ContentLength > 0)
		w.WriteHeader(201)
		io.WriteString(w, `{"photo_id":"p1","cdn_url":"http://h/x","photo":{"photo_id":"p1","status":"ready"}}`) //nolint:errcheck // the client sees it
	}))
	defer srv.Close()
	c, err := New(srv.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := Details{Title: "Dunes", Caption: "at \"noon\"\n", Tags: []string{"a", "b"}, Location: &Location{Lat: 1, Lng: 2}}
	const texts = `title( )=Dunes;caption( )=at "noon"` + "\n" + `;tags( )=a;tags( )=b;location( )={"lat":1,"lng":2};photo(we_ird.jpg image/jpeg)=the bytes;`
	for _, tc := range []struct {
		file File
		want string
	}{
		{File{Reader: strings.NewReader("the bytes"), Size: 9}, texts + "true"},
		{File{At: strings.NewReader("the bytes"), Size: 9}, texts + "true"},
	} {
		form = ""
		tc.file.Name, tc.file.ContentType = "/some/where/we\"ird.jpg", "image/jpeg"
		p, err := c.PostPhoto(t.Context(), tc.file, d, 2*time.Second, "")
		if err != nil || p.PhotoID != "p1" || p.CDNURL != "http://h/x" || p.Photo.Status != StatusReady {
			t.Fatalf("%+v, %v", p, err)
		}
		if form != tc.want {
			t.Errorf("form %s\nwant %s", form, tc.want)
		}
	}
}

func TestFileMisuse(t *testing.T) {
	f := serve(t, answer{status: 201, body: `{}`})
	c, _ := f.dial(t, Options{})
	for _, file := range []File{
		{},
		{At: strings.NewReader("x"), Reader: strings.NewReader("x"), Size: 1},
		{At: strings.NewReader("x"), Size: -1},
		{Reader: strings.NewReader("x"), Size: -1},
	} {
		if _, err := c.PostPhoto(t.Context(), file, Details{}, 0, ""); err == nil {
			t.Errorf("PostPhoto took %+v", file)
		}
	}
	if _, err := c.PutUpload(t.Context(), Upload{URL: f.URL}, File{Reader: strings.NewReader("x"), Size: -1}); err == nil {
		t.Error("PutUpload took a file of unknown size")
	}
	if d := Digest([32]byte{0xab}); d != "sha256:ab"+strings.Repeat("0", 62) {
		t.Errorf("Digest wrote %s", d)
	}
	for name, call := range map[string]func() error{
		"User":    func() error { _, err := c.User(t.Context(), ""); return err },
		"Follow":  func() error { _, err := c.Follow(t.Context(), ""); return err },
		"Delete":  func() error { return c.Delete(t.Context(), "") },
		"Photo":   func() error { _, err := c.Photo(t.Context(), ""); return err },
		"Comment": func() error { _, err := c.Comment(t.Context(), "", NewComment{}); return err },
		"Likes":   func() error { _, err := c.Likes(t.Context(), "", PageOptions{}); return err },
		"Master":  func() error { _, err := c.Master(t.Context(), ""); return err },
	} {
		if call() == nil {
			t.Errorf("%s took an empty name", name)
		}
	}
	if n := len(f.requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// TestMedia: bytes, type and ETag come through; the login goes to the API and
// not to the media address it points to.
func TestMedia(t *testing.T) {
	f := serve(t,
		answer{status: 302, header: map[string]string{"Location": "/media/large/b-c.jpg"}},
		answer{status: 200, header: map[string]string{"Content-Type": "image/jpeg", "ETag": `"e"`}, body: "pixels"})
	c, _ := f.dial(t, Options{Token: "secret"})
	o, err := c.Variant(t.Context(), "p1", VariantLarge)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(o.Body)
	if err != nil || string(b) != "pixels" || o.ContentType != "image/jpeg" || o.ETag != `"e"` || o.Size != 6 {
		t.Errorf("%q %+v %v", b, o, err)
	}
	if err := o.Body.Close(); err != nil {
		t.Error(err)
	}
	g := f.requests()
	if g[0].uri != "/api/v1/photos/p1/large" || g[0].header.Get("Authorization") == "" {
		t.Errorf("first %+v", g[0])
	}
	if g[1].uri != "/media/large/b-c.jpg" || g[1].header.Get("Authorization") != "" {
		t.Errorf("then %+v", g[1])
	}
	if _, err := c.Media(t.Context(), "/media/x.jpg"); err == nil {
		t.Error("took a relative media URL")
	}
}

func TestMaster(t *testing.T) {
	f := serve(t, answer{status: 200, header: map[string]string{"Content-Type": "image/jpeg"}, body: "verbatim"})
	c, _ := f.dial(t, Options{Token: "secret"})
	o, err := c.Master(t.Context(), "p1")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	if b, err := io.ReadAll(o.Body); err != nil || string(b) != "verbatim" {
		t.Errorf("%q, %v", b, err)
	}
	if g := f.requests()[0]; g.uri != "/api/v1/photos/p1/master" || g.header.Get("Authorization") != "Bearer secret" {
		t.Errorf("sent %+v", g)
	}
}

// TestMediaBound: too large is an error, with or without a length, and never a
// shorter image.
func TestMediaBound(t *testing.T) {
	for _, flush := range []bool{false, true} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if flush { // no Content-Length
				w.(http.Flusher).Flush()
			}
			w.Write(bytes.Repeat([]byte("x"), 100)) //nolint:errcheck // the client stops reading
		}))
		for limit, want := range map[int64]error{99: ErrTooLarge, 100: nil} {
			c, err := New(srv.URL, Options{MaxMediaBytes: limit})
			if err != nil {
				t.Fatal(err)
			}
			o, err := c.Media(t.Context(), srv.URL+"/m")
			var n int64
			if err == nil {
				n, err = io.Copy(io.Discard, o.Body)
				o.Body.Close()
			}
			if !errors.Is(err, want) || (want == nil && n != 100) || n > limit {
				t.Errorf("flush %v, limit %d: %d bytes, %v", flush, limit, n, err)
			}
		}
		srv.Close()
	}
}
