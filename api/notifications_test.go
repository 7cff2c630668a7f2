package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"hayloft/internal/id"
)

// told is a world in which bob and carl do things to anna's photo.
type told struct {
	*world
	anna, bob, carl       string // tokens
	annaID, bobID, carlID id.ID
	photo                 id.ID
}

func newTold(t *testing.T, change ...func(*Options)) *told {
	w := &told{world: newWorld(t, change...)}
	w.anna, w.annaID = w.account("anna")
	w.bob, w.bobID = w.account("bob")
	w.carl, w.carlID = w.account("carl")
	w.photo = w.post(w.anna, picture(40, 30, 1), m{"caption": "the sea"})
	w.makeReady(w.photo)
	return w
}

func (w *told) list(token string) notificationsSeen {
	w.t.Helper()
	return into[notificationsSeen](w.call(token, "GET", "/api/v1/notifications?limit=100", nil).is(200))
}

func (w *told) like(token string) {
	w.t.Helper()
	w.call(token, "POST", "/api/v1/photos/"+w.photo.String()+"/like", nil).is(204)
}

func (w *told) comment(token, text string) id.ID {
	w.t.Helper()
	return into[commentBody](w.call(token, "POST", "/api/v1/photos/"+w.photo.String()+"/comments", m{"text": text}).is(201)).ID
}

func TestNotificationsOverHTTP(t *testing.T) {
	w := newTold(t)
	w.call("", "GET", "/api/v1/notifications", nil).fails(pUnauthorized)
	w.like(w.bob)
	w.like(w.carl)
	w.call(w.bob, "POST", "/api/v1/follow/anna", nil).is(204)
	said := w.comment(w.bob, "hello @carl")
	got := w.list(w.anna)
	if len(got.Items) != 3 || got.Unread != 3 || got.Seq != 4 {
		t.Fatalf("anna is told %+v", got)
	}
	if n := got.Items[0]; n.Kind != "comment" || n.Comment.ID != said || n.Photo.PhotoID != w.photo || n.Count != 1 || n.Actors[0].Handle != "bob" || n.Seen {
		t.Errorf("first: %+v", n)
	}
	if n := got.Items[2]; n.Kind != "like" || n.Count != 2 || len(n.Actors) != 2 || n.Actors[0].Handle != "carl" || n.Seq != 2 {
		t.Errorf("last: %+v", n)
	}
	if n := w.list(w.carl); len(n.Items) != 1 || n.Items[0].Kind != "mention" {
		t.Errorf("carl is told %+v", n)
	}
	one := into[notificationsSeen](w.call(w.anna, "GET", "/api/v1/notifications?limit=2", nil).is(200))
	rest := into[notificationsSeen](w.call(w.anna, "GET", "/api/v1/notifications?limit=2&cursor="+one.NextCursor, nil).is(200))
	if len(one.Items) != 2 || len(rest.Items) != 1 || rest.Items[0].Kind != "like" || rest.NextCursor != "" {
		t.Errorf("pages of %d and %d", len(one.Items), len(rest.Items))
	}
	w.call(w.bob, "GET", "/api/v1/notifications?cursor="+one.NextCursor, nil).fails(pBadCursor)

	// Seen up to the follow; then all.
	w.call(w.anna, "POST", "/api/v1/notifications/seen", m{"seq": 3}).is(204)
	if got = w.list(w.anna); got.Unread != 1 || got.Items[0].Seen || !got.Items[1].Seen || !got.Items[2].Seen {
		t.Errorf("after seen: %+v", got)
	}
	w.call(w.anna, "POST", "/api/v1/notifications/seen", nil).is(204)
	w.call(w.anna, "POST", "/api/v1/notifications/seen", m{"seq": 1}).is(204)
	if got = w.list(w.anna); got.Unread != 0 {
		t.Errorf("%d unread after all were seen", got.Unread)
	}
	for _, bad := range []any{m{"seq": 0}, m{"seq": -1}} {
		w.call(w.anna, "POST", "/api/v1/notifications/seen", bad).fails(pInvalid)
	}
	for _, bad := range []any{m{"seq": "1"}, m{"seq": 1.5}} {
		w.call(w.anna, "POST", "/api/v1/notifications/seen", bad).fails(pMalformed)
	}

	// What is hidden or taken back is not shown, and comes back as it does.
	w.call(w.anna, "POST", "/api/v1/users/bob/mute", nil).is(204)
	if got = w.list(w.anna); len(got.Items) != 1 || got.Items[0].Count != 1 || got.Items[0].Actors[0].Handle != "carl" {
		t.Errorf("with bob muted: %+v", got)
	}
	w.call(w.anna, "DELETE", "/api/v1/users/bob/mute", nil).is(204)
	w.call(w.bob, "DELETE", "/api/v1/photos/"+w.photo.String()+"/like", nil).is(204)
	w.call(w.bob, "DELETE", "/api/v1/comments/"+said.String(), nil).is(204)
	w.call(w.anna, "DELETE", "/api/v1/photos/"+w.photo.String(), nil).is(204)
	if got = w.list(w.anna); len(got.Items) != 1 || got.Items[0].Kind != "follow" {
		t.Errorf("with the photo deleted: %+v", got)
	}
	w.call(w.anna, "POST", "/api/v1/photos/"+w.photo.String()+"/restore", nil).is(200)
	if got = w.list(w.anna); len(got.Items) != 2 || got.Items[1].Count != 1 {
		t.Errorf("with it restored: %+v", got)
	}
}

