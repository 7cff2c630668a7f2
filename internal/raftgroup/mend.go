package raftgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Lost tells the group that the disk of one of Options.Dirs is gone or must not be
// used any more: nothing of it is waited for from now on. What was there is made
// again in another directory, if one is left; if it was the last mirror, the group
// stops. It may be called at any time, by any goroutine, and does not wait.
func (g *Group) Lost(dir string, why error) {
	if !g.mirrors.abandon(dir, why) {
		g.fail(g.mirrors.noMirror())
	}
}

// Usable tells the group that a directory that was lost, because of Lost or of a
// failure of its own, may be used again. What it holds counts for nothing. It may
// be called at any time, by any goroutine, and does not wait.
func (g *Group) Usable(dir string) { g.mirrors.usable(dir) }

// Mirrors describes each of Options.Dirs, in their order.
func (g *Group) Mirrors() []MirrorState { return g.mirrors.states(g.states.home()) }

func (g *Group) wantMend() {
	select {
	case g.mend <- struct{}{}:
	default: // it will be seen
	}
}

// mendLoop is the goroutine that brings the group back to as many mirrors as it
// should have, and its state to a disk that lives.
func (g *Group) mendLoop() {
	defer g.loops.Done()
	for first := true; ; first = false {
		select {
		case <-g.mend:
		case <-g.stop:
			return
		}
		g.mendAll()
		if first {
			close(g.mended)
		}
	}
}

func (g *Group) mendAll() {
	s := g.mirrors
	s.opMu.Lock()
	err := s.settle()
	s.opMu.Unlock()
	if err != nil {
		g.fail(err)
		return
	}
	g.moveState()
	for g.stoppedErr() == nil {
		p := s.wanted()
		if p == nil {
			break
		}
		s.setCopying(p, true)
		err := g.remake(p)
		s.setCopying(p, false)
		if err == nil {
			g.emit(Event{Kind: EventMirrorMade, Dir: p.c.given})
			continue
		}
		if g.stoppedErr() != nil {
			return
		}
		s.lose(p, fmt.Errorf("make a mirror: %w", err))
	}
	s.opMu.Lock()
	defer s.opMu.Unlock()
	if err := s.remind(); err != nil {
		g.fail(err)
	}
}

const oldPrefix = "old-"

// remake makes a place a mirror. What it held before goes out of the way first,
// and only when the mirror is complete is it removed.
func (g *Group) remake(p *place) error {
	s := g.mirrors
	if err := errors.Join(makeDir(p.disk, p.dir), makeDir(p.fs, p.dir)); err != nil {
		return err
	}
	if err := g.setAside(p); err != nil {
		return err
	}
	if err := p.snaps.open(); err != nil {
		return err
	}
	tmp := p.disk.PathJoin(p.dir, logName+tmpSuffix)
	if err := p.disk.RemoveAll(tmp); err != nil {
		return err
	}
	m, err := openMirror(&g.opts, p, logName+tmpSuffix)
	if err != nil {
		return err
	}
	for {
		var joined bool
		joined, err = g.copyInto(p, m)
		if joined && err == nil {
			break
		}
		var source *sourceError
		if !joined && (err == nil || errors.As(err, &source)) && g.stoppedErr() == nil && !p.isGone() {
			if len(s.healthy()) == 0 {
				return s.noMirror()
			}
			select { // the source moved on, or is about to be found out
			case <-g.opts.Clock.After(copyAgain):
			case <-g.stop:
			}
			continue
		}
		if !joined {
			s.letGo(m)
		}
		return err
	}
	return g.removeAside(p)
}

// setAside renames what a place holds of a group, so that a copy can be made.
func (g *Group) setAside(p *place) error {
	if err := g.mirrors.mayTake(p); err != nil {
		return err
	}
	names, err := p.disk.List(p.dir)
	if err != nil {
		return err
	}
	inFS, err := p.fs.List(p.dir) // another one when FS is not the machine's
	if err != nil {
		return err
	}
	num := 1
	for _, name := range append(slices.Clone(names), inFS...) {
		var n int
		if _, err := fmt.Sscanf(name, oldPrefix+"%d", &n); err == nil {
			num = max(num, n+1)
		}
	}
	aside := p.disk.PathJoin(p.dir, fmt.Sprintf("%s%06d", oldPrefix, num))
	move := func(fs interface {
		Rename(from, to string) error
		MkdirAll(dir string, perm os.FileMode) error
	}, names []string, wanted func(string) bool) error {
		for _, name := range names {
			if !wanted(name) {
				continue
			}
			if err := fs.MkdirAll(aside, 0o700); err != nil {
				return err
			}
			if err := fs.Rename(filepath.Join(p.dir, name), filepath.Join(aside, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	return errors.Join(
		move(p.disk, names, func(n string) bool { return n == logName || n == identityName }), syncDir(p.disk, p.dir),
		move(p.fs, inFS, func(n string) bool { return n == snapsName || strings.HasPrefix(n, statePrefix) }), syncDir(p.fs, p.dir))
}

// removeAside removes what setAside put away: the mirror that takes its place is
// complete.
func (g *Group) removeAside(p *place) error {
	for _, fs := range []interface {
		List(dir string) ([]string, error)
		RemoveAll(name string) error
	}{p.disk, p.fs} {
		names, err := fs.List(p.dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.HasPrefix(name, oldPrefix) {
				if err := fs.RemoveAll(filepath.Join(p.dir, name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
