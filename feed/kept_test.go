package feed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// looking is a view that stays open while things happen.
func (h *house) looking() *view {
	shelf := h.feed.machine.rows.shelf()
	snap, err := h.feed.snapshot()
	h.must(err)
	h.t.Cleanup(func() { snap.Close() })
	return &view{store: store{snap}, shelf: shelf}
}

// agrees says how what v finds differs from what its snapshot shows.
func (v *view) agrees(users, photos []id.ID) error {
	again := &view{store: v.store, shelf: v.shelf} // remembers nothing
	for _, u := range users {
		got, err := again.account(u)
		want, werr := v.store.account(u)
		if err := errors.Join(err, werr); err != nil {
			return err
		}
		if !reflect.DeepEqual(got, want) {
			return fmt.Errorf("account %v: kept %+v, stored %+v", u, got, want)
		}
		circle, err := v.shelf.circle(v.store, u)
		if err != nil {
			return err
		}
		for _, o := range users {
			for _, key := range [][]byte{key2(tabFollow, u, o), key2(tabMute, u, o), key2(tabBlock, u, o), key2(tabBlock, o, u)} {
				got, known := circle.has(u, key)
				want, err := v.store.has(key)
				if err != nil {
					return err
				}
				if known && got != want || !known {
					return fmt.Errorf("%x in the circle of %v: %v, %v; stored: %v", key, u, got, known, want)
				}
			}
		}
	}
	if err := v.agreesOnPosts(users); err != nil {
		return err
	}
	for _, p := range photos {
		got, err := again.photo(p)
		want, werr := v.store.photo(p)
		if err := errors.Join(err, werr); err != nil {
			return err
		}
		if !reflect.DeepEqual(got, want) {
			return fmt.Errorf("photo %v: kept %+v, stored %+v", p, got, want)
		}
	}
	return nil
}

// agreesOnPosts is agrees for the newest posts of users, of portions that grow and of
// those below them.
func (v *view) agreesOnPosts(users []id.ID) error {
	for _, u := range users {
		for _, limit := range []int{1, 2, 8} {
			var before id.ID
			for range 3 {
				got, err := v.shelf.posts(v.store, nil, u, before, limit)
				want, werr := v.store.posts(nil, u, before, limit)
				if err := errors.Join(err, werr); err != nil {
					return err
				}
				if !slices.Equal(got, want) {
					return fmt.Errorf("%d posts of %v below %v: kept %+v, stored %+v", limit, u, before, got, want)
				}
				if len(got) == 0 {
					break
				}
				before = got[len(got)-1].Pos
			}
		}
	}
	return nil
}

// Views that were begun before, between and after changes each find what their
// snapshot shows, in whatever order they look, and whoever looked before.
func TestKeptRowsHoldForEachView(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, ben := h.user("anna"), h.user("ben")
	photo := h.post(ben, Details{Caption: "first"})
	users, photos := []id.ID{anna, ben}, []id.ID{photo}
	text := func(s string) *string { return &s }
	changes := []func() error{
		func() error { return h.feed.Follow(ctx, anna, ben) },
		func() error { return h.feed.Like(ctx, anna, photo) },
		func() error { return h.feed.Mute(ctx, anna, ben) },
		func() error { return h.feed.Block(ctx, ben, anna) },
		func() error {
			_, err := h.feed.UpdatePhoto(ctx, ben, photo, PhotoChange{Caption: text("second")})
			return err
		},
		func() error { return h.feed.Unblock(ctx, ben, anna) },
		func() error { return h.feed.DeletePhoto(ctx, ben, photo, false) },
		func() error { _, err := h.feed.RestorePhoto(ctx, ben, photo); return err },
		func() error { h.post(ben, Details{Caption: "another"}); return nil },
	}
	views := []*view{h.looking()}
	for i, change := range changes {
		h.must(change())
		views = append(views, h.looking())
		for _, order := range [][2]int{{i, i + 1}, {i + 1, i}, {0, i + 1}} {
			for _, n := range order {
				if err := views[n].agrees(users, photos); err != nil {
					t.Fatalf("view %d after change %d: %v", n, i, err)
				}
			}
		}
	}
	for n := range views { // the newest view comes last: it must not be given what an older one has read
		if err := views[n].agrees(users, photos); err != nil {
			t.Fatalf("view %d in the end: %v", n, err)
		}
	}
}

