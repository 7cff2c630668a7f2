package feed

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/feed/oracle"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

var (
	oracleSeed  = flag.Uint64("feed.oracle.seed", 0, "play this life only")
	oracleCount = flag.Int("feed.oracle.lives", testenv.Rounds(2000), "short lives to play against the oracle")
)

// TestOracleLives plays short random lives of a few people against package oracle. Caps,
// thresholds and each step of the fan-out are so small that a dozen posts cross all of
// them; crashes, restarts, absences and losses of the timelines come between any two
// actions, in some lives a crash after every one. Feeds are looked at after each, by
// readers who scroll on from where they were, whatever has happened meanwhile.
func TestOracleLives(t *testing.T) {
	if *oracleSeed != 0 {
		newLife(t, *oracleSeed).play()
		return
	}
	// Each life opens and drops two small instances: let collections wait for more.
	before := debug.SetGCPercent(400)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	base := rand.Uint64()
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			for i := worker; i < *oracleCount; i += workers {
				seed := base + uint64(i)
				ok := t.Run(fmt.Sprint(seed), func(t *testing.T) { newLife(t, seed).play() })
				if !ok {
					t.Fatalf("repeat: go test ./feed -run 'TestOracleLives$' -feed.oracle.seed=%d", seed)
				}
			}
		})
	}
}

// life is one history: a feed, and what the oracle knows of it.
type life struct {
	*house
	t      *testing.T
	rng    *rand.Rand
	w      *oracle.World
	users  []id.ID
	photos []id.ID
	pos    []id.ID    // of photos
	walks  []id.ID    // by user: where each scrolls on; 0: at the top
	lines  *vfs.MemFS // of the timelines
	tight  bool       // pages may be short before the end
	storm  bool       // a crash after every action
	log    []string   // what was done
	ctx    context.Context
}

func newLife(t *testing.T, seed uint64) *life {
	l := &life{t: t, rng: rand.New(rand.NewPCG(seed, 3)), w: oracle.New(), lines: vfs.NewCrashableMem(), ctx: context.Background()}
	l.storm, l.tight = l.rng.IntN(8) == 0, l.rng.IntN(3) > 0
	caps := []int{1 + l.rng.IntN(6), 1 + l.rng.IntN(5), 1 + l.rng.IntN(6)}
	policy := Policy{CelebrityThreshold: uint64(1 + l.rng.IntN(4)), DeleteGrace: 1e4 * time.Hour}
	draws := []int{}
	l.house = &house{t: t, group: newLocalGroup(t), clock: clock.NewFake(testStart), dir: "timelines"}
	l.tune = func(o *Options) {
		o.Policy, o.RowBytes = policy, someRowBytes(seed)
		o.Timeline.FS, o.Timeline.ActiveWindow = l.lines, 20*time.Hour
		o.Timeline.MemoryBytes, o.Timeline.CacheBytes = 64<<10, 64<<10
		o.Timeline.Cap, o.Timeline.MaxFollowees, o.Timeline.Segment = caps[0], caps[1], caps[2]
		if n := 0; l.tight { // the same after each restart
			o.Timeline.Tighten(func(limit int) int {
				if n == len(draws) {
					draws = append(draws, l.rng.IntN(limit))
				}
				n++
				return draws[n-1]
			})
		}
	}
	l.open()
	t.Cleanup(l.house.close)
	return l
}

func (l *life) play() {
	defer func() {
		if l.t.Failed() {
			l.t.Logf("so far:\n%v", l.log)
		}
	}()
	for range 2 + l.rng.IntN(3) {
		l.join()
	}
	actions := 16 + l.rng.IntN(20)
	if l.storm {
		actions = 9 + l.rng.IntN(6)
	}
	for range actions {
		l.act()
		if l.storm {
			l.crash()
		}
		l.walk(l.user())
		l.look(l.user())
		l.badge(l.user())
		if l.t.Failed() {
			return
		}
	}
	l.rest()
	l.compare()
	l.house.check()
}

