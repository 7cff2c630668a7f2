package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"hayloft/directory"
	"hayloft/internal/mesh"
	"hayloft/internal/raftgroup"
)

// The protocols between nodes. Raft has one for each group.
const (
	protoCalls = "calls" // questions and answers, by path
	protoBlobs = "blobs" // replicas: package volume/server/peer
	protoRaft  = "raft-"
)

// The paths of protoCalls.
const (
	pathDirectory = "/group/directory" // raftgroup's own
	pathFeedGroup = "/group/feed"
	pathJoin      = "/join"      // a node asks to be let in
	pathJoinFeed  = "/join-feed" // one asks for another
	pathBeat      = "/beat"
	pathSteward   = "/steward"
	pathVoters    = "/voters" // who votes in a group, and that another is to
	pathFeed      = "/feed"   // package feed/remote
)

// Codes of refusals after which nothing was done.
const (
	codeNotHere  = "not-here"
	codeNotReady = "not-ready"
)

// callTime bounds a call that has no deadline of its own.
const callTime = 30 * time.Second

// wire is how this node talks to the others.
type wire struct {
	mesh  *mesh.Mesh
	calls *mesh.Client
	mu    sync.RWMutex // guards paths
	paths map[string]mesh.Answer
}

// openWire answers the other nodes, as far as its parts are open.
func (n *node) openWire(context.Context) error {
	if n.mesh == nil {
		return nil
	}
	n.wire = &wire{mesh: n.mesh, calls: n.mesh.Client(protoCalls), paths: map[string]mesh.Answer{}}
	n.mesh.Handle(protoCalls, n.wire)
	return nil
}

// answer has a path answered from now on.
func (w *wire) answer(path string, a mesh.Answer) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paths[path] = a
}

// serves has a path answered by a part that wants the name of who asks.
func (w *wire) serves(path string, f func(ctx context.Context, from string, req []byte) ([]byte, error)) {
	w.answer(path, func(ctx context.Context, from mesh.Peer, body []byte) ([]byte, error) {
		out, err := f(ctx, from.Name, body)
		if err != nil {
			return nil, &mesh.Refusal{Status: http.StatusServiceUnavailable, Code: "refused", Text: err.Error()}
		}
		return out, nil
	})
}

// ServeHTTP implements http.Handler.
func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.RLock()
	a := w.paths[r.URL.Path]
	w.mu.RUnlock()
	if a == nil {
		a = func(context.Context, mesh.Peer, []byte) ([]byte, error) {
			return nil, &mesh.Refusal{Status: http.StatusServiceUnavailable, Code: codeNotHere, Text: "this node does not answer that, or not yet"}
		}
	}
	a.ServeHTTP(rw, r)
}

// at is a path at other nodes, as the parts that ask there see it.
type at struct {
	w    *wire
	path string
}

// Call asks a node by its name.
func (a at) Call(ctx context.Context, node string, req []byte) ([]byte, error) {
	if a.w == nil {
		return nil, fmt.Errorf("node %s cannot be reached: this node is alone", node)
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTime)
		defer cancel()
	}
	return a.w.calls.Call(ctx, node, a.path, req)
}

// transport carries the messages of a Raft group; nil for a node that is alone.
func (n *node) transport(group string) raftgroup.Transport {
	if n.mesh == nil {
		return nil
	}
	l := n.mesh.Layer(protoRaft + group)
	return raftgroup.NewTransport(n.who.name, l, func(member string, timeout time.Duration) (net.Conn, error) {
		return l.Dial(member, timeout)
	}, n.raftEvent)
}

// peersAt are the other members of a Raft group; nil for a node that is alone.
func (n *node) peersAt(path string) raftgroup.Peers {
	if n.wire == nil {
		return nil
	}
	return at{n.wire, path}
}

// followPause is how long changes of the table are gathered before this node looks at
// them.
const followPause = 500 * time.Millisecond

// followDirectory keeps the addresses of nodes as the directory has them, and has the
// disks looked over when it has changed, until ctx ends: others' rows ask this node
// to fill a replica, or to make the next generation of one.
func (n *node) followDirectory(ctx context.Context) error {
	for m := n.directory.Map(); ; {
		n.learnAddresses(m)
		n.blobs.Kick()
		next, err := n.directory.Wait(ctx, m.Version())
		if err != nil {
			return err
		}
		m = next
		select {
		case <-n.clock.After(followPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// recallAddresses takes the addresses from the copy of the directory that a node had
// when it stopped, as far as the nodes have not told theirs since: a majority must find
// together before there is a newer one.
func (n *node) recallAddresses() {
	if n.mesh == nil {
		return
	}
	for _, row := range n.directory.Map().Nodes() {
		if _, known := n.mesh.Addr(row.Name); !known && row.Addr != "" && row.State != directory.Gone {
			n.mesh.SetAddr(row.Name, row.Addr)
		}
	}
}

func (n *node) learnAddresses(m *directory.Map) {
	for _, row := range m.Nodes() {
		switch {
		case row.Name == n.who.name || row.Addr == "":
		case row.State == directory.Gone:
			n.mesh.Forget(row.Name)
		default:
			n.mesh.SetAddr(row.Name, row.Addr)
		}
	}
}

// seeds asks the nodes of --join who they are, and returns the names of those that
// say it.
func (n *node) seeds(ctx context.Context) (names []string, err error) {
	var errs []error
	for _, addr := range n.s.join {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		name, _, err := n.mesh.Hello(one, addr)
		cancel()
		switch {
		case errors.Is(err, mesh.ErrSelf):
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
		case !slices.Contains(names, name):
			names = append(names, name)
		}
	}
	return names, errors.Join(errs...)
}
