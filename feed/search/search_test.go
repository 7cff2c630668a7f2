package search

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/id"
)

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "",
		"Hello, World!":               "hello world",
		"Café—CRÈME 2nd":              "cafe creme 2nd",
		"ﬁne Ⅷ ① ＡＢ":                  "fine viii 1 ab",
		"й ё ά":                       "и е α",
		"東京タ!":                        "東 京 東京 タ 京タ",
		"x東y":                         "x 東 y",
		"हिन्दी भाषा":                 "हिन्दी भाषा",
		"が":                           "が",
		"한국":                          "한국",
		"\u0301 \u0301a":              "a",
		strings.Repeat("é", 100):      strings.Repeat("e", 64),
		strings.Repeat("語ab", 1):      "語 ab",
		strings.Repeat("ж", 40) + ".": strings.Repeat("ж", 32),
	} {
		if got := strings.Join(Words(text), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := strings.Join(queryWords("東京タ a 東"), " "); got != "東京 京タ a 東" {
		t.Errorf("words of a query: %q", got)
	}
}

// What a text is asked for must be among what it is found by.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"Café", "東京タワー", "ไทย", "a\u0301", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		has := Words(s)
		for _, w := range queryWords(s) {
			if !slices.Contains(has, w) {
				t.Errorf("%q: %q is not among %q", s, w, has)
			}
		}
		for _, w := range has {
			if w == "" || len(w) > maxWord || strings.ContainsRune(w, 0) {
				t.Errorf("%q: word %q", s, w)
			}
		}
	})
}

func TestPlaces(t *testing.T) {
	same := [][2]*Place{
		{PlaceOf("Café  de Paris", 48.8, 2.3), PlaceOf("cafe de paris!", 48.1, 2.9)},
		{PlaceOf("Suva", -18, 180), PlaceOf("Suva", -18, -180)},
	}
	for _, p := range same {
		if p[0].ID != p[1].ID {
			t.Errorf("%+v and %+v are two", p[0], p[1])
		}
	}
	if PlaceOf("Springfield", 39.8, -89.6).ID == PlaceOf("Springfield", 42.1, -72.6).ID {
		t.Error("two places of one name are one")
	}
	if p := PlaceOf(" !? ", 1, 1); p != nil {
		t.Errorf("a place without a name: %+v", p)
	}
	if got := PlaceOf("New York City", 40, -74).towns(); !slices.Equal(got, []string{"new york city", "york city", "city"}) {
		t.Errorf("found by %q", got)
	}
}

// An empty query, one with too many words and a tag are what they are.
func TestParseQuery(t *testing.T) {
	for text, want := range map[string]int{"": 0, "… !": 0, "a A á": 1, "#": 0, "#a a": 2, "#Café": 1} {
		if got := ParseQuery(text).Len(); got != want {
			t.Errorf("%q has %d terms, want %d", text, got, want)
		}
	}
}

// A page does bounded work and says where to go on; all pages together hold each
// photo once, whether the index has seen it or not.
func TestBoundedPages(t *testing.T) {
	r := newRig(t, tuning{changes: 3, examine: 4})
	for i := range 40 {
		p := Photo{ID: id.ID(i + 1), Caption: "common"}
		if i%7 == 0 {
			p.Caption += " rare"
		}
		if i == 3 {
			p.Tags = []string{"rare"}
		}
		r.src.put(p)
		if i == 30 {
			r.settle()
		}
	}
	for text, want := range map[string]int{"common": 40, "rare": 7, "common rare": 7, "#rare": 1, "common absent": 0} {
		found, pages, err := r.find(text)
		r.must(err)
		if len(found) != want || !slices.IsSortedFunc(found, func(a, b id.ID) int { return int(b) - int(a) }) {
			t.Errorf("%q: found %v, want %d", text, found, want)
		}
		if text == "common" && pages < 10 {
			t.Errorf("%d pages for 40 photos, of 4 looked at each", pages)
		}
	}
}

// An index that is new and far behind says so; one that was whole once goes on.
func TestBuilding(t *testing.T) {
	r := newRig(t, tuning{changes: 2, pending: 5})
	for i := range 6 {
		r.src.put(Photo{ID: id.ID(i + 1), Title: "x"})
	}
	if _, _, err := r.find("x"); !errors.Is(err, ErrBuilding) {
		t.Errorf("with 6 changes to go: %v", err)
	}
	r.src.partial = true
	r.settle()
	if _, _, err := r.find("x"); !errors.Is(err, ErrBuilding) {
		t.Errorf("with a list that is not whole: %v", err)
	}
	r.src.partial = false
	r.settle()
	for i := range 20 {
		r.src.put(Photo{ID: id.ID(i + 100), Title: "x"})
	}
	if found, _, err := r.find("x"); err != nil || len(found) < 6 {
		t.Errorf("behind: %v, %v", found, err)
	}
}

