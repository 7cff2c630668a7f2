package timeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// never is the floor of a reader without a timeline: above every position.
const never = id.ID(1<<64 - 1)

// Page returns the reader's posts with Pos below before (0: from the newest),
// by Pos descending, at most limit of them: what the reader and all whom the
// reader follows have posted and visible lets pass.
//
// visible is called with candidates in that order, on the caller's goroutine, and
// sets show for those that may be seen. It alone decides: an entry may stay for a
// post that was deleted, or whose author the reader no longer follows. It must not
// call the Store, nor keep the slices.
//
// next is what to pass as before for the page that follows; 0 means that
// nothing is left. A page may be short, even empty, while next is not 0:
// the work for one page is bounded.
func (s *Store) Page(
	ctx context.Context, reader, before id.ID, limit int, visible func(posts []Post, show []bool) error,
) (posts []Post, next id.ID, err error) {
	if limit < 1 {
		return nil, 0, fmt.Errorf("timeline: page of %d posts", limit)
	}
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.closed {
		return nil, 0, ErrClosed
	}
	// The timeline first and the source second: so an event that the former
	// has not seen is among those that the latter has yet to hand out, and
	// nothing falls between the two.
	v := s.openView(reader)
	defer closeInto(&err, v)
	generation := s.pullers.begin()
	snap := s.snapshot()
	defer closeInto(&err, snap)
	p := pager{
		ctx: ctx, s: s, snap: snap, view: v, reader: reader, before: before,
		limit: limit, visible: visible, generation: generation,
	}
	err = p.page()
	if v.built && ours(ctx, err) { // only the instance; it is not needed for a right page
		s.o.Notify(Notice{Kind: ReadFailed, Err: err})
		v.built, v.broken = false, true
		p.posts, p.beyond, p.pending, p.follows, p.examined, p.last = nil, nil, nil, nil, 0, 0
		err = p.page()
	}
	if err != nil {
		return nil, 0, err
	}
	s.counters.pages.Add(1)
	return p.posts, p.next, nil
}

// pager makes one page.
type pager struct {
	ctx     context.Context
	s       *Store
	snap    Snapshot
	view    *view
	reader  id.ID
	before  id.ID
	limit   int
	visible func(posts []Post, show []bool) error

	followees []id.ID // ascending
	beyond    []Event // those that the view has not seen
	behind    bool    // they are not known: too many, or they do not follow
	pending   []Post  // published, fan-out not known to have reached the reader
	follows   []id.ID // authors who are not backfilled yet, or whose first post in pull mode is beyond

	generation uint64 // of the pullers, before snap was taken

	posts    []Post
	some     []Post // scratch
	show     []bool // scratch
	examined int
	last     id.ID // the last position examined
	next     id.ID
	full     bool // no more of this page
}

func (p *pager) page() (err error) {
	if p.followees, err = p.snap.Followees(p.reader); err != nil {
		return err
	}
	floor, err := p.floor()
	if err != nil {
		return err
	}
	p.wish(floor)
	if floor != never && (p.before == 0 || p.before > floor) {
		if err := p.above(floor); err != nil || p.full {
			return err
		}
	}
	if floor == 0 {
		return nil
	}
	if len(p.posts) == p.limit {
		p.next = p.last // whether anything lies below is the next page's work
		return nil
	}
	if floor == never {
		p.s.counters.pulledPages.Add(1)
	}
	return p.below(floor)
}

// floor returns the position at and above which the timeline, with what
// pending and follows add, is complete.
func (p *pager) floor() (id.ID, error) {
	if err := p.events(); err != nil {
		return 0, err
	}
	if !p.view.built || p.behind {
		return never, nil
	}
	for _, e := range p.beyond {
		switch {
		case e.Kind == Published && !e.Post.Pull:
			p.addPending(e.Post)
		case e.Kind == Published: // the first post in pull mode perhaps
			p.follows = append(p.follows, e.Post.Author)
		case e.Kind == Followed && e.Reader == p.reader:
			p.follows = append(p.follows, e.Post.Author)
		}
	}
	for _, f := range p.view.open {
		p.addPending(f.Post)
	}
	return p.view.floor, nil
}

