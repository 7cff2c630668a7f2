package feed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/feed/search"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

// Random people write, edit, hide and delete, the index follows, stops, crashes, is lost
// and rebuilt; whatever is searched for, by whomever, is what plain maps say.
func TestSearchOracle(t *testing.T) {
	for range testenv.Rounds(testenv.Times("HAYLOFT_SEARCH_HISTORIES", 12)) {
		seed := rand.Uint64()
		if *seedFlag != 0 {
			seed = *seedFlag
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			defer func() {
				if t.Failed() {
					t.Logf("repeat: go test ./feed -run TestSearchOracle -feed.seed %d", seed)
				}
			}()
			newFinder(t, seed).play(150)
		})
		if *seedFlag != 0 {
			return
		}
	}
}

// Of a deleted account nothing is found from then on, and when its rows are removed the
// index is the same as one made anew.
func TestSearchForgetsAccounts(t *testing.T) {
	f := newFinder(t, 1)
	ctx := context.Background()
	anna, name := f.user("anna"), "Anna Lindqvist"
	_, err := f.feed.UpdateProfile(ctx, anna, ProfileChange{Name: &name})
	f.must(err)
	f.post(anna, Details{Title: "sunset", Tags: []string{"sun"}, Location: &Location{1, 2, "here"}})
	f.rebuild() // so that the index holds it
	f.must(f.feed.DeleteAccount(ctx, anna))
	nothing := func() {
		t.Helper()
		photos, _, err1 := f.feed.SearchPhotos(ctx, 0, "sunset", Page{Limit: 9})
		byHandle, _, err2 := f.feed.SearchUsers(ctx, 0, "ann", SearchPage{Limit: 9})
		byName, _, err3 := f.feed.SearchUsers(ctx, 0, "lindq", SearchPage{Limit: 9})
		tags, _, err4 := f.feed.SearchTags(ctx, 0, "s", SearchPage{Limit: 9})
		places, _, err5 := f.feed.SearchPlaces(ctx, 0, "her", SearchPage{Limit: 9})
		f.must(errors.Join(err1, err2, err3, err4, err5))
		if n := len(photos) + len(byHandle) + len(byName) + len(tags) + len(places); n != 0 {
			t.Errorf("%d things of a deleted account are found", n)
		}
	}
	nothing()
	_, err = f.sweepNow()
	f.must(err)
	nothing()
	f.rebuild()
	if left := f.rows(); len(left) != 0 {
		t.Errorf("the index holds %q", left)
	}
	f.check()
}

// finder is a history of search with its oracle.
type finder struct {
	*house
	t     *testing.T
	rng   *rand.Rand
	disk  *vfs.MemFS // of the index
	users map[id.ID]*foundUser
	shots map[id.ID]*foundPhoto
	rank  int
}

type foundUser struct {
	handle, name string
	private      bool
	suspended    bool
	follows      map[id.ID]bool
	blocks       map[id.ID]bool
}

type foundPhoto struct {
	author  id.ID
	d       Details
	rank    int // the order of publication
	deleted bool
}

func newFinder(t *testing.T, seed uint64) *finder {
	f := &finder{
		t: t, rng: rand.New(rand.NewPCG(seed, 2)), disk: vfs.NewCrashableMem(),
		users: map[id.ID]*foundUser{}, shots: map[id.ID]*foundPhoto{},
	}
	f.house = newHouse(t, func(o *Options) {
		o.SearchDirs = []string{"search"}
		o.Search = search.Options{FS: f.disk, CacheBytes: 1 << 20, MemoryBytes: 1 << 20}
		o.Timeline.FS, o.TimelineDirs = vfs.NewMem(), []string{"timelines"}
	})
	return f
}