func TestPreferencesAndListening(t *testing.T) {
	w := newTold(t)
	w.like(w.bob)
	prefs := into[map[string]bool](w.call(w.anna, "PATCH", "/api/v1/notifications/preferences", m{"like": false}).is(200))
	if prefs["like"] || !prefs["comment"] || len(prefs) != 6 || len(w.list(w.anna).Items) != 0 {
		t.Errorf("preferences %v", prefs)
	}
	w.call(w.anna, "PATCH", "/api/v1/notifications/preferences", m{"like": "no"}).fails(pMalformed)
	w.call(w.anna, "PATCH", "/api/v1/notifications/preferences", m{"like": true}).is(200)
	if prefs = into[map[string]bool](w.call(w.anna, "GET", "/api/v1/notifications/preferences", nil).is(200)); !prefs["like"] {
		t.Errorf("preferences %v", prefs)
	}
	w.call(w.bob, "POST", "/api/v1/users/anna/listen", nil).fails(pConflict)
	w.call(w.bob, "POST", "/api/v1/users/bob/listen", nil).fails(pInvalid)
	w.call(w.bob, "POST", "/api/v1/follow/anna", nil).is(204)
	w.call(w.bob, "POST", "/api/v1/users/anna/listen", nil).is(204)
	if u := into[userBody](w.call(w.bob, "GET", "/api/v1/users/anna", nil).is(200)); !u.Viewer.Listens {
		t.Error("bob does not listen")
	}
	if l := into[pageBody[userBody]](w.call(w.bob, "GET", "/api/v1/listening", nil).is(200)); len(l.Items) != 1 || l.Items[0].Handle != "anna" {
		t.Errorf("bob listens to %+v", l.Items)
	}
	s := w.stream(w.bob, "?after=0")
	photo := w.post(w.anna, picture(40, 30, 2), nil)
	w.makeReady(photo)
	if n := s.notification(); n.Kind != "post" || n.Photo.PhotoID != photo || n.Actors[0].Handle != "anna" || n.Count != 1 {
		t.Errorf("bob is told %+v", n)
	}
	s.close()
	w.call(w.bob, "DELETE", "/api/v1/users/anna/listen", nil).is(204)
	if got := w.list(w.bob); len(got.Items) != 0 {
		t.Errorf("bob listens no more, and is told %+v", got)
	}
}

// sse is a client of a notification stream, on a connection of its own.
type sse struct {
	w      *told
	resp   *http.Response
	events chan event
	end    context.CancelFunc
}

type event struct{ id, name, data string }

