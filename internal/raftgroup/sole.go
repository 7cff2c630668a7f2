package raftgroup

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// The only voter of a group leads it, and nobody else can. A message of Raft that
// reaches it from outside comes from a member that was removed and does not know it,
// or from another group in which its name has a vote: the disks of that member were
// emptied, and it began a group of its own instead of waiting to be added again. It
// must not follow that group, whose promises it has forgotten, and what it was told
// itself would be overwritten. Most changes of a group's only voter are a matter of
// its own log, so that it loses nothing by hearing nobody: at worst it takes the lead
// one election later.

// soleTold is the time between two lines about the same.
const soleTold = 10 * time.Second

var errSole = errors.New("raftgroup: this member is the only voter of its group, and follows nobody")

// sole returns an error for a message that must not reach this member because it is
// the only voter. The word of a leader whose term is not behind proves that there is
// another group: then this one stops.
func (g *Group) sole(cmd any) error {
	if !g.alone() {
		return nil
	}
	var leader string
	var term uint64
	switch c := cmd.(type) {
	case *raft.AppendEntriesRequest:
		leader, term = string(c.ID), c.Term
	case *raft.InstallSnapshotRequest:
		leader, term = string(c.ID), c.Term
	}
	own := g.ready.Load()
	if leader == "" || own == 0 { // a former leader may not have heard that it is none
		return errSole
	}
	err := fmt.Errorf("%w: %s leads another group in which %s is a member: was this one started on empty directories, and not to join?", ErrForeign, leader, g.opts.NodeID)
	if term >= own {
		g.fail(err)
		return errSole
	}
	now := int64(g.opts.Clock.Elapsed()) + 1 // never zero
	if last := g.soleTold.Load(); last == 0 || now-last > int64(soleTold) {
		if g.soleTold.CompareAndSwap(last, now) {
			g.emit(Event{Kind: EventLog, Level: Error, Text: "another group takes this member for its own", Err: err})
		}
	}
	return errSole
}
