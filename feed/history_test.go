package feed

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

var (
	seedFlag  = flag.Uint64("feed.seed", 0, "seed of one history to repeat")
	countFlag = flag.Int("feed.histories", testenv.Rounds(40), "random histories to run")
	stepsFlag = flag.Int("feed.steps", 300, "steps in a history")
)

// Random users do random things to the feed and to the model; answers, pages,
// counters and verdicts must agree, through crashes, absences of the fan-out
// and clocks that jump ahead.
func TestRandomHistories(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = nil
		for range *countFlag {
			seeds = append(seeds, rand.Uint64())
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			defer func() {
				if t.Failed() {
					t.Logf("repeat: go test ./feed -run TestRandomHistories -feed.steps %d -feed.seed %d", *stepsFlag, seed)
				}
			}()
			newHistory(t, seed).play(*stepsFlag)
		})
	}
}

type history struct {
	*house
	t      *testing.T
	rng    *rand.Rand
	m      *model
	lines  *vfs.MemFS // of the timelines
	runs   func()     // ends the fan-out; nil: it does not run
	minted map[id.ID]bool
	log    []string
}

func newHistory(t *testing.T, seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, 0))
	h := &history{t: t, rng: rng, minted: map[id.ID]bool{}, lines: vfs.NewCrashableMem()}
	policy := Policy{
		CelebrityThreshold: uint64(1 + rng.IntN(6)), DeleteGrace: 48 * time.Hour, IntentLife: time.Hour,
		UploadSlack: time.Hour, StoredLife: 24 * time.Hour,
	}
	windowCap := 1 + rng.IntN(12)
	h.m = newModel(policy)
	h.house = newHouse(t, func(o *Options) {
		o.Policy, o.RowBytes = policy, someRowBytes(seed)
		o.Timeline.FS = h.lines
		o.Timeline.Cap = windowCap
		o.Timeline.MaxFollowees = 2 + int(seed%6)
		o.TimelineDirs = []string{"timelines"}
		o.Mint = func(context.Context) (id.ID, error) { return h.scattered(), nil }
	})
	h.sweepRows = 1 + rng.IntN(7)
	h.feed.sweepRows = h.sweepRows
	t.Cleanup(h.haltFanout)
	return h
}

// scattered mints ids of several slots whose clocks differ: unique, in no order.
func (h *history) scattered() id.ID {
	for {
		now := h.clock.Now().Add(time.Duration(h.rng.IntN(4000)-2000) * time.Millisecond)
		v := id.Make(id.MillisOf(now), id.Slot(h.rng.IntN(4)), uint16(h.rng.IntN(100)))
		if !h.minted[v] {
			h.minted[v] = true
			return v
		}
	}
}

func (h *history) play(steps int) {
	for range 3 {
		h.addUser()
	}
	for i := range steps {
		h.step()
		if i%20 == 19 {
			h.compare()
		}
		if h.t.Failed() {
			h.t.Logf("last steps:\n%v", h.log[max(0, len(h.log)-30):])
			return
		}
	}
	h.end()
}

func (h *history) step() {
	type action struct {
		weight int
		do     func()
	}
	actions := []action{
		{2, h.addUser}, {14, h.follow}, {6, h.unfollow}, {4, h.answerRequest}, {2, h.block}, {2, h.unblock}, {2, h.mute},
		{2, h.setPrivate}, {6, h.begin}, {6, h.intend}, {7, h.stored}, {5, h.finalize}, {22, h.post}, {8, h.settle},
		{4, h.update}, {8, h.remove}, {5, h.restore}, {8, h.like}, {4, h.unlike}, {8, h.addComment}, {4, h.removeComment}, {5, h.likeComment}, {2, h.unlikeComment}, {3, h.markSeen},
		{4, h.advance}, {3, h.crash}, {4, h.toggleFanout}, {2, h.suspend}, {1, h.deleteAccount}, {2, h.approachHidden},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := h.rng.IntN(total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			a.do()
			return
		}
	}
}

// expect compares an answer with the model's: nil, or one of several errors.
func (h *history) expect(what string, err error, want ...error) {
	h.log = append(h.log, fmt.Sprintf("%s: %v\n", what, err))
	if len(want) == 0 && err == nil {
		return
	}
	for _, w := range want {
		if errors.Is(err, w) || w == nil && err == nil {
			return
		}
	}
	h.t.Errorf("%s: got %v, want %v", what, err, want)
}

func (h *history) someUser() id.ID { return pick(h.rng, h.m.active()) }