// stream opens a stream; after is a query, or else the id of the last event.
func (w *told) stream(token, after string) *sse {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	query := ""
	if strings.HasPrefix(after, "?") {
		query, after = after, ""
	}
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/api/v1/notifications/stream"+query, nil)
	must(w.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	resp, err := w.http.Do(req)
	must(w.t, err)
	s := &sse{w: w, resp: resp, end: cancel, events: make(chan event, 100)}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		w.t.Fatalf("a stream with %d, %v", resp.StatusCode, resp.Header)
	}
	go s.read()
	return s
}

func (s *sse) read() {
	defer close(s.events)
	var e event
	lines := bufio.NewScanner(s.resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "":
			if e.name != "" {
				s.events <- e
			}
			e = event{}
		case ":":
			s.events <- event{name: "life"}
		}
	}
}

// next waits for an event of a kind and passes others over.
func (s *sse) next(name string) event {
	s.w.t.Helper()
	for e := range s.events {
		if e.name == name {
			return e
		}
	}
	s.w.t.Fatalf("the stream has ended before a %s", name)
	return event{}
}

func (s *sse) notification() notificationSeen {
	s.w.t.Helper()
	e := s.next("notification")
	var n notificationSeen
	must(s.w.t, json.Unmarshal([]byte(e.data), &n))
	if strconv.FormatUint(n.Seq, 10) != e.id {
		s.w.t.Errorf("event %s is of seq %d", e.id, n.Seq)
	}
	schema := m{"$ref": "#/components/schemas/Notification"}
	var v any
	must(s.w.t, json.Unmarshal([]byte(e.data), &v))
	for _, fault := range contract(s.w.t).faults(schema, v, "") {
		s.w.t.Errorf("an event %s in %s", fault, e.data)
	}
	return n
}

func (s *sse) unread(want int) {
	s.w.t.Helper()
	if e := s.next("unread"); e.data != `{"unread":`+strconv.Itoa(want)+`}` || e.id != "" {
		s.w.t.Errorf("unread is %+v, want %d", e, want)
	}
}

// close ends the stream from the client's side.
func (s *sse) close() {
	s.end()
	_ = s.resp.Body.Close()
	for range s.events {
	}
}

// A stream brings what happens, and goes on where it was cut off: nothing is lost, nothing
// comes twice.
func TestStreamGoesOn(t *testing.T) {
	w := newTold(t)
	w.like(w.bob) // before the stream: not told
	s := w.stream(w.anna, "")
	s.unread(1)
	w.call(w.bob, "POST", "/api/v1/follow/anna", nil).is(204)
	n := s.notification()
	if n.Kind != "follow" || n.Seq != 2 {
		t.Fatalf("told %+v", n)
	}
	s.unread(2)
	s.close()
	w.like(w.carl)
	w.comment(w.carl, "one")
	w.comment(w.bob, "two")
	for _, how := range []string{"2", "?after=2"} {
		s = w.stream(w.anna, how)
		if n = s.notification(); n.Kind != "like" || n.Seq != 3 || n.Count != 2 {
			t.Errorf("first after the gap: %+v", n)
		}
		if n = s.notification(); n.Kind != "comment" || n.Seq != 5 || n.Count != 2 || n.Comment.Text != "two" {
			t.Errorf("second: %+v", n)
		}
		s.unread(3)
		s.close()
	}
	s = w.stream(w.anna, "5") // nothing twice: the next that comes is new
	w.call(w.carl, "POST", "/api/v1/follow/anna", nil).is(204)
	if n = s.notification(); n.Kind != "follow" || n.Seq != 6 || n.Count != 2 {
		t.Errorf("after all was told: %+v", n)
	}
	// What is seen or taken back elsewhere changes the number.
	w.call(w.anna, "POST", "/api/v1/notifications/seen", nil).is(204)
	for e := s.next("unread"); e.data != `{"unread":0}`; {
		e = s.next("unread")
	}
	s.close()
	w.call(w.anna, "GET", "/api/v1/notifications/stream", nil, "Last-Event-ID", "x").fails(pMalformed)
	w.call(w.anna, "GET", "/api/v1/notifications/stream?after=-1", nil).fails(pMalformed)
	w.call("", "GET", "/api/v1/notifications/stream", nil).fails(pUnauthorized)
}