// events reads what lies beyond the view's cursor.
func (p *pager) events() error {
	p.behind = true
	if !p.view.began {
		return nil
	}
	bound := p.s.o.tune.pending
	events, err := following(p.snap, p.view.cursor, bound+1)
	if errors.Is(err, errStale) {
		return nil // the writer is about to find out
	}
	if err != nil || len(events) > bound {
		return err // it lags so far behind that pulling is cheaper
	}
	p.beyond, p.behind = events, false
	return nil
}

func (p *pager) addPending(post Post) {
	if _, follows := slices.BinarySearch(p.followees, post.Author); follows {
		p.pending = append(p.pending, post)
	}
}

// wish asks the writer for what would make the next page cheaper.
func (p *pager) wish(floor id.ID) {
	s, many := p.s, len(p.followees)
	s.readersMu.RLock()
	seen, built := s.readers[p.reader]
	s.readersMu.RUnlock()
	var w wish
	switch {
	case p.view.broken:
		w = rebuild
	case !p.view.built && !built && many <= s.o.MaxFollowees:
		w = build
	case p.view.built && many > s.o.MaxFollowees+s.o.MaxFollowees/4: // not to and fro
		w = drop
	case built && s.o.Clock.Now().Sub(time.Unix(int64(seen), 0)) >= s.touchEvery():
		w = touch
	default:
		return
	}
	if !s.requests.add(p.reader, w) {
		s.counters.refused.Add(1)
	}
}

// above takes the page's part at and above the floor.
func (p *pager) above(floor id.ID) error {
	m := mergeStreams{snap: p.snap}
	fetch := min(p.limit+1, p.s.o.tune.fetch)
	if err := m.add(&stream{entries: p.view, pos: p.view.below(p.before)}); err != nil {
		return err
	}
	if err := m.add(&stream{author: p.reader, before: p.before, fetch: fetch}); err != nil {
		return err
	}
	pulled, err := p.s.pullers.among(p.snap, p.generation, p.followees)
	if err != nil {
		return err
	}
	for _, a := range p.follows {
		if _, follows := slices.BinarySearch(p.followees, a); follows && !slices.Contains(pulled, a) {
			pulled = append(pulled, a)
		}
	}
	for _, a := range pulled {
		// All posts, whatever their mode: what is a timeline entry as well is
		// yielded once.
		if err := m.add(&stream{author: a, before: p.before, fetch: fetch}); err != nil {
			return err
		}
	}
	slices.SortFunc(p.pending, func(a, b Post) int { return comparePos(b.Pos, a.Pos) })
	if p.before != 0 {
		p.pending = slices.DeleteFunc(p.pending, func(a Post) bool { return a.Pos >= p.before })
	}
	if err := m.add(&stream{buf: p.pending}); err != nil {
		return err
	}
	return p.take(&m, floor)
}

// take fills the page from m, down to and including lowest. Candidates are judged as
// many at a time as the page has room for.
func (p *pager) take(m *mergeStreams, lowest id.ID) error {
	for {
		room := min(p.limit-len(p.posts), p.s.o.tune.examine-p.examined)
		some, more := p.some[:0], true
		for more && len(some) < room {
			post, ok, err := m.next()
			if err != nil {
				return err
			}
			if more = ok && post.Pos >= lowest; more {
				some = append(some, post)
			}
		}
		p.some = some
		if err := p.judge(some); err != nil || !more {
			return err
		}
		if len(some) == 0 {
			return p.end(m, lowest)
		}
	}
}

// end tells whether anything is left at the end of a page that is full.
func (p *pager) end(m *mergeStreams, lowest id.ID) error {
	post, ok, err := m.next()
	if err != nil || !ok || post.Pos < lowest {
		return err
	}
	p.next, p.full = p.last, true
	return nil
}

