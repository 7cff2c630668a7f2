package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestNotificationStream: a stream that is cut off goes on where it was, and ends with
// its context or with an error that does not pass.
func TestNotificationStream(t *testing.T) {
	var mu sync.Mutex // guards asked
	var asked []string
	gone := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization"))
		number := len(asked)
		mu.Unlock()
		w.Header().Set("Content-Type", "text/event-stream")
		event := func(seq int) {
			fmt.Fprintf(w, "id: %d\nevent: notification\ndata: {\"id\":\"like-x-2026-03-01\",\"seq\":%d,\"kind\":\"like\",\"count\":%d,\"actors\":[{\"handle\":\"bob\"}]}\n\n", seq, seq, seq)
		}
		switch number {
		case 1:
			fmt.Fprint(w, "retry: 2000\n\nevent: unread\ndata: {\"unread\":1}\n\n:\n\n")
			event(4)
		case 2:
			event(5)
			fmt.Fprint(w, "event: new\ndata: {}\n\n")
			http.NewResponseController(w).Flush() //nolint:errcheck // the test waits for it
			<-gone
		default:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"type":"/problems/unauthorized","title":"Sign in first","status":401}`)
		}
	}))
	defer s.Close()
	c, err := New(s.URL, Options{Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	c.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	for e, err := range c.NotificationStream(ctx, 3) {
		switch {
		case err != nil:
			t.Fatal(err)
		case e.Notification == nil:
			got = append(got, fmt.Sprintf("unread %d", e.Unread))
		default:
			got = append(got, fmt.Sprintf("%s %d by %s", e.Notification.Kind, e.Notification.Seq, e.Notification.Actors[0].Handle))
		}
		if len(got) == 3 {
			cancel()
			close(gone)
		}
	}
	if fmt.Sprint(got) != "[unread 1 like 4 by bob like 5 by bob]" {
		t.Errorf("%v", got)
	}
	mu.Lock()
	if fmt.Sprint(asked) != "[GET /api/v1/notifications/stream?after=3 Bearer secret GET /api/v1/notifications/stream?after=4 Bearer secret]" {
		t.Errorf("%v", asked)
	}
	mu.Unlock()
	for e, err := range c.NotificationStream(t.Context(), 5) {
		if p, ok := errors.AsType[*Problem](err); !ok || p.Status != 401 || e.Notification != nil {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

// TestNotificationStreamOfAGiant: what cannot be read is an error, not asked for again and
// again.
func TestNotificationStreamOfAGiant(t *testing.T) {
	var calls atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		fmt.Fprintf(w, "event: notification\ndata: %0*d\n\n", maxEventBytes, 1)
	}))
	defer s.Close()
	c, err := New(s.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.sleep = func(context.Context, time.Duration) error {
		cancel()
		return ctx.Err()
	}
	failed := 0
	for _, err := range c.NotificationStream(ctx, 0) {
		if err != nil {
			failed++
		}
	}
	if failed != 1 || calls.Load() != 1 {
		t.Errorf("%d errors after %d calls", failed, calls.Load())
	}
}

// TestNotificationWire holds the form of the calls about notifications.
func TestNotificationWire(t *testing.T) {
	ctx := t.Context()
	list := answer{status: 200, body: `{"items":[{"id":"post-x-2026-03-01","seq":7,"kind":"post","at":"2026-03-01T10:00:00Z","count":2,"actors":[{"handle":"ada"}],"photo":` + photoJSON + `}],"next_cursor":"n","unread":3,"seq":9}`}
	prefs := answer{status: 200, body: `{"like":false,"post":true}`}
	for _, tc := range []struct {
		name   string
		answer answer
		call   func(c *Client) (any, error)
		want   string
		body   string
		out    string
	}{
		{"List", list, func(c *Client) (any, error) {
			p, err := c.Notifications(ctx, PageOptions{Limit: 2, Cursor: "c"})
			return fmt.Sprintf("%d %s %s %d %d", len(p.Items), p.Items[0].Photo.Title, p.NextCursor, p.Unread, p.Seq), err
		}, "GET /api/v1/notifications?cursor=c&limit=2", "", "1 Dunes n 3 9"},
		{"Seen", answer{status: 204}, func(c *Client) (any, error) { return nil, c.NotificationsSeen(ctx, 7) }, "POST /api/v1/notifications/seen", `{"seq":7}`, "<nil>"},
		{"SeenAll", answer{status: 204}, func(c *Client) (any, error) { return nil, c.NotificationsSeen(ctx, 0) }, "POST /api/v1/notifications/seen", "", "<nil>"},
		{"Preferences", prefs, func(c *Client) (any, error) { return c.Preferences(ctx) }, "GET /api/v1/notifications/preferences", "", "map[like:false post:true]"},
		{"SetPreferences", prefs, func(c *Client) (any, error) { return c.SetPreferences(ctx, map[string]bool{"like": false}) },
			"PATCH /api/v1/notifications/preferences", `{"like":false}`, "map[like:false post:true]"},
		{"Listen", answer{status: 204}, func(c *Client) (any, error) { return nil, c.Listen(ctx, "ada") }, "POST /api/v1/users/ada/listen", "", "<nil>"},
		{"Unlisten", answer{status: 204}, func(c *Client) (any, error) { return nil, c.Unlisten(ctx, "ada") }, "DELETE /api/v1/users/ada/listen", "", "<nil>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := serve(t, tc.answer)
			c, _ := f.dial(t, Options{Token: "secret"})
			got, err := tc.call(c)
			if err != nil || fmt.Sprint(got) != tc.out {
				t.Errorf("%v, %v", got, err)
			}
			r := f.requests()
			if len(r) != 1 || r[0].method+" "+r[0].uri != tc.want || r[0].body != tc.body {
				t.Errorf("%+v", r)
			}
		})
	}
}
