package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

const (
	streamRows    = 50               // notifications that are in memory at a time
	streamLife    = 30 * time.Minute // after which a client comes again, and says who it is
	streamRetry   = 2 * time.Second  // how long a client waits before it does
	streamsOfUser = 16               // at once
)

// streams counts the notification streams of each account.
type streams struct {
	mu   sync.Mutex // guards open
	open map[id.ID]int
}

func (s *streams) begin(account id.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[account] >= streamsOfUser {
		return false
	}
	if s.open == nil {
		s.open = make(map[id.ID]int)
	}
	s.open[account]++
	return true
}

func (s *streams) end(account id.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[account]--; s.open[account] == 0 {
		delete(s.open, account)
	}
}

// notificationStream is GET /notifications/stream: events as they come, after the one
// that Last-Event-ID or after names; without either, from now on.
func (r *request) notificationStream() error {
	q, err := r.query("after")
	if err != nil {
		return err
	}
	text, err := r.header("Last-Event-ID")
	if err != nil {
		return err
	}
	if text == "" {
		text = q["after"]
	}
	after := feed.NotificationsFromNow
	if text != "" {
		if after, err = strconv.ParseUint(text, 10, 63); err != nil {
			return pMalformed.because("Last-Event-ID or after is not the seq of a notification")
		}
	}
	h := &r.rc.Response.Header
	h.SetContentType("text/event-stream")
	h.Set("X-Accel-Buffering", "no") // or nginx keeps what there is until there is more
	if r.rc.IsHead() {
		return nil // a body of unknown length would leave its end on the connection
	}
	if !r.a.streams.begin(r.viewer) {
		return &problem{kind: pStreams, retryAfter: 10 * time.Second}
	}
	s := &eventStream{r: &request{a: r.a, viewer: r.viewer, route: r.route, alive: r.alive, addr: r.addr}, after: after, unseen: -1,
		until: r.a.opt.Clock.Elapsed() + streamLife}
	s.ctx, s.cancel = context.WithCancel(r.a.live)
	r.rc.Response.SetBodyStream(s, -1)
	return nil
}

// eventStream is the body of a notification stream. It asks for what is next when
// what was before has left, so a reader who is slow holds up nothing but itself and is
// given no more memory: it misses no notification, as each is told as it is by then.
// One who does not read at all is cut off by conn.Write.
type eventStream struct {
	r      *request // what is left of the call: who asked
	ctx    context.Context
	cancel context.CancelFunc
	after  uint64
	unseen int
	until  time.Duration // by running time

	began bool
	ready []byte
}

// Read implements io.Reader.
func (s *eventStream) Read(p []byte) (int, error) {
	if len(s.ready) == 0 {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	return n, nil
}

// Close ends the stream when its reader has gone.
func (s *eventStream) Close() error {
	s.cancel()
	s.r.a.streams.end(s.r.viewer)
	return nil
}

// fill waits for what is next: events, or a comment as a sign of life.
func (s *eventStream) fill() error {
	a := s.r.a
	if !s.began {
		s.began = true
		s.ready = fmt.Appendf(nil, "retry: %d\n\n", streamRetry.Milliseconds())
		return nil
	}
	if a.opt.Clock.Elapsed() >= s.until {
		return io.EOF
	}
	got, err := a.opt.Feed.NotificationsAfter(s.ctx, s.r.viewer, s.after, s.unseen, streamRows)
	if err != nil {
		return s.ended(err)
	}
	// Asked after the wait: who has lost the token meanwhile is told nothing more.
	if err := s.r.alive(s.ctx); err != nil {
		return s.ended(err)
	}
	for _, n := range got.Rows {
		s.event(strconv.FormatUint(n.Seq, 10), "notification", s.r.notification(n))
	}
	if got.Unseen != s.unseen {
		s.event("", "unread", map[string]int{"unread": got.Unseen})
	}
	s.after, s.unseen = got.Last, got.Unseen
	if len(s.ready) == 0 {
		s.ready = []byte(":\n\n")
	}
	return nil
}

// ended is the end of the stream: the client comes again, and is told what is wrong if
// something still is.
func (s *eventStream) ended(err error) error {
	if s.ctx.Err() == nil && !errors.Is(err, feed.ErrNotFound) {
		s.r.a.emit(Event{Kind: EventFault, Method: methodGET, Route: s.r.route.pattern, Status: 200, Account: s.r.viewer, Address: s.r.addr,
			Err: fmt.Errorf("api: a stream of notifications ends: %w", err)})
	}
	return io.EOF
}

// event appends an event; without an id the client's last one stays.
func (s *eventStream) event(eventID, name string, data any) {
	b, err := json.Marshal(data)
	if err != nil { // strings, numbers and times only
		panic(err)
	}
	if eventID != "" {
		s.ready = fmt.Appendf(s.ready, "id: %s\n", eventID)
	}
	s.ready = fmt.Appendf(s.ready, "event: %s\ndata: %s\n\n", name, b)
}
