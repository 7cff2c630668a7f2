package timeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// scroll reads the reader's feed in pages of limit from before on and compares it with
// the model.
func (f *fixture) scroll(before id.ID, limit int) {
	f.t.Helper()
	want := f.m.feed(reader)
	if before != 0 {
		want = slices.DeleteFunc(want, func(p Post) bool { return p.Pos >= before })
	}
	var got []Post
	for {
		posts, next, err := f.s.Page(context.Background(), reader, before, limit, f.m.visible(reader))
		if err != nil {
			f.t.Fatal(err)
		}
		if got = append(got, posts...); next == 0 {
			break
		}
		before = next
	}
	if !slices.EqualFunc(got, want, func(a, b Post) bool { return a.Pos == b.Pos && a.Author == b.Author }) {
		f.t.Fatalf("got%s, want%s", show(got), show(want))
	}
}

// calls counts what the source is asked for from now on.
func (f *fixture) calls() map[string]int {
	n := map[string]int{}
	f.m.fail = func(call string) error { n[call]++; return nil }
	return n
}

// TestDeepPagesShareAMerge: what one page below the floor has merged serves those
// after it, and what changes meanwhile is seen.
func TestDeepPagesShareAMerge(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Segment = 10 })
	for a := range 5 {
		f.m.follow(reader, author+id.ID(a))
	}
	for i := range 40 {
		f.m.publish(post(i, author+id.ID(i%5)))
	}
	f.rest()
	f.see()
	f.rest()
	f.scroll(0, 2)
	if n := f.s.Stats().SegmentPages; n < 12 {
		t.Errorf("%d pages came of a merge that was there, of some 18", n)
	}

	newest := 40
	tests := []struct {
		name   string
		change func()
		merges bool // the next page must merge again
	}{
		{"nothing", func() {}, false},
		{"deleted", func() { f.m.remove(author+2, at(22)) }, false},
		{"restored", func() { f.m.restore(author+2, at(22), false) }, false},
		{"unfollowed", func() { f.m.unfollow(reader, author+1) }, false},
		{"followed", func() { f.m.follow(reader, author+1) }, true},
		{"published", func() { newest++; f.m.publish(post(newest, author)) }, false},
	}
	for _, done := range []bool{false, true} { // before the writer knows of it, and after
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s, %v", tt.name, done), func(t *testing.T) {
				f.t = t
				f.rest()
				f.scroll(0, 30)
				if merged, err := f.merges(at(25)); err != nil || !merged {
					t.Fatalf("merges %v, %v: kept from long before", merged, err)
				}
				tt.change()
				if done {
					f.rest()
				}
				merged, err := f.merges(at(24))
				if err != nil || merged != tt.merges {
					t.Errorf("merges %v, %v; want %v", merged, err, tt.merges)
				}
				f.scroll(at(24), 2)
			})
		}
	}
}

// merges reports whether the page below before asks for authors' posts.
func (f *fixture) merges(before id.ID) (bool, error) {
	n := f.calls()
	defer func() { f.m.fail = nil }()
	_, _, err := f.s.Page(context.Background(), reader, before, 2, f.m.visible(reader))
	return n["Posts"] > 0, err
}

// TestCursorFromTheFuture: a page that is asked for with a position that nothing has
// yet does not hide what comes below it later.
func TestCursorFromTheFuture(t *testing.T) {
	f := newFixture(t, nil)
	f.m.follow(reader, author)
	f.m.publish(post(1, author))
	f.rest()
	f.scroll(at(100), 5)
	f.m.publish(post(2, author))
	f.rest()
	f.scroll(at(100), 5)
}

// TestPullersAreRemembered: of authors whose posts are all in push mode a page asks
// once, until one posts in pull mode.
func TestPullersAreRemembered(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Cap = 100 })
	for a := range 20 {
		f.m.follow(reader, author+id.ID(a))
	}
	f.built(5)
	n := f.calls()
	f.see()
	f.see()
	if n["HasPull"] != 0 {
		t.Errorf("asked %d times again", n["HasPull"])
	}
	f.m.fail = nil
	for i, done := range []bool{false, true} {
		p := post(10+i, author+id.ID(i))
		p.Pull = true
		f.m.publish(p)
		if done {
			f.rest()
		}
		f.see()
	}
	f.rest()
	n = f.calls()
	f.see()
	if n["HasPull"] != 0 || n["Posts"] != 1+2 { // own, and of the two who have posts in pull mode
		t.Errorf("calls %v", maps.Clone(n))
	}
	f.m.fail = nil
	f.reopen()
	f.see()
}

// TestPullersForget: what a snapshot says is not kept when the writer may know better.
func TestPullersForget(t *testing.T) {
	var p pullers
	p.init(2)
	before := p.begin()
	p.published(1)
	p.note(before, map[id.ID]bool{1: false})
	if !p.may[1] {
		t.Error("an old snapshot has overruled the writer")
	}
	p.published(2)
	p.published(3) // no room: forgets the others
	p.note(before, map[id.ID]bool{1: false})
	if may, known := p.may[1]; known || may || !p.may[3] {
		t.Errorf("kept what may be old: %v", p.may)
	}
}

// TestSegmentsForget: a segment is gone when it may be old, or others were used since.
func TestSegmentsForget(t *testing.T) {
	var s segments
	s.init(2, 2)
	keep := func(who id.ID, seq uint64) {
		s.keep(&segment{reader: who, seq: seq, from: at(9), to: at(5), posts: []Post{post(8, author), post(5, author)}})
	}
	has := func(who id.ID) bool { g, _ := s.find(who, at(9)); return g != nil }
	keep(1, 5)
	keep(2, 5)
	has(1)
	keep(3, 5)
	if !has(1) || has(2) || !has(3) {
		t.Error("not the one that was not used for longest has gone")
	}
	s.event(Event{Seq: 6, Kind: Followed, Reader: 3})
	if has(3) || !has(1) {
		t.Error("a new follow takes another's away")
	}
	keep(3, 5)
	if has(3) {
		t.Error("kept though the writer has gone on")
	}
	for i := range uint64(3) {
		s.event(Event{Seq: 7 + i, Kind: Published, Post: post(7, author), Again: true})
	}
	if has(1) {
		t.Error("changes are forgotten, and it is still there")
	}
	if g, _ := s.find(1, at(5)); g != nil {
		t.Error("found below its end")
	}
}

// TestPostsAreLookedUpOnce: what is at a position is read from the instance once.
func TestPostsAreLookedUpOnce(t *testing.T) {
	f := newFixture(t, nil)
	f.built(2)
	f.see()
	if err := f.s.in.db.Delete(key8(keyPost, uint64(at(1))), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	f.see()
	if len(f.saw) != 0 {
		t.Errorf("looked up again: %v", f.saw)
	}
	var k known
	k.init(2)
	for i := range 5 {
		k.put(post(i, author))
	}
	if p, ok := k.get(at(4)); !ok || p != post(4, author) || len(k.posts) > 2 {
		t.Errorf("%v, %v, %d kept", p, ok, len(k.posts))
	}
}