func (l *life) anybody() int { return l.rng.IntN(len(l.users)) }

// user is one who is there.
func (l *life) user() int {
	for {
		if u := l.anybody(); !l.w.Absent(u) {
			return u
		}
	}
}

// photo is one that was published and is not gone; -1: there is none.
func (l *life) photo() int {
	for range 8 {
		if n := l.w.Photos(); n > 0 {
			if p := l.rng.IntN(n); !l.w.Gone(p) {
				return p
			}
		}
	}
	return -1
}

func (l *life) did(format string, args ...any) {
	l.log = append(l.log, fmt.Sprintf(format, args...)+"\n")
}

// expect wants an error if and only if something is refused.
func (l *life) expect(err error, refused bool, format string, args ...any) {
	l.t.Helper()
	l.did(format, args...)
	if refused != (err != nil) {
		l.t.Errorf(format+": %v, refused %v", append(args, err, refused)...)
	}
}

func (l *life) act() {
	n := l.rng.IntN(107)
	switch {
	case n < 24:
		l.publish()
	case n < 44:
		l.relate()
	case n < 56:
		l.change()
	case n < 60:
		l.like()
	case n < 63:
		l.seen()
	case n < 82:
		l.steps(1 + l.rng.IntN(5))
	case n < 86:
		d := time.Duration(l.rng.IntN(15)) * time.Hour
		l.did("%v go by", d)
		l.clock.Advance(d)
	case n < 89:
		l.did("trim to %d", l.feed.timeline.DurableCursor())
		_, err := l.feed.propose(l.ctx, &cmdTrimEvents{Through: l.feed.timeline.DurableCursor()})
		l.must(err)
	case n < 91:
		l.join()
	case n < 94:
		l.restart()
	case n < 97:
		l.crash()
	case n < 99:
		l.lose()
	case n < 104:
		l.suspend()
	case n < 106:
		l.leave()
	default:
		l.sweep()
	}
}

func (l *life) join() {
	if len(l.users) == 6 {
		return
	}
	n := l.w.Join()
	l.users = append(l.users, l.house.user(fmt.Sprintf("user%d", n)))
	l.walks = append(l.walks, 0)
}

func (l *life) publish() {
	author, audience := l.user(), oracle.Everybody
	if l.rng.IntN(4) == 0 {
		audience = oracle.Audience(l.rng.IntN(3))
	}
	photo := l.post(l.users[author], Details{Visibility: Visibility(audience)})
	row, err := l.feed.PhotoRow(l.ctx, photo)
	l.must(err)
	n := l.w.Publish(author, audience)
	l.did("%d publishes %d at %v for %d, pull %v", author, n, row.Pos, audience, row.Pull)
	if n > 0 && row.Pos <= l.pos[n-1] {
		l.t.Errorf("position %v after %v", row.Pos, l.pos[n-1])
	}
	l.photos, l.pos = append(l.photos, photo), append(l.pos, row.Pos)
}

// change is what authors do to their accounts and photos.
func (l *life) change() {
	p := l.photo()
	if p < 0 || l.rng.IntN(6) == 0 {
		a, private := l.user(), l.rng.IntN(2) == 0
		_, err := l.feed.SetPrivate(l.ctx, l.users[a], private)
		l.expect(err, false, "%d private: %v", a, private)
		l.w.SetPrivate(a, private)
		return
	}
	if l.w.Absent(l.w.Author(p)) {
		return // signed out
	}
	author, photo := l.users[l.w.Author(p)], l.photos[p]
	switch n := l.rng.IntN(12); {
	case l.w.Deleted(p) && n < 8:
		_, err := l.feed.RestorePhoto(l.ctx, author, photo)
		l.expect(err, false, "%d is restored", p)
		l.w.Restore(p)
	case n == 11:
		l.expect(l.feed.DeletePhoto(l.ctx, author, photo, true), false, "%d is purged", p)
		l.w.Purge(p)
		_, err := l.feed.RestorePhoto(l.ctx, author, photo)
		l.expect(err, true, "%d is restored after that", p)
	case n < 7:
		l.expect(l.feed.DeletePhoto(l.ctx, author, photo, false), false, "%d is deleted", p)
		l.w.Delete(p)
	case !l.w.Deleted(p):
		audience := oracle.Audience(l.rng.IntN(3))
		vis := Visibility(audience)
		_, err := l.feed.UpdatePhoto(l.ctx, author, photo, PhotoChange{Visibility: &vis})
		l.expect(err, false, "%d is for %d", p, audience)
		l.w.SetAudience(p, audience)
	}
}