func (h *history) somePhoto(want func(*modelPhoto) bool) *modelPhoto {
	var list []id.ID
	for _, photo := range h.m.order {
		if p := h.m.photos[photo]; p != nil && (want == nil || want(p)) {
			list = append(list, photo)
		}
	}
	return h.m.photos[pick(h.rng, list)]
}

// popular is a photo that much happens to.
func (h *history) popular() *modelPhoto {
	if h.rng.IntN(3) == 0 {
		return h.somePhoto(nil)
	}
	n := 0
	return h.somePhoto(func(p *modelPhoto) bool { n++; return n <= 3 })
}

func (h *history) addUser() {
	if len(h.m.users) >= 7 {
		return
	}
	handle := h.freeHandle()
	user := h.user(handle)
	h.m.users = append(h.m.users, user)
	h.m.handles[user] = handle
	_, _, err := h.feed.CreateAccount(context.Background(), NewAccount{
		Handle: handle, PasswordHash: "x", Session: NewSession{TokenHash: [32]byte{9}, ExpiresAt: h.clock.Now().Add(time.Hour)},
	})
	h.expect("taken handle", err, ErrHandleTaken)
}

func (h *history) follow() {
	r, a := h.someUser(), h.someUser()
	err := h.feed.Follow(context.Background(), r, a)
	what := fmt.Sprintf("%v follows %v", r, a)
	e := [2]id.ID{r, a}
	switch {
	case r == a:
		h.expect(what, err, ErrInvalid)
	case h.m.blocked(r, a):
		h.expect(what, err, ErrNotFound)
	default:
		h.expect(what, err)
		if h.m.private[a] && !h.m.follows[e] {
			h.m.requests[e] = true
		} else if !h.m.follows[e] {
			delete(h.m.requests, e)
			h.m.setFollow(r, a, true)
		}
	}
}

func (h *history) unfollow() {
	r, a := h.someUser(), h.someUser()
	if r == a {
		return
	}
	if h.rng.IntN(3) == 0 {
		h.expect(fmt.Sprintf("%v removes %v", a, r), h.feed.RemoveFollower(context.Background(), a, r))
		if h.m.follows[[2]id.ID{r, a}] {
			h.m.epochs[a]++
		}
	} else {
		h.expect(fmt.Sprintf("%v unfollows %v", r, a), h.feed.Unfollow(context.Background(), r, a))
	}
	delete(h.m.requests, [2]id.ID{r, a})
	h.m.setFollow(r, a, false)
}

func (h *history) answerRequest() {
	r, a := h.someUser(), h.someUser()
	e := [2]id.ID{r, a}
	accept := h.rng.IntN(3) > 0
	var err error
	if accept {
		err = h.feed.ApproveFollow(context.Background(), a, r)
	} else {
		err = h.feed.DeclineFollow(context.Background(), a, r)
	}
	what := fmt.Sprintf("%v answers %v: %v", a, r, accept)
	if !h.m.requests[e] {
		h.expect(what, err, ErrNotFound, ErrInvalid)
		return
	}
	h.expect(what, err)
	delete(h.m.requests, e)
	if accept {
		h.m.setFollow(r, a, true)
	}
}

func (h *history) block() {
	a, b := h.someUser(), h.someUser()
	if a == b {
		return
	}
	h.expect(fmt.Sprintf("%v blocks %v", a, b), h.feed.Block(context.Background(), a, b))
	if !h.m.blocks[[2]id.ID{a, b}] {
		h.m.epochs[a]++
	}
	h.m.blocks[[2]id.ID{a, b}] = true
	for _, e := range [][2]id.ID{{a, b}, {b, a}} {
		delete(h.m.requests, e)
		h.m.setFollow(e[0], e[1], false)
	}
}

func (h *history) unblock() {
	a, b := h.someUser(), h.someUser()
	h.expect(fmt.Sprintf("%v unblocks %v", a, b), h.feed.Unblock(context.Background(), a, b))
	delete(h.m.blocks, [2]id.ID{a, b})
}

func (h *history) mute() {
	a, b := h.someUser(), h.someUser()
	if a == b {
		return
	}
	e := [2]id.ID{a, b}
	if h.rng.IntN(2) == 0 {
		h.expect(fmt.Sprintf("%v mutes %v", a, b), h.feed.Mute(context.Background(), a, b))
		h.m.mutes[e] = true
	} else {
		h.expect(fmt.Sprintf("%v unmutes %v", a, b), h.feed.Unmute(context.Background(), a, b))
		delete(h.m.mutes, e)
	}
}

func (h *history) setPrivate() {
	u := h.someUser()
	private := h.rng.IntN(2) == 0
	_, err := h.feed.SetPrivate(context.Background(), u, private)
	h.expect(fmt.Sprintf("%v private: %v", u, private), err)
	if h.m.private[u] != private {
		h.m.epochs[u]++
	}
	h.m.private[u] = private
}

