package feed

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"hayloft/internal/id"
)

// model is the feed as a reader of the contract would write it down: plain maps,
// no indexes, no counters. It shares nothing with the machine but names.
type model struct {
	users    []id.ID
	private  map[id.ID]bool
	follows  map[[2]id.ID]bool // reader, author
	requests map[[2]id.ID]bool // reader, author
	blocks   map[[2]id.ID]bool // blocker, blocked
	mutes    map[[2]id.ID]bool
	photos   map[id.ID]*modelPhoto
	order    []id.ID // of photos, as reserved
	comments map[id.ID]*modelComment
	posted   int              // how many photos have become ready
	intents  map[id.ID]intent // by blob, those not attached
	blobs    map[id.ID]bool   // all that were ever intended

	grace, intentLife, slack, storedLife time.Duration
	threshold                            int
	celebrity                            map[id.ID]bool
	epochs                               map[id.ID]uint32 // of users

	handles  map[id.ID]string
	hidden   map[id.ID]bool       // suspended, or deleted and not swept yet
	gone     map[id.ID]bool       // of those, deleted
	departed []id.ID              // deleted and swept
	seen     map[id.ID]int        // rank of the mark in a user's feed
	leaves   map[string]time.Time // handles of those who left, until when nobody gets them
}

type intent struct {
	photo id.ID
	due   time.Time
}

type modelPhoto struct {
	id, owner         id.ID
	status, before    Status
	vis               Visibility
	rank              int // by when it became ready; 0: never
	pull              bool
	epoch             uint32    // narrowings
	due               time.Time // reserved, stored, deleted
	master, rendition id.ID
	likes             map[id.ID]bool
}

type modelComment struct {
	id, photo, author, parent id.ID
	likes                     map[id.ID]bool
}

func newModel(p Policy) *model {
	return &model{
		private: map[id.ID]bool{}, follows: map[[2]id.ID]bool{}, requests: map[[2]id.ID]bool{},
		blocks: map[[2]id.ID]bool{}, mutes: map[[2]id.ID]bool{}, photos: map[id.ID]*modelPhoto{},
		comments: map[id.ID]*modelComment{}, intents: map[id.ID]intent{}, blobs: map[id.ID]bool{},
		celebrity: map[id.ID]bool{}, epochs: map[id.ID]uint32{},
		handles: map[id.ID]string{}, hidden: map[id.ID]bool{}, gone: map[id.ID]bool{}, leaves: map[string]time.Time{}, seen: map[id.ID]int{},
		grace: p.DeleteGrace, intentLife: p.IntentLife, slack: p.UploadSlack, storedLife: p.StoredLife,
		threshold: int(p.CelebrityThreshold),
	}
}

func (m *model) blocked(a, b id.ID) bool {
	return m.blocks[[2]id.ID{a, b}] || m.blocks[[2]id.ID{b, a}]
}

func (m *model) followers(author id.ID) (n int) {
	for e := range m.follows {
		if e[1] == author {
			n++
		}
	}
	return n
}

func (m *model) weigh(author id.ID) {
	switch n := m.followers(author); {
	case n >= m.threshold:
		m.celebrity[author] = true
	case n*5 < m.threshold*4:
		m.celebrity[author] = false
	}
}

func (m *model) setFollow(reader, author id.ID, on bool) {
	e := [2]id.ID{reader, author}
	if m.follows[e] == on {
		return
	}
	if on {
		m.follows[e] = true
	} else {
		delete(m.follows, e)
	}
	m.weigh(author)
}

// sees is who may see a ready photo at all.
func (m *model) sees(viewer id.ID, p *modelPhoto) bool {
	if p == nil || m.hidden[p.owner] {
		return false
	}
	if viewer == p.owner {
		return p.status == Ready || p.status == Pending || p.status == Failed
	}
	follows := m.follows[[2]id.ID{viewer, p.owner}]
	return p.status == Ready && p.vis != OnlyMe && !m.blocked(viewer, p.owner) &&
		(follows || p.vis == Public && !m.private[p.owner])
}

// feedOf is the oracle: ready ∧ not deleted ∧ (author = R ∨ accepted follow) ∧ no
// block either way ∧ not muted ∧ audience allows, by position descending.
func (m *model) feedOf(viewer id.ID) []id.ID {
	return m.ranked(func(p *modelPhoto) bool {
		if p.status != Ready || m.hidden[p.owner] {
			return false
		}
		if p.owner == viewer {
			return true
		}
		return m.sees(viewer, p) && m.follows[[2]id.ID{viewer, p.owner}] && !m.mutes[[2]id.ID{viewer, p.owner}]
	})
}

