package raftgroup

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// snapshots is the raft.SnapshotStore: one directory per snapshot, holding a
// Pebble checkpoint and a checksummed meta file (docs/group-format.md). A
// snapshot exists once its directory has its final name; anything else is a
// leftover and removed. Only the newest is kept, and those being read.
type snapshots struct {
	fs  vfs.FS
	dir string

	mu      sync.Mutex // guards the fields below
	seq     uint64     // makes names of one process distinct
	reading map[string]int
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

func openSnapshots(fsys vfs.FS, dir string) (*snapshots, error) {
	s := &snapshots{fs: fsys, dir: dir, reading: map[string]int{}}
	if err := makeDir(fsys, dir); err != nil {
		return nil, err
	}
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) {
			if err := fsys.RemoveAll(fsys.PathJoin(dir, name)); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// metas returns what is there, newest first. A damaged one is an error: the log
// may have been truncated on its account.
func (s *snapshots) metas() ([]snapMeta, error) {
	names, err := s.fs.List(s.dir)
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

func (s *snapshots) readMeta(id string) (snapMeta, error) {
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

func encodeMeta(m snapMeta) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	b := append([]byte(metaMagic), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(b[8:], metaVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(body)))
	b = append(b, body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func decodeMeta(b []byte) (snapMeta, error) {
	var m snapMeta
	if len(b) < 20 || string(b[:8]) != metaMagic {
		return m, fmt.Errorf("%w: not a snapshot meta file", ErrCorrupt)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return m, fmt.Errorf("%w: meta checksum", ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != metaVersion {
		return m, fmt.Errorf("%w: snapshot meta version %d", ErrUnsupported, v)
	}
	if int(binary.LittleEndian.Uint32(b[12:])) != len(body)-16 {
		return m, fmt.Errorf("%w: meta length", ErrCorrupt)
	}
	if err := json.Unmarshal(body[16:], &m); err != nil {
		return m, fmt.Errorf("%w: meta: %w", ErrCorrupt, err)
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
	s.mu.Lock()
	s.reading[id]++
	s.mu.Unlock()
	m, err := s.readMeta(id)
	if err != nil {
		s.doneReading(id)
		return nil, nil, err
	}
	dir := s.fs.PathJoin(s.dir, id, stateName)
	r := newStreamReader(func(w io.Writer) error { return writeStream(w, s.fs, dir, m.StateIndex, m.Files) },
		func() { s.doneReading(id) })
	return m.raft(), r, nil
}

func (s *snapshots) doneReading(id string) {
	s.mu.Lock()
	if s.reading[id]--; s.reading[id] == 0 {
		delete(s.reading, id)
	}
	s.mu.Unlock()
}

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration,
	confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	s.seq++
	seq := s.seq
	s.mu.Unlock()
	var id string
	for ; ; seq++ { // a former process may have used the number
		id = fmt.Sprintf("%020d-%d-%d", index, term, seq)
		if _, err := s.fs.Stat(s.fs.PathJoin(s.dir, id)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return nil, err
		}
	}
	k := &sink{store: s, tmp: s.fs.PathJoin(s.dir, id+tmpSuffix), meta: snapMeta{
		ID: id, Version: version, Index: index, Term: term,
		Configuration: raft.EncodeConfiguration(conf), ConfigurationIndex: confIndex,
	}}
	if err := s.fs.RemoveAll(k.tmp); err != nil {
		return nil, err
	}
	return k, s.fs.MkdirAll(k.tmp, 0o700)
}

// prune removes every snapshot but the newest and those being read. Failing to
// is not a failure of the new one: the next snapshot tries again.
func (s *snapshots) prune(keep string) {
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

// sink makes one snapshot, either from a local checkpoint or from the stream
// another member sends.
type sink struct {
	store *snapshots
	tmp   string
	meta  snapMeta

	pipe *io.PipeWriter // of a stream
	done chan error     // its decoder's end
	over bool
}

// ID implements raft.SnapshotSink.
func (k *sink) ID() string { return k.meta.ID }

// checkpoint fills the sink from db, which has applied stateIndex.
func (k *sink) checkpoint(db *pebble.DB, stateIndex uint64) error {
	dir := k.store.fs.PathJoin(k.tmp, stateName)
	if err := db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return err
	}
	names, err := k.store.fs.List(dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		st, err := k.store.fs.Stat(k.store.fs.PathJoin(dir, name))
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
			k.meta.StateIndex, k.meta.Files, err = readStream(r, k.store.fs, k.store.fs.PathJoin(k.tmp, stateName))
			r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
			k.done <- err
		}()
	}
	return k.pipe.Write(p)
}

// Close implements raft.SnapshotSink: it makes the snapshot durable and then
// visible, in this order: files, meta, directory, name.
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
	if err := k.commit(); err != nil {
		return errors.Join(err, k.Cancel())
	}
	k.over = true
	k.store.prune(k.meta.ID)
	return nil
}

func (k *sink) commit() error {
	if len(k.meta.Files) == 0 {
		return errors.New("snapshot is empty")
	}
	b, err := encodeMeta(k.meta)
	if err != nil {
		return err
	}
	f := k.store.fs
	if err := writeSynced(f, f.PathJoin(k.tmp, metaName), bytes.NewReader(b)); err != nil {
		return err
	}
	if err := syncDir(f, k.tmp); err != nil {
		return err
	}
	if err := f.Rename(k.tmp, f.PathJoin(k.store.dir, k.meta.ID)); err != nil {
		return err
	}
	return syncDir(f, k.store.dir)
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
	return k.store.fs.RemoveAll(k.tmp)
}
