package feed

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"hayloft/internal/id"
)

// told model: what users are to be told, from what happened and what is so now. It
// keeps every event and filters when it is asked; it knows nothing of rows.
type noteModel struct {
	users    []id.ID
	private  map[id.ID]bool
	hidden   map[id.ID]bool // suspended, or gone
	gone     map[id.ID]bool
	follows  map[pair]id.ID // reader, author: the edge
	requests map[pair]id.ID
	blocks   map[pair]bool
	mutes    map[pair]bool
	listens  map[pair]bool // listener, author
	photos   map[id.ID]*notePhoto
	comments map[id.ID]*noteComment
	queue    []*noteTelling
	boxes    map[id.ID]*noteBox
}

type pair [2]id.ID

type notePhoto struct {
	id, owner, pos id.ID
	deleted        bool
	vis            Visibility
	names          map[id.ID]bool // in the caption, or as people
	likes          map[id.ID]id.ID
}

type noteComment struct {
	id, photo, author, parent id.ID
	names                     map[id.ID]bool
	likes                     map[id.ID]id.ID
}

type noteTelling struct {
	pos, photo, author, after id.ID
	begun                     bool
}

type noteBox struct {
	last, seen uint64
	off        map[NotificationKind]bool
	events     []noteEvent
}

type noteEvent struct {
	kind           NotificationKind
	subject        id.ID
	cause, actor   id.ID
	seq            uint64
	photo, comment id.ID
}

func newNoteModel() *noteModel {
	return &noteModel{
		private: map[id.ID]bool{}, hidden: map[id.ID]bool{}, gone: map[id.ID]bool{}, follows: map[pair]id.ID{}, requests: map[pair]id.ID{}, blocks: map[pair]bool{},
		mutes: map[pair]bool{}, listens: map[pair]bool{}, photos: map[id.ID]*notePhoto{},
		comments: map[id.ID]*noteComment{}, boxes: map[id.ID]*noteBox{},
	}
}

func (m *noteModel) blocked(a, b id.ID) bool { return m.blocks[pair{a, b}] || m.blocks[pair{b, a}] }

// hears says whether to is shown what author says.
func (m *noteModel) hears(to, author id.ID) bool { return !m.hidden[author] && !m.blocked(to, author) }

// erase removes all that a user has.
func (m *noteModel) erase(u id.ID) {
	m.hidden[u], m.gone[u] = true, true
	for p := range m.photos {
		if m.photos[p].owner == u {
			m.purge(p)
		}
		if m.photos[p] != nil {
			delete(m.photos[p].likes, u)
		}
	}
	for c, row := range m.comments {
		if delete(row.likes, u); row.author == u {
			m.dropComment(c)
		}
	}
	of := func(e pair) bool { return e[0] == u || e[1] == u }
	maps.DeleteFunc(m.follows, func(e pair, _ id.ID) bool { return of(e) })
	maps.DeleteFunc(m.requests, func(e pair, _ id.ID) bool { return of(e) })
	for _, edges := range []map[pair]bool{m.blocks, m.mutes, m.listens} {
		maps.DeleteFunc(edges, func(e pair, _ bool) bool { return of(e) })
	}
}

// purge ends a photo for good.
func (m *noteModel) purge(photo id.ID) {
	delete(m.photos, photo)
	maps.DeleteFunc(m.comments, func(_ id.ID, c *noteComment) bool { return c.photo == photo })
}

// dropComment removes a comment with its replies.
func (m *noteModel) dropComment(comment id.ID) {
	delete(m.comments, comment)
	maps.DeleteFunc(m.comments, func(_ id.ID, c *noteComment) bool { return c.parent == comment })
}

// heeds says whether to hears of actor.
func (m *noteModel) heeds(to, actor id.ID) bool {
	return !m.hidden[actor] && !m.blocked(to, actor) && !m.mutes[pair{to, actor}]
}

func (m *noteModel) sees(viewer id.ID, photo id.ID) bool {
	p := m.photos[photo]
	if p == nil || p.deleted || m.hidden[p.owner] {
		return false
	}
	if p.owner == viewer {
		return true
	}
	_, follows := m.follows[pair{viewer, p.owner}]
	open := p.vis == Public && !m.private[p.owner] || p.vis != OnlyMe && follows
	return open && !m.blocked(viewer, p.owner)
}

func (m *noteModel) tell(to id.ID, e noteEvent, by id.ID) {
	if to == by || m.gone[to] || !m.heeds(to, by) {
		return
	}
	box := m.boxes[to]
	box.last++
	e.seq = box.last
	box.events = append(box.events, e)
}

