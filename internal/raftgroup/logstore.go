package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// store is what Raft needs of its log file.
type store interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// openBolt opens the log file. A second process that has it open makes this
// fail after a second in place of waiting for ever.
func openBolt(path string) (*raftboltdb.BoltStore, error) {
	if err := checkBoltSize(path); err != nil {
		return nil, err
	}
	var s *raftboltdb.BoltStore
	err := guarded(func() (err error) {
		s, err = raftboltdb.New(raftboltdb.Options{
			Path: path,
			BoltOptions: &bbolt.Options{
				Timeout:        time.Second,
				NoFreelistSync: true, // the freelist is rebuilt at open; syncing it costs every append
				FreelistType:   bbolt.FreelistMapType,
			},
			MsgpackUseNewTimeFormat: true,
		})
		return err
	})
	if errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum) || errors.Is(err, bolterrors.ErrVersionMismatch) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return s, err
}

// checkBoltSize refuses a file that lost its end. bbolt maps the pages its meta
// page counts and would die of a page fault in a goroutine of its own. A file
// without a good meta page is left for bbolt to judge.
//
// A page begins with 16 bytes of header; a meta page (0 and 1) goes on with u32
// magic, version, page size, flags, 4 × u64, u64 transaction, u64 FNV-1a of all
// that; the fourth of the u64 is the number of pages in use.
func checkBoltSize(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	const header, meta = 16, 64
	var used, newest uint64
	for _, at := range []int64{0, int64(os.Getpagesize())} {
		b := make([]byte, header+meta)
		if _, err := f.ReadAt(b, at); err != nil {
			continue
		}
		m := b[header:]
		sum := fnv.New64a()
		_, _ = sum.Write(m[:meta-8])
		if sum.Sum64() != binary.NativeEndian.Uint64(m[meta-8:]) {
			continue
		}
		if tx := binary.NativeEndian.Uint64(m[48:]); tx >= newest {
			newest = tx
			used = binary.NativeEndian.Uint64(m[40:]) * uint64(binary.NativeEndian.Uint32(m[8:]))
		}
	}
	if uint64(st.Size()) < used {
		return fmt.Errorf("%w: %s has %d bytes of %d", ErrCorrupt, filepath.Base(path), st.Size(), used)
	}
	return nil
}

// logStore stands between Raft and its log file. It adds a checksum to each
// entry and checks it on every read, and it makes the first failure the last:
// what Raft would retry, or panic about, stops the group.
type logStore struct {
	under store
	fail  func(error) // stops the group; safe from any goroutine
	dead  func()      // tells that a goroutine of Raft's ended early
	armed atomic.Bool // callers are Raft's goroutines
	err   atomic.Pointer[error]
	watch logWatch
	holds holds
	hints hints
	now   func() time.Duration // nil: nothing is held
}

// poison remembers the first failure and stops the group.
func (s *logStore) poison(err error) error {
	if s.err.CompareAndSwap(nil, &err) {
		s.fail(err)
	}
	return *s.err.Load()
}

func (s *logStore) poisoned() error {
	if p := s.err.Load(); p != nil {
		return *p
	}
	return nil
}

// end stops the group and the calling goroutine. Raft panics when it cannot
// read an entry it must apply or save its term, which would take the whole
// process down; the role alone has to stop, and a made-up answer could reach
// another voter.
func (s *logStore) end(err error) error {
	err = s.poison(err)
	if s.armed.Load() {
		s.dead()
		runtime.Goexit()
	}
	return err
}

// FirstIndex implements raft.LogStore.
func (s *logStore) FirstIndex() (i uint64, err error) {
	err = guarded(func() error { i, err = s.under.FirstIndex(); return err })
	return i, err
}

// LastIndex implements raft.LogStore.
func (s *logStore) LastIndex() (i uint64, err error) {
	err = guarded(func() error { i, err = s.under.LastIndex(); return err })
	return i, err
}

// GetLog implements raft.LogStore. An entry that is not there is
// raft.ErrLogNotFound, which Raft answers with a snapshot.
func (s *logStore) GetLog(index uint64, log *raft.Log) error {
	defer s.watch.call()()
	err := s.read(index, log)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	return s.end(err)
}

func (s *logStore) read(index uint64, log *raft.Log) error {
	l, err := readEntry(s.under, index)
	if err != nil {
		*log = raft.Log{}
		return err
	}
	*log = *l
	return nil
}