var (
	someWords   = []string{"Sunset", "beach", "über", "café", "Ölberg", "dog", "the", "STRASSE", "東京タワー", "n8"}
	someTags    = []string{"sun", "sunset", "Café", "dog", "dogs", "r&b", "東京", "a_b"}
	somePlaces  = []string{"Paris", "New York City", "Café de Paris", "york", "", "  "}
	someNames   = []string{"Anna Müller", "anna", "Bert van Dog", "Müllerin", "", "José"}
	someHandles = []string{"anna", "annabel", "annabell", "anabel", "bert", "bertram", "bartram", "jose.luis", "josefine", "an_na", "dogwalker", "dogwalkers"}
	queries     = []string{
		"sunset", "BEACH", "uber", "cafe", "ölberg dog", "the dog", "nothing", "東京", "タワ", "京", "#dog", "#CAFÉ", "#cafe", "sun #dog", "r b", "...", "n8 n8", "strasse!",
	}
	handleQueries = []string{"an", "anna", "annabe", "annabl", "annable", "nanabel", "bertr", "bertrma", "jose", "@jose", "jose.luiz", "dogwalkerx", "dogwalkerss", "ogwalker", "müller", "anna mü", "van", "", "@"}
)

func (f *finder) some(list []string, atMost int) string {
	var out []string
	for range f.rng.IntN(atMost + 1) {
		out = append(out, list[f.rng.IntN(len(list))])
	}
	return strings.Join(out, " ")
}

func (f *finder) details() Details {
	d := Details{Title: f.some(someWords, 2), Caption: f.some(someWords, 4), Visibility: Visibility(f.rng.IntN(4) % 3)}
	for range f.rng.IntN(3) {
		d.Tags = append(d.Tags, someTags[f.rng.IntN(len(someTags))])
	}
	if f.rng.IntN(2) == 0 {
		d.Location = &Location{
			Lat: float64(f.rng.IntN(3)) - 0.5, Lng: 180 * float64(f.rng.IntN(3)-1), Name: somePlaces[f.rng.IntN(len(somePlaces))],
		}
	}
	return d
}

func (f *finder) someUser() id.ID { return pick(f.rng, sortedKeys(f.users)) }

func (f *finder) play(steps int) {
	f.addUser()
	for i := range steps {
		f.step()
		if i%10 == 9 {
			f.compare()
		}
		if f.t.Failed() {
			return
		}
	}
	f.rebuild()
	f.compare()
	f.check()
}

func (f *finder) step() {
	ctx := context.Background()
	u := f.someUser()
	if f.users[u].suspended || f.rng.IntN(30) == 0 {
		f.users[u].suspended = !f.users[u].suspended
		f.must(f.feed.Suspend(ctx, u, f.users[u].suspended))
		return
	}
	switch n := f.rng.IntN(100); {
	case n < 8:
		f.addUser()
	case n < 12:
		name := someNames[f.rng.IntN(len(someNames))]
		private := f.rng.IntN(3) == 0
		_, err := f.feed.UpdateProfile(ctx, u, ProfileChange{Name: &name, Private: &private})
		f.must(err)
		f.users[u].name, f.users[u].private = name, private
	case n < 22:
		f.relate(u, f.someUser())
	case n < 52:
		d := f.details()
		photo := f.post(u, d)
		f.rank++
		f.shots[photo] = &foundPhoto{author: u, d: d, rank: f.rank}
	case n < 85:
		f.change(pick(f.rng, sortedKeys(f.shots)))
	case n < 89:
		f.crash()
	case n < 91:
		f.loseIndex()
	case n < 93:
		f.rebuild()
	case f.stop == nil:
		f.run()
	default:
		f.halt()
	}
}

func (f *finder) addUser() {
	handle := someHandles[f.rng.IntN(len(someHandles))]
	for _, u := range f.users {
		if u.handle == handle {
			return
		}
	}
	f.users[f.user(handle)] = &foundUser{handle: handle, name: handle, follows: map[id.ID]bool{}, blocks: map[id.ID]bool{}}
}

// relate follows (with consent), unfollows, blocks or unblocks.
func (f *finder) relate(a, b id.ID) {
	ctx := context.Background()
	ua, ub := f.users[a], f.users[b]
	if a == b || ub.suspended {
		return
	}
	switch f.rng.IntN(6) {
	case 0:
		f.must(f.feed.Block(ctx, a, b))
		ua.blocks[b] = true
		delete(ua.follows, b)
		delete(ub.follows, a)
	case 1, 2:
		f.must(f.feed.Unblock(ctx, a, b))
		delete(ua.blocks, b)
	case 3:
		f.must(f.feed.Unfollow(ctx, a, b))
		delete(ua.follows, b)
	default:
		if ua.blocks[b] || ub.blocks[a] {
			return
		}
		asked, err := f.feed.FollowOrAsk(ctx, a, b)
		f.must(err)
		if asked {
			f.must(f.feed.ApproveFollow(ctx, b, a))
		}
		ua.follows[b] = true
	}
}