// holds says whether an event is still so, and may be shown.
func (m *noteModel) holds(to id.ID, e noteEvent) bool {
	by := e.actor
	if e.kind == NotifyPost {
		by = e.subject
	}
	if m.boxes[to].off[e.kind] || !m.heeds(to, by) {
		return false
	}
	if e.comment != 0 {
		c := m.comments[e.comment]
		if c == nil {
			return false
		}
		top := c
		if c.parent != 0 {
			top = m.comments[c.parent]
		}
		if top == nil || !m.hears(to, top.author) || !m.hears(to, c.author) || !m.sees(to, c.photo) {
			return false
		}
		return e.kind != NotifyLike || c.likes[e.actor] == e.cause
	}
	switch e.kind {
	case NotifyFollow:
		return m.follows[pair{e.actor, to}] == e.cause
	case NotifyRequest:
		return m.requests[pair{e.actor, to}] == e.cause
	case NotifyLike:
		return m.sees(to, e.subject) && m.photos[e.subject].likes[e.actor] == e.cause
	case NotifyMention:
		return m.sees(to, e.subject) && m.photos[e.subject].names[to]
	default:
		_, follows := m.follows[pair{to, by}]
		return m.sees(to, e.photo) && follows && m.listens[pair{to, by}]
	}
}

// note is one notification as it ought to be.
type note struct {
	kind    NotificationKind
	subject id.ID
	day     time.Time
	seq     uint64
	count   int
	actors  []id.ID
	comment id.ID
	photo   id.ID
	seen    bool
	place   uint64
}

// notes is all that a user is shown, in order.
func (m *noteModel) notes(to id.ID) []note {
	type key struct {
		kind    NotificationKind
		subject id.ID
		day     time.Time
	}
	box := m.boxes[to]
	groups := map[key]map[id.ID]noteEvent{}
	place := map[key]uint64{}
	for _, e := range box.events {
		k := key{e.kind, e.subject, e.cause.Millis().Time().Truncate(24 * time.Hour)}
		if groups[k] == nil {
			groups[k] = map[id.ID]noteEvent{}
		}
		groups[k][e.cause] = e // told again: the same, later
		place[k] = e.seq
	}
	var out []note
	for k, group := range groups {
		n := note{kind: k.kind, subject: k.subject, day: k.day, place: place[k]}
		people := map[id.ID]bool{}
		causes := slices.SortedFunc(maps.Keys(group), func(a, b id.ID) int { return cmp.Compare(b, a) })
		for _, c := range causes {
			e := group[c]
			if !m.holds(to, e) {
				continue
			}
			if n.seq == 0 {
				n.comment, n.photo = e.comment, e.photo
			}
			n.seq = max(n.seq, e.seq)
			if !people[e.actor] {
				people[e.actor] = true
				n.count++
				if len(n.actors) < 3 && k.kind != NotifyPost {
					n.actors = append(n.actors, e.actor)
				}
			}
		}
		if k.kind == NotifyPost {
			n.actors = []id.ID{k.subject}
		}
		if n.seen = n.seq <= box.seen; n.seq > 0 {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b note) int { return cmp.Compare(b.place, a.place) })
	return out
}

// comment tells of a comment.
func (m *noteModel) comment(c *noteComment) {
	p := m.photos[c.photo]
	told := map[id.ID]bool{p.owner: true}
	e := noteEvent{kind: NotifyComment, subject: p.id, cause: c.id, actor: c.author, comment: c.id, photo: p.id}
	tell := func(to id.ID) {
		if m.sees(to, p.id) {
			m.tell(to, e, c.author)
		}
	}
	tell(p.owner)
	if c.parent != 0 {
		if top := m.comments[c.parent].author; !told[top] {
			told[top] = true
			tell(top)
		}
	}
	e.kind = NotifyMention
	for _, u := range m.users {
		if c.names[u] && !told[u] {
			tell(u)
		}
	}
}

// named tells those whom a photo names, but for those whom it did before.
func (m *noteModel) named(p *notePhoto, before map[id.ID]bool) {
	for _, u := range m.users {
		if p.names[u] && !before[u] && m.sees(u, p.id) {
			m.tell(u, noteEvent{kind: NotifyMention, subject: p.id, cause: p.pos, actor: p.owner, photo: p.id}, p.owner)
		}
	}
}

// step tells the next listeners.
func (m *noteModel) step(limit int) {
	if len(m.queue) == 0 {
		return
	}
	slices.SortFunc(m.queue, func(a, b *noteTelling) int {
		if a.begun != b.begun {
			if a.begun {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.pos, b.pos)
	})
	q := m.queue[0]
	m.queue = m.queue[1:]
	if m.photos[q.photo] == nil {
		return
	}
	var listeners []id.ID
	for l := range m.listens {
		if l[1] == q.author && l[0] > q.after {
			listeners = append(listeners, l[0])
		}
	}
	slices.Sort(listeners)
	for _, to := range listeners[:min(limit, len(listeners))] {
		q.after = to
		m.tell(to, noteEvent{kind: NotifyPost, subject: q.author, cause: q.pos, actor: q.photo, photo: q.photo}, q.author)
	}
	if len(listeners) > limit {
		q.begun = true
		m.queue = append(m.queue, q)
	}
}
