package raftgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// choice is what a start goes on with.
type choice struct {
	rec     *record    // the newest; nil: there is none
	members []*finding // intact mirrors, the most complete one first; none: the group is new
}

// choose decides which mirrors hold the group, see docs/group-format.md. It never
// takes a group for new when there is any sign of it.
func choose(found []*finding) (c choice, err error) {
	for _, f := range found {
		if f.left != nil {
			return c, f.left
		}
	}
	for _, f := range found {
		if f.rec == nil {
			continue
		}
		if c.rec != nil && f.rec.Birth != c.rec.Birth {
			return c, twoGroups(found, func(f *finding) tag {
				if f.rec == nil {
					return tag{}
				}
				return f.rec.Birth
			})
		}
		if c.rec == nil || f.rec.Epoch > c.rec.Epoch {
			c.rec = f.rec
		}
	}
	if c.rec == nil {
		for _, f := range found {
			if f.recErr != nil {
				return c, fmt.Errorf("%s: %w", f.place.dir, f.recErr)
			}
		}
		err = c.withoutRecord(found)
	} else {
		err = c.byRecord(found)
	}
	slices.SortStableFunc(c.members, func(a, b *finding) int { return b.better(a) })
	return c, err
}

// withoutRecord chooses among logs that no record speaks of: those of an earlier
// version, or of a first start that did not end.
func (c *choice) withoutRecord(found []*finding) error {
	var births []tag
	var away, damaged []error
	var unborn []*finding
	for _, f := range found {
		switch {
		case f.away != nil:
			away = append(away, f.away)
		case f.damage != nil:
			damaged = append(damaged, fmt.Errorf("%s: %w", f.place.dir, f.damage))
		case f.log != nil && f.unborn():
			unborn = append(unborn, f)
		case f.log != nil:
			if f.birth == (tag{}) || !slices.Contains(births, f.birth) {
				births = append(births, f.birth)
			}
			c.members = append(c.members, f)
		}
	}
	if len(c.members) == 0 && len(unborn) > 0 {
		c.members, births = unborn[:1], []tag{unborn[0].birth}
	}
	switch {
	case len(births) > 1:
		return twoGroups(found, func(f *finding) tag { return f.birth })
	case len(births) == 1:
		return nil
	case len(damaged) > 0:
		return errors.Join(append(damaged, away...)...)
	case len(away) > 0 && len(found) == 1:
		return away[0]
	case len(away) > 0:
		return fmt.Errorf("no directory holds the group, but it cannot be told whether this one does: %w", errors.Join(away...))
	}
	return nil
}

// byRecord chooses the mirrors that the newest record names.
func (c *choice) byRecord(found []*finding) error {
	given := map[string]*finding{}
	seen := map[tag]bool{}
	for _, f := range found {
		given[f.place.dir] = f
		if f.log == nil {
			continue
		}
		if f.birth != c.rec.Birth {
			if f.unborn() {
				continue // it is made anew
			}
			return fmt.Errorf("%w: %s holds another group than the one kept in %s: take it away, or name the directories of one of them only",
				ErrForeign, f.place.dir, strings.Join(c.rec.dirs(), ", "))
		}
		if c.rec.mirror(f.log.id) >= 0 {
			seen[f.log.id] = true
			c.members = append(c.members, f)
		}
	}
	var hidden []string
	for _, m := range c.rec.Mirrors {
		if !seen[m.ID] && given[m.Dir] == nil {
			hidden = append(hidden, m.Dir)
		}
	}
	if len(hidden) > 0 && len(found) < len(c.rec.Dirs) {
		return &MissingError{Dirs: hidden, Text: fmt.Sprintf("the group is kept in %s, not only in %d of its %d directories: name all of them, or in place of one that is lost an empty one",
			strings.Join(hidden, ", "), len(found), len(c.rec.Dirs))}
	}
	if len(c.members) > 0 {
		return nil
	}
	return c.nothingLeft(given)
}

// nothingLeft says what became of each mirror.
func (c *choice) nothingLeft(given map[string]*finding) error {
	var damaged []error
	var lost []string
	for _, m := range c.rec.Mirrors {
		f := given[m.Dir]
		switch {
		case f == nil:
			lost = append(lost, m.Dir+" is not among the directories given")
		case f.damage != nil:
			damaged = append(damaged, fmt.Errorf("%s: %w", m.Dir, f.damage))
			lost = append(lost, m.Dir+": "+f.damage.Error())
		default:
			lost = append(lost, m.Dir+": "+f.what().Error())
		}
	}
	if len(damaged) == len(c.rec.Mirrors) {
		return errors.Join(damaged...)
	}
	return &MissingError{Dirs: c.rec.dirs(), Text: "the group was kept in these directories, and none of them has it: " + strings.Join(lost, "; ") +
		": mount the disks, name their directories, or restore one of them from a backup"}
}

func twoGroups(found []*finding, of func(*finding) tag) error {
	var dirs []string
	for _, f := range found {
		if f.log != nil || of(f) != (tag{}) {
			dirs = append(dirs, f.place.dir)
		}
	}
	return fmt.Errorf("%w: %s hold different groups: name the directories of one of them only", ErrForeign, strings.Join(dirs, " and "))
}

