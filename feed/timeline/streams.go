package timeline

import (
	"hayloft/internal/id"
)

// stream yields posts by Pos descending: those of one author, read in portions
// that grow; or those at the positions of a timeline; or a given list.
type stream struct {
	author id.ID  // zero: nothing to read on
	before id.ID  // read on from here; zero: from the newest
	fetch  int    // posts to read next time
	buf    []Post // not yielded yet
	store  []Post // the array behind buf
	ended  bool   // the author has no more

	entries *view   // resolves pos; nil: no timeline
	pos     []id.ID // not yielded yet

	head Post // used by mergeStreams
}

const maxFetch = 64 // posts read at once

// next yields the next post; ok is false at the end.
func (s *stream) next(snap Snapshot) (p Post, ok bool, err error) {
	if len(s.pos) > 0 {
		p, err = s.entries.post(s.pos[0])
		s.pos = s.pos[1:]
		return p, err == nil, err
	}
	if len(s.buf) == 0 {
		if s.author == 0 || s.ended {
			return Post{}, false, nil
		}
		if s.store, err = snap.Posts(s.store[:0], s.author, s.before, s.fetch); err != nil {
			return Post{}, false, err
		}
		s.buf = s.store
		s.ended = len(s.buf) < s.fetch
		s.fetch = min(2*s.fetch, maxFetch)
		if len(s.buf) == 0 {
			return Post{}, false, nil
		}
		s.before = s.buf[len(s.buf)-1].Pos
	}
	p, s.buf = s.buf[0], s.buf[1:]
	return p, true, nil
}

// mergeStreams yields the posts of many streams by Pos descending, each Pos
// once.
type mergeStreams struct {
	snap Snapshot
	last id.ID     // yielded last
	heap []*stream // a heap by head.Pos, the largest first
}

// add takes in a stream.
func (m *mergeStreams) add(s *stream) error {
	p, ok, err := s.next(m.snap)
	if err != nil || !ok {
		return err
	}
	s.head = p
	m.heap = append(m.heap, s)
	i := len(m.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if m.heap[up].head.Pos >= m.heap[i].head.Pos {
			break
		}
		m.heap[up], m.heap[i] = m.heap[i], m.heap[up]
		i = up
	}
	return nil
}

// next yields the next post; ok is false at the end.
func (m *mergeStreams) next() (p Post, ok bool, err error) {
	for len(m.heap) > 0 {
		s := m.heap[0]
		p = s.head
		h, ok, err := s.next(m.snap)
		if err != nil {
			return Post{}, false, err
		}
		if ok {
			s.head = h
		} else {
			n := len(m.heap) - 1
			m.heap[0] = m.heap[n]
			m.heap = m.heap[:n]
		}
		m.sink()
		if p.Pos != m.last {
			m.last = p.Pos
			return p, true, nil
		}
	}
	return Post{}, false, nil
}

// sink restores the heap after its root has changed.
func (m *mergeStreams) sink() {
	for i := 0; ; {
		top := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(m.heap); c++ {
			if m.heap[c].head.Pos > m.heap[top].head.Pos {
				top = c
			}
		}
		if top == i {
			return
		}
		m.heap[i], m.heap[top] = m.heap[top], m.heap[i]
		i = top
	}
}