func (m *model) photosOf(viewer, author id.ID) []id.ID {
	return m.ranked(func(p *modelPhoto) bool { return p.owner == author && p.status == Ready && m.sees(viewer, p) })
}

func (m *model) ranked(want func(*modelPhoto) bool) []id.ID {
	var list []*modelPhoto
	for _, p := range m.photos {
		if want(p) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *modelPhoto) int { return cmp.Compare(b.rank, a.rank) })
	out := make([]id.ID, len(list))
	for i, p := range list {
		out[i] = p.id
	}
	return out
}

// hears is who may see a comment: they see the photo, and meet its author and whose
// thread it is in.
func (m *model) hears(viewer id.ID, c *modelComment) bool {
	top := c
	if c.parent != 0 {
		top = m.comments[c.parent]
	}
	for _, author := range []id.ID{c.author, top.author} {
		if m.hidden[author] || author != viewer && m.blocked(viewer, author) {
			return false
		}
	}
	return m.sees(viewer, m.photos[c.photo])
}

// commentsOf is a photo's comments that viewer sees: those of a parent, 0 for
// the top level.
func (m *model) commentsOf(viewer, photo, parent id.ID) map[id.ID]bool {
	out := map[id.ID]bool{}
	for _, c := range m.comments {
		if c.photo == photo && c.parent == parent && !m.hidden[c.author] && (c.author == viewer || !m.blocked(viewer, c.author)) {
			out[c.id] = true
		}
	}
	return out
}

// commentCount counts for everybody the same.
func (m *model) commentCount(photo id.ID) (n int) {
	for _, c := range m.comments {
		if c.photo == photo {
			n++
		}
	}
	return n
}

// dropComment removes a comment with its replies.
func (m *model) dropComment(comment id.ID) {
	delete(m.comments, comment)
	maps.DeleteFunc(m.comments, func(_ id.ID, c *modelComment) bool { return c.parent == comment })
}

// purge ends a photo for good.
func (m *model) purge(p *modelPhoto) {
	delete(m.photos, p.id)
	maps.DeleteFunc(m.comments, func(_ id.ID, c *modelComment) bool { return c.photo == p.id })
}

// sweep ends what is due.
func (m *model) sweep(now time.Time) {
	for blob, i := range m.intents {
		if !i.due.After(now) {
			delete(m.intents, blob)
		}
	}
	for _, p := range m.photos {
		if !p.due.IsZero() && !p.due.After(now) {
			m.purge(p)
		}
	}
	for u := range m.gone {
		m.clear(u)
	}
	maps.DeleteFunc(m.leaves, func(_ string, until time.Time) bool { return !until.After(now) })
}

// clear removes a user with all that they have and do.
func (m *model) clear(u id.ID) {
	for _, p := range m.photos {
		if p.owner == u {
			m.purge(p)
		}
		delete(p.likes, u)
	}
	for _, c := range m.comments {
		delete(c.likes, u)
		if c.author == u {
			m.dropComment(c.id)
		}
	}
	for e := range m.follows {
		if e[0] == u || e[1] == u {
			m.setFollow(e[0], e[1], false)
		}
	}
	for _, edges := range []map[[2]id.ID]bool{m.requests, m.blocks, m.mutes} {
		maps.DeleteFunc(edges, func(e [2]id.ID, _ bool) bool { return e[0] == u || e[1] == u })
	}
	m.users = slices.DeleteFunc(m.users, func(o id.ID) bool { return o == u })
	delete(m.gone, u)
	delete(m.hidden, u)
	m.departed = append(m.departed, u)
}

// active is who can do something.
func (m *model) active() []id.ID {
	return slices.DeleteFunc(slices.Clone(m.users), func(u id.ID) bool { return m.hidden[u] })
}

// attached is every blob that a photo still needs.
func (m *model) attached() map[id.ID]bool {
	out := map[id.ID]bool{}
	for _, p := range m.photos {
		out[p.master], out[p.rendition] = true, true
	}
	return out
}

// pick returns a random element; 0 of none.
func pick(rng *rand.Rand, list []id.ID) id.ID {
	if len(list) == 0 {
		return 0
	}
	return list[rng.IntN(len(list))]
}
