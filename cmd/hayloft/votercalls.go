package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"hayloft/directory"
	"hayloft/internal/admin"
	"hayloft/internal/mesh"
	"hayloft/internal/raftgroup"
)

// votersRequest is what a node asks another about the voters of a group: who they are,
// or, with Old and New, of its leader, that New is to vote in place of Old.
type votersRequest struct {
	Group string `json:"group"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// votersOf is who holds a group, as one of its members knows it.
type votersOf struct {
	Group   string        `json:"group"`
	Leader  string        `json:"leader"` // empty: nobody leads that is known
	Members []groupMember `json:"members"`
}

// groupMember is one of them.
type groupMember struct {
	Node  string `json:"node"`
	Voter bool   `json:"voter"` // else it follows
	Leads bool   `json:"leads"`
	Up    bool   `json:"up"`
	// Applied is the entry up to which it has applied the log; 0: it does not answer.
	Applied uint64 `json:"applied,omitempty"`
}

// voterGroups are the groups by their names.
var voterGroups = []string{"directory", "feed"}

// progressTime bounds the question how far a member is.
const progressTime = time.Second

// replaceTime bounds a replacement: the new voter has to catch up first.
const replaceTime = time.Minute

// groupHere is a group that this node is a member of.
func (n *node) groupHere(name string) (voted, bool) {
	switch {
	case name == "directory" && !waits(n.directory):
		return n.directoryVoters(), true
	case name == "feed" && n.group != nil && !waits(n.group):
		return n.feedVoters(), true
	}
	return voted{}, false
}

// votersHere tells of a group of this node.
func (n *node) votersHere(ctx context.Context, v voted) (votersOf, error) {
	members, err := v.members()
	if err != nil {
		return votersOf{}, err
	}
	out := votersOf{Group: v.name, Members: make([]groupMember, len(members))}
	ctx, cancel := context.WithTimeout(ctx, progressTime)
	defer cancel()
	var asked sync.WaitGroup
	for i, m := range members {
		if m.Leader {
			out.Leader = m.ID
		}
		out.Members[i] = groupMember{Node: m.ID, Voter: m.Voter, Leads: m.Leader, Up: n.awayOf(m.ID) == 0}
		asked.Go(func() {
			if at, err := v.progress(ctx, m.ID); err == nil {
				out.Members[i].Applied = at
			}
		})
	}
	asked.Wait()
	return out, nil
}

// votersOf tells of a group, by this node's word or that of one with the role.
func (n *node) votersOf(ctx context.Context, name string) (out votersOf, err error) {
	if v, here := n.groupHere(name); here {
		return n.votersHere(ctx, v)
	}
	errs := []error{fmt.Errorf("no member of the group %s tells who votes", name)}
	for _, node := range n.playing(directory.RoleFeed) {
		got, err := n.askVoters(ctx, node, votersRequest{Group: name})
		if err == nil {
			return got, nil
		}
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

func (n *node) askVoters(ctx context.Context, node string, r votersRequest) (out votersOf, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return out, err
	}
	if body, err = (at{n.wire, pathVoters}).Call(ctx, node, body); err != nil {
		return out, err
	}
	return out, json.Unmarshal(body, &out)
}

// codeMoved is the code of a refusal by a node that does not lead the group.
const codeMoved = "not-leader"

// answerVoters answers another node.
func (n *node) answerVoters(ctx context.Context, _ mesh.Peer, body []byte) ([]byte, error) {
	var r votersRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, refuse(http.StatusBadRequest, "malformed", "no request about voters")
	}
	v, here := n.groupHere(r.Group)
	if !here {
		return nil, refuse(http.StatusServiceUnavailable, "not-here", "this node is no member of the group %q", r.Group)
	}
	if r.Old != "" || r.New != "" {
		err := n.replaceVoter(ctx, v, r.Old, r.New)
		switch {
		case errors.Is(err, errMoved):
			return nil, refuse(http.StatusServiceUnavailable, codeMoved, "%v", err)
		case err != nil:
			return nil, refuse(http.StatusConflict, "refused", "%v", err)
		}
	}
	out, err := n.votersHere(ctx, v)
	if err != nil {
		return nil, refuse(http.StatusServiceUnavailable, "refused", "%v", err)
	}
	return json.Marshal(out)
}

// errMoved: another node leads the group now, and is to be asked.
var errMoved = errors.New("another node leads the group")

// replaceVoter lets a follower vote in place of a voter, on the node that leads the
// group. Until it is done this node does not see to the number of voters by itself.
func (n *node) replaceVoter(ctx context.Context, v voted, before, next string) error {
	n.replacing.Add(1)
	defer n.replacing.Add(-1)
	members, err := v.members()
	if err != nil {
		return err
	}
	if done, err := n.replaceable(v, members, before, next); done || err != nil {
		return err
	}
	if !v.leads() {
		return errMoved
	}
	if before == n.who.name && countVoters(members) > 1 {
		// The next leader does it: this one would lead no more after the first half.
		if err := v.group.TransferLeadership(ctx, ""); err != nil {
			return fmt.Errorf("%s leads, and nobody takes over: %w", before, err)
		}
		return errMoved
	}
	if err := v.group.AddVoter(ctx, next); err != nil {
		return err
	}
	return v.group.Demote(ctx, before)
}

// replaceable says what is in the way; done: nothing is left to do.
func (n *node) replaceable(v voted, members []raftgroup.Member, before, next string) (done bool, err error) {
	vote := map[string]bool{}
	for _, m := range members {
		vote[m.ID] = m.Voter
	}
	voter, known := vote[next]
	switch {
	case !known:
		return false, fmt.Errorf("%s is no member of the group %s", next, v.name)
	case voter && !vote[before]:
		return true, nil
	case !vote[before]:
		return false, fmt.Errorf("%s has no vote in the group %s", before, v.name)
	case voter:
		return false, fmt.Errorf("%s votes already in the group %s", next, v.name)
	case n.awayOf(next) > 0:
		return false, fmt.Errorf("%s is away", next)
	}
	i := slices.IndexFunc(n.directory.Map().Nodes(), func(r directory.Node) bool { return r.Name == next })
	if i < 0 || n.directory.Map().Nodes()[i].Roles&v.role == 0 {
		return false, fmt.Errorf("%s has not the role %s", next, v.name)
	}
	return false, nil
}

func countVoters(members []raftgroup.Member) (n int) {
	for _, m := range members {
		if m.Voter {
			n++
		}
	}
	return n
}

// voterCalls are the calls of a node's admin listener about voters.
type voterCalls struct{ n *node }

func (c voterCalls) serve(d *admin.Door) {
	d.Look(http.MethodGet, clusterCalls+"/voters", c.tell)
	d.Guard(http.MethodPost, clusterCalls+"/voters", c.replace)
}

func groupOf(name string) (string, error) {
	if !slices.Contains(voterGroups, name) {
		return "", admin.Invalid("group=%q is neither directory nor feed", name)
	}
	return name, nil
}

// tell answers who votes in the groups, or in one.
func (c voterCalls) tell(call *admin.Call) error {
	q, err := call.Query("group")
	if err != nil {
		return err
	}
	names := voterGroups
	if q.Has("group") {
		name, err := groupOf(q.Get("group"))
		if err != nil {
			return err
		}
		names = []string{name}
	}
	out := []votersOf{}
	for _, name := range names {
		v, err := c.n.votersOf(call.Context(), name)
		if err != nil {
			return admin.NewProblem("unavailable", http.StatusServiceUnavailable, "Not now", "%v", err)
		}
		out = append(out, v)
	}
	return call.Answer(out)
}

// replace has a follower vote in place of a voter, and answers who votes then.
func (c voterCalls) replace(call *admin.Call) error {
	q, err := call.Query("group", "old", "new")
	if err != nil {
		return err
	}
	name, err := groupOf(q.Get("group"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(call.Context(), replaceTime)
	defer cancel()
	r := votersRequest{Group: name, Old: q.Get("old"), New: q.Get("new")}
	for {
		v, err := c.n.votersOf(ctx, name)
		if err == nil && v.Leader == "" {
			err = errors.New("nobody leads the group now")
		}
		if err == nil {
			err = c.replaceAt(ctx, v.Leader, r)
		}
		var no *mesh.Refusal
		moved := errors.Is(err, errMoved) || errors.As(err, &no) && no.Code == codeMoved
		if err == nil || !moved || ctx.Err() != nil {
			if err != nil {
				return admin.NewProblem("not-replaced", http.StatusConflict, "No voter was replaced", "%v", err)
			}
			break
		}
		select {
		case <-c.n.clock.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	out, err := c.n.votersOf(ctx, name)
	if err != nil {
		return err
	}
	return call.Stream().Send(admin.KindResult, out)
}

// replaceAt does it here or at another node.
func (c voterCalls) replaceAt(ctx context.Context, leader string, r votersRequest) error {
	if leader != c.n.who.name {
		_, err := c.n.askVoters(ctx, leader, r)
		return err
	}
	v, here := c.n.groupHere(r.Group)
	if !here {
		return errMoved
	}
	return c.n.replaceVoter(ctx, v, r.Old, r.New)
}
