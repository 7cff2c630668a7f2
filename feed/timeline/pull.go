package timeline

import "hayloft/internal/id"

// below takes the page's part below the floor: it pulls. A page from the top reads
// what it needs; one that goes on, and those of a reader with too many followees,
// merge a segment for the pages after them too.
func (p *pager) below(floor id.ID) error {
	from := p.before
	if floor != never && (from == 0 || from > floor) {
		from = floor
	}
	if p.before == 0 && len(p.followees) <= p.s.o.MaxFollowees {
		m, err := p.authors(from, p.limit)
		if err != nil {
			return err
		}
		return p.take(m, 0)
	}
	for len(p.posts) < p.limit && p.examined < p.s.o.tune.examine {
		to, err := p.portion(from)
		if err != nil || p.full || to == 0 {
			return err
		}
		from = to
	}
	p.next, p.full = p.last, true // whether anything lies below is the next page's work
	return nil
}

// portion takes what one segment has below from, and returns down to where it is
// complete; 0: to the end.
func (p *pager) portion(from id.ID) (to id.ID, err error) {
	g, back := p.segment(from)
	if g == nil {
		if g, err = p.merge(from); err != nil {
			return 0, err
		}
	}
	m := mergeStreams{snap: p.snap}
	posts := g.posts
	if from != 0 {
		posts = g.below(from)
	}
	if err := m.add(&stream{buf: posts}); err != nil {
		return 0, err
	}
	for _, post := range back {
		if post.Pos >= g.to && post.Pos < from {
			if err := m.add(&stream{buf: []Post{post}}); err != nil {
				return 0, err
			}
		}
	}
	return g.to, p.take(&m, g.to)
}

// segment returns the one that holds what lies below from, with what came back
// since; nil: there is none.
func (p *pager) segment(from id.ID) (*segment, []Post) {
	if p.behind || p.s.in == nil {
		return nil, nil
	}
	g, back := p.s.segments.find(p.reader, from)
	if g == nil {
		return nil, nil
	}
	for _, e := range p.beyond {
		switch {
		case e.Seq <= g.seq:
		case e.Kind == Followed && e.Reader == p.reader:
			return nil, nil
		case e.Kind == Published && e.Again:
			back = append(back, e.Post)
		}
	}
	p.s.counters.segmentPages.Add(1)
	return g, back
}

// merge makes the segment below from (0: from the newest) and keeps it.
func (p *pager) merge(from id.ID) (*segment, error) {
	size := p.s.o.Segment
	m, err := p.authors(from, size)
	if err != nil {
		return nil, err
	}
	g := &segment{reader: p.reader}
	if g.seq, err = p.snap.LastSeq(); err != nil {
		return nil, err
	}
	for len(g.posts) < size {
		post, ok, err := m.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		g.posts = append(g.posts, post)
	}
	if len(g.posts) == size {
		g.to = g.posts[size-1].Pos
	}
	if len(g.posts) > 0 && p.view.began {
		// Later posts are above the newest of now, but perhaps not above from.
		g.from = g.posts[0].Pos + 1
		p.s.segments.keep(g)
	}
	return g, p.ctx.Err()
}

// authors is everything below from by the reader and all followees, of which some
// want posts are going to be read.
func (p *pager) authors(from id.ID, want int) (*mergeStreams, error) {
	m := &mergeStreams{snap: p.snap}
	// Most authors have nothing there. A stream that is used up reads more.
	fetch := min(max(2, 4*want/(len(p.followees)+1)), p.s.o.tune.fetch)
	if err := m.add(&stream{author: p.reader, before: from, fetch: fetch}); err != nil {
		return nil, err
	}
	for i, a := range p.followees {
		if i%64 == 0 && p.ctx.Err() != nil {
			return nil, p.ctx.Err()
		}
		if err := m.add(&stream{author: a, before: from, fetch: fetch}); err != nil {
			return nil, err
		}
	}
	return m, nil
}
