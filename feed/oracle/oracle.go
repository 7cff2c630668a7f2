package oracle

import (
	"cmp"
	"slices"
)

// Audience is who may see a photo.
type Audience uint8

// The audiences, each within the one before.
const (
	Everybody Audience = iota
	AcceptedFollowers
	AuthorOnly
)

// edge leads from one user to another.
type edge struct{ from, to int }

// World is who is there, what they are to each other, and what they have posted.
type World struct {
	private  []bool // by user
	seen     []int  // by user: the newest photo that they have marked as seen; -1: none
	follows  map[edge]bool
	requests map[edge]bool // to follow
	blocks   map[edge]bool
	mutes    map[edge]bool
	photos   []photo // in the order of publication
}

type photo struct {
	author   int
	audience Audience
	deleted  bool
	gone     bool // for good
	likes    map[int]bool
}

// New is a world without anybody.
func New() *World {
	return &World{follows: map[edge]bool{}, requests: map[edge]bool{}, blocks: map[edge]bool{}, mutes: map[edge]bool{}}
}

// Join adds a user with a public account.
func (w *World) Join() (user int) {
	w.private, w.seen = append(w.private, false), append(w.seen, -1)
	return len(w.private) - 1
}

// Users is how many there are.
func (w *World) Users() int { return len(w.private) }

// Photos is how many were ever published.
func (w *World) Photos() int { return len(w.photos) }

func (w *World) blocked(a, b int) bool { return w.blocks[edge{a, b}] || w.blocks[edge{b, a}] }

// Follow is what reader asks for. It is refused across a block and to oneself.
func (w *World) Follow(reader, author int) (refused bool) {
	e := edge{reader, author}
	switch {
	case reader == author || w.blocked(reader, author):
		return true
	case w.follows[e]:
	case w.private[author]:
		w.requests[e] = true
	default:
		delete(w.requests, e)
		w.follows[e] = true
	}
	return false
}

// Unfollow ends a follow or takes a request back, whoever of the two wants it.
func (w *World) Unfollow(reader, author int) {
	delete(w.follows, edge{reader, author})
	delete(w.requests, edge{reader, author})
}

// Answer accepts or declines a request.
func (w *World) Answer(author, reader int, accept bool) (refused bool) {
	e := edge{reader, author}
	if !w.requests[e] {
		return true
	}
	delete(w.requests, e)
	if accept {
		w.follows[e] = true
	}
	return false
}

// Block ends what is between the two.
func (w *World) Block(user, other int) {
	w.blocks[edge{user, other}] = true
	w.Unfollow(user, other)
	w.Unfollow(other, user)
}

// Unblock brings nothing back.
func (w *World) Unblock(user, other int) { delete(w.blocks, edge{user, other}) }

// Mute hides other from user's feed, or no longer.
func (w *World) Mute(user, other int, on bool) {
	if delete(w.mutes, edge{user, other}); on {
		w.mutes[edge{user, other}] = true
	}
}

// SetPrivate changes who may follow and see; followers stay.
func (w *World) SetPrivate(user int, on bool) { w.private[user] = on }

// Publish makes a photo ready.
func (w *World) Publish(author int, audience Audience) (photoNumber int) {
	w.photos = append(w.photos, photo{author: author, audience: audience, likes: map[int]bool{}})
	return len(w.photos) - 1
}

// Author is who published a photo.
func (w *World) Author(photo int) int { return w.photos[photo].author }

// Deleted says whether a photo is deleted, Gone whether it is so for good.
func (w *World) Deleted(photo int) bool { return w.photos[photo].deleted }

// Gone says whether a photo can never be restored.
func (w *World) Gone(photo int) bool { return w.photos[photo].gone }

// SetAudience changes who may see a photo.
func (w *World) SetAudience(photo int, a Audience) { w.photos[photo].audience = a }

// Delete hides a photo until it is restored.
func (w *World) Delete(photo int) { w.photos[photo].deleted = true }

// Restore undoes Delete: the photo is where it was, with its likes.
func (w *World) Restore(photo int) { w.photos[photo].deleted = false }

// Purge deletes a photo for good.
func (w *World) Purge(photo int) { w.photos[photo].deleted, w.photos[photo].gone = true, true }

// Like is refused to those who do not see the photo.
func (w *World) Like(user, photo int) (refused bool) {
	if !w.Sees(user, photo) {
		return true
	}
	w.photos[photo].likes[user] = true
	return false
}

// Unlike takes a like back.
func (w *World) Unlike(user, photo int) { delete(w.photos[photo].likes, user) }

// Likes is how many like a photo.
func (w *World) Likes(photo int) int { return len(w.photos[photo].likes) }

// Sees says whether viewer may see a photo at all.
func (w *World) Sees(viewer, photo int) bool {
	p := &w.photos[photo]
	switch {
	case p.deleted:
		return false
	case viewer == p.author:
		return true
	case w.blocked(viewer, p.author) || p.audience == AuthorOnly:
		return false
	case w.private[p.author] || p.audience == AcceptedFollowers:
		return w.follows[edge{viewer, p.author}]
	}
	return true
}

// Feed is what reader's feed holds, newest first.
func (w *World) Feed(reader int) []int {
	return w.newest(func(n int, p *photo) bool {
		return w.Sees(reader, n) && (p.author == reader ||
			w.follows[edge{reader, p.author}] && !w.mutes[edge{reader, p.author}])
	})
}

// Seen moves user's mark up to a photo, which is refused to those who do not see it.
func (w *World) Seen(user, photo int) (refused bool) {
	if !w.Sees(user, photo) {
		return true
	}
	w.seen[user] = max(w.seen[user], photo)
	return false
}

// New is how many photos of user's feed are above the mark, and its newest; -1: it is
// empty.
func (w *World) New(user int) (count, latest int) {
	feed := w.Feed(user)
	for _, photo := range feed {
		if photo > w.seen[user] {
			count++
		}
	}
	if len(feed) == 0 {
		return 0, -1
	}
	return count, feed[0]
}

// Profile is what viewer sees of an author's photos, newest first.
func (w *World) Profile(viewer, author int) []int {
	return w.newest(func(n int, p *photo) bool { return p.author == author && w.Sees(viewer, n) })
}

func (w *World) newest(want func(int, *photo) bool) (list []int) {
	for n := len(w.photos) - 1; n >= 0; n-- {
		if want(n, &w.photos[n]) {
			list = append(list, n)
		}
	}
	return list
}

// Followers are those of an author, ascending.
func (w *World) Followers(author int) []int {
	return w.others(func(e edge) (int, bool) { return e.from, e.to == author })
}

// Following are those whom reader follows, ascending.
func (w *World) Following(reader int) []int {
	return w.others(func(e edge) (int, bool) { return e.to, e.from == reader })
}

func (w *World) others(of func(edge) (int, bool)) (list []int) {
	for e := range w.follows {
		if user, ok := of(e); ok {
			list = append(list, user)
		}
	}
	slices.SortFunc(list, cmp.Compare)
	return list
}

// Hidden says whether viewer may not know of user: they are blocked by user, or have
// blocked them.
func (w *World) Hidden(viewer, user int) bool { return w.blocked(viewer, user) }
