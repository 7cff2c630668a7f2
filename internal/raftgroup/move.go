package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// errAhead means that a working state holds more than the log: entries were lost.
var errAhead = errors.New("the log ends before the state")

// openState opens the working state, or rebuilds it, in one of the mirrors.
// Snapshot and log of each were found to hold everything.
func (g *Group) openState(found []*finding) error {
	home := g.firstHome(found)
	for {
		err := g.openStateIn(home)
		if err == nil {
			break
		}
		if errors.Is(err, errAhead) || !g.mirrors.lose(home.place, err) {
			return err
		}
		g.emit(Event{Kind: EventLog, Level: Warn, Text: "the state cannot be opened in " + home.place.c.given, Err: err})
		home = g.firstHome(found)
	}
	for _, f := range found { // states that were current once, in this directory or another
		if f.away != nil || f.place.isGone() {
			continue
		}
		for _, seq := range f.states {
			dir := stateDir(f.place, seq)
			if f == home && dir == g.states.cur.dir {
				continue
			}
			if err := f.place.fs.RemoveAll(dir); err != nil {
				if f == home {
					return err
				}
				g.emit(Event{Kind: EventLog, Level: Error, Text: "remove old state: " + err.Error(), Err: err})
			}
		}
	}
	return nil
}

// firstHome picks the mirror with the newest state, or the first mirror. It also
// notes the greatest number ever used.
func (g *Group) firstHome(found []*finding) *finding {
	var home *finding
	var newest uint64
	for _, f := range found {
		n := uint64(0)
		if len(f.states) > 0 {
			n = f.states[len(f.states)-1]
		}
		g.states.seq = max(g.states.seq, n)
		if f.member && !f.place.isGone() && (home == nil || n > newest) {
			home, newest = f, n
		}
	}
	return home
}

func (g *Group) openStateIn(f *finding) error {
	if len(f.states) == 0 {
		fresh := f.snap.ID == "" && g.states.seq == 0
		return g.rebuild(f, fresh, nil)
	}
	dir := stateDir(f.place, f.states[len(f.states)-1])
	in, err := g.states.openDir(f.place, dir, true)
	if errors.Is(err, pebble.ErrDBDoesNotExist) || pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) {
		return g.rebuild(f, false, err)
	}
	if err != nil {
		return err
	}
	applied, err := readApplied(in.db)
	if err != nil {
		return errors.Join(err, in.db.Close())
	}
	if last := max(f.last, g.lastIndex()); applied > max(last, f.snap.StateIndex) {
		return errors.Join(fmt.Errorf("%w: the state has applied entry %d, the log ends at %d: %w", ErrCorrupt, applied, last, errAhead), in.db.Close())
	}
	if applied < f.snap.StateIndex {
		if err := in.db.Close(); err != nil {
			return err
		}
		return g.rebuild(f, false, fmt.Errorf("it ends at entry %d, before the snapshot", applied))
	}
	return g.adopt(in, g.states.seq, applied)
}

// lastIndex is that of the log, zero if it cannot be read.
func (g *Group) lastIndex() uint64 {
	last, _ := g.log.LastIndex()
	return last
}

// rebuild makes a new state from the newest snapshot, or an empty one when there
// is none, for the log to be replayed into.
func (g *Group) rebuild(f *finding, fresh bool, why error) error {
	if !fresh {
		g.emit(Event{Kind: EventRebuilding, Index: f.snap.Index, Err: why, Dir: f.place.c.given})
	}
	seq := g.states.seq + 1
	in, applied, err := g.fromSnapshot(f.place, f.snap, seq)
	if err != nil {
		return err
	}
	if err := g.adopt(in, seq, applied); err != nil {
		return err
	}
	if f.snap.ID != "" {
		g.emit(Event{Kind: EventRestored, Index: applied})
	}
	return nil
}

// fromSnapshot makes the state directory with that number in p.
func (g *Group) fromSnapshot(p *place, snap snapMeta, seq uint64) (in *instance, applied uint64, err error) {
	if snap.ID == "" {
		in, err = g.states.openDir(p, stateDir(p, seq), false)
		return in, 0, err
	}
	_, r, err := p.snaps.read(snap.ID)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	in, applied, err = g.unpack(p, r, seq)
	if err != nil {
		err = fmt.Errorf("restore snapshot %s: %w", snap.ID, err)
	}
	return in, applied, err
}

// unpack makes a state directory from a snapshot stream. It becomes visible by its
// rename; until then the current one is untouched.
func (g *Group) unpack(p *place, r io.Reader, seq uint64) (in *instance, applied uint64, err error) {
	dir := stateDir(p, seq)
	tmp := dir + tmpSuffix
	if err := p.fs.RemoveAll(tmp); err != nil {
		return nil, 0, err
	}
	index, _, err := readStream(r, p.fs, tmp)
	if err == nil {
		err = g.checkDir(p, tmp, index)
	}
	if err != nil {
		return nil, 0, errors.Join(err, p.fs.RemoveAll(tmp))
	}
	if err := p.fs.Rename(tmp, dir); err != nil {
		return nil, 0, err
	}
	if err := syncDir(p.fs, p.dir); err != nil {
		return nil, 0, err
	}
	if in, err = g.states.openDir(p, dir, true); err != nil {
		return nil, 0, err
	}
	if applied, err = readApplied(in.db); err != nil {
		return nil, 0, errors.Join(err, in.db.Close())
	}
	return in, applied, nil
}