// openMirrors finds the members, or makes the first one of a new group, and tells
// every candidate about them. It returns what it saw.
func (g *Group) openMirrors(conf *raft.Config) ([]*finding, error) {
	s := g.mirrors
	var found []*finding
	for _, p := range s.places() {
		found = append(found, g.scan(p))
	}
	c, err := choose(found)
	if err == nil && len(c.members) == 0 {
		err = g.firstMirror(conf, found, &c)
	}
	if err == nil {
		err = g.agree(&c)
	}
	for _, f := range found {
		if f.member = err == nil && slices.Contains(c.members, f); f.member {
			s.members = append(s.members, f.log)
		} else {
			f.close()
		}
	}
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if f.away != nil && !s.lose(f.place, f.away) {
			return nil, f.away
		}
	}
	return found, g.announce(&c, found)
}

// agree gives the members what is the same in all of them, and brings those that
// a crash left one write behind to where the most complete one is.
func (g *Group) agree(c *choice) error {
	s, best := g.mirrors, c.members[0]
	if s.birth = best.birth; s.birth == (tag{}) { // of an earlier version
		s.birth = newTag()
		if err := best.log.store.Set(birthKey, s.birth[:]); err != nil {
			return err
		}
	}
	if best.log.id == (tag{}) {
		best.log.id = newTag()
		if err := best.log.store.Set(mirrorKey, best.log.id[:]); err != nil {
			return err
		}
	}
	if err := g.known(best); err != nil {
		return err
	}
	keep := c.members[:1]
	for _, f := range c.members[1:] {
		err := g.known(f)
		if err == nil {
			err = fill(f.log.store, best.log.store, nil)
		}
		if err == nil && best.first > f.snap.Index+1 {
			err = fmt.Errorf("%w: it lacks the newest snapshot", ErrCorrupt)
		}
		if err != nil {
			f.damage = err // it is made anew
			continue
		}
		keep = append(keep, f)
	}
	slices.SortFunc(keep, func(a, b *finding) int { return a.place.c.order - b.place.c.order })
	c.members = keep[:min(len(keep), g.opts.Mirrors)]
	return nil
}

// known makes the names of a mirror durable while it has no identity: an earlier
// start may have given them and died.
func (g *Group) known(f *finding) error {
	if f.known {
		return nil
	}
	return g.syncNames(f.place)
}

// announce writes the record where it is not what it should be.
func (g *Group) announce(c *choice, found []*finding) error {
	s := g.mirrors
	s.opMu.Lock()
	defer s.opMu.Unlock()
	if c.rec != nil {
		s.epoch = c.rec.Epoch
		s.mu.Lock()
		want := s.recordLocked()
		s.mu.Unlock()
		if slices.Equal(want.Mirrors, c.rec.Mirrors) && slices.Equal(want.Dirs, c.rec.Dirs) {
			for _, f := range found {
				f.place.told = f.rec != nil && f.rec.Epoch == s.epoch
			}
			return s.remind()
		}
	}
	if err := s.publish(); err != nil {
		return err
	}
	return s.settle()
}

// firstMirror makes the log of a new group.
func (g *Group) firstMirror(conf *raft.Config, found []*finding, c *choice) error {
	var errs []error
	for _, f := range found {
		p := f.place
		err := g.createLog(conf, p)
		if err == nil {
			err = f.readLog(&g.opts)
		}
		if err == nil {
			c.members = []*finding{f}
			return nil
		}
		f.close()
		f.away = err
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// syncNames makes the names of the log and of its directory durable before
// anything is made that depends on them.
func (g *Group) syncNames(p *place) error {
	return errors.Join(syncDir(p.disk, p.dir), syncDir(p.disk, filepath.Dir(p.dir)))
}

// createLog makes the log file of a new group, with the first configuration in
// it. Raft saves its term and the configuration one after the other, and a log
// with only the first is neither new nor of any use. So all of it happens under
// another name, each step synced, and the file gets its own when it is whole: a
// crash before that leaves a directory that is still new. The caller syncs the
// name.
func (g *Group) createLog(conf *raft.Config, p *place) error {
	tmp := p.disk.PathJoin(p.dir, logName+tmpSuffix)
	if err := p.disk.RemoveAll(tmp); err != nil {
		return err
	}
	m, err := openMirror(&g.opts, p, logName+tmpSuffix)
	if err != nil {
		return err
	}
	birth, id := newTag(), newTag()
	err = errors.Join(m.store.Set(birthKey, birth[:]), m.store.Set(mirrorKey, id[:]))
	if err == nil && !g.opts.Join {
		s := &logStore{under: m.store, fail: func(error) {}, dead: g.raftDied}
		err = raft.BootstrapCluster(conf, s, s, g.snaps, g.wire, g.firstVoters())
		if p := s.poisoned(); p != nil {
			err = p // Raft's error does not wrap it
		}
	}
	if err = errors.Join(err, m.store.Close()); err != nil {
		return err
	}
	return p.disk.Rename(tmp, p.disk.PathJoin(p.dir, logName))
}
