package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"hayloft/directory"
	"hayloft/internal/mesh/meshtest"
	"hayloft/internal/raftgroup"
)

// A node that starts while there is no majority finds the others by the copy of the
// directory that it had: --join may name one that is gone for good. What a node has
// said of itself since is newer.
func TestRecalledAddresses(t *testing.T) {
	n := openNode(t)
	for name, addr := range map[string]string{"silent": "10.0.0.1:7", "heard": "10.0.0.2:7"} {
		if _, err := n.directory.RegisterNode(t.Context(), directory.NodeSpec{Name: name, Addr: addr, Roles: directory.AllRoles}); err != nil {
			t.Fatal(err)
		}
	}
	n.mesh = meshtest.Node(t, meshtest.CA(t), "asking")
	n.mesh.SetAddr("heard", "10.0.0.3:7")
	n.recallAddresses()
	for name, want := range map[string]string{"silent": "10.0.0.1:7", "heard": "10.0.0.3:7"} {
		if got, ok := n.mesh.Addr(name); !ok || got != want {
			t.Errorf("%s is at %q, want %s", name, got, want)
		}
	}
	if n.firstOfAll() {
		t.Error("it takes itself for the first, and others are known: it would begin a second feed")
	}
	n.mesh = nil // its end is the test's
}

// A node that is first of all may begin the feed's group; one that had the directory
// before waits to be given a replica.
func TestFirstOfAll(t *testing.T) {
	n := openNode(t)
	if !n.firstOfAll() {
		t.Error("a new node that is alone is not the first")
	}
	if !n.s.began(directoryGroup) || !n.s.began(feedGroup) {
		t.Error("its groups have not begun")
	}
	fresh := &settings{data: []string{t.TempDir()}}
	if fresh.began(directoryGroup) {
		t.Error("an empty directory holds a group")
	}
}

// membership is a group of which only the members are known.
type membership []raftgroup.Member

func (m membership) Members() ([]raftgroup.Member, error) { return m, nil }

// A node of a cluster that is started without its node listener ends at once, and says
// what it lacks; it waited for a leader, and named none of that.
func TestMemberWithoutNodeListener(t *testing.T) {
	self, other := raftgroup.Member{ID: "a", Voter: true}, raftgroup.Member{ID: "b", Voter: true}
	for _, tt := range []struct {
		members membership
		fault   bool
	}{
		{membership{self}, false},
		{membership{self, {ID: "b"}}, false}, // it has the only vote
		{membership{self, other}, true},
		{membership{{ID: "a"}, other}, true},
	} {
		if err := aloneFault(tt.members, "a"); (err != nil) != tt.fault {
			t.Errorf("%+v: %v", tt.members, err)
		}
	}
}

// A node that began a cluster of its own and is a member of another one has nothing to
// say about volumes, whose numbers may be the same: not even for max-stale.
func TestForeignNodeAnswersNothing(t *testing.T) {
	n := openNode(t)
	n.wire = &wire{}
	defer func() { n.wire = nil }()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { defer close(ran); n.fleet.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(time.Millisecond) {
		if _, ok := n.heard(); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it never hears of its directory")
		}
	}
	n.raftEvent(raftgroup.Event{Kind: raftgroup.EventStopped, Err: fmt.Errorf("%w: b leads", raftgroup.ErrForeign)})
	if _, ok := n.heard(); ok {
		t.Error("it answers")
	}
}
