package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"hayloft/directory"
	"hayloft/internal/mesh"
	"hayloft/internal/raftgroup"
	"hayloft/volume/tools"
)

// joinRequest is what a node says of itself when it asks to be let in. Fields that a
// node does not know are ignored.
type joinRequest struct {
	Name  string          `json:"name"` // of the node that joins
	Addr  string          `json:"addr"`
	Host  string          `json:"host,omitempty"`
	Rack  string          `json:"rack,omitempty"`
	Zone  string          `json:"zone,omitempty"`
	Roles directory.Roles `json:"roles"`
	// Directory and Feed say that the node is not in the group as far as it can tell: it
	// has nothing of it and waits to be added, or hears nobody. One that is in it stays
	// what it is.
	Directory bool `json:"directory,omitempty"`
	Feed      bool `json:"feed,omitempty"`
}

// joinAnswer tells it where the others are.
type joinAnswer struct {
	Nodes map[string]string `json:"nodes"` // addresses by name
}

const (
	joinPause = 500 * time.Millisecond
	joinAgain = 10 * time.Second // before the same is asked again: what was done may not have arrived
	joinTold  = 10 * time.Second // between two lines about waiting
	stayPause = 30 * time.Second // between two looks whether this node is in its groups
)

// awaitDirectory returns when this node has a copy of the directory that is as new as
// that of the others: then it may serve. A node without one asks to be let in.
func (n *node) awaitDirectory(ctx context.Context) error {
	if n.wire == nil {
		return aloneFault(n.directory, n.who.name)
	}
	var asked, told time.Duration
	for again := false; ; {
		err := n.directory.Ready()
		if err == nil {
			fresh, cancel := context.WithTimeout(ctx, 2*time.Second)
			_, err = n.directory.Fresh(fresh)
			cancel()
		}
		if err == nil && !n.outside(n.group) {
			n.waiting.Store(nil)
			return nil
		}
		n.waitsFor(err)
		now := n.clock.Elapsed()
		if asked == 0 || now-asked > joinAgain {
			if jerr := n.askIn(ctx, again); jerr == nil {
				asked, again = now, true
			} else {
				err = errors.Join(err, jerr)
			}
		}
		if now-told > joinTold {
			told = now
			n.log.Info("waiting for the directory", "err", err)
		}
		select {
		case <-n.clock.After(joinPause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// aloneFault is why a node without a node listener cannot begin: nothing is decided
// without others that it could never reach. One that alone has a vote can.
func aloneFault(g member, name string) error {
	members, err := g.Members()
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.Voter && m.ID != name {
			return fmt.Errorf("this node is one of %d of a cluster: it wants --node-listen and --certs, as before", len(members))
		}
	}
	return nil
}

// waitsFor has the admin listener say what the start waits for.
func (n *node) waitsFor(err error) {
	text := "waiting for the directory"
	if err != nil {
		text += ": " + tools.OneLine(err)
	}
	n.waiting.Store(&text)
}

// member is a group as far as joining goes.
type member interface {
	Members() ([]raftgroup.Member, error)
}

// outside reports whether this node has a group that it is to be a member of, and is
// not yet.
func (n *node) outside(g *raftgroup.Group) bool {
	if g == nil {
		return false
	}
	return waits(g)
}

func waits(g member) bool {
	members, err := g.Members()
	return err == nil && len(members) == 0
}

// askIn says hello to the nodes of --join and, if this node waits to be added to a
// group, asks one of them for it. again: also if it is a member as far as it knows, and
// hears nobody; it may have been removed.
func (n *node) askIn(ctx context.Context, again bool) error {
	names, err := n.seeds(ctx)
	if again && len(names) == 0 {
		names = n.playing(directory.AllRoles)
	}
	if len(names) == 0 {
		if len(n.s.join) == 0 {
			return nil
		}
		return err
	}
	r := joinRequest{Name: n.who.name, Directory: waits(n.directory), Feed: n.outside(n.group)}
	if again {
		r.Directory = r.Directory || n.directory.Ready() != nil
		r.Feed = r.Feed || n.group != nil && n.group.Working() != nil
	}
	if !r.Directory && !r.Feed {
		return nil
	}
	r.Addr, _ = n.mesh.Addr(n.who.name)
	spec := n.spec()
	r.Host, r.Rack, r.Zone, r.Roles = spec.Host, spec.Rack, spec.Zone, spec.Roles
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		got, err := at{n.wire, pathJoin}.Call(ctx, name, body)
		var a joinAnswer
		if err == nil {
			err = json.Unmarshal(got, &a)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for node, addr := range a.Nodes {
			if node != n.who.name {
				n.mesh.SetAddr(node, addr)
			}
		}
		return nil
	}
	return errors.Join(errs...)
}

// stayIn asks to be let in again when this node has not heard from a group that it is
// in for a while, until ctx ends: its removal may have been a mistake, or taken back.
func (n *node) stayIn(ctx context.Context) error {
	deaf := false
	for {
		select {
		case <-n.clock.After(stayPause):
		case <-ctx.Done():
			return ctx.Err()
		}
		err := n.directory.Ready()
		if err == nil && n.group != nil {
			err = n.group.Working()
		}
		if deaf && err != nil && !errors.Is(err, raftgroup.ErrStopped) {
			if aerr := n.askIn(ctx, true); aerr != nil && ctx.Err() == nil {
				n.log.Warn("this node hears nobody", "err", errors.Join(err, aerr))
			}
		}
		deaf = err != nil
	}
}

// spec is this node's row.
func (n *node) spec() directory.NodeSpec {
	s := directory.NodeSpec{Name: n.who.name, Host: n.s.host, Rack: n.s.rack, Zone: n.s.zone, Roles: n.s.bits()}
	if n.mesh != nil {
		s.Addr, _ = n.mesh.Addr(n.who.name)
	}
	return s
}

func refuse(status int, code, format string, args ...any) error {
	return &mesh.Refusal{Status: status, Code: code, Text: fmt.Sprintf(format, args...)}
}

// answerJoin lets a node in: its row first, so that all others find it, then the
// groups. It may be asked again.
func (n *node) answerJoin(ctx context.Context, from mesh.Peer, body []byte) ([]byte, error) {
	var r joinRequest
	if err := json.Unmarshal(body, &r); err != nil || r.Name != from.Name || r.Addr == "" {
		return nil, refuse(http.StatusBadRequest, "malformed", "no request to join by %s", from.Name)
	}
	d := n.directory
	if d == nil || d.Ready() != nil {
		return nil, refuse(http.StatusServiceUnavailable, codeNotReady, "this node has no directory yet")
	}
	for _, row := range d.Map().Nodes() {
		if row.Name == r.Name && row.State == directory.Gone {
			return nil, refuse(http.StatusForbidden, "gone", "the node %s was declared gone: give it another name, or take that back (hayloft cluster drain --undo)", r.Name)
		}
	}
	n.log.Info("a node asks to join", "node", r.Name, "addr", r.Addr, "directory", r.Directory, "feed", r.Feed)
	if _, err := d.RegisterNode(ctx, directory.NodeSpec{Name: r.Name, Host: r.Host, Rack: r.Rack, Zone: r.Zone, Addr: r.Addr, Roles: r.Roles}); err != nil {
		return nil, refuse(http.StatusServiceUnavailable, "not-registered", "%v", err)
	}
	if r.Directory {
		if err := d.TakeIn(ctx, r.Name); err != nil {
			return nil, refuse(http.StatusServiceUnavailable, "not-added", "%v", err)
		}
	}
	if r.Feed {
		if err := n.letIntoFeed(ctx, r.Name); err != nil {
			return nil, refuse(http.StatusServiceUnavailable, "not-added", "%v", err)
		}
	}
	a := joinAnswer{Nodes: map[string]string{}}
	for _, row := range d.Map().Nodes() {
		if row.Addr != "" && row.State != directory.Gone {
			a.Nodes[row.Name] = row.Addr
		}
	}
	return json.Marshal(a)
}

// directoryMembers are the directory's group.
type directoryMembers struct{ *directory.Directory }

// Remove takes a member out.
func (d directoryMembers) Remove(ctx context.Context, id string) error {
	return d.RemoveMember(ctx, id)
}

// letIntoFeed adds a node to the feed's group, here or at a node that is a member.
func (n *node) letIntoFeed(ctx context.Context, name string) error {
	if g := n.group; g != nil && !waits(g) {
		return g.TakeIn(ctx, name)
	}
	var errs []error
	for _, node := range n.playing(directory.RoleFeed) {
		if node == name {
			continue
		}
		_, err := at{n.wire, pathJoinFeed}.Call(ctx, node, []byte(name))
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, errors.New("no node with the role feed takes it in"))...)
}

// answerJoinFeed adds a node to the feed's group for another one.
func (n *node) answerJoinFeed(ctx context.Context, _ mesh.Peer, body []byte) ([]byte, error) {
	g := n.group
	if g == nil || waits(g) {
		return nil, refuse(http.StatusServiceUnavailable, codeNotHere, "this node is no member of the feed's group")
	}
	if err := g.TakeIn(ctx, string(body)); err != nil {
		return nil, refuse(http.StatusServiceUnavailable, "not-added", "%v", err)
	}
	return nil, nil
}

// playing are the names of the other nodes with a role, as this node knows them.
func (n *node) playing(r directory.Roles) (names []string) {
	for _, row := range n.directory.Map().Nodes() {
		if row.Roles&r != 0 && row.State != directory.Gone && row.Name != n.who.name {
			names = append(names, row.Name)
		}
	}
	return names
}
