package raftgroup

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"hayloft/internal/clock"
)

// TestRaftComplainsOnce: of a member that is away Raft complains several times a second.
// The log has a line in half a minute of it, and each of another member at once.
func TestRaftComplainsOnce(t *testing.T) {
	var got []string
	clk := clock.NewFake(time.Unix(1e9, 0))
	l := raftLogger(func(e Event) { got = append(got, e.Text) }, clk)
	away := errors.New("refused")
	for i := range 70 {
		l.Error("failed to heartbeat to", "peer", "n1", "backoff time", time.Duration(i), "error", away)
		l.Info("snapshot", "number", i/69)
		clk.Advance(time.Second / 2)
	}
	l.Error("failed to heartbeat to", "peer", "n2", "error", away)
	l.Warn("failed to contact", "server-id", "n1")
	want := []string{
		"raft: failed to heartbeat to peer=n1 backoff time=0s error=refused",
		"raft: failed to heartbeat to peer=n1 backoff time=60ns error=refused (and 59 times before)",
		"raft: snapshot number=1",
		"raft: failed to heartbeat to peer=n2 error=refused",
		"raft: failed to contact server-id=n1",
	}
	infos := 0
	got = slices.DeleteFunc(got, func(s string) bool {
		if s == "raft: snapshot number=0" {
			infos++
			return true
		}
		return false
	})
	if !slices.Equal(got, want) || infos != 69 {
		t.Errorf("%d times that there is a snapshot, and\n%q, want 69 and\n%q", infos, got, want)
	}
	for i := range 10 * maxSaid {
		l.Error("failed", "what", fmt.Sprint(i))
	}
	if n := len(got); n != len(want)+10*maxSaid {
		t.Errorf("%d lines, want one for each of what failed", n)
	}
}