// Between Apply and Applied a change is in no snapshot or in every new one: what is
// read meanwhile is not kept, and what was kept is not found.
func TestNothingIsKeptOfABatchUnderWay(t *testing.T) {
	h := newHouse(t, nil)
	ben := h.user("ben")
	photo := h.post(ben, Details{Caption: "first"})
	users, photos := []id.ID{ben}, []id.ID{photo}
	h.must(h.looking().agrees(users, photos))
	m, db := h.group.machine, h.group.db
	b := db.NewIndexedBatch()
	_, err := m.Apply(b, encodeCommand(h.feed.now(), nil, &cmdUpdatePhoto{Owner: ben, Photo: photo, Caption: &textValue{"second"}}))
	h.must(err)
	before := h.looking()
	h.must(before.agrees(users, photos)) // reads the old row once more
	h.must(b.Commit(pebble.NoSync))
	between := h.looking()
	h.must(between.agrees(users, photos))
	h.must(before.agrees(users, photos))
	m.Applied(db, 1000)
	h.must(between.agrees(users, photos))
	h.must(h.looking().agrees(users, photos))
}

// Another instance may be put in place of the one that views still read. What they
// read is not kept for views of the other.
func TestNothingIsKeptAcrossInstances(t *testing.T) {
	h := newHouse(t, nil)
	ben := h.user("ben")
	photo := h.post(ben, Details{Caption: "first"})
	users, photos := []id.ID{ben}, []id.ID{photo}
	old := h.looking()
	h.must(old.agrees(users, photos))
	m, db := h.group.machine, h.group.db
	h.must(m.Restored(db))
	late := h.looking() // the machine has been told, the readers have not
	h.must(old.agrees(users, photos))
	h.must(late.agrees(users, photos))
	// The other instance has another row; no command has said so here.
	row, err := store{db}.photo(photo)
	h.must(err)
	row.Likes = 77
	h.must(db.Set(key1(tabPhoto, photo), encodeRow(row), pebble.NoSync))
	h.must(h.looking().agrees(users, photos))
	m.Applied(db, 1000)
	fresh := h.looking()
	h.must(fresh.agrees(users, photos))
	if h.feed.machine.rows.photos.get(photo, fresh.shelf.at) == nil {
		t.Error("nothing is kept once the machine goes on")
	}
	h.must(h.looking().agrees(users, photos))
}

// A range that is deleted from a table of kept rows makes all of them go.
func TestRangesAreForgotten(t *testing.T) {
	var r rows
	r.limit(1 << 20)
	r.photos.put(5, r.shown.Load(), &photoRow{}, 100)
	r.change([]op{{opDeleteRange, key1(tabEvent, id.ID(1)), key1(tabEvent, id.ID(9))}})
	if r.photos.get(5, 9) == nil {
		t.Error("a range of another table made a row go")
	}
	r.change([]op{{opDeleteRange, key1(tabPhoto, id.ID(1)), key1(tabPhoto, id.ID(9))}})
	if r.photos.get(5, 9) != nil {
		t.Error("a row of a deleted range is kept")
	}
}

