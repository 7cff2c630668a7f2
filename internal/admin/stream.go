package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"
)

// Kinds of lines that every stream may have. Calls have others of their own.
const (
	KindAlive    = "alive"    // nothing else to say
	KindProgress = "progress" // how far it is
	KindResult   = "result"   // the last line of a call that did what it was asked
	KindProblem  = "problem"  // the last line of one that did not
)

const (
	// aliveEvery is the longest silence in a stream: less than what proxies wait.
	aliveEvery = 10 * time.Second
	// writePatience is how long a client may take to read a line.
	writePatience = time.Minute
)

// Line is one line of a stream.
type Line struct {
	Kind  string          `json:"kind"`
	Value json.RawMessage `json:"value,omitempty"`
	// Bytes is how many raw bytes follow the line's end.
	Bytes int64 `json:"bytes,omitempty"`
}

// Stream is the answer of a long call.
type Stream struct {
	d    *Door
	w    http.ResponseWriter
	ctl  *http.ResponseController
	quit chan struct{}
	done chan struct{}

	mu   sync.Mutex    // guards all below
	last time.Duration // when a line was sent
	err  error         // of the first write that failed
}

// Stream begins the answer: 200, and lines from now on.
func (c *Call) Stream() *Stream {
	s := &Stream{d: c.d, w: c.w, ctl: http.NewResponseController(c.w), quit: make(chan struct{}), done: make(chan struct{})}
	c.stream = s
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	c.w.Header().Set("Connection", "close")     // its deadlines are the stream's
	c.w.Header().Set("X-Accel-Buffering", "no") // a proxy must pass on each line
	// A client that takes its time to be answered is not one that takes its time
	// to ask: from here on the deadline of the request would cut the answer off.
	s.ctl.SetReadDeadline(time.Time{}) //nolint:errcheck // no deadline, or no way to lift it: then it ends early
	s.last = s.d.o.Clock.Elapsed()
	s.send(Line{Kind: KindAlive}, nil) //nolint:errcheck // remembered: later lines tell
	go s.keepAlive()
	return s
}

// keepAlive breaks long silences.
func (s *Stream) keepAlive() {
	defer close(s.done)
	for {
		select {
		case <-s.quit:
			return
		case <-s.d.o.Clock.After(aliveEvery):
		}
		s.mu.Lock()
		silent := s.d.o.Clock.Elapsed() - s.last
		s.mu.Unlock()
		if silent >= aliveEvery {
			if s.send(Line{Kind: KindAlive}, nil) != nil {
				return
			}
		}
	}
}

func (s *Stream) end() {
	close(s.quit)
	<-s.done
}

// Send sends a line with v as its value. An error means that the client is gone.
func (s *Stream) Send(kind string, v any) error { return s.write(Line{Kind: kind}, v, nil) }

// SendBytes sends a line and the raw bytes it announces.
func (s *Stream) SendBytes(kind string, v any, raw []byte) error {
	return s.write(Line{Kind: kind, Bytes: int64(len(raw))}, v, raw)
}

func (s *Stream) write(l Line, v any, raw []byte) error {
	var err error
	if l.Value, err = json.Marshal(v); err != nil {
		return err
	}
	return s.send(l, raw)
}

func (s *Stream) send(l Line, raw []byte) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.last = s.d.o.Clock.Elapsed()
	s.err = s.put(append(text, '\n'), raw)
	return s.err
}

// put writes with a deadline: a client that does not read holds nothing up for
// long. A writer without deadlines (a test's) has none.
func (s *Stream) put(parts ...[]byte) error {
	if err := s.ctl.SetWriteDeadline(s.d.o.Clock.Now().Add(writePatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		if _, err := s.w.Write(p); err != nil {
			return err
		}
	}
	return s.ctl.Flush()
}