// change edits, deletes, restores or destroys a photo.
func (f *finder) change(photo id.ID) {
	p, ctx := f.shots[photo], context.Background()
	if p == nil || f.users[p.author].suspended {
		return
	}
	switch {
	case p.deleted && f.rng.IntN(2) == 0:
		_, err := f.feed.RestorePhoto(ctx, p.author, photo)
		f.must(err)
		p.deleted = false
	case p.deleted:
		f.must(f.feed.DeletePhoto(ctx, p.author, photo, true))
		_, err := f.sweepNow()
		f.must(err)
		delete(f.shots, photo)
	case f.rng.IntN(2) == 0:
		f.must(f.feed.DeletePhoto(ctx, p.author, photo, false))
		p.deleted = true
	default:
		d := f.details()
		c := PhotoChange{Title: &d.Title, Tags: &d.Tags, Location: &d.Location, Visibility: &d.Visibility}
		_, err := f.feed.UpdatePhoto(ctx, p.author, photo, c)
		f.must(err)
		d.Caption = p.d.Caption
		p.d = d
	}
}

// crash ends everything without a word; what was not synced is partly gone.
func (f *finder) crash() {
	f.halt()
	clone := f.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: f.rng.IntN(101), RNG: f.rng})
	f.close()
	f.group.crash(f.t, f.rng)
	f.disk = clone
	f.tune = func(o *Options) {
		o.SearchDirs = []string{"search"}
		o.Search = search.Options{FS: f.disk, CacheBytes: 1 << 20, MemoryBytes: 1 << 20}
		o.Timeline.FS, o.TimelineDirs = vfs.NewMem(), []string{"timelines"}
	}
	f.open()
}

// loseIndex takes the index away and gives the disk back.
func (f *finder) loseIndex() {
	f.feed.SearchLost("search", fmt.Errorf("the disk is gone"))
	if f.stop == nil {
		f.run()
	}
	f.await(func() bool {
		_, _, err := f.feed.SearchPhotos(context.Background(), 0, "x", Page{Limit: 1})
		return errors.Is(err, ErrUnavailable)
	})
	f.await(func() bool { // the lost instance lets go of the directory some time
		f.feed.SearchUsable("search")
		_, _, err := f.feed.SearchPhotos(context.Background(), 0, "x", Page{Limit: 1})
		return err == nil
	})
}

// awaitIndex waits until the index answers.
func (f *finder) awaitIndex() {
	f.await(func() bool {
		_, _, err := f.feed.SearchPhotos(context.Background(), 0, "x", Page{Limit: 1})
		return err == nil
	})
}

func (f *finder) await(ok func() bool) {
	f.t.Helper()
	for limit := time.After(testenv.Patience); !ok(); <-time.After(time.Millisecond) {
		select {
		case <-limit:
			f.t.Fatal("it does not happen")
		default:
		}
	}
}

// rebuild wants an index made anew to hold the same rows as the one before.
func (f *finder) rebuild() {
	if f.stop == nil {
		f.run()
	}
	f.awaitIndex()
	f.await(func() bool { return f.feed.SearchStats().Lag == 0 })
	before := f.rows()
	f.must(f.feed.RebuildSearch(context.Background()))
	if after := f.rows(); !slices.Equal(before, after) {
		f.t.Errorf("rebuilt:\n%q\nincremental:\n%q", after, before)
	}
}

func (f *finder) rows() (out []string) {
	f.must(f.feed.search.View(func(x *search.Index) error {
		return x.Dump(func(k, v []byte) error {
			out = append(out, string(slices.Concat(bytes.Clone(k), []byte("="), v)))
			return nil
		})
	}))
	return out
}

// ——— The oracle ———

func (f *finder) sees(viewer id.ID, p *foundPhoto) bool {
	author := f.users[p.author]
	if p.deleted || author.suspended {
		return false
	}
	if viewer == p.author {
		return true
	}
	v := f.users[viewer]
	if v != nil && (v.blocks[p.author] || author.blocks[viewer]) {
		return false
	}
	follows := v != nil && v.follows[p.author]
	return p.d.Visibility == Public && (!author.private || follows) || p.d.Visibility == Followers && follows
}

