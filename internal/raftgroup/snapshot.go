package raftgroup

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// snapDir holds the snapshots of one mirror: one directory per snapshot, with a
// Pebble checkpoint and a checksummed meta file (docs/group-format.md). A
// snapshot exists once its directory has its final name; anything else is a
// leftover and removed. Only the newest is kept, and those being read.
type snapDir struct {
	fs  vfs.FS
	dir string

	mu      sync.Mutex     // guards reading
	reading map[string]int // by id
}

const (
	metaName    = "meta"
	metaMagic   = "HLsnapm1"
	metaVersion = 1
	stateName   = "state"
	maxMetaSize = 64 << 20
)

// snapMeta is the body of a meta file, as JSON.
type snapMeta struct {
	ID                 string
	Version            raft.SnapshotVersion
	Index, Term        uint64
	Configuration      []byte // as raft.EncodeConfiguration writes it
	ConfigurationIndex uint64
	StateIndex         uint64 // at least this is applied in the checkpoint; it may be ahead of Index
	Files              []snapFile
}

type snapFile struct {
	Name string
	Size int64
}

func newSnapDir(fsys vfs.FS, dir string) *snapDir {
	return &snapDir{fs: fsys, dir: dir, reading: map[string]int{}}
}

// open makes the directory and removes leftovers.
func (s *snapDir) open() error {
	if err := makeDir(s.fs, s.dir); err != nil {
		return err
	}
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) {
			if err := s.fs.RemoveAll(s.fs.PathJoin(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// metas returns what is there, newest first. A damaged one is an error: the log
// may have been truncated on its account.
func (s *snapDir) metas() ([]snapMeta, error) {
	names, err := s.fs.List(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []snapMeta
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) {
			continue
		}
		m, err := s.readMeta(name)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b snapMeta) int {
		return cmp.Or(cmp.Compare(b.Index, a.Index), cmp.Compare(b.Term, a.Term), cmp.Compare(b.ID, a.ID))
	})
	return out, nil
}

func (s *snapDir) readMeta(id string) (snapMeta, error) {
	b, err := readFile(s.fs, s.fs.PathJoin(s.dir, id, metaName), maxMetaSize)
	if err != nil {
		return snapMeta{}, fmt.Errorf("%w: snapshot %s: %w", ErrCorrupt, id, err)
	}
	m, err := decodeMeta(b)
	if err == nil && m.ID != id {
		err = fmt.Errorf("%w: meta names %q", ErrCorrupt, m.ID)
	}
	if err != nil {
		return snapMeta{}, fmt.Errorf("snapshot %s: %w", id, err)
	}
	for _, f := range m.Files {
		st, err := s.fs.Stat(s.fs.PathJoin(s.dir, id, stateName, f.Name))
		if err != nil {
			return snapMeta{}, fmt.Errorf("%w: snapshot %s: %w", ErrCorrupt, id, err)
		}
		if st.Size() != f.Size {
			return snapMeta{}, fmt.Errorf("%w: snapshot %s: %s has %d bytes, not %d", ErrCorrupt, id, f.Name, st.Size(), f.Size)
		}
	}
	return m, nil
}

func encodeMeta(m snapMeta) ([]byte, error) { return encodeBody(metaMagic, metaVersion, m) }

func decodeMeta(b []byte) (snapMeta, error) {
	var m snapMeta
	if err := decodeBody(b, metaMagic, metaVersion, "snapshot meta", &m); err != nil {
		return m, err
	}
	for _, f := range m.Files {
		if err := checkName(f.Name, f.Size); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m snapMeta) raft() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: m.Version, ID: m.ID, Index: m.Index, Term: m.Term,
		Configuration: raft.DecodeConfiguration(m.Configuration), ConfigurationIndex: m.ConfigurationIndex,
		Size: streamSize(m.Files),
	}
}

// read returns a snapshot's meta and its stream, which is made while it is read.
func (s *snapDir) read(id string) (snapMeta, io.ReadCloser, error) {
	s.mu.Lock()
	s.reading[id]++
	s.mu.Unlock()
	m, err := s.readMeta(id)
	if err != nil {
		s.doneReading(id)
		return m, nil, err
	}
	dir := s.fs.PathJoin(s.dir, id, stateName)
	r := newStreamReader(func(w io.Writer) error { return writeStream(w, s.fs, dir, m.StateIndex, m.Files) },
		func() { s.doneReading(id) })
	return m, r, nil
}

func (s *snapDir) doneReading(id string) {
	s.mu.Lock()
	if s.reading[id]--; s.reading[id] == 0 {
		delete(s.reading, id)
	}
	s.mu.Unlock()
}

// prune removes every snapshot but the newest and those being read. Failing to
// is not a failure of the new one: the next snapshot tries again.
func (s *snapDir) prune(keep string) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		// The name of a snapshot begins with its index in 20 digits.
		if name >= keep || strings.HasSuffix(name, tmpSuffix) || s.reading[name] > 0 {
			continue
		}
		// Two steps, so that a half-removed directory is not taken for a damaged snapshot.
		gone := s.fs.PathJoin(s.dir, name+tmpSuffix)
		if s.fs.Rename(s.fs.PathJoin(s.dir, name), gone) == nil {
			_ = s.fs.RemoveAll(gone)
		}
	}
}

// put makes the directory tmp a snapshot with meta m: files that are synced
// already, then meta, directory, name.
func (s *snapDir) put(tmp string, m snapMeta) error {
	b, err := encodeMeta(m)
	if err != nil {
		return err
	}
	if err := writeSynced(s.fs, s.fs.PathJoin(tmp, metaName), bytes.NewReader(b)); err != nil {
		return err
	}
	if err := syncDir(s.fs, tmp); err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, s.fs.PathJoin(s.dir, m.ID)); err != nil {
		return err
	}
	return syncDir(s.fs, s.dir)
}

// copyTo makes the snapshot in another mirror too, unless it is there. stop ends
// it early.
func (s *snapDir) copyTo(to *snapDir, id string, stop <-chan struct{}) error {
	if _, err := to.readMeta(id); err == nil {
		return nil
	}
	m, r, err := s.read(id)
	if err != nil {
		return &sourceError{err}
	}
	defer r.Close()
	tmp := to.fs.PathJoin(to.dir, id+tmpSuffix)
	if err := to.fs.RemoveAll(tmp); err != nil {
		return err
	}
	if err := makeDir(to.fs, tmp); err != nil {
		return err
	}
	from := &sourceReader{r: r, stop: stop}
	if _, _, err := readStream(from, to.fs, to.fs.PathJoin(tmp, stateName)); err != nil {
		if from.err != nil {
			err = &sourceError{from.err}
		}
		return errors.Join(err, to.fs.RemoveAll(tmp))
	}
	return to.put(tmp, m)
}

// sourceError is a failure of what is copied from, not of where it goes.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// sourceReader remembers the source's failure.
type sourceReader struct {
	r    io.Reader
	stop <-chan struct{}
	err  error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	select {
	case <-s.stop:
		s.err = ErrStopped
		return 0, s.err
	default:
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
