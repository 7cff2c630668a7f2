package main

import (
	"context"
	"time"

	"hayloft/directory"
	"hayloft/internal/raftgroup"
	"hayloft/internal/raftgroup/electorate"
)

// voted is a group whose voters this node sees to when it leads.
type voted struct {
	name    string
	group   electorate.Group
	members func() ([]raftgroup.Member, error)
	leads   func() bool
	role    directory.Roles // of those that may vote
	leaves  bool            // a member without the role is to be none
	// progress is how far a member is, as it says itself.
	progress func(ctx context.Context, id string) (uint64, error)
}

var _ electorate.Group = directoryMembers{}

// runVoters keeps the number of a group's voters odd and its voters alive, until ctx
// ends.
func (n *node) runVoters(ctx context.Context, v voted) error {
	return electorate.Run(ctx, electorate.Options{
		Group: v.group, Most: n.s.voters, Patience: time.Duration(n.s.repairDelay), Clock: n.clock,
		Look: func() []electorate.Member { return n.voters(v) },
		Events: func(c electorate.Change, err error) {
			kind := map[electorate.Kind]string{electorate.Promote: "promote", electorate.Demote: "demote", electorate.Remove: "remove", electorate.Transfer: "transfer"}[c.Kind]
			if err != nil {
				n.log.Warn("voters: to be tried again", "group", v.name, "change", kind, "node", c.ID, "err", err)
				return
			}
			n.log.Info("voters", "group", v.name, "change", kind, "node", c.ID, "why", c.Why)
		},
	})
}

// voters describes the members of a group to who decides over them; none when this
// node does not lead it, or nobody has told yet who is alive.
func (n *node) voters(v voted) []electorate.Member {
	if !v.leads() || n.replacing.Load() > 0 {
		return nil
	}
	members, err := v.members()
	view := n.fleet.View()
	if err != nil || len(view.Nodes) == 0 {
		return nil
	}
	rows := map[string]directory.Node{}
	for _, row := range n.directory.Map().Nodes() {
		rows[row.Name] = row
	}
	out := make([]electorate.Member, 0, len(members))
	for _, m := range members {
		row, known := rows[m.ID]
		e := electorate.Member{ID: m.ID, Voter: m.Voter, Leader: m.Leader, Away: n.awayOf(m.ID)}
		plays := row.Roles&v.role != 0
		e.Gone = known && (row.State == directory.Gone || v.leaves && !plays)
		e.Leaving = known && !plays
		out = append(out, e)
	}
	return out
}

// awayOf is how long a node is away; 0 when it is up.
func (n *node) awayOf(name string) time.Duration {
	if name == n.who.name {
		return 0
	}
	node, ok := n.fleet.View().Node(name)
	if ok && node.Up {
		return 0
	}
	return max(node.Away, 1)
}

// directoryVoters and feedVoters are the two groups.
func (n *node) directoryVoters() voted {
	return voted{
		name: "directory", group: directoryMembers{n.directory}, members: n.directory.Members, role: directory.RoleDirectory,
		progress: n.directory.Progress,
		leads:    func() bool { return n.directory.Stats().Leader },
	}
}

func (n *node) feedVoters() voted {
	return voted{
		name: "feed", group: n.group, members: n.group.Members, role: directory.RoleFeed, leaves: true,
		progress: n.group.Progress,
		leads:    func() bool { return n.group.Leading() == nil },
	}
}
