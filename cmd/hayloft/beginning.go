package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hayloft/internal/mesh"
)

// A node with a node listener, empty data directories and without --join begins a
// cluster. It looks the same as one that was a member and whose disks were emptied,
// and was started by mistake as if it were the first: only the others know. They ask
// a voter something twice a second, so it listens for a moment before it begins.

// beginListens is how long.
const beginListens = 2 * time.Second

// began reports whether one of the data directories has the log of a group.
func (s *settings) began(group []string) bool {
	for _, dir := range in(s.data, group...) {
		if _, err := os.Stat(filepath.Join(dir, groupLog)); err == nil || !errors.Is(err, os.ErrNotExist) {
			return true // or it cannot be told: opening says why
		}
	}
	return false
}

// mayBegin returns nil when this node is a member of something, waits to be one, or may
// begin a cluster.
func (n *node) mayBegin(ctx context.Context) error {
	if n.mesh == nil || len(n.s.join) > 0 || n.s.began(directoryGroup) {
		return nil
	}
	known := make(chan string, 1)
	note := func(_ context.Context, from mesh.Peer, _ []byte) ([]byte, error) {
		select {
		case known <- from.Name:
		default:
		}
		return nil, refuse(503, codeNotHere, "this node has empty directories")
	}
	n.wire.answer(pathDirectory, note)
	n.wire.answer(pathFeedGroup, note)
	select {
	case name := <-known:
		addr, _ := n.mesh.Addr(name)
		return fmt.Errorf("the node %s takes this one, %s, for a member of its cluster, and the data directories here are empty: start it with --join %s (docs/cluster.md)", name, n.who.name, addr)
	case <-n.clock.After(beginListens):
		n.log.Warn("this node begins a cluster: its data directories are empty, and there is no --join", "node", n.who.name)
		if !n.plays(roleFeed) {
			n.log.Warn("the cluster is one without accounts and photos, for blobs alone: the role feed can't be added later", "node", n.who.name)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// firstOfAll reports whether no other node was ever told of: then a group that this
// node has nothing of does not exist.
func (n *node) firstOfAll() bool {
	members, err := n.directory.Members()
	if err != nil || len(members) != 1 || members[0].ID != n.who.name {
		return false
	}
	for _, row := range n.directory.Map().Nodes() {
		if row.Name != n.who.name {
			return false
		}
	}
	return true
}