func (l *life) like() {
	u, p := l.user(), l.photo()
	switch {
	case p < 0:
	case l.rng.IntN(3) > 0 || !l.w.Sees(u, p):
		l.expect(l.feed.Like(l.ctx, l.users[u], l.photos[p]), l.w.Like(u, p), "%d likes %d", u, p)
	default:
		l.expect(l.feed.Unlike(l.ctx, l.users[u], l.photos[p]), false, "%d unlikes %d", u, p)
		l.w.Unlike(u, p)
	}
}

func (l *life) seen() {
	if u, p := l.user(), l.photo(); p >= 0 {
		l.expect(l.feed.Seen(l.ctx, l.users[u], l.photos[p]), l.w.Seen(u, p), "%d has seen %d", u, p)
	}
}

// badge wants what is new to be what the oracle has above the mark.
func (l *life) badge(user int) {
	l.t.Helper()
	count, latest, err := l.feed.FeedNew(l.ctx, l.users[user])
	l.must(err)
	wantCount, wantLatest := l.w.New(user)
	if got := slices.Index(l.photos, latest); count != wantCount || got != wantLatest {
		l.t.Errorf("new for %d: %d, latest %d; want %d, %d", user, count, got, wantCount, wantLatest)
	}
}

// steps takes the fan-out some steps further and looks at a feed after each.
func (l *life) steps(n int) {
	for range n {
		worked, err := l.feed.timeline.Step()
		l.must(err)
		l.did("step: %v, cursor %d", worked, l.feed.timeline.Cursor())
		if l.storm {
			l.crash()
		}
		l.walk(l.user())
		if !worked {
			return
		}
	}
}

// rest lets the fan-out finish.
func (l *life) rest() {
	for n := 0; ; n++ {
		worked, err := l.feed.timeline.Step()
		l.must(err)
		if !worked {
			return
		}
		if n == 10_000 {
			l.t.Fatal("the fan-out does not come to rest")
		}
	}
}

// crash cuts the power: both instances go back to what was synced, or some way from
// there.
func (l *life) crash() {
	l.did("crash")
	lines := l.lines.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: l.rng.IntN(101), RNG: l.rng})
	l.house.close()
	l.lines = lines
	l.group.crash(l.t, l.rng)
	l.open()
}

func (l *life) restart() {
	l.did("restart")
	l.house.close()
	l.open()
}

// lose takes the timelines away.
func (l *life) lose() {
	l.did("the timelines are lost")
	l.house.close()
	l.lines = vfs.NewCrashableMem()
	l.open()
}

// page reads a page of a reader's feed from before on and wants exactly what the oracle
// has between there and where the next page goes on.
func (l *life) page(reader int, before id.ID) (next id.ID) {
	l.t.Helper()
	limit := 1 + l.rng.IntN(4)
	rows, next, err := l.feed.FeedPage(l.ctx, l.users[reader], Page{After: before, Limit: limit})
	l.must(err)
	var got, want []int
	for _, r := range rows {
		got = append(got, slices.Index(l.photos, r.ID))
	}
	for _, p := range l.w.Feed(reader) {
		if pos := l.pos[p]; (before == 0 || pos < before) && pos >= next {
			want = append(want, p)
		}
	}
	switch {
	case !slices.Equal(got, want):
		l.t.Errorf("feed of %d from %v to %v, limit %d: got %v, want %v", reader, before, next, limit, got, want)
	case len(rows) > limit || next != 0 && before != 0 && next >= before:
		l.t.Errorf("feed of %d from %v to %v: %d rows, limit %d", reader, before, next, len(rows), limit)
	case !l.tight && next != 0 && len(rows) < limit:
		l.t.Errorf("feed of %d from %v to %v: %d rows though more is left, limit %d", reader, before, next, len(rows), limit)
	}
	return next
}

