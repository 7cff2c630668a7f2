package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
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
	// writePatience is how long a client may take to read a piece.
	writePatience = time.Minute
	// pieceBytes is how much is written before the patience begins anew: a slow
	// link passes that on in time, however much a line announces.
	pieceBytes = 64 << 10
	// lastPatience is how long a client may take when the process stops: for a
	// last line, not for what is under way.
	lastPatience = time.Second
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

	lastBy  atomic.Pointer[time.Time] // when all must be written; nil while the process works
	unhurry func() bool               // takes hurry back
	hurried chan struct{}             // closed when hurry has ended

	mu   sync.Mutex    // guards all below
	last time.Duration // when a line was sent
	err  error         // of the first write that failed
}

// Stream begins the answer: 200, and lines from now on.
func (c *Call) Stream() *Stream {
	s := &Stream{d: c.d, w: c.w, ctl: http.NewResponseController(c.w), quit: make(chan struct{}), done: make(chan struct{}), hurried: make(chan struct{})}
	c.stream = s
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	c.w.Header().Set("Connection", "close")     // its deadlines are the stream's
	c.w.Header().Set("X-Accel-Buffering", "no") // a proxy must pass on each line
	// A client that takes its time to be answered is not one that takes its time
	// to ask: from here on the deadline of the request would cut the answer off.
	s.ctl.SetReadDeadline(time.Time{}) //nolint:errcheck // no deadline, or no way to lift it: then it ends early
	s.last = s.d.o.Clock.Elapsed()
	s.unhurry = context.AfterFunc(c.d.o.Work, s.hurry)
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
		if !s.mu.TryLock() {
			continue // what is being written breaks the silence
		}
		var err error
		if s.d.o.Clock.Elapsed()-s.last >= aliveEvery {
			err = s.locked(Line{Kind: KindAlive}, nil)
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// hurry ends the patience with a client: the process stops. A write under way
// ends with it.
func (s *Stream) hurry() {
	defer close(s.hurried)
	by := s.d.o.Clock.Now().Add(lastPatience)
	s.lastBy.Store(&by)        // before the deadline: whoever sets a later one sees it
	s.ctl.SetWriteDeadline(by) //nolint:errcheck // no deadline: then nothing is hurried
}

// end stops the lines that come by themselves.
func (s *Stream) end() {
	close(s.quit)
	<-s.done
}

// leave ends the use of the connection.
func (s *Stream) leave() {
	if !s.unhurry() {
		<-s.hurried
	}
}

// gone is why the client takes no more, or nil.
func (s *Stream) gone() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
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
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locked(l, raw)
}

// locked is send for who holds mu.
func (s *Stream) locked(l Line, raw []byte) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if s.err != nil {
		return s.err
	}
	s.last = s.d.o.Clock.Elapsed()
	s.err = s.put(append(text, '\n'), raw)
	return s.err
}

// put writes in pieces with a deadline each: a client that does not read holds
// nothing up for long, and one that reads slowly may.
func (s *Stream) put(parts ...[]byte) error {
	for _, p := range parts {
		for len(p) > 0 {
			n := min(len(p), pieceBytes)
			if err := s.patience(); err != nil {
				return err
			}
			if _, err := s.w.Write(p[:n]); err != nil {
				return err
			}
			p = p[n:]
		}
	}
	if err := s.patience(); err != nil {
		return err
	}
	return s.ctl.Flush()
}

// patience sets the deadline of the next write. A writer without deadlines (a
// test's) has none.
func (s *Stream) patience() error {
	err := s.ctl.SetWriteDeadline(s.d.o.Clock.Now().Add(writePatience))
	if by := s.lastBy.Load(); by != nil {
		err = s.ctl.SetWriteDeadline(*by)
	}
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