// where lists the photos that viewer sees and that have something, newest first.
func (f *finder) where(viewer id.ID, has func(d *Details) bool) []id.ID {
	var out []id.ID
	for photo, p := range f.shots {
		if f.sees(viewer, p) && has(&p.d) {
			out = append(out, photo)
		}
	}
	slices.SortFunc(out, func(a, b id.ID) int { return cmp.Compare(f.shots[b].rank, f.shots[a].rank) })
	return out
}

// plain is folding for the letters of this test.
func plain(s string) string {
	return strings.NewReplacer("é", "e", "ü", "u", "ö", "o").Replace(strings.ToLower(s))
}

// contains says whether a text has a word, or a run of the letters of one without spaces.
func contains(text, word string) bool {
	for _, w := range strings.FieldsFunc(plain(text), func(r rune) bool { return strings.ContainsRune(" &_.!#", r) }) {
		if w == word || word[0] > 0x7f && strings.Contains(w, word) {
			return true
		}
	}
	return false
}

func (f *finder) wantPhotos(viewer id.ID, query string) []id.ID {
	return f.where(viewer, func(d *Details) bool {
		text := strings.Join(append([]string{d.Title, d.Caption}, lower(d.Tags)...), " ")
		asked := false
		for _, part := range strings.Fields(query) {
			if strings.HasPrefix(part, "#") {
				asked = true
				if !slices.Contains(lower(d.Tags), strings.ToLower(part[1:])) {
					return false
				}
				continue
			}
			for _, w := range strings.FieldsFunc(plain(part), func(r rune) bool { return strings.ContainsRune(".!", r) }) {
				asked = true
				if !contains(text, w) {
					return false
				}
			}
		}
		return asked
	})
}

func lower(tags []string) (out []string) {
	for _, t := range tags {
		out = append(out, strings.ToLower(t))
	}
	return out
}

func placeKey(l *Location) string {
	words := strings.Fields(plain(l.Name))
	if len(words) == 0 {
		return ""
	}
	lng := math.Floor(l.Lng)
	if lng == 180 {
		lng = -180
	}
	return fmt.Sprint(math.Floor(l.Lat), lng, words)
}

// typos counts the edits between two texts: letters wrong, missing, too many, or two
// neighbours swapped.
func typos(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		for j := range d[i] {
			switch {
			case i == 0 || j == 0:
				d[i][j] = i + j
			case a[i-1] == b[j-1]:
				d[i][j] = d[i-1][j-1]
			default:
				d[i][j] = 1 + min(d[i-1][j], d[i][j-1], d[i-1][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// phaseOf says how an account is found: 0 by handle, 1 with a typo, 2 by name, 3 not.
func phaseOf(u *foundUser, query string) int {
	handle, only := strings.CutPrefix(strings.ToLower(query), "@")
	if handle != "" && strings.HasPrefix(u.handle, handle) {
		return 0
	}
	if len(handle) >= 5 && !strings.ContainsFunc(handle, func(r rune) bool { return r > 0x7f || r == ' ' }) {
		for n := 1; n <= len(u.handle); n++ {
			begin := u.handle[:n]
			if typos(handle, begin) == 1 && (n == len(u.handle) || begin[n-1] == handle[len(handle)-1]) {
				return 1
			}
		}
	}
	words := strings.Fields(plain(u.name))
	asked := strings.FieldsFunc(plain(query), func(r rune) bool { return strings.ContainsRune(" .@", r) })
	for _, q := range asked {
		if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, q) }) {
			return 3
		}
	}
	if only || len(asked) == 0 {
		return 3
	}
	return 2
}

func (f *finder) wantUsers(viewer id.ID, query string) [3][]id.ID {
	var out [3][]id.ID
	for _, u := range slices.SortedFunc(maps.Keys(f.users), func(a, b id.ID) int { return strings.Compare(f.users[a].handle, f.users[b].handle) }) {
		v := f.users[viewer]
		if f.users[u].suspended || v != nil && (v.blocks[u] || f.users[u].blocks[viewer]) {
			continue
		}
		if n := phaseOf(f.users[u], query); n < 3 {
			out[n] = append(out[n], u)
		}
	}
	return out
}
