package raftgroup

import (
	"fmt"
	"io"
	"runtime"
	"strings"

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

// raftLogger returns a logger that turns what Raft prints into events.
func raftLogger(emit func(Event)) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(&logSink{emit}) // a pointer: sinks are map keys
	return l
}

type logSink struct{ emit func(Event) }

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