// judge takes those of some that may be seen.
func (p *pager) judge(some []Post) error {
	if len(some) == 0 {
		return nil
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	p.examined += len(some)
	p.last = some[len(some)-1].Pos
	p.show = append(p.show[:0], make([]bool, len(some))...)
	if err := p.visible(some, p.show); err != nil {
		return fromSource(err)
	}
	for i, post := range some {
		if p.show[i] {
			p.posts = append(p.posts, post)
		}
	}
	return nil
}

// view is what the instance says about one reader.
type view struct {
	known  *known           // posts looked up before
	it     *pebble.Iterator // nil: nothing can be read
	key    [9]byte          // scratch
	state                   //
	began  bool             // state is there
	built  bool             // what follows is a timeline
	broken bool             // there is one that cannot be read
	floor  id.ID            //
	pos    []id.ID          // descending
}

// openView reads the state first and the timeline of reader second, so the latter may know
// more: the page merges what it has already. A view that cannot be read is one that is not
// built.
func (s *Store) openView(reader id.ID) *view {
	v := views.Get().(*view)
	v.known = &s.known
	if s.in == nil {
		return v // no directory is left
	}
	if err := v.read(s.in, reader); err != nil {
		v.built, v.broken = false, true
		if s.in.lost() == nil { // the writer is about to find out otherwise
			s.o.Notify(Notice{Kind: ReadFailed, Err: err})
		}
	}
	return v
}

// ours reports whether err comes from the instance.
func ours(ctx context.Context, err error) bool {
	var source *sourceError
	return err != nil && !errors.As(err, &source) && ctx.Err() == nil
}

func (v *view) read(in *instance, reader id.ID) (err error) {
	shown := in.shown.Load()
	if shown == nil {
		return nil // the writer has not begun
	}
	v.state, v.began = *shown, true
	if v.it, err = in.db.NewIter(nil); err != nil {
		return err
	}
	setKey8(v.key[:], keyTimeline, uint64(reader))
	b, ok, err := v.get(v.key[:])
	if err != nil || !ok {
		return err
	}
	t := run{pos: v.pos[:0]}
	if err := decodeOperand(&t, b); err != nil {
		return err
	}
	if !t.base {
		return fmt.Errorf("%w: timeline of %v has no base", errCorrupt, reader)
	}
	v.built, v.floor, v.pos = true, t.floor, t.pos
	return nil
}

// get returns the value of key, valid until the next call.
func (v *view) get(key []byte) ([]byte, bool, error) {
	if !v.it.SeekGE(key) || !bytes.Equal(v.it.Key(), key) {
		return nil, false, v.it.Error()
	}
	b, err := v.it.ValueAndErr()
	return b, err == nil, err
}

// below returns the positions below before (0: all).
func (v *view) below(before id.ID) []id.ID {
	if before == 0 {
		return v.pos
	}
	i, _ := slices.BinarySearchFunc(v.pos, before-1, func(p, t id.ID) int { return comparePos(t, p) })
	return v.pos[i:]
}

// post resolves a position.
func (v *view) post(pos id.ID) (Post, error) {
	if p, ok := v.known.get(pos); ok {
		return p, nil
	}
	setKey8(v.key[:], keyPost, uint64(pos))
	b, ok, err := v.get(v.key[:])
	if err != nil {
		return Post{}, err
	}
	if !ok {
		return Post{}, fmt.Errorf("%w: no post at %v", errCorrupt, pos)
	}
	p, err := decodePost(pos, b)
	if err == nil {
		v.known.put(p)
	}
	return p, err
}

// Close releases the view, which is used no more.
func (v *view) Close() (err error) {
	if v.it != nil {
		if err = v.it.Close(); v.broken {
			err = nil // it has been told
		}
	}
	*v = view{pos: v.pos[:0]}
	views.Put(v)
	return err
}

var views = sync.Pool{New: func() any { return new(view) }}