// A stream does not outlive its session, and an account has only so many.
func TestStreamEnds(t *testing.T) {
	w := newTold(t)
	var open []*sse
	for range streamsOfUser {
		s := w.stream(w.anna, "")
		s.unread(0)
		open = append(open, s)
	}
	w.call(w.anna, "GET", "/api/v1/notifications/stream", nil).fails(pStreams)
	w.stream(w.bob, "").close() // others may
	w.call(w.anna, "DELETE", "/api/v1/sessions", nil).is(204)
	w.like(w.bob)
	for _, s := range open {
		for e := range s.events {
			if e.name == "notification" {
				t.Errorf("told after the session has ended: %+v", e)
			}
		}
		s.close()
	}
	w.awaitStreams(0, runtime.Gosched)
}

// HEAD opens no stream, and leaves nothing on the connection that the next answer would begin with.
func TestHeadOfAStream(t *testing.T) {
	w := newTold(t)
	addr := strings.TrimPrefix(w.url, "http://")
	nc, err := net.Dial("tcp", addr)
	must(t, err)
	defer nc.Close()
	answers := bufio.NewReader(nc)
	for _, method := range []string{"HEAD", "GET"} {
		path := map[string]string{"HEAD": "/api/v1/notifications/stream", "GET": "/healthz"}[method]
		req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+w.anna)
		must(t, req.Write(nc))
		resp, err := http.ReadResponse(answers, req)
		must(t, err)
		if resp.StatusCode != 200 {
			t.Errorf("%s %s: %d", method, path, resp.StatusCode)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
	}
	w.awaitStreams(0, runtime.Gosched)
}

// awaitStreams waits until anna has so many streams open, and does something
// meanwhile.
func (w *told) awaitStreams(want int, do func()) {
	w.t.Helper()
	for {
		w.api.streams.mu.Lock()
		n := w.api.streams.open[w.annaID]
		w.api.streams.mu.Unlock()
		if n == want {
			return
		}
		do()
	}
}

// Who does not read is cut off, and leaves nothing behind; others are told meanwhile.
func TestSlowStreamIsDropped(t *testing.T) {
	w := newTold(t, func(o *Options) { o.Limits.HeaderTimeout = 200 * time.Millisecond })
	long := strings.Repeat("\U0001F411", 2000) // 8 KiB
	w.call(w.anna, "PATCH", "/api/v1/photos/"+w.photo.String(), m{"caption": long, "alt": long[:4000]}).is(200)
	quick := w.stream(w.anna, "")
	quick.unread(0)
	addr := strings.TrimPrefix(w.url, "http://")
	nc, err := net.Dial("tcp", addr)
	must(t, err)
	must(t, nc.(*net.TCPConn).SetReadBuffer(4096))
	_, err = nc.Write([]byte("GET /api/v1/notifications/stream?after=0 HTTP/1.1\r\nHost: " + addr + "\r\nAuthorization: Bearer " + w.anna + "\r\n\r\n"))
	must(t, err)
	w.awaitStreams(2, runtime.Gosched)
	comment := func() { // an event of 20 KiB
		_, err := w.feed.AddComment(t.Context(), w.bobID, w.photo, long, 0)
		must(t, err)
	}
	w.awaitStreams(1, func() { // without a word from the client
		comment()
		quick.next("notification")
	})
	quick.close()
	w.awaitStreams(0, comment) // which finds that the other has gone, too
	_ = nc.Close()
	stacks := make([]byte, 1<<20)
	if all := stacks[:runtime.Stack(stacks, true)]; bytes.Contains(all, []byte("eventStream")) {
		t.Errorf("a stream still runs:\n%s", all)
	}
}

// A stop does not wait for streams.
func TestStreamEndsWithTheServer(t *testing.T) {
	w := newTold(t)
	s := w.stream(w.anna, "")
	s.unread(0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, w.api.Shutdown(ctx))
	for range s.events {
	}
}
