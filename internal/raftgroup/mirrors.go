package raftgroup

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// mirror is the log file in one place.
type mirror struct {
	place *place
	id    tag
	store store
	file  string
	inode os.FileInfo // of the open file
	busy  sync.WaitGroup
}

// Keys of ours in the stable store of each log.
var (
	birthKey  = []byte("hayloft-birth")
	mirrorKey = []byte("hayloft-mirror")
)

// openMirror opens the log file of a place. name is its name for now.
func openMirror(o *Options, p *place, name string) (*mirror, error) {
	m := &mirror{place: p, file: p.disk.PathJoin(p.dir, name)}
	b, err := openBolt(m.file)
	if err != nil {
		return nil, err
	}
	m.store = o.wrapStore(p.c.given, boltStore{b})
	if m.inode, err = os.Stat(m.file); err == nil {
		m.id, err = getTag(m.store, mirrorKey)
	}
	if err != nil {
		return nil, errors.Join(err, m.store.Close())
	}
	return m, nil
}

// getTag reads a tag, zero when there is none.
func getTag(s store, key []byte) (t tag, err error) {
	var v []byte
	err = guarded(func() error { v, err = s.Get(key); return err })
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return t, nil
	}
	if err == nil && len(v) != len(t) {
		err = fmt.Errorf("%w: %q has %d bytes", ErrCorrupt, key, len(v))
	}
	copy(t[:], v)
	return t, err
}

// work runs op on the store, and makes sure that the file is still there: what is
// written to one that was removed is written nowhere.
func (m *mirror) work(op func(store) error) error {
	if err := guarded(func() error { return op(m.store) }); err != nil {
		return err
	}
	st, err := os.Stat(m.file)
	if err == nil && !os.SameFile(st, m.inode) {
		err = fmt.Errorf("%s is another file now", m.file)
	}
	return err
}

// close waits for what still runs and closes the file.
func (m *mirror) close() error {
	m.busy.Wait()
	return m.store.Close()
}

// gather runs f for every place at once and returns how many succeeded and why
// the others did not. As soon as one has succeeded the others have Patience left;
// before that there is nobody to go on with, and all are waited for. What is left
// behind goes on by itself.
func (s *mirrors) gather(places []*place, f func(*place) error) (ok int, failed map[*place]error) {
	type answer struct {
		p   *place
		err error
	}
	answers := make(chan answer, len(places))
	waiting := map[*place]bool{}
	for _, p := range places {
		waiting[p] = true
		go func() { answers <- answer{p, f(p)} }()
	}
	failed = map[*place]error{}
	var limit <-chan time.Time
	for len(waiting) > 0 {
		news := s.newsChan()
		for p := range waiting {
			if p.isGone() {
				failed[p] = errors.New("lost")
				delete(waiting, p)
			}
		}
		if len(waiting) == 0 {
			break
		}
		select {
		case a := <-answers:
			if !waiting[a.p] {
				continue
			}
			delete(waiting, a.p)
			if a.err != nil {
				failed[a.p] = a.err
			} else if ok++; limit == nil {
				limit = s.o.Clock.After(s.o.Patience)
			}
		case <-limit:
			for p := range waiting {
				failed[p] = errHangs
			}
			clear(waiting)
		case <-s.given:
			for p := range waiting {
				failed[p] = errHangs
			}
			clear(waiting)
		case <-news:
		}
	}
	return ok, failed
}

// write has every member do op, one write after the other, the same order on all
// of them. It returns when all that are still members have done it. The error is
// that of the last ones.
func (s *mirrors) write(op func(store) error) error {
	s.opMu.Lock()
	defer s.opMu.Unlock()
	if err := s.settle(); err != nil {
		return err
	}
	byPlace := map[*place]*mirror{}
	var places []*place
	for _, m := range s.healthy() {
		byPlace[m.place] = m
		places = append(places, m.place)
		m.busy.Add(1) // nobody closes it: only settle does
	}
	ok, failed := s.gather(places, func(p *place) error {
		defer byPlace[p].busy.Done()
		return byPlace[p].work(op)
	})
	if ok == 0 {
		var errs []error
		for _, err := range failed {
			errs = append(errs, err)
		}
		if len(errs) == 0 {
			return s.noMirror()
		}
		return errors.Join(errs...)
	}
	for p, err := range failed {
		if !s.lose(p, fmt.Errorf("write the log: %w", err)) {
			return err // those that have it are gone meanwhile
		}
	}
	return s.settle()
}