// A new generation is built beside the old one, which answers meanwhile; who asked is
// told at the end, and both hold the same.
func TestRebuild(t *testing.T) {
	r := newRig(t, tuning{changes: 2})
	for i := range 9 {
		r.src.put(Photo{ID: id.ID(i + 1), Title: "x", Tags: []string{"y"}, Place: PlaceOf("here", 1, 2)})
		r.src.name(id.ID(i+1000), "Anna")
	}
	r.settle()
	before := r.dump()
	told := make(chan error, 2)
	for range 2 {
		go func() { told <- r.s.Rebuild(context.Background()) }()
	}
	r.await(func() bool { r.s.askMu.Lock(); defer r.s.askMu.Unlock(); return len(r.s.asked) == 2 })
	for steps := 0; r.s.Stats().Rebuilds == 0; steps++ {
		_, err := r.s.step()
		r.must(err)
		if found, _, err := r.find("x"); err != nil || len(found) != 9 {
			t.Fatalf("during a rebuild: %v, %v", found, err)
		}
	}
	r.must(<-told)
	r.must(<-told)
	if after := r.dump(); !slices.Equal(before, after) {
		t.Errorf("rebuilt %q, was %q", after, before)
	}
	r.must(r.s.home.View(func(db *pebble.DB) error { // nothing of the old one is left
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{1}, UpperBound: []byte{2}})
		if err == nil && it.First() {
			t.Errorf("%q is left", it.Key())
		}
		return errors.Join(err, it.Close())
	}))
}

func (r *rig) dump() (out []string) {
	r.must(r.s.View(func(x *Index) error {
		return x.Dump(func(k, v []byte) error {
			out = append(out, fmt.Sprintf("%x=%x", k, v))
			return nil
		})
	}))
	return out
}

// An index of a newer format, of another feed or with a damaged row is thrown away and
// derived again.
func TestUselessIndexes(t *testing.T) {
	for name, spoil := range map[string]func(r *rig, db *pebble.DB) error{
		"another format": func(_ *rig, db *pebble.DB) error { return db.Set(keyFormat, []byte{9}, pebble.NoSync) },
		"a bad state":    func(_ *rig, db *pebble.DB) error { return db.Set(keyState, []byte{9}, pebble.NoSync) },
		"ahead of the feed": func(_ *rig, db *pebble.DB) error {
			return db.Set(keyState, state{gen: 1, cursor: 1000}.encode(), pebble.NoSync)
		},
		"a damaged row": func(r *rig, db *pebble.DB) error {
			r.src.put(Photo{ID: 1, Title: "y"})
			return db.Set(rowKey(1, rowPhoto, 1), []byte{1}, pebble.NoSync)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, tuning{})
			r.src.put(Photo{ID: 1, Title: "x"})
			r.src.put(Photo{ID: 2, Title: "x"})
			r.settle()
			r.must(r.s.home.View(func(db *pebble.DB) error { return spoil(r, db) }))
			r.must(r.s.Close())
			r.open(tuning{})
			r.settle()
			if found, _, err := r.find("x"); err != nil || !slices.Contains(found, 2) || len(r.wiped) != 1 {
				t.Errorf("found %v, %v; wiped %v", found, err, r.wiped)
			}
		})
	}
}

// When a disk is lost the index begins anew on another.
func TestLostDisk(t *testing.T) {
	r := newRig(t, tuning{})
	for i := range 10 {
		r.src.put(Photo{ID: id.ID(i + 1), Title: "x"})
	}
	r.settle()
	r.run()
	r.s.Lost("one", errors.New("gone"))
	r.await(func() bool { return r.s.Stats().Wipes == 1 })
	r.await(func() bool { return r.s.Stats().Cursor == 10 })
	r.halt()
	if found, _, err := r.find("x"); err != nil || len(found) != 10 {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := r.fs.Stat("two/db"); err != nil {
		t.Error(err)
	}
}

// What a crash leaves is a beginning of what was written, and the rest is derived again.
func TestCrashes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	r := newRig(t, tuning{changes: 4})
	for round := range 20 {
		for range 30 {
			p := Photo{ID: id.ID(1 + rng.IntN(50)), Title: []string{"x", "y", "x y"}[rng.IntN(3)]}
			if r.src.put(p); rng.IntN(4) == 0 {
				r.src.remove(p.ID)
			}
			if rng.IntN(5) == 0 {
				_, err := r.s.step()
				r.must(err)
			}
			if rng.IntN(20) == 0 {
				_, err := r.s.home.Flush()
				r.must(err)
			}
		}
		clone := r.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		r.must(r.s.Close())
		r.fs = clone
		r.open(tuning{changes: 4})
		for _, text := range []string{"x", "y", "x y"} {
			var want []id.ID
			for photo, p := range r.src.photos {
				if ParseQuery(text).Matches(p) {
					want = append(want, photo)
				}
			}
			found, _, err := r.find(text)
			r.must(err)
			for _, photo := range want {
				if !slices.Contains(found, photo) {
					t.Fatalf("seed %d, round %d: %q does not find %v", seed, round, text, photo)
				}
			}
		}
	}
	r.settle()
	before := r.dump()
	r.s.asked = append(r.s.asked, make(chan struct{}))
	r.settle()
	if after := r.dump(); !slices.Equal(before, after) {
		t.Errorf("seed %d: rebuilt %q, was %q", seed, after, before)
	}
}
