package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"hayloft/internal/vfs"
)

// settled is how long a directory has to look the same before a disk is taken
// into use in it while the process runs: whoever empties it, or puts something
// in, has to come to an end. It doubles as health.rest says, so that a directory that is
// emptied again and again costs less and less.
const settled = 3 * time.Second

// find is what lies in the directory of a disk that vanished.
type find struct {
	empty bool  // nothing: a new disk may be made
	why   error // what there is cannot be taken into use
}

// vacancy is what is known of a directory without a disk.
type vacancy struct {
	find  find
	since time.Duration // it looks that way, in the time of health
	told  string        // why it is not taken into use
}

// inspect looks what lies in the directory.
func (t *seat) inspect() find {
	fsys, former := t.s.o.FS, t.present()
	home, err := fsys.Stat(t.dir)
	if missing(err) {
		return t.absent(former)
	}
	if err != nil {
		return find{why: err}
	}
	if !home.Dir {
		return find{why: errors.New("it is not a directory")}
	}
	_, err = fsys.Stat(filepath.Join(t.dir, identityName))
	switch {
	case err == nil:
		return find{why: t.returning(former)}
	case !missing(err):
		return find{why: err}
	}
	names, err := fsys.ReadDir(t.dir)
	if err != nil {
		return find{why: err}
	}
	names = slices.DeleteFunc(names, t.unimportant)
	if len(names) > 0 {
		return find{why: fmt.Errorf("it has no %s, and is not empty: %s lies there", identityName, names[0])}
	}
	return find{empty: true, why: sameDevice(former, home, "the directory is empty")}
}

// unimportant reports whether a name in a directory without identity is no reason
// to keep away: every new ext4 has one, a claim that failed on the way leaves two, its
// folder empty, a scrub may write of the former disk while it vanishes, and others of this
// program may be back sooner.
func (t *seat) unimportant(name string) bool {
	if name == volumesName {
		files, err := t.s.o.FS.ReadDir(filepath.Join(t.dir, name))
		return err == nil && len(files) == 0
	}
	return name == "lost+found" || name == identityName+".tmp" || name == scrubName || name == scrubName+unfinished || slices.Contains(t.s.o.Neighbours, name)
}

// absent looks whether a directory that is gone may be made again. A mount point
// cannot be removed while something is mounted there, so if the parent lies where
// the directory did, no file system was mounted on it or between the two.
func (t *seat) absent(former *disk) find {
	parent, err := t.s.o.FS.Stat(filepath.Dir(t.dir))
	if err != nil {
		return find{why: fmt.Errorf("the directory is gone, and so is its parent: %w", err)}
	}
	return find{empty: true, why: sameDevice(former, parent, "the directory is gone")}
}

// sameDevice refuses to make a disk on another file system than the one the former
// disk was on: photos would fill the disk that a file system should be mounted over.
func sameDevice(former *disk, at vfs.Info, what string) error {
	switch {
	case former == nil:
		return fmt.Errorf("%s, and this process has not seen which file system belongs there: start again to use what there is", what)
	case at.ID == vfs.FileID{} || at.ID.Device != former.device:
		return fmt.Errorf("%s, and on another file system than before: it is taken for a mount point with nothing mounted; mount the disk, or start again to use what there is", what)
	}
	return nil
}

// returning refuses an identity that no disk of this node has, and one whose files
// are still open.
func (t *seat) returning(former *disk) error {
	b, err := vfs.ReadFile(t.s.o.FS, filepath.Join(t.dir, identityName), identityLimit)
	if err != nil {
		return err
	}
	i, err := decodeIdentity(b)
	if err != nil {
		return fmt.Errorf("%w: identity file %s: %w", ErrDisk, identityName, err)
	}
	if other := t.s.seatOf(i.uuid); other != nil {
		return fmt.Errorf("%w: it has the identity of %s: one is a copy", ErrDisk, other.dir)
	}
	if former != nil && former.ident.uuid == i.uuid {
		select {
		case <-former.buried:
			return nil
		default:
			return errors.New("the same disk is back, and its files are still being closed")
		}
	}
	if !slices.ContainsFunc(t.s.o.Directory.NodeDisks(), func(d NodeDisk) bool { return d.UUID == i.uuid }) {
		return fmt.Errorf("%w: disk %s is none of this node: start again to take it over", ErrDisk, hexOf(i.uuid))
	}
	return nil
}

// consider takes the disk that was found into use, once it has looked that way
// for long enough, or tells why it is not.
func (w *watcher) consider(found find) {
	v, now := &w.vacancy, w.health.now
	if found.why != nil {
		if text := found.why.Error(); text != v.told {
			v.told = text
			w.s.o.Events(Event{Kind: EventDiskRefused, Dir: w.dir, Err: found.why})
		}
		v.since = 0
		return
	}
	if v.since == 0 || v.find.empty != found.empty {
		v.find, v.since = found, max(now, 1)
	}
	if now-v.since < settled || now < w.health.until {
		return
	}
	w.away(func() func() {
		d, err := w.adopt(found)
		return func() { w.adopted(d, err) }
	})
}

// adopt takes the directory into use as a start does: claims and registers the
// disk and opens its volumes.
func (w *watcher) adopt(found find) (*disk, error) {
	s := w.s
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	switch again := w.inspect(); {
	case again.why != nil:
		return nil, again.why
	case again.empty != found.empty:
		return nil, errors.New("it changes")
	}
	d, err := w.claim()
	if err != nil {
		return nil, err
	}
	if former := w.present(); found.empty && d.device != former.device {
		err = errors.New("another file system was mounted meanwhile")
	} else if other := s.seatOf(d.ident.uuid); other != nil {
		err = fmt.Errorf("%w: it has the identity of %s: one is a copy", ErrDisk, other.dir)
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(s.life, s.o.DirectoryTimeout)
		defer cancel()
		err = d.register(ctx)
	}
	if err != nil {
		d.end()
		return nil, errors.Join(err, d.lock.Close())
	}
	if err := d.open(make(chan struct{}, openAtOnce)); err != nil {
		d.failed(err) // its volumes are out of service, as after a start
	}
	if s.life.Err() == nil {
		d.begin()
	}
	s.fleet.change(func(all []*disk) []*disk { return append(all, d) })
	return d, nil
}

// adopted puts the disk into service.
func (w *watcher) adopted(d *disk, err error) {
	if err != nil {
		w.vacancy.since = 0
		w.health.wait()
		if w.ctx.Err() == nil {
			w.s.o.Events(Event{Kind: EventDiskRefused, Dir: w.dir, Err: err})
		}
		return
	}
	former := w.present()
	w.take(d)
	w.health.comeBack(former != nil && former.ident.uuid == d.ident.uuid)
	w.vacancy = vacancy{}
	w.publish()
	w.s.o.Events(Event{Kind: EventDiskBack, Dir: w.dir, Reason: ReasonVanished})
	w.s.diskBack(d)
	w.s.o.DiskChanged(w.dir, nil)
}