func (h *history) like() {
	u, p := h.someUser(), h.popular()
	if p == nil {
		return
	}
	err := h.feed.Like(context.Background(), u, p.id)
	what := fmt.Sprintf("%v likes %v", u, p.id)
	if !h.m.sees(u, p) {
		h.expect(what, err, ErrNotFound)
		return
	}
	h.expect(what, err)
	p.likes[u] = true
}

func (h *history) unlike() {
	u, p := h.someUser(), h.popular()
	if p == nil {
		return
	}
	err := h.feed.Unlike(context.Background(), u, p.id)
	what := fmt.Sprintf("%v unlikes %v", u, p.id)
	switch {
	case p.status != Deleted && p.likes[u] || h.m.sees(u, p):
		h.expect(what, err)
		delete(p.likes, u)
	default:
		h.expect(what, err, ErrNotFound)
	}
}

func (h *history) someComment() *modelComment {
	return h.m.comments[pick(h.rng, sortedKeys(h.m.comments))]
}

func (h *history) addComment() {
	u, p := h.someUser(), h.popular()
	if p == nil {
		return
	}
	var parent, top id.ID
	var topAuthor id.ID
	if c := h.someComment(); c != nil && h.rng.IntN(2) == 0 {
		if h.rng.IntN(5) > 0 {
			p = h.m.photos[c.photo]
		}
		parent, top = c.id, c.id
		if c.parent != 0 {
			top = c.parent
		}
		topAuthor = h.m.comments[top].author
		if h.m.comments[top].photo != p.id {
			_, err := h.feed.AddComment(context.Background(), u, p.id, "x", parent)
			h.expect("reply on another photo", err, ErrNotFound)
			return
		}
	}
	got, err := h.feed.AddComment(context.Background(), u, p.id, "text", parent)
	what := fmt.Sprintf("%v comments %v under %v", u, p.id, parent)
	if !h.m.sees(u, p) || topAuthor != 0 && (h.m.hidden[topAuthor] || h.m.blocked(u, topAuthor)) {
		h.expect(what, err, ErrNotFound)
		return
	}
	h.expect(what, err)
	if err == nil && got.Parent != top {
		h.t.Errorf("%s: parent is %v, want %v", what, got.Parent, top)
	}
	h.m.comments[got.ID] = &modelComment{got.ID, p.id, u, top, map[id.ID]bool{}}
}

func (h *history) removeComment() {
	c := h.someComment()
	if c == nil {
		return
	}
	u := h.someUser()
	if h.rng.IntN(2) == 0 {
		u = c.author
	}
	p := h.m.photos[c.photo]
	err := h.feed.DeleteComment(context.Background(), u, c.id)
	what := fmt.Sprintf("%v deletes comment %v", u, c.id)
	switch {
	case p.status == Deleted:
		h.expect(what, err, ErrNotFound)
	case u != c.author && u != p.owner:
		h.expect(what, err, ErrForbidden, ErrNotFound)
	default:
		h.expect(what, err)
		h.m.dropComment(c.id)
	}
}

func (h *history) advance() {
	limit := 20 * time.Hour
	if h.rng.IntN(2) == 0 {
		limit = time.Hour
	}
	h.clock.Advance(time.Duration(h.rng.Int64N(int64(limit))))
	if h.rng.IntN(4) > 0 {
		h.sweepAll()
	}
}

func (h *history) sweepAll() {
	_, err := h.sweepNow()
	h.expect("sweep", err)
	h.m.sweep(h.clock.Now())
}

func (h *history) toggleFanout() {
	if h.runs != nil {
		h.haltFanout()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	store := h.feed.timeline
	go func() { done <- store.Run(ctx) }()
	h.runs = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			h.t.Errorf("timelines: %v", err)
		}
	}
}

func (h *history) haltFanout() {
	if h.runs != nil {
		h.runs()
		h.runs = nil
	}
}

// crash cuts the power: both instances go back to what was synced.
func (h *history) crash() {
	h.log = append(h.log, "crash\n")
	ran := h.runs != nil
	h.haltFanout()
	lines := h.lines.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: h.rng.IntN(101), RNG: h.rng})
	h.house.close()
	h.lines = lines
	h.group.crash(h.t, h.rng)
	h.house.open()
	if ran {
		h.toggleFanout()
	}
}

func sorted(set map[id.ID]bool) []id.ID { return sortedKeys(set) }

func sortedKeys[V any](m map[id.ID]V) []id.ID {
	out := make([]id.ID, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