// walk reads the reader's next page.
func (l *life) walk(reader int) { l.walks[reader] = l.page(reader, l.walks[reader]) }

// look reads a whole feed.
func (l *life) look(reader int) {
	for before := id.ID(0); ; {
		if before = l.page(reader, before); before == 0 || l.t.Failed() {
			return
		}
	}
}

// TestNewestIsBelowHiddenOnes: what is new names the newest photo of the feed even when a
// page above the mark shows nothing.
func TestNewestIsBelowHiddenOnes(t *testing.T) {
	h := newHouse(t, func(o *Options) { o.Timeline.Tighten(func(int) int { return 0 }) })
	ctx := context.Background()
	anna, ben := h.user("anna"), h.user("ben")
	h.must(h.feed.Follow(ctx, anna, ben))
	own := h.post(anna, Details{})
	var last id.ID
	for range 5 {
		last = h.post(ben, Details{})
	}
	h.must(h.feed.Seen(ctx, anna, last))
	h.must(h.feed.Mute(ctx, anna, ben))
	if count, latest, err := h.feed.FeedNew(ctx, anna); err != nil || count != 0 || latest != own {
		t.Errorf("%d new, latest %v, %v; want 0, %v", count, latest, err, own)
	}
}

// compare wants everything to be as the oracle says.
func (l *life) compare() {
	for viewer := range l.users {
		if l.w.Absent(viewer) {
			_, _, err := l.feed.FeedPage(l.ctx, l.users[viewer], Page{Limit: 9})
			l.wants(err, ErrNotFound)
			continue
		}
		l.look(viewer)
		l.badge(viewer)
		for user := range l.users {
			l.compareUser(viewer, user)
		}
		for p := range l.photos {
			got, err := l.feed.Photo(l.ctx, l.users[viewer], l.photos[p])
			if sees := l.w.Sees(viewer, p); sees != (err == nil) || !sees && !errors.Is(err, ErrNotFound) ||
				sees && got.Likes != uint64(l.w.Likes(p)) {
				l.t.Errorf("%d sees %d: %v, %d likes, %d wanted; %v", viewer, p, sees, got.Likes, l.w.Likes(p), err)
			}
		}
	}
}

func (l *life) compareUser(viewer, user int) {
	if l.w.Hidden(viewer, user) {
		return // TestRandomHistories says what is left of them
	}
	u, err := l.feed.UserByID(l.ctx, l.users[viewer], l.users[user])
	if l.w.Absent(user) {
		l.wants(err, ErrNotFound)
		_, _, err = l.feed.PhotosBy(l.ctx, l.users[viewer], l.users[user], Page{Limit: 9})
		l.wants(err, ErrNotFound)
		return
	}
	l.must(err)
	photos := l.w.Profile(viewer, user)
	if u.Followers != uint64(len(l.w.Followers(user))) || u.Following != uint64(len(l.w.Following(user))) || u.Photos != uint64(len(photos)) {
		l.t.Errorf("%d for %d: %d followers, %d following, %d photos; want %v, %v, %v",
			user, viewer, u.Followers, u.Following, u.Photos, l.w.Followers(user), l.w.Following(user), photos)
	}
	rows, _, err := l.feed.PhotosBy(l.ctx, l.users[viewer], l.users[user], Page{Limit: 100})
	l.must(err)
	var got []int
	for _, r := range rows {
		got = append(got, slices.Index(l.photos, r.ID))
	}
	if !slices.Equal(got, photos) {
		l.t.Errorf("profile of %d for %d: got %v, want %v", user, viewer, got, photos)
	}
}