// Many change a few accounts and photos at once while many read them: each view finds
// what its own snapshot shows.
func TestKeptRowsAmongWriters(t *testing.T) {
	h := newHouse(t, func(o *Options) { o.RowBytes = 1 << 18 })
	ctx := context.Background()
	var users, photos []id.ID
	for i := range 6 {
		users = append(users, h.user(fmt.Sprintf("user%d", i)))
		photos = append(photos, h.post(users[i], Details{Caption: "a caption"}))
	}
	inner := h.feed.snapshot
	h.feed.snapshot = func() (pebble.Reader, error) {
		runtime.Gosched() // a version that is taken first may be older than the snapshot
		snap, err := inner()
		runtime.Gosched() // one that is taken afterwards would be newer
		return snap, err
	}
	seed := rand.Uint64()
	var done atomic.Bool
	var readers, writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for range 300 {
				h.meddle(ctx, rng, users, photos)
			}
		})
	}
	var views atomic.Int64
	for range 3 {
		readers.Go(func() {
			for !done.Load() && !t.Failed() {
				err := h.feed.read(ctx, func(v *view) error { return v.agrees(users, photos) })
				if err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				views.Add(1)
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	if views.Load() < 3 {
		t.Errorf("%d views", views.Load())
	}
}

// meddle does something; that it may be refused is no matter.
func (h *house) meddle(ctx context.Context, rng *rand.Rand, users, photos []id.ID) {
	a, b, p := users[rng.IntN(len(users))], users[rng.IntN(len(users))], rng.IntN(len(photos))
	yes := rng.IntN(2) == 0
	switch rng.IntN(11) {
	case 0:
		_ = h.feed.Follow(ctx, a, b)
	case 1:
		_ = h.feed.Unfollow(ctx, a, b)
	case 2:
		_ = h.feed.Block(ctx, a, b)
	case 3:
		_ = h.feed.Unblock(ctx, a, b)
	case 4:
		_ = h.feed.Mute(ctx, a, b)
	case 5:
		_ = h.feed.Unmute(ctx, a, b)
	case 6:
		_ = h.feed.Like(ctx, a, photos[p])
	case 7:
		caption := fmt.Sprint(rng.Uint64())
		_, _ = h.feed.UpdatePhoto(ctx, users[p], photos[p], PhotoChange{Caption: &caption})
	case 8:
		_, _ = h.feed.SetPrivate(ctx, a, yes)
	case 9:
		_ = h.feed.DeletePhoto(ctx, users[p], photos[p], false)
	case 10:
		_, _ = h.feed.RestorePhoto(ctx, users[p], photos[p])
	}
}

// What is kept stays within its bounds, whatever is asked for.
func TestKeptRowsAreBounded(t *testing.T) {
	var r rows
	const bytes = 1 << 18
	r.limit(bytes)
	row := &photoRow{Photo: Photo{Details: Details{Caption: "a caption"}}}
	for i := range id.ID(10_000) {
		r.photos.put(i+1, 0, row, row.memory())
		r.photos.get(id.ID(rand.Uint64N(uint64(i+1))), 0)
		r.photos.get(3, 0)
	}
	var n int64
	for i := range r.photos.shards {
		s := &r.photos.shards[i]
		for _, m := range []map[id.ID]kept[photoRow]{s.young, s.old} {
			for _, e := range m {
				n += e.size
			}
		}
	}
	if n > bytes/2 || n < bytes/8 {
		t.Errorf("%d bytes are kept of %d", n, bytes/2)
	}
	if r.photos.get(3, 0) == nil {
		t.Error("what is asked for all the time is not kept")
	}
	r.limit(0)
	if r.photos.put(1, 0, row, row.memory()); r.photos.get(1, 0) != nil {
		t.Error("something is kept without memory for it")
	}
}

// someRowBytes is how much a history keeps: as shipped, so little that most of it goes
// at once, or nothing.
func someRowBytes(seed uint64) int64 { return []int64{0, 0, 200 << 10, -1}[seed%4] }

// What happens between version and snapshot of a view is shown by the snapshot alone.
func TestVersionIsTakenBeforeTheSnapshot(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, ben := h.user("anna"), h.user("ben")
	photo := h.post(ben, Details{Caption: "first"})
	users, photos := []id.ID{anna, ben}, []id.ID{photo}
	inner := h.feed.snapshot
	meanwhile := func() { // right after the next snapshot
		h.feed.snapshot = func() (pebble.Reader, error) {
			h.feed.snapshot = inner
			snap, err := inner()
			caption := fmt.Sprint(rand.Uint64())
			_, uerr := h.feed.UpdatePhoto(ctx, ben, photo, PhotoChange{Caption: &caption})
			h.must(errors.Join(uerr, h.feed.Follow(ctx, anna, ben), h.looking().agrees(users, photos)))
			return snap, err
		}
	}
	meanwhile()
	h.must(h.feed.read(ctx, func(v *view) error { return v.agrees(users, photos) }))
	h.must(h.feed.Unfollow(ctx, anna, ben))
	meanwhile()
	snap := source{h.feed}.Snapshot()
	defer snap.Close()
	followees, err := snap.Followees(anna)
	h.must(err)
	if len(followees) != 0 {
		t.Errorf("a follow that came after the snapshot: %v", followees)
	}
}

// A row that was not asked for in a while is dropped like others.
func TestOlderRowsAreDropped(t *testing.T) {
	var r rows
	r.limit(1 << 18)
	r.photos.put(5, 0, &photoRow{}, 1000)
	s, _ := r.photos.place(5)
	for other := id.ID(6); s.old[5].row == nil; other++ {
		if there, _ := r.photos.place(other); there == s {
			r.photos.put(other, 0, &photoRow{}, 1000)
		}
	}
	r.change([]op{{opSet, key1(tabPhoto, id.ID(5)), nil}})
	if r.photos.get(5, 1) != nil {
		t.Error("a changed row is still there")
	}
}
