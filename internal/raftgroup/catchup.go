package raftgroup

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// A member that was admitted without a log is sent the whole log from its beginning,
// and goes through all former configurations on the way. In one of them it may be a
// voter, or the only one: it would elect itself, and have the others give up what came
// after. So it neither stands for election nor counts as the only voter before it has
// the configuration that admitted it, over restarts too.

// admittedKey in the stable store has the index of that configuration.
var admittedKey = []byte("hayloft-admitted")

// neverStands is a heartbeat timeout of a member that is not to stand for election.
const neverStands = 1000 * time.Hour

// catchesUp notes, durably, that this member has to come to an entry. Raft may be
// told of the first one after that.
func (g *Group) catchesUp(index uint64) error {
	if err := g.log.SetUint64(admittedKey, index); err != nil {
		return err
	}
	g.catching.Store(index)
	if err := g.patience(neverStands); err != nil {
		return err
	}
	g.loops.Add(1)
	go g.awaitConfiguration(index)
	return nil
}

// goesOnCatchingUp finds out at a start whether the member had come to that entry.
func (g *Group) goesOnCatchingUp(conf *raft.Config) error {
	index, err := g.log.GetUint64(admittedKey)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) || err == nil && index == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	g.catching.Store(index)
	conf.HeartbeatTimeout, conf.ElectionTimeout = neverStands, neverStands
	return nil
}

// patience sets how long this member does without a leader before it stands.
func (g *Group) patience(d time.Duration) error {
	c := g.raft.ReloadableConfig()
	c.HeartbeatTimeout, c.ElectionTimeout = d, d
	return g.raft.ReloadConfig(c)
}

// awaitConfiguration is the goroutine that ends the catching up.
func (g *Group) awaitConfiguration(index uint64) {
	defer g.loops.Done()
	for g.committed().index < index {
		select {
		case <-g.opts.Clock.After(learnPause):
		case <-g.stop:
			return
		}
	}
	if g.catching.Load() != index {
		return // it was admitted again
	}
	if err := g.log.SetUint64(admittedKey, 0); err != nil {
		return // the group stops
	}
	g.catching.Store(0)
	if err := g.patience(electionTime); err != nil {
		g.fail(err)
	}
}
