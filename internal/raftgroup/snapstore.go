package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// snapshots is the raft.SnapshotStore. A snapshot is made where the working state
// lies and copied to every other mirror before Raft hears of it, so that the log
// is truncated nowhere without one.
type snapshots struct {
	mirrors *mirrors
	home    func() *place // of the working state; nil: it has none now
	stop    <-chan struct{}
	sending func(index uint64, r io.ReadCloser) io.ReadCloser // a follower may be given it

	commit sync.Mutex // held while a snapshot becomes visible in every mirror, and while a mirror joins

	mu  sync.Mutex // guards seq
	seq uint64     // makes names of one process distinct
}

// dirs returns the members' snapshots, the home's first.
func (s *snapshots) dirs() []*place {
	var out []*place
	for _, m := range s.mirrors.healthy() {
		out = append(out, m.place)
	}
	if home := s.home(); home != nil {
		if i := slices.Index(out, home); i > 0 {
			out = slices.Insert(slices.Delete(out, i, i+1), 0, home)
		}
	}
	return out
}

// first calls f for one mirror after the other until it succeeds. A mirror whose
// snapshots cannot be read is lost, unless it is the last.
func (s *snapshots) first(f func(*place) error) (err error) {
	for _, p := range s.dirs() {
		if err = f(p); err == nil {
			return nil
		}
		if p.isGone() || errors.Is(err, fs.ErrNotExist) { // an older mirror may lack the newest one
			continue
		}
		if !s.mirrors.lose(p, err) {
			return err
		}
	}
	return err
}

// metas returns what is there, newest first.
func (s *snapshots) metas() (out []snapMeta, err error) {
	err = s.first(func(p *place) error { out, err = p.snaps.metas(); return err })
	return out, err
}

// newest returns the newest snapshot of any mirror and where it is; no ID when
// there is none.
func (s *snapshots) newest() (best snapMeta, at *place) {
	for _, p := range s.dirs() {
		metas, err := p.snaps.metas()
		if err == nil && len(metas) > 0 && (best.ID == "" || metas[0].Index > best.Index) {
			best, at = metas[0], p
		}
	}
	return best, at
}

// List implements raft.SnapshotStore.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	metas, err := s.metas()
	if err != nil {
		return nil, err
	}
	out := make([]*raft.SnapshotMeta, len(metas))
	for i, m := range metas {
		out[i] = m.raft()
	}
	return out, nil
}

// Open implements raft.SnapshotStore. The stream is made while it is read.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	var m snapMeta
	var r io.ReadCloser
	err := s.first(func(p *place) (err error) { m, r, err = p.snaps.read(id); return err })
	if err != nil {
		return nil, nil, err
	}
	return m.raft(), s.sending(m.Index, r), nil
}

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration,
	confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	dirs := s.dirs()
	if len(dirs) == 0 {
		return nil, s.mirrors.noMirror()
	}
	id, err := s.name(dirs, index, term)
	if err != nil {
		return nil, err
	}
	p := dirs[0]
	k := &sink{store: s, place: p, tmp: p.fs.PathJoin(p.snaps.dir, id+tmpSuffix), meta: snapMeta{
		ID: id, Version: version, Index: index, Term: term,
		Configuration: raft.EncodeConfiguration(conf), ConfigurationIndex: confIndex,
	}}
	if err := p.fs.RemoveAll(k.tmp); err != nil {
		return nil, err
	}
	return k, p.fs.MkdirAll(k.tmp, 0o700)
}

// name returns an id that is free in every mirror: a former process may have used
// the number.
func (s *snapshots) name(dirs []*place, index, term uint64) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		s.seq++
		id := fmt.Sprintf("%020d-%d-%d", index, term, s.seq)
		used := false
		for _, p := range dirs {
			_, err := p.fs.Stat(p.fs.PathJoin(p.snaps.dir, id))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			used = used || err == nil
		}
		if !used {
			return id, nil
		}
	}
}

// spread copies a snapshot from p to every other mirror. One that cannot take it
// is lost: its log must not be truncated.
func (s *snapshots) spread(p *place, id string) error {
	var others []*place
	for _, o := range s.dirs() {
		if o != p {
			others = append(others, o)
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(others))
	for i, o := range others {
		wg.Go(func() { errs[i] = p.snaps.copyTo(o.snaps, id, s.stop) })
	}
	wg.Wait()
	for i, err := range errs {
		var source *sourceError
		if errors.As(err, &source) {
			return err
		}
		if err != nil && !s.mirrors.lose(others[i], fmt.Errorf("copy a snapshot: %w", err)) {
			return err
		}
	}
	for _, o := range others {
		if !o.isGone() {
			o.snaps.prune(id)
		}
	}
	return nil
}

// sink makes one snapshot, either from a local checkpoint or from the stream
// another member of the group sends.
type sink struct {
	store *snapshots
	place *place // where it is made
	tmp   string
	meta  snapMeta

	pipe *io.PipeWriter // of a stream
	done chan error     // its decoder's end
	over bool
}

// ID implements raft.SnapshotSink.
func (k *sink) ID() string { return k.meta.ID }

// checkpoint fills the sink from in, which has applied stateIndex.
func (k *sink) checkpoint(in *instance, stateIndex uint64) error {
	if in.place != k.place {
		return errors.New("the state has moved to another directory")
	}
	f := k.place.fs
	dir := f.PathJoin(k.tmp, stateName)
	if err := in.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return err
	}
	names, err := f.List(dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		st, err := f.Stat(f.PathJoin(dir, name))
		if err != nil {
			return err
		}
		k.meta.Files = append(k.meta.Files, snapFile{name, st.Size()})
	}
	k.meta.StateIndex = stateIndex
	return nil
}

// Write implements raft.SnapshotSink for a stream.
func (k *sink) Write(p []byte) (int, error) {
	if k.pipe == nil {
		var r *io.PipeReader
		r, k.pipe = io.Pipe()
		k.done = make(chan error, 1)
		go func() {
			var err error
			f := k.place.fs
			k.meta.StateIndex, k.meta.Files, err = readStream(r, f, f.PathJoin(k.tmp, stateName))
			r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
			k.done <- err
		}()
	}
	return k.pipe.Write(p)
}

// Close implements raft.SnapshotSink: it makes the snapshot durable and visible
// where it was made, and then in every other mirror.
func (k *sink) Close() error {
	if k.over {
		return nil
	}
	if k.pipe != nil {
		k.pipe.Close()
		if err := <-k.done; err != nil {
			k.pipe = nil
			return errors.Join(err, k.Cancel())
		}
		k.pipe = nil
	}
	if len(k.meta.Files) == 0 {
		return errors.Join(errors.New("snapshot is empty"), k.Cancel())
	}
	k.store.commit.Lock()
	defer k.store.commit.Unlock()
	if err := k.place.snaps.put(k.tmp, k.meta); err != nil {
		return errors.Join(err, k.Cancel())
	}
	k.over = true
	if err := k.store.spread(k.place, k.meta.ID); err != nil {
		return err
	}
	if k.place.isGone() {
		return errors.New("the directory was lost")
	}
	k.place.snaps.prune(k.meta.ID)
	return nil
}

// Cancel implements raft.SnapshotSink.
func (k *sink) Cancel() error {
	if k.over {
		return nil
	}
	k.over = true
	if k.pipe != nil {
		k.pipe.CloseWithError(errors.New("cancelled"))
		<-k.done
	}
	return k.place.fs.RemoveAll(k.tmp)
}
