package oracle

import (
	"slices"
	"testing"
)

// Each clause of the definition, by an example.
func TestFeedByExamples(t *testing.T) {
	const reader, author, other = 0, 1, 2
	tests := []struct {
		name string
		do   func(w *World)
		want []int // photo 0 is the author's, 1 the reader's
	}{
		{"follows", func(*World) {}, []int{1, 0}},
		{"unfollowed", func(w *World) { w.Unfollow(reader, author) }, []int{1}},
		{"blocks", func(w *World) { w.Block(reader, author) }, []int{1}},
		{"is blocked", func(w *World) { w.Block(author, reader) }, []int{1}},
		{"unblocked", func(w *World) { w.Block(author, reader); w.Unblock(author, reader) }, []int{1}},
		{"muted", func(w *World) { w.Mute(reader, author, true) }, []int{1}},
		{"unmuted", func(w *World) { w.Mute(reader, author, true); w.Mute(reader, author, false) }, []int{1, 0}},
		{"deleted", func(w *World) { w.Delete(0) }, []int{1}},
		{"restored", func(w *World) { w.Delete(0); w.Restore(0) }, []int{1, 0}},
		{"gone", func(w *World) { w.Purge(0); w.Purge(1) }, nil},
		{"for followers", func(w *World) { w.SetAudience(0, AcceptedFollowers) }, []int{1, 0}},
		{"for the author", func(w *World) { w.SetAudience(0, AuthorOnly); w.SetAudience(1, AuthorOnly) }, []int{1}},
		{"private", func(w *World) { w.SetPrivate(author, true) }, []int{1, 0}},
		{"asks", func(w *World) { w.SetPrivate(author, true); w.Unfollow(reader, author); w.Follow(reader, author) }, []int{1}},
		{"is accepted", func(w *World) {
			w.SetPrivate(author, true)
			w.Unfollow(reader, author)
			w.Follow(reader, author)
			w.Answer(author, reader, true)
		}, []int{1, 0}},
		{"is declined", func(w *World) {
			w.SetPrivate(author, true)
			w.Unfollow(reader, author)
			w.Follow(reader, author)
			w.Answer(author, reader, false)
		}, []int{1}},
		{"author suspended", func(w *World) { w.Suspend(author, true) }, []int{1}},
		{"author back", func(w *World) { w.Suspend(author, true); w.Suspend(author, false) }, []int{1, 0}},
		{"author left", func(w *World) { w.Leave(author); w.Suspend(author, false) }, []int{1}},
		{"author cleared", func(w *World) { w.Leave(author); w.Clear() }, []int{1}},
		{"suspended", func(w *World) { w.Suspend(reader, true) }, nil},
		{"back", func(w *World) { w.Suspend(reader, true); w.Clear(); w.Suspend(reader, false) }, []int{1, 0}},
		{"left", func(w *World) { w.Leave(reader) }, nil},
		{"others do not matter", func(w *World) { w.Publish(other, Everybody); w.Block(other, author) }, []int{1, 0}},
		{"newest first", func(w *World) { w.Publish(author, Everybody) }, []int{2, 1, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := New()
			for range 3 {
				w.Join()
			}
			w.Follow(reader, author)
			w.Publish(author, Everybody)
			w.Publish(reader, Everybody)
			tt.do(w)
			if got := w.Feed(reader); !slices.Equal(got, tt.want) {
				t.Errorf("feed %v, want %v", got, tt.want)
			}
		})
	}
}

// The mark moves forward only, and what is new is above it.
func TestNew(t *testing.T) {
	w := New()
	a, b := w.Join(), w.Join()
	if n, latest := w.New(a); n != 0 || latest != -1 {
		t.Error(n, latest)
	}
	w.Follow(a, b)
	for range 3 {
		w.Publish(b, Everybody)
	}
	hidden := w.Publish(b, AuthorOnly)
	if w.Seen(a, 1) || w.Seen(a, 0) || !w.Seen(a, hidden) {
		t.Error("refused what is allowed, or the other way round")
	}
	if n, latest := w.New(a); n != 1 || latest != 2 {
		t.Errorf("%d new, latest %d", n, latest)
	}
	if w.Unfollow(a, b); len(w.Feed(a)) != 0 {
		t.Error("a feed stays")
	}
}

// What is refused changes nothing.
func TestRefusals(t *testing.T) {
	w := New()
	a, b := w.Join(), w.Join()
	w.SetPrivate(a, true)
	p := w.Publish(a, Everybody)
	if !w.Follow(a, a) || !w.Answer(a, b, true) || !w.Like(b, p) || w.Likes(p) != 0 {
		t.Error("done what must be refused")
	}
	w.Block(a, b)
	if !w.Follow(b, a) || !w.Follow(a, b) || len(w.Followers(a))+len(w.Following(b)) != 0 || !w.Hidden(b, a) {
		t.Error("followed across a block")
	}
	w.Unblock(a, b)
	if w.Follow(b, a) || w.Answer(a, b, true) || w.Like(b, p) || w.Likes(p) != 1 || !slices.Equal(w.Profile(b, a), []int{p}) {
		t.Error("refused what is allowed")
	}
	if w.Unlike(b, p); w.Likes(p) != 0 {
		t.Error("a like stays")
	}
}

// Nothing is done by or to those who are absent; what they did counts until they are
// cleared.
func TestAbsent(t *testing.T) {
	w := New()
	a, b, c := w.Join(), w.Join(), w.Join()
	w.Follow(a, b)
	w.SetPrivate(a, true)
	w.Follow(c, a)
	p := w.Publish(b, Everybody)
	w.Like(a, p)
	w.Suspend(c, true)
	if !w.Answer(a, c, true) || w.Answer(a, c, false) {
		t.Error("a request of somebody absent can be declined alone")
	}
	w.Leave(a)
	for what, refused := range map[string]bool{
		"follow": w.Follow(b, a), "be followed": w.Follow(a, b), "unfollow": w.Unfollow(a, b), "block": w.Block(b, a), "mute": w.Mute(b, a, true),
		"like": w.Like(a, p), "look": w.Seen(a, p), "leave again": w.Leave(a), "come back": w.Suspend(a, false),
	} {
		if !refused {
			t.Error(what)
		}
	}
	if w.Likes(p) != 1 || !slices.Equal(w.Followers(b), []int{a}) || w.Mute(b, a, false) {
		t.Error("gone too early")
	}
	if w.Clear(); w.Likes(p) != 0 || len(w.Followers(b)) != 0 || !w.Left(a) || w.Left(c) || !w.Absent(c) {
		t.Error("there too long")
	}
}
