package raftgroup

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// A member without a log may be new, or one that lost its disks and with them the
// votes it gave and the entries it promised to keep. It takes part in nothing
// before the leader says that it is listed as a learner by a committed
// configuration: then a majority of the others has gone on without counting on
// it, and it starts like a new one.

// admitTime bounds how long a message waits for the leader's word.
const admitTime = 2 * time.Second

// confAt is a committed configuration and its index in the log.
type confAt struct {
	index   uint64
	servers []raft.Server
}

// committed returns the newest committed configuration that this member knows,
// with index 0 when it knows none.
func (g *Group) committed() confAt {
	var c confAt
	if p := g.conf.Load(); p != nil {
		c = *p
	}
	if snap, at := g.snaps.newest(); at != nil && snap.ConfigurationIndex > c.index {
		c = confAt{snap.ConfigurationIndex, raft.DecodeConfiguration(snap.Configuration).Servers}
	}
	return c
}

// serveAdmit tells a member without a log whether it may take part, and from
// which term on.
func (g *Group) serveAdmit(ctx context.Context, from string) reply {
	term := g.ready.Load()
	if term == 0 {
		return g.notLeader()
	}
	conf := g.committed()
	for _, s := range conf.servers {
		if string(s.ID) != from {
			continue
		}
		if s.Suffrage == raft.Voter {
			return reply{statusRefused, []byte("it has no log, and is listed as a voter: remove it and add it again")}
		}
		if g.stillLeads(ctx, term) != nil {
			return g.notLeader()
		}
		return reply{body: binary.LittleEndian.AppendUint64(numberReply(term).body, conf.index)}
	}
	return reply{status: statusUnknown}
}

// serveBlank tells whether this member has a log: 0, it has none and was not admitted.
func (g *Group) serveBlank() reply {
	if g.wire.blank.Load() {
		return numberReply(0)
	}
	return numberReply(1)
}

// admitted reports whether a message of Raft may reach it. Only one of the
// leader's can, and only after the leader has said so.
func (g *Group) admitted(cmd any) error {
	var leader string
	switch c := cmd.(type) {
	case *raft.AppendEntriesRequest:
		leader = string(c.ID)
	case *raft.InstallSnapshotRequest:
		leader = string(c.ID)
	default:
		return fmt.Errorf("%s has no log and does not vote", g.opts.NodeID)
	}
	ctx, cancel := context.WithTimeout(g.ctx, admitTime)
	defer cancel()
	r, err := g.call(ctx, leader, kindAdmit, nil)
	if err == nil {
		err = r.err()
	}
	if err == nil && len(r.body) != 16 {
		err = fmt.Errorf("%w: an admission of %d bytes", ErrUnsupported, len(r.body))
	}
	if err == nil {
		err = g.catchesUp(binary.LittleEndian.Uint64(r.body[8:]))
	}
	if err != nil {
		return fmt.Errorf("%s has no log and was not admitted: %w", g.opts.NodeID, err)
	}
	g.wire.least.Store(binary.LittleEndian.Uint64(r.body))
	g.wire.blank.Store(false)
	g.emit(Event{Kind: EventLog, Text: "admitted as a learner by " + leader})
	return nil
}
