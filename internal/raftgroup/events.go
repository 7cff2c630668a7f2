package raftgroup

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"time"

	"hayloft/internal/clock"

	"github.com/hashicorp/go-hclog"
)

// EventKind says what an Event tells.
type EventKind uint8

// The kinds of events.
const (
	EventLog        EventKind = iota + 1 // Raft or Pebble has something to say: Text, Level
	EventLeader                          // this node leads and has applied everything committed before
	EventFollower                        // this node leads no more
	EventStopped                         // the group stopped for good: Err
	EventSnapshot                        // a snapshot was taken up to Index, or failed: Err
	EventRestored                        // the state was replaced by the snapshot at Index
	EventRebuilding                      // the state was missing, behind, unreadable or lost (Err) and is rebuilt in Dir
	EventMirrorLost                      // Dir is not used any more: Err
	EventMirrorMade                      // Dir holds the group now, all of it
)

// Level is the weight of an EventLog.
type Level uint8

// The levels.
const (
	Info Level = iota
	Warn
	Error
)

// Event is one thing that happened inside a group.
type Event struct {
	Kind  EventKind
	Group string // Options.Name
	Level Level
	Index uint64 // log index, where one makes sense
	Dir   string // one of Options.Dirs, where one makes sense
	Text  string // one line
	Err   error
}

const (
	// sayAgain is how long Raft is not heard when it complains of the same again: of a
	// member that is away it does so several times a second, for as long as that lasts.
	sayAgain = 30 * time.Second
	maxSaid  = 256 // complaints that are remembered
)

// raftLogger returns a logger that turns what Raft prints into events. Of warnings and
// errors that say the same of the same member there is one in sayAgain, which counts the
// others.
func raftLogger(emit func(Event), clk clock.Clock) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(&logSink{emit: emit, clock: clk, said: map[string]complaint{}}) // a pointer: sinks are map keys
	return l
}

type logSink struct {
	emit  func(Event)
	clock clock.Clock

	mu   sync.Mutex // guards said
	said map[string]complaint
}

// complaint is a warning or an error that was heard.
type complaint struct {
	at     time.Duration // Elapsed when it was said last
	unsaid int           // how often it came since
}

// heard reports whether a complaint was said a moment ago, and else how often it
// came and was not said.
func (s *logSink) heard(about string) (lately bool, unsaid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Elapsed()
	c, known := s.said[about]
	if known && now-c.at < sayAgain {
		c.unsaid++
		s.said[about] = c
		return true, 0
	}
	if len(s.said) >= maxSaid {
		clear(s.said)
	}
	s.said[about] = complaint{at: now}
	return false, c.unsaid
}

// Accept implements hclog.SinkAdapter.
func (s *logSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	e := Event{Kind: EventLog}
	switch {
	case level >= hclog.Error:
		e.Level = Error
	case level == hclog.Warn:
		e.Level = Warn
	case level == hclog.Info:
	default:
		return
	}
	var b strings.Builder
	b.WriteString("raft: ")
	b.WriteString(msg)
	for i := 0; i+1 < len(args); i += 2 {
		if f, ok := args[i+1].(hclog.Format); ok && len(f) > 0 {
			fmt.Fprintf(&b, " %v=%s", args[i], fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...))
			continue
		}
		fmt.Fprintf(&b, " %v=%v", args[i], args[i+1])
	}
	if e.Level != Info {
		about := msg
		if len(args) > 1 {
			about = fmt.Sprint(msg, " ", args[1]) // the member, of those that come often
		}
		lately, unsaid := s.heard(about)
		if lately {
			return
		}
		if unsaid > 0 {
			fmt.Fprintf(&b, " (and %d times before)", unsaid)
		}
	}
	e.Text = b.String()
	s.emit(e)
}

// pebbleLogger turns what Pebble prints into events, and its fatal errors into
// a stopped group in place of a dead process.
type pebbleLogger struct {
	emit  func(Event)
	fatal func(error)
}

func (l pebbleLogger) Infof(string, ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.emit(Event{Kind: EventLog, Level: Error, Text: "pebble: " + fmt.Sprintf(format, args...)})
}

// Fatalf must not return: Pebble's caller relies on it. The goroutine ends
// here; the instance is given up and never closed, its locks may be held.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf("pebble: "+format, args...))
	runtime.Goexit()
}