// restoreSent replaces the state by the snapshot that the leader sent.
func (g *Group) restoreSent(r io.Reader) error {
	cur, err := g.states.await(nil)
	if err != nil {
		return err
	}
	defer g.states.release(cur)
	g.applyMu.Lock()
	defer g.applyMu.Unlock()
	seq := g.states.next()
	in, applied, err := g.unpack(cur.place, r, seq)
	if err != nil {
		return err
	}
	if err := g.adopt(in, seq, applied); err != nil {
		return err
	}
	g.tickets.jumped()
	g.emit(Event{Kind: EventRestored, Index: applied})
	return nil
}

// checkDir reads a whole state once, so that Pebble checks every block, and
// makes sure it holds what it claims.
func (g *Group) checkDir(p *place, dir string, index uint64) error {
	in, err := g.states.openDir(p, dir, true)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	err = func() error {
		it, err := in.db.NewIter(nil)
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			if _, err := it.ValueAndErr(); err != nil {
				return errors.Join(err, it.Close())
			}
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		applied, err := readApplied(in.db)
		if err == nil && applied < index {
			err = fmt.Errorf("%w: a snapshot of entry %d ends at %d", ErrCorrupt, index, applied)
		}
		return err
	}()
	return errors.Join(err, in.db.Close())
}

// adopt makes in the current state and lets the Machine load it.
func (g *Group) adopt(in *instance, seq, applied uint64) error {
	if err := g.opts.Machine.Restored(in.db); err != nil {
		return errors.Join(err, in.db.Close())
	}
	g.states.install(in, seq)
	g.setApplied(applied)
	return nil
}

// moveState makes the state anew when its disk was lost, in the first mirror that
// can take it. Applying stands still meanwhile.
func (g *Group) moveState() {
	for g.states.wanted() && g.stoppedErr() == nil {
		healthy := g.mirrors.healthy()
		if len(healthy) == 0 {
			g.fail(g.mirrors.noMirror())
			return
		}
		p := healthy[0].place
		g.applyMu.Lock() // the one who applies has left: what it used was cut off
		err := g.moveTo(p)
		g.applyMu.Unlock()
		switch {
		case err == nil, p.isGone(), errors.Is(err, errTruncated):
		case g.stoppedErr() != nil:
			return
		case errors.Is(err, ErrUnsupported), errors.Is(err, ErrBroken), !g.mirrors.lose(p, err):
			g.fail(fmt.Errorf("make the state anew: %w", err))
			return
		}
	}
}

// errTruncated means that a later snapshot has taken entries' place in the log.
var errTruncated = errors.New("the log was truncated meanwhile")

func (g *Group) moveTo(p *place) error {
	seq := g.states.next()
	metas, err := p.snaps.metas()
	if err != nil {
		return err
	}
	var snap snapMeta
	if len(metas) > 0 {
		snap = metas[0]
	}
	applied := g.applied.Load()
	g.emit(Event{Kind: EventRebuilding, Index: snap.Index, Dir: p.c.given, Err: errors.New("its disk was lost")})
	in, have, err := g.fromSnapshot(p, snap, seq)
	if err != nil {
		return err
	}
	// What was applied before is applied again by another Machine: this one shows
	// the world where it stands, and must not go back.
	scratch := g.opts.Scratch()
	if err = scratch.Restored(in.db); err == nil {
		err = g.replay(in, scratch, have, applied)
	}
	if err == nil {
		err = g.adopt(in, seq, max(have, applied))
	} else {
		g.states.drop(in)
	}
	if err == nil {
		g.emit(Event{Kind: EventRestored, Index: g.applied.Load(), Dir: p.c.given})
	}
	return err
}

// replay applies the entries after have up to upTo to in.
func (g *Group) replay(in *instance, m Machine, have, upTo uint64) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if err = diskPanic(r); err == nil {
				panic(r)
			}
			g.states.giveUp(in, err)
		}
	}()
	for have < upTo {
		if err := g.stoppedErr(); err != nil {
			return err
		}
		b := in.db.NewIndexedBatch()
		for have < upTo && b.Len() < maxBatchBytes {
			l, err := readEntry(g.mirrors, have+1)
			if err == raft.ErrLogNotFound {
				err = errTruncated
			}
			if err == nil && l.Type == raft.LogCommand {
				_, err = applyEntry(m, b, l)
			}
			if err != nil {
				return errors.Join(fmt.Errorf("entry %d: %w", have+1, err), b.Close())
			}
			have++
		}
		if err := g.states.commit(in, b, have); err != nil {
			return err
		}
		m.Applied(in.db, have)
	}
	return nil
}
