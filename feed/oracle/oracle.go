package oracle

import (
	"cmp"
	"maps"
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
	absent   []absence
	seen     []int // by user: the newest photo that they have marked as seen; -1: none
	follows  map[edge]bool
	requests map[edge]bool // to follow
	blocks   map[edge]bool
	mutes    map[edge]bool
	photos   []photo // in the order of publication
}

// absence is why an account looks to everybody as if there were none.
type absence uint8

const (
	here absence = iota
	suspended
	left    // for good, with all that they have still there
	cleared // what they had and did is gone too
)

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
	w.private, w.absent, w.seen = append(w.private, false), append(w.absent, here), append(w.seen, -1)
	return len(w.private) - 1
}

// Users is how many there are.
func (w *World) Users() int { return len(w.private) }

// Photos is how many were ever published.
func (w *World) Photos() int { return len(w.photos) }

func (w *World) blocked(a, b int) bool { return w.blocks[edge{a, b}] || w.blocks[edge{b, a}] }

// Absent says whether a user is suspended or has left: they do nothing, nothing is done
// to them, and nobody sees what they have.
func (w *World) Absent(user int) bool { return w.absent[user] != here }

// Left says whether a user is absent for good.
func (w *World) Left(user int) bool { return w.absent[user] >= left }

func (w *World) anyAbsent(a, b int) bool { return w.Absent(a) || w.Absent(b) }

// Suspend makes a user absent until they come back to all that they had. It is
// refused of those who have left.
func (w *World) Suspend(user int, on bool) (refused bool) {
	switch {
	case w.Left(user):
		return true
	case on:
		w.absent[user] = suspended
	default:
		w.absent[user] = here
	}
	return false
}

// Leave makes a user absent for good, which is refused the second time. What they did
// to others counts until Clear.
func (w *World) Leave(user int) (refused bool) {
	if w.Left(user) {
		return true
	}
	w.absent[user] = left
	return false
}

// Clear removes what those who have left had, and what they did and was done to them.
func (w *World) Clear() {
	for user := range w.absent {
		if w.absent[user] == left {
			w.absent[user] = cleared
			w.clear(user)
		}
	}
}

func (w *World) clear(user int) {
	for _, edges := range []map[edge]bool{w.follows, w.requests, w.blocks, w.mutes} {
		maps.DeleteFunc(edges, func(e edge, _ bool) bool { return e.from == user || e.to == user })
	}
	for n := range w.photos {
		if delete(w.photos[n].likes, user); w.photos[n].author == user {
			w.Purge(n)
		}
	}
}

// Follow is what reader asks for. It is refused across a block, to oneself, and when
// either is absent.
func (w *World) Follow(reader, author int) (refused bool) {
	e := edge{reader, author}
	switch {
	case reader == author || w.blocked(reader, author) || w.anyAbsent(reader, author):
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

// Unfollow ends a follow or takes a request back, whoever of the two wants it. It is
// refused when either is absent.
func (w *World) Unfollow(reader, author int) (refused bool) {
	if w.anyAbsent(reader, author) {
		return true
	}
	w.part(reader, author)
	return false
}

func (w *World) part(reader, author int) {
	delete(w.follows, edge{reader, author})
	delete(w.requests, edge{reader, author})
}

// Answer accepts or declines a request. One of somebody absent can be declined alone.
func (w *World) Answer(author, reader int, accept bool) (refused bool) {
	e := edge{reader, author}
	if !w.requests[e] || accept && w.anyAbsent(author, reader) {
		return true
	}
	delete(w.requests, e)
	if accept {
		w.follows[e] = true
	}
	return false
}

// Block ends what is between the two. It is refused when either is absent.
func (w *World) Block(user, other int) (refused bool) {
	if w.anyAbsent(user, other) {
		return true
	}
	w.blocks[edge{user, other}] = true
	w.part(user, other)
	w.part(other, user)
	return false
}

// Unblock brings nothing back.
func (w *World) Unblock(user, other int) { delete(w.blocks, edge{user, other}) }

// Mute hides other from user's feed, or no longer. The first is refused when either is
// absent.
func (w *World) Mute(user, other int, on bool) (refused bool) {
	if on && w.anyAbsent(user, other) {
		return true
	}
	if delete(w.mutes, edge{user, other}); on {
		w.mutes[edge{user, other}] = true
	}
	return false
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
	case p.deleted || w.anyAbsent(viewer, p.author):
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

// Followers are those of an author, ascending, the absent among them.
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
