package feed

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hayloft/internal/id"
)

// compare asks for many things on behalf of some, and wants what the oracle says.
func (f *finder) compare() {
	f.t.Helper()
	f.awaitIndexed()
	for _, viewer := range []id.ID{0, f.someUser(), f.someUser()} {
		for _, q := range queries {
			f.samePhotos(fmt.Sprintf("%v searches %q", viewer, q), f.wantPhotos(viewer, q), func(p Page) ([]PhotoView, id.ID, error) {
				return f.feed.SearchPhotos(context.Background(), viewer, q, p)
			})
		}
		for _, tag := range someTags {
			want := f.where(viewer, func(d *Details) bool { return slices.Contains(lower(d.Tags), strings.ToLower(tag)) })
			f.samePhotos(fmt.Sprintf("%v opens tag %q", viewer, tag), want, func(p Page) ([]PhotoView, id.ID, error) {
				return f.feed.TagPhotos(context.Background(), viewer, tag, p)
			})
		}
		f.compareTags(viewer)
		f.comparePlaces(viewer)
		f.compareUsers(viewer)
	}
}

// awaitIndexed waits only where an index that has never been whole is so far behind
// that it says so.
func (f *finder) awaitIndexed() {
	if f.stop != nil {
		f.awaitIndex()
	}
}

func (f *finder) samePhotos(what string, want []id.ID, page func(Page) ([]PhotoView, id.ID, error)) {
	f.t.Helper()
	var got []id.ID
	for p := (Page{Limit: 1 + f.rng.IntN(4)}); ; {
		rows, next, err := page(p)
		if err != nil {
			f.t.Errorf("%s: %v", what, err)
			return
		}
		got = append(got, photoIDs(rows)...)
		if next == 0 {
			break
		}
		if len(rows) > p.Limit || p.After != 0 && next >= p.After {
			f.t.Fatalf("%s: %d rows for %+v, next %v", what, len(rows), p, next)
		}
		p = Page{After: next, Limit: 1 + f.rng.IntN(4)}
	}
	if !slices.Equal(got, want) {
		f.t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// walk collects the rows of a list whose cursor is a text.
func walk[T any](f *finder, what string, page func(SearchPage) ([]T, string, error)) (all []T) {
	f.t.Helper()
	for p := (SearchPage{Limit: 1 + f.rng.IntN(3)}); ; {
		rows, next, err := page(p)
		if err != nil {
			f.t.Errorf("%s: %v", what, err)
			return nil
		}
		if len(rows) > p.Limit || next != "" && next <= p.After {
			f.t.Fatalf("%s: %d rows for %+v, next %q", what, len(rows), p, next)
		}
		all = append(all, rows...)
		if next == "" {
			return all
		}
		p = SearchPage{After: next, Limit: 1 + f.rng.IntN(3)}
	}
}

func (f *finder) compareTags(viewer id.ID) {
	for _, prefix := range []string{"s", "sun", "CAFE", "#dog", "r", "東", "x", "", "a_"} {
		got := walk(f, "tags", func(p SearchPage) ([]string, string, error) {
			return f.feed.SearchTags(context.Background(), viewer, prefix, p)
		})
		var want []string
		for _, tag := range lower(someTags) {
			folded := strings.TrimPrefix(plain(prefix), "#")
			has := func(d *Details) bool { return slices.Contains(lower(d.Tags), tag) }
			if folded != "" && strings.HasPrefix(plain(tag), folded) && len(f.where(viewer, has)) > 0 {
				want = append(want, tag)
			}
		}
		slices.SortFunc(want, func(a, b string) int { return strings.Compare(plain(a)+"\x00"+a, plain(b)+"\x00"+b) })
		if !slices.Equal(got, want) {
			f.t.Errorf("tags %q for %v: got %q, want %q", prefix, viewer, got, want)
		}
	}
}

func (f *finder) comparePlaces(viewer id.ID) {
	ctx := context.Background()
	places := map[id.ID]string{} // all that are found → key
	for _, prefix := range []string{"par", "new y", "York", "city", "cafe DE", "x", " "} {
		got := walk(f, "places", func(p SearchPage) ([]Place, string, error) { return f.feed.SearchPlaces(ctx, viewer, prefix, p) })
		keys := []string{}
		for _, p := range got {
			key := placeKey(&Location{p.Lat, p.Lng, p.Name})
			places[p.ID] = key
			keys = append(keys, key)
		}
		want := []string{}
		asked := strings.Join(strings.Fields(plain(prefix)), " ")
		for _, photo := range f.where(viewer, func(d *Details) bool { return d.Location != nil && placeKey(d.Location) != "" }) {
			l := f.shots[photo].d.Location
			name := " " + strings.Join(strings.Fields(plain(l.Name)), " ")
			if asked != "" && strings.Contains(name, " "+asked) && !slices.Contains(want, placeKey(l)) {
				want = append(want, placeKey(l))
			}
		}
		slices.Sort(keys)
		slices.Sort(want)
		if !slices.Equal(keys, want) {
			f.t.Errorf("places %q for %v: got %q, want %q", prefix, viewer, keys, want)
		}
	}
	for place, key := range places {
		want := f.where(viewer, func(d *Details) bool { return d.Location != nil && placeKey(d.Location) == key })
		f.samePhotos(fmt.Sprintf("%v opens place %q", viewer, key), want, func(p Page) ([]PhotoView, id.ID, error) {
			return f.feed.PlacePhotos(ctx, viewer, place, p)
		})
	}
}

func (f *finder) compareUsers(viewer id.ID) {
	for _, q := range handleQueries {
		got := userIDs(walk(f, "users", func(p SearchPage) ([]UserView, string, error) {
			return f.feed.SearchUsers(context.Background(), viewer, q, p)
		}))
		want := f.wantUsers(viewer, q)
		n := len(want[0]) + len(want[1])
		byHandle := slices.Concat(want[0], want[1])
		if len(got) < n || !slices.Equal(got[:n], byHandle) || len(got) != n+len(want[2]) || !sameSet(got[n:], setOf(want[2])) {
			f.t.Errorf("users %q for %v: got %v, want %v", q, viewer, f.handles(got), [][]string{f.handles(want[0]), f.handles(want[1]), f.handles(want[2])})
		}
	}
}

func (f *finder) handles(users []id.ID) (out []string) {
	for _, u := range users {
		out = append(out, f.users[u].handle+" ("+f.users[u].name+")")
	}
	return out
}

func setOf(list []id.ID) map[id.ID]bool {
	out := map[id.ID]bool{}
	for _, v := range list {
		out[v] = true
	}
	return out
}
