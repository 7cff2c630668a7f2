package raftgroup

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	bolterrors "go.etcd.io/bbolt/errors"
)

// finding is what a start sees in one candidate directory. Nothing is changed but
// that unfinished leftovers go.
type finding struct {
	place  *place
	away   error // it cannot be looked at
	left   error // it must be left alone, and the start fails
	damage error // it holds something of a group, damaged or incomplete

	rec    *record // nil: none
	recErr error   // there is one, damaged
	member bool    // it is one of the mirrors the start goes on with
	known  bool    // there is an identity
	log    *mirror // nil: none that opens
	birth  tag
	states []uint64 // numbers of working states, ascending

	first, last, lastTerm, term uint64 // of the log
	snap                        snapMeta
}

// close closes a log that is not used.
func (f *finding) close() {
	if f.log != nil {
		_ = f.log.store.Close() // nothing was written
		f.log = nil
	}
}

// better compares two intact mirrors.
func (f *finding) better(o *finding) int {
	return cmp.Or(cmp.Compare(f.term, o.term), cmp.Compare(f.lastTerm, o.lastTerm), cmp.Compare(f.last, o.last), cmp.Compare(f.snap.Index, o.snap.Index))
}

// scan looks at a place.
func (g *Group) scan(p *place) *finding {
	f := &finding{place: p}
	err := makeDir(p.disk, p.dir)
	if err == nil {
		err = makeDir(p.fs, p.dir) // another one when FS is not the machine's
	}
	if err == nil {
		f.states, err = findStates(p)
	}
	if err == nil {
		err = f.look(&g.opts)
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrForeign), errors.Is(err, ErrUnsupported), errors.Is(err, bolterrors.ErrTimeout):
		f.left = err
	case errors.Is(err, ErrCorrupt):
		f.damage = err
	default:
		f.away = err
	}
	if err != nil {
		f.close()
	}
	return f
}

// look reads the files of a place.
func (f *finding) look(o *Options) (err error) {
	p := f.place
	if f.rec, err = readRecord(p.disk, p.dir); errors.Is(err, ErrCorrupt) {
		f.recErr = err // others have it too
	} else if err != nil {
		return err
	}
	if r := f.rec; r != nil && (r.Group != o.Name || r.Member != o.NodeID) {
		return fmt.Errorf("%w: %s belongs to group %q, member %q, not to group %q, member %q", ErrForeign, p.dir, r.Group, r.Member, o.Name, o.NodeID)
	}
	if f.known, err = checkIdentity(p.disk, p.dir, o.Name, o.NodeID); err != nil {
		return err
	}
	metas, err := p.snaps.metas()
	if err != nil {
		return err
	}
	if len(metas) > 0 {
		f.snap = metas[0]
	}
	if _, err = p.disk.Stat(p.disk.PathJoin(p.dir, logName)); errors.Is(err, os.ErrNotExist) {
		if f.known || len(f.states) > 0 || len(metas) > 0 {
			// The log comes into being before everything else.
			return fmt.Errorf("%w: %s is gone, but the directory is not new", ErrCorrupt, logName)
		}
		return nil
	}
	if err != nil {
		return err
	}
	return f.readLog(o)
}

// readLog opens the log and checks all of it.
func (f *finding) readLog(o *Options) (err error) {
	p := f.place
	if err := p.snaps.open(); err != nil {
		return err
	}
	if f.log, err = openMirror(o, p, logName); err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) {
			err = fmt.Errorf("%s is in use by another process: %w", p.dir, err)
		}
		return err
	}
	st := f.log.store
	if f.birth, err = getTag(st, birthKey); err != nil {
		return err
	}
	if f.first, f.last, f.lastTerm, err = verify(st); err != nil {
		return err
	}
	if f.term, err = getTerm(st); err != nil {
		return err
	}
	if f.last == 0 && f.snap.ID == "" && !o.Join { // a log begins its life with a configuration
		return fmt.Errorf("%w: the log is empty", ErrCorrupt)
	}
	if f.first > f.snap.Index+1 {
		return fmt.Errorf("%w: the log begins at entry %d, the newest snapshot ends at %d", ErrCorrupt, f.first, f.snap.Index)
	}
	return nil
}

// unborn says that nothing was ever proposed to the group in this log: a first
// start that did not end.
func (f *finding) unborn() bool { return f.last <= 1 && f.snap.ID == "" && f.birth != tag{} }

// what says on one line what is wrong with a place.
func (f *finding) what() error {
	switch {
	case f.away != nil:
		return f.away
	case f.damage != nil:
		return f.damage
	case f.log == nil:
		return errors.New("it holds no log")
	}
	return errors.New("its log is of an older set")
}
