package timeline

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"

	"hayloft/internal/id"
)

// model is a Source in memory, and the oracle that pages are compared with.
type model struct {
	mu      sync.Mutex
	changed chan struct{} // closed when an event is committed
	snap    *modelState   // a copy of now, while nothing changes
	now     modelState
	fail    func(call string) error // may be nil: error of a snapshot's call
}

type modelState struct {
	first, last uint64 // of events kept
	events      []Event
	follows     map[id.ID]map[id.ID]bool // reader → author
	posts       map[id.ID][]modelPost    // author → by Pos descending
	hasPull     map[id.ID]bool
}

type modelPost struct {
	Post
	deleted bool
}

func newModel() *model {
	return &model{changed: make(chan struct{}), now: modelState{
		first: 1, follows: map[id.ID]map[id.ID]bool{}, posts: map[id.ID][]modelPost{}, hasPull: map[id.ID]bool{},
	}}
}

// change runs f on the state and commits the events that it returns.
func (m *model) change(f func(s *modelState) []Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range f(&m.now) {
		m.now.last++
		e.Seq = m.now.last
		m.now.events = append(m.now.events, e)
	}
	m.snap = nil
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *model) follow(reader, author id.ID) {
	m.change(func(s *modelState) []Event {
		if s.follows[reader] == nil {
			s.follows[reader] = map[id.ID]bool{}
		}
		s.follows[reader][author] = true
		return []Event{{Kind: Followed, Reader: reader, Post: Post{Author: author}}}
	})
}

func (m *model) unfollow(reader, author id.ID) {
	m.change(func(s *modelState) []Event {
		delete(s.follows[reader], author)
		return []Event{{Kind: Unfollowed, Reader: reader, Post: Post{Author: author}}}
	})
}

func (m *model) publish(p Post) {
	m.change(func(s *modelState) []Event {
		s.posts[p.Author] = slices.Insert(s.posts[p.Author], 0, modelPost{Post: p})
		s.hasPull[p.Author] = s.hasPull[p.Author] || p.Pull
		return []Event{{Kind: Published, Post: p}}
	})
}

func (m *model) remove(author, pos id.ID) {
	m.change(func(s *modelState) []Event {
		s.post(author, pos).deleted = true
		return nil
	})
}

// restore brings a post back; its mode may be another one now.
func (m *model) restore(author, pos id.ID, pull bool) {
	m.change(func(s *modelState) []Event {
		p := s.post(author, pos)
		p.deleted, p.Pull = false, pull
		s.hasPull[author] = s.hasPull[author] || pull
		return []Event{{Kind: Published, Post: p.Post, Again: true}}
	})
}

// trim forgets the events up to seq.
func (m *model) trim(seq uint64) {
	m.change(func(s *modelState) []Event {
		for s.first <= min(seq, s.last) {
			s.first++
			s.events = s.events[1:]
		}
		return nil
	})
}

func (s *modelState) post(author, pos id.ID) *modelPost {
	for i := range s.posts[author] {
		if s.posts[author][i].Pos == pos {
			return &s.posts[author][i]
		}
	}
	panic("no such post")
}

// visible is the rule, told once for the oracle and for pages.
func (s *modelState) visible(reader id.ID, p Post) bool {
	if p.Author != reader && !s.follows[reader][p.Author] {
		return false
	}
	for _, q := range s.posts[p.Author] {
		if q.Pos == p.Pos {
			return !q.deleted
		}
	}
	return false
}

// feed is what reader must see, by Pos descending.
func (m *model) feed(reader id.ID) []Post {
	m.mu.Lock()
	defer m.mu.Unlock()
	var feed []Post
	for _, posts := range m.now.posts {
		for _, p := range posts {
			if m.now.visible(reader, p.Post) {
				feed = append(feed, p.Post)
			}
		}
	}
	slices.SortFunc(feed, func(a, b Post) int { return cmp.Compare(b.Pos, a.Pos) })
	return feed
}

func (m *model) visible(reader id.ID) func([]Post, []bool) error {
	return func(posts []Post, show []bool) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i, p := range posts {
			show[i] = m.now.visible(reader, p)
		}
		return nil
	}
}

func (m *model) Snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.snap == nil {
		c := modelState{
			first: m.now.first, last: m.now.last, events: slices.Clone(m.now.events),
			follows: map[id.ID]map[id.ID]bool{}, posts: map[id.ID][]modelPost{}, hasPull: map[id.ID]bool{},
		}
		for r, f := range m.now.follows {
			c.follows[r] = map[id.ID]bool{}
			for a := range f {
				c.follows[r][a] = true
			}
		}
		for a, p := range m.now.posts {
			c.posts[a] = slices.Clone(p)
		}
		maps.Copy(c.hasPull, m.now.hasPull)
		m.snap = &c
	}
	return &modelSnapshot{modelState: m.snap, m: m}
}

var errDone = errors.New("done")

func (m *model) Wait(done <-chan struct{}, seq uint64) error {
	for {
		m.mu.Lock()
		last, changed := m.now.last, m.changed
		m.mu.Unlock()
		if last > seq {
			return nil
		}
		select {
		case <-done:
			return errDone
		case <-changed:
		}
	}
}

type modelSnapshot struct {
	*modelState
	m      *model
	closed bool
}

func (s *modelSnapshot) check(call string) error {
	if s.closed {
		panic("snapshot used after Close")
	}
	if s.m.fail != nil {
		return s.m.fail(call)
	}
	return nil
}

func (s *modelSnapshot) Events(after uint64, limit int) ([]Event, uint64, error) {
	if err := s.check("Events"); err != nil {
		return nil, 0, err
	}
	var out []Event
	for _, e := range s.events {
		if e.Seq > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, s.first, nil
}

func (s *modelSnapshot) LastSeq() (uint64, error) { return s.last, s.check("LastSeq") }

func (s *modelSnapshot) Followers(dst []id.ID, author, after id.ID, limit int) ([]id.ID, error) {
	var out []id.ID
	for r, f := range s.follows {
		if f[author] && r > after {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return append(dst, out[:min(limit, len(out))]...), s.check("Followers")
}

func (s *modelSnapshot) Followees(reader id.ID) ([]id.ID, error) {
	var out []id.ID
	for a := range s.follows[reader] {
		out = append(out, a)
	}
	slices.Sort(out)
	return out, s.check("Followees")
}

func (s *modelSnapshot) Posts(dst []Post, author, before id.ID, limit int) ([]Post, error) {
	n := 0
	for _, p := range s.posts[author] {
		if n < limit && !p.deleted && (before == 0 || p.Pos < before) {
			dst = append(dst, p.Post)
			n++
		}
	}
	return dst, s.check("Posts")
}

func (s *modelSnapshot) HasPull(author id.ID) (bool, error) {
	return s.hasPull[author], s.check("HasPull")
}

func (s *modelSnapshot) Close() error {
	if s.closed {
		panic("snapshot closed twice")
	}
	s.closed = true
	return nil
}
