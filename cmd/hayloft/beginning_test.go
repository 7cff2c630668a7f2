package main

import (
	"testing"

	"hayloft/directory"
	"hayloft/internal/mesh/meshtest"
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
