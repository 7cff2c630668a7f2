package timeline

import (
	"container/list"
	"slices"
	"sync"

	"hayloft/internal/id"
)

// A segment is what a page that pulled has merged: the reader's next posts below a
// position, whatever their mode, so that the pages after it need no merge. It is
// right as long as nothing can have come in between: a reader who follows somebody
// since loses it, and posts that came back (restored) are merged with it. What was
// taken away is for visibility to hide. Segments are in memory alone.
type segment struct {
	reader id.ID
	seq    uint64 // of the newest event that it knows
	from   id.ID  // it holds what lies below: just above the newest of posts
	to     id.ID  // and at or above this
	posts  []Post // by Pos descending
}

// segments are those that were used last.
type segments struct {
	limit int // segments kept
	many  int // changes remembered

	mu       sync.Mutex // guards all below
	known    uint64     // changes by events after this one are remembered
	byReader map[id.ID]*list.Element
	used     *list.List       // of *segment, the last used in front
	followed map[id.ID]uint64 // reader → the newest Followed event
	restored []Event          // Published events of posts that were there before, ascending
}

func (s *segments) init(limit, many int) {
	s.limit, s.many = limit, many
	s.reset(0)
}

// reset forgets everything: the writer goes on after the event seq.
func (s *segments) reset(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = seq
	s.byReader, s.used = map[id.ID]*list.Element{}, list.New()
	s.followed, s.restored = map[id.ID]uint64{}, nil
}

// event notes what an event changes. The writer calls it before the event's batch is
// committed, so that whoever sees the cursor behind the event sees the change.
func (s *segments) event(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case Followed:
		s.followed[e.Reader] = max(e.Seq, s.followed[e.Reader])
	case Published:
		if !e.Again {
			return // above every segment
		}
		s.restored = append(s.restored, e)
	default:
		return
	}
	if len(s.followed) > s.many || len(s.restored) > s.many {
		s.known = e.Seq
		s.followed, s.restored = map[id.ID]uint64{}, nil
	}
}

// find returns the reader's segment if it holds what lies next below before (0: the
// top is asked for), with what came back since within it.
func (s *segments) find(reader, before id.ID) (*segment, []Post) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.byReader[reader]
	if !ok {
		return nil, nil
	}
	g := at.Value.(*segment)
	if g.seq < s.known || g.seq < s.followed[reader] {
		s.drop(at)
		return nil, nil
	}
	if before == 0 || before > g.from || before <= g.to {
		return nil, nil
	}
	s.used.MoveToFront(at)
	var back []Post
	for _, e := range s.restored {
		if e.Seq > g.seq {
			back = append(back, e.Post)
		}
	}
	return g, back
}

// keep takes a segment in, in place of the reader's one before.
func (s *segments) keep(g *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.byReader[g.reader]; ok {
		s.drop(old)
	}
	if g.seq < s.known || g.seq < s.followed[g.reader] {
		return // the writer has gone on since
	}
	s.byReader[g.reader] = s.used.PushFront(g)
	if s.used.Len() > s.limit {
		s.drop(s.used.Back())
	}
}

// drop is called under mu.
func (s *segments) drop(at *list.Element) {
	delete(s.byReader, s.used.Remove(at).(*segment).reader)
}

// below returns the posts of a segment below before, without copying.
func (g *segment) below(before id.ID) []Post {
	i, _ := slices.BinarySearchFunc(g.posts, before-1, func(p Post, t id.ID) int { return comparePos(t, p.Pos) })
	return g.posts[i:]
}