// readEntry reads an entry and checks it.
func readEntry(s store, index uint64) (*raft.Log, error) {
	log := &raft.Log{}
	err := guarded(func() error { return s.GetLog(index, log) })
	switch {
	case err == raft.ErrLogNotFound || errors.Is(err, ErrCorrupt):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: log entry %d: %w", ErrCorrupt, index, err)
	case log.Index != index || !sealed(log):
		return nil, fmt.Errorf("%w: log entry %d does not match its checksum", ErrCorrupt, index)
	}
	return log, nil
}

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore. It returns after the sync.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	defer s.watch.call()()
	if err := s.poisoned(); err != nil {
		return err
	}
	copies := make([]raft.Log, len(logs)) // Raft's own stay untouched: others read them
	out := make([]*raft.Log, len(logs))
	for i, l := range logs {
		copies[i] = *l
		out[i] = &copies[i]
		if len(l.Extensions) == 0 {
			copies[i].Extensions = seal(l)
		} else if !sealed(l) {
			return fmt.Errorf("%w: entry %d arrived damaged", ErrCorrupt, l.Index)
		}
	}
	if err := guarded(func() error { return s.under.StoreLogs(out) }); err != nil {
		return s.poison(fmt.Errorf("append to the log: %w", err))
	}
	s.hints.has(out[len(out)-1].Index)
	return nil
}

// DeleteRange implements raft.LogStore. What a follower will need after the
// snapshot it is given stays at the front.
func (s *logStore) DeleteRange(lo, hi uint64) error {
	defer s.watch.call()()
	if err := s.poisoned(); err != nil {
		return err
	}
	if last, err := s.LastIndex(); s.now != nil && err == nil && hi < last {
		if hi = s.holds.limit(s.now(), hi); hi < lo {
			return nil
		}
	}
	if err := guarded(func() error { return s.under.DeleteRange(lo, hi) }); err != nil {
		return s.poison(fmt.Errorf("truncate the log: %w", err))
	}
	return nil
}

// Set implements raft.StableStore.
func (s *logStore) Set(key, val []byte) error {
	defer s.watch.call()()
	if err := s.poisoned(); err != nil {
		return err
	}
	if err := guarded(func() error { return s.under.Set(key, val) }); err != nil {
		return s.poison(fmt.Errorf("save %q: %w", key, err))
	}
	return nil
}

// Get implements raft.StableStore.
func (s *logStore) Get(key []byte) (val []byte, err error) {
	err = guarded(func() error { val, err = s.under.Get(key); return err })
	return val, err
}

// SetUint64 implements raft.StableStore. Raft panics when it fails.
func (s *logStore) SetUint64(key []byte, val uint64) error {
	defer s.watch.call()()
	err := s.poisoned()
	if err == nil {
		err = guarded(func() error { return s.under.SetUint64(key, val) })
	}
	if err != nil {
		return s.end(fmt.Errorf("save %q: %w", key, err))
	}
	return nil
}

// GetUint64 implements raft.StableStore.
func (s *logStore) GetUint64(key []byte) (val uint64, err error) {
	err = guarded(func() error { val, err = s.under.GetUint64(key); return err })
	return val, err
}

// verify reads a whole log before Raft does: no gap, every checksum right. It
// returns the first and last index, zeros for an empty log, and the last term.
func verify(s store) (first, last, term uint64, err error) {
	err = guarded(func() error {
		if first, err = s.FirstIndex(); err == nil {
			last, err = s.LastIndex()
		}
		return err
	})
	if err != nil {
		return 0, 0, 0, fmt.Errorf("%w: log: %w", ErrCorrupt, err)
	}
	if first == 0 {
		return 0, 0, 0, nil
	}
	for i := first; i <= last; i++ {
		l, err := readEntry(s, i)
		if err == raft.ErrLogNotFound {
			return 0, 0, 0, fmt.Errorf("%w: log entry %d of %d to %d is missing", ErrCorrupt, i, first, last)
		} else if err != nil {
			return 0, 0, 0, err
		}
		term = l.Term
	}
	return first, last, term, nil
}

// The extension of an entry: a version byte, then CRC32C of index, term, type
// and data, little-endian. It travels to followers with the entry, so it also
// covers the way there.
const sealVersion = 1

func seal(l *raft.Log) []byte {
	var head [17]byte
	binary.LittleEndian.PutUint64(head[0:], l.Index)
	binary.LittleEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	crc := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
	return binary.LittleEndian.AppendUint32([]byte{sealVersion}, crc)
}

func sealed(l *raft.Log) bool { return string(l.Extensions) == string(seal(l)) }

// guarded turns a panic or a page fault inside bbolt, which trusts the pages it
// maps, into an error.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: reading the log file: %v", ErrCorrupt, r)
		}
	}()
	return f()
}