// read asks one member after the other until one answers. One that cannot is
// lost, unless it is the last.
func read[T any](s *mirrors, op func(store) (T, error)) (v T, err error) {
	type answer struct {
		v   T
		err error
	}
	for {
		s.mu.Lock()
		healthy := s.healthyLocked()
		if len(healthy) == 0 {
			s.mu.Unlock()
			return v, s.noMirror()
		}
		m := healthy[0]
		m.busy.Add(1)
		s.mu.Unlock()
		done := make(chan answer, 1)
		go func() {
			defer m.busy.Done()
			var a answer
			a.err = guarded(func() (err error) { a.v, err = op(m.store); return err })
			done <- a
		}()
		var limit <-chan time.Time
		if len(healthy) > 1 {
			limit = s.o.Clock.After(s.o.Patience)
		}
		var a answer
		select {
		case a = <-done:
		case <-limit:
			a.err = errHangs
		case <-s.given:
			return v, errHangs
		case <-m.place.gone:
			continue
		}
		if a.err == nil || a.err == raft.ErrLogNotFound || errors.Is(a.err, raftboltdb.ErrKeyNotFound) ||
			!s.lose(m.place, fmt.Errorf("read the log: %w", a.err)) {
			return a.v, a.err
		}
	}
}

// FirstIndex implements raft.LogStore.
func (s *mirrors) FirstIndex() (uint64, error) {
	return read(s, func(st store) (uint64, error) { return st.FirstIndex() })
}

// LastIndex implements raft.LogStore.
func (s *mirrors) LastIndex() (uint64, error) {
	return read(s, func(st store) (uint64, error) { return st.LastIndex() })
}

// GetLog implements raft.LogStore. What does not match its checksum is looked for
// in another mirror.
func (s *mirrors) GetLog(index uint64, log *raft.Log) error {
	l, err := read(s, func(st store) (*raft.Log, error) { return readEntry(st, index) })
	if err == nil {
		*log = *l
	}
	return err
}

// StoreLog implements raft.LogStore.
func (s *mirrors) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (s *mirrors) StoreLogs(logs []*raft.Log) error {
	return s.write(func(st store) error { return st.StoreLogs(logs) })
}

// DeleteRange implements raft.LogStore.
func (s *mirrors) DeleteRange(lo, hi uint64) error {
	return s.write(func(st store) error { return st.DeleteRange(lo, hi) })
}

// Set implements raft.StableStore.
func (s *mirrors) Set(key, val []byte) error {
	k, v := append([]byte(nil), key...), append([]byte(nil), val...)
	return s.write(func(st store) error { return st.Set(k, v) })
}

// Get implements raft.StableStore.
func (s *mirrors) Get(key []byte) ([]byte, error) {
	k := append([]byte(nil), key...)
	return read(s, func(st store) ([]byte, error) { return st.Get(k) })
}

// SetUint64 implements raft.StableStore.
func (s *mirrors) SetUint64(key []byte, val uint64) error {
	k := append([]byte(nil), key...)
	return s.write(func(st store) error { return st.SetUint64(k, val) })
}

// GetUint64 implements raft.StableStore.
func (s *mirrors) GetUint64(key []byte) (uint64, error) {
	k := append([]byte(nil), key...)
	return read(s, func(st store) (uint64, error) { return st.GetUint64(k) })
}

// Close closes every log file. One that hangs is left behind after Patience.
func (s *mirrors) Close() error {
	s.opMu.Lock()
	defer s.opMu.Unlock()
	s.mu.Lock()
	members := s.members
	s.members = nil
	s.mu.Unlock()
	errs := make(chan error, len(members))
	for _, m := range members {
		s.closing.Add(1)
		go func() { defer s.closing.Done(); errs <- m.close() }()
	}
	done := make(chan struct{})
	go func() { s.closing.Wait(); close(done) }()
	select {
	case <-done:
	case <-s.o.Clock.After(s.o.Patience):
		return fmt.Errorf("close the log: %w", errHangs)
	}
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// freePages is the size of the freelist of a log file.
func (s *mirrors) freePages() int {
	for _, m := range s.healthy() {
		if b, ok := m.store.(interface{ freePages() int }); ok {
			return b.freePages()
		}
	}
	return 0
}
