package raftgroup

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// copyAgain is the pause before a copy is gone on with when its source moved on.
const copyAgain = 20 * time.Millisecond

// copyInto brings p and its log m up to the members and makes them one of them.
// The bulk is copied beside the traffic; for the last part the log stands still.
// joined is false without an error when a snapshot came between.
func (g *Group) copyInto(p *place, m *mirror) (joined bool, err error) {
	s := g.mirrors
	snap, at := g.snaps.newest()
	if at != nil {
		if err := at.snaps.copyTo(p.snaps, snap.ID, g.stop); err != nil {
			return false, err
		}
	}
	if err := fill(m.store, s, g.stop); err != nil {
		return false, err
	}
	g.snaps.commit.Lock() // no snapshot becomes visible meanwhile
	defer g.snaps.commit.Unlock()
	s.opMu.Lock()
	defer s.opMu.Unlock()
	if err := s.settle(); err != nil {
		return false, &sourceError{err}
	}
	var now snapMeta
	if err := g.soon(m, func() error { now, _ = g.snaps.newest(); return nil }); err != nil {
		return false, &sourceError{err} // a member hangs: its next write will show which
	}
	if now.ID != snap.ID {
		return false, nil
	}
	if err := g.soon(m, func() error { return g.finish(p, m, snap) }); err != nil {
		return false, err
	}
	s.mu.Lock()
	if p.isGone() {
		s.mu.Unlock()
		return false, errors.New("lost while it was made")
	}
	s.members = append(s.members, m)
	slices.SortFunc(s.members, func(a, b *mirror) int { return a.place.c.order - b.place.c.order })
	s.mu.Unlock()
	if err := s.publish(); err != nil {
		return true, err
	}
	if p.isGone() {
		return true, errors.New("lost as soon as it was made")
	}
	p.snaps.prune(snap.ID)
	return true, nil
}

// soon runs f on m and the files beside it. Writes wait for it, so that it must
// not take longer than a write may.
func (g *Group) soon(m *mirror, f func() error) error {
	done := make(chan error, 1)
	m.busy.Add(1)
	go func() {
		defer m.busy.Done()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-m.place.gone:
		return errors.New("lost while it was made")
	case <-g.opts.Clock.After(g.opts.Patience):
		return errHangs
	}
}

// finish takes over what came during the copy and gives the log its name. The
// members stand still.
func (g *Group) finish(p *place, m *mirror, snap snapMeta) error {
	s := g.mirrors
	if err := fill(m.store, s, g.stop); err != nil {
		return err
	}
	first, _, err := bounds(m.store)
	if err != nil {
		return err
	}
	if first > snap.Index+1 {
		return &sourceError{fmt.Errorf("the log begins at entry %d, the snapshot ends at %d", first, snap.Index)}
	}
	m.id = newTag()
	if err := errors.Join(m.store.Set(birthKey, s.birth[:]), m.store.Set(mirrorKey, m.id[:])); err != nil {
		return err
	}
	name := p.disk.PathJoin(p.dir, logName)
	if err := p.disk.Rename(m.file, name); err != nil {
		return err
	}
	m.file = name
	if err := g.syncNames(p); err != nil {
		return err
	}
	return writeIdentity(p.disk, p.dir, g.opts.Name, g.opts.NodeID)
}
