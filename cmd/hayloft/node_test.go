package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"hayloft/internal/clock"

	"github.com/spf13/pflag"
)

// openNode opens the parts of a node that hold state, over a new directory.
func openNode(t *testing.T) *node {
	t.Helper()
	return openNodeOn(t, t.TempDir())
}

func openNodeOn(t *testing.T, dirs ...string) *node {
	t.Helper()
	return openNodeWith(t, func(*node) {}, dirs...)
}

// openNodeWith has the node set up before anything of it is opened.
func openNodeWith(t *testing.T, set func(*node), dirs ...string) *node {
	t.Helper()
	s := &settings{}
	s.define(pflag.NewFlagSet("server", pflag.ContinueOnError))
	s.data = dirs
	n := &node{s: s, log: slog.New(slog.DiscardHandler), clock: clock.Real{}, metrics: newMetrics()}
	n.work, n.stopWork = context.WithCancel(context.Background())
	set(n)
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Logf("stop: %v", err) // a test may have closed a part before
		}
	})
	for _, open := range []func(context.Context) error{n.openData, n.openGroups, n.openBlobs, n.openFleet, n.openFeed} {
		if err := open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.ready(); err != nil {
		t.Fatalf("a node that has just started is not ready: %v", err)
	}
	return n
}

// A node whose directory has stopped must say so: everything that mints an id
// is refused there, though pages are still served.
func TestNotReadyWithoutDirectory(t *testing.T) {
	n := openNode(t)
	if err := n.directory.Close(); err != nil {
		t.Fatal(err)
	}
	if n.ready() == nil {
		t.Error("ready, and the directory has stopped")
	}
	n.directory = nil // closed
}

func TestNotReadyAfterBackgroundWorkEnded(t *testing.T) {
	n := openNode(t)
	why := errors.New("the disk of the timelines failed")
	n.broken.Store(&why)
	if err := n.ready(); !errors.Is(err, why) {
		t.Errorf("ready() = %v, want the reason", err)
	}
}

func TestClockOffset(t *testing.T) {
	var log bytes.Buffer
	with := func(value string, set bool) (clock.Clock, error) {
		return clockOf(func(name string) (string, bool) { return value, set && name == "HAYLOFT_CLOCK_OFFSET" }, slog.New(slog.NewTextHandler(&log, nil)))
	}
	if c, err := with("", false); err != nil || c != (clock.Real{}) || log.Len() > 0 {
		t.Errorf("without the variable the clock is %v, %v, and the log says %q", c, err, &log)
	}
	c, err := with("-1h", true)
	if err != nil || time.Until(c.Now()).Round(time.Minute) != -time.Hour {
		t.Errorf("an hour back: %v, %v", c, err)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "offset=-1h0m0s") {
		t.Errorf("the log says %q", &log)
	}
	if _, err := with("yesterday", true); err == nil {
		t.Error("a clock that is wrong by \"yesterday\" is started")
	}
}
