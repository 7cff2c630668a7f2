package timeline

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

var (
	seedFlag      = flag.Uint64("timeline.seed", 0, "run this history only")
	historiesFlag = flag.Int("timeline.histories", testenv.Rounds(500), "histories to run")
)

// TestOracle plays random histories and compares, after every second action
// and every step of the writer, what pages show with what the model says.
//
// A seed repeats a history but for one thing: how far a flush that is under way
// at a crash had come. One that fails so may have to be repeated a few times.
func TestOracle(t *testing.T) {
	if *seedFlag != 0 {
		if err := playHistory(*seedFlag, t.Logf); err != nil {
			t.Fatal(err)
		}
		return
	}
	base := uint64(time.Now().UnixNano())
	t.Logf("seeds from %d", base)
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			for i := worker; i < *historiesFlag; i += workers {
				seed := base + uint64(i)
				if err := playHistory(seed, nil); err != nil {
					t.Fatalf("%v\nrepeat: go test ./feed/timeline -run 'TestOracle$' -timeline.seed=%d -v", err, seed)
				}
			}
		})
	}
}

// history is one random run.
type history struct {
	rng   *rand.Rand
	logf  func(string, ...any)
	m     *model
	fs    *vfs.MemFS
	clock *clock.Fake
	o     Options
	s     *Store
	users []id.ID
	pull  map[id.ID]bool // whose posts are pulled now
	pos   id.ID          // last one given
	posts []Post
	calm  bool // nothing is lost: long lives of timelines
	lost  bool // the instance may have been wiped for good reason

	in     *instance
	states []*state // that in has shown
}

func playHistory(seed uint64, logf func(string, ...any)) (err error) {
	h := &history{
		rng: rand.New(rand.NewPCG(seed, 7)), logf: logf, m: newModel(), fs: vfs.NewCrashableMem(),
		clock: clock.NewFake(id.Epoch.Add(1000 * time.Hour)), pull: map[id.ID]bool{}, pos: 1 << 40,
	}
	if h.logf == nil {
		h.logf = func(string, ...any) {}
	}
	for i := range 3 + h.rng.IntN(6) {
		h.users = append(h.users, id.ID(1000+i*7))
	}
	h.calm = h.rng.IntN(2) == 0
	large := h.rng.IntN(3) == 0 // bounds that never bind, so that pages must be full
	h.o = Options{
		Dirs: []string{"t"}, Source: h.m, Clock: h.clock, FS: h.fs, Cap: 1 + h.rng.IntN(6), MaxFollowees: 3 + h.rng.IntN(12), Segment: 1 + h.rng.IntN(8),
		ActiveWindow: 48 * time.Hour, CacheBytes: 1 << 20, MemoryBytes: 256 << 10,
	}
	h.o.Tighten(h.rng.IntN)
	if large {
		h.o.tune.examine, h.o.tune.pending = 1000, 1000
	}
	if h.s, err = Open(h.o); err != nil {
		return err
	}
	defer func() {
		if cerr := h.s.Close(); err == nil {
			err = cerr
		}
	}()

	if err := h.begin(); err != nil {
		return fmt.Errorf("at the beginning: %w", err)
	}
	for i := range 40 + h.rng.IntN(50) {
		if err := h.act(); err != nil {
			return fmt.Errorf("action %d: %w", i, err)
		}
		if i%2 == 0 { // the writer's steps look as well
			continue
		}
		if err := h.check(h.user()); err != nil {
			return fmt.Errorf("after action %d: %w", i, err)
		}
	}
	return h.settle()
}

func (h *history) user() id.ID { return h.users[h.rng.IntN(len(h.users))] }

// begin makes a small world in which everybody has a timeline.
func (h *history) begin() error {
	for range 6 + h.rng.IntN(20) {
		h.publish()
	}
	for range 4 + h.rng.IntN(20) {
		h.follow()
	}
	if h.rng.IntN(4) == 0 {
		return nil // or not
	}
	for _, u := range h.users {
		if err := h.check(u); err != nil {
			return err
		}
		if err := h.steps(6); err != nil {
			return err
		}
	}
	return h.flush(true)
}

func (h *history) act() error {
	n := h.rng.IntN(1000)
	if h.calm {
		n %= 950
	}
	switch {
	case n < 250:
		h.publish()
	case n < 360:
		h.follow()
	case n < 430:
		if r, a := h.user(), h.user(); h.m.now.follows[r][a] {
			h.logf("unfollow %d %d", r, a)
			h.m.unfollow(r, a)
		}
	case n < 510:
		h.deleteOrRestore()
	case n < 530:
		a := h.user()
		h.pull[a] = !h.pull[a] // the author crosses the threshold
	case n < 900:
		return h.steps(1 + h.rng.IntN(6))
	case n < 915:
		d := time.Duration(h.rng.IntN(40)) * time.Hour
		h.logf("advance %v", d)
		h.clock.Advance(d)
	case n < 930:
		h.logf("trim to %d", h.s.DurableCursor())
		h.m.trim(h.s.DurableCursor())
	case n < 940:
		return h.flush(true)
	case n < 950:
		return h.reopen()
	case n < 985:
		return h.crash()
	case n < 990:
		h.logf("trim too much")
		h.m.trim(h.m.now.last)
		h.lost = true
	case n < 993:
		return h.lose()
	}
	return nil
}

func (h *history) follow() {
	if r, a := h.user(), h.user(); r != a && !h.m.now.follows[r][a] {
		h.logf("follow %d %d", r, a)
		h.m.follow(r, a)
	}
}

func (h *history) publish() {
	a := h.user()
	h.pos += id.ID(1 + h.rng.IntN(1<<26))
	p := Post{Pos: h.pos, Photo: h.pos ^ 0x5555, Author: a, Pull: h.pull[a]}
	h.posts = append(h.posts, p)
	h.logf("publish %d pos %d pull %v", a, p.Pos, p.Pull)
	h.m.publish(p)
}

func (h *history) deleteOrRestore() {
	if len(h.posts) == 0 {
		return
	}
	p := h.posts[h.rng.IntN(len(h.posts))]
	if h.m.now.post(p.Author, p.Pos).deleted {
		h.logf("restore %d", p.Pos)
		h.m.restore(p.Author, p.Pos, h.pull[p.Author])
		return
	}
	h.logf("delete %d", p.Pos)
	h.m.remove(p.Author, p.Pos)
}

// steps runs the writer, one step at a time, and looks at a page after each.
func (h *history) steps(n int) error {
	for range n {
		worked, err := h.s.Step()
		if err != nil {
			return fmt.Errorf("step: %w", err)
		}
		h.logf("step: worked %v, cursor %d, open %d", worked, h.s.w.cursor, len(h.s.w.open))
		if err := h.check(h.user()); err != nil {
			return fmt.Errorf("after a step: %w", err)
		}
		if !worked {
			break
		}
	}
	if h.s.Stats().Wipes > 0 && !h.lost {
		return fmt.Errorf("the instance was wiped without need")
	}
	return nil
}

// flush makes what was written durable; wait says whether to see it through.
func (h *history) flush(wait bool) error {
	if h.s.w.flushing == nil {
		if err := h.s.w.beginFlush(); err != nil {
			return err
		}
	}
	if wait {
		<-h.s.w.flushing
		return h.s.w.flush()
	}
	return nil
}

// crash loses some of what was not synced.
func (h *history) crash() error {
	if h.rng.IntN(2) == 0 {
		if err := h.flush(h.rng.IntN(2) == 0); err != nil {
			return err
		}
	}
	durable := h.s.DurableCursor()
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: h.rng.IntN(101), RNG: h.rng}
	fs := h.fs.CrashClone(cfg)
	if err := h.s.Close(); err != nil {
		return err
	}
	h.fs, h.o.FS = fs, fs
	h.logf("crash at durable %d", durable)
	if err := h.open(); err != nil {
		return err
	}
	if h.s.w.cursor < durable {
		return fmt.Errorf("cursor %d after a crash, %d was called durable", h.s.w.cursor, durable)
	}
	return nil
}

// reopen closes cleanly and comes back, with another cap perhaps.
func (h *history) reopen() error {
	cursor := h.s.w.cursor
	if err := h.s.Close(); err != nil {
		return err
	}
	h.o.Cap = 1 + h.rng.IntN(6)
	h.logf("reopen with cap %d", h.o.Cap)
	if err := h.open(); err != nil {
		return err
	}
	if h.s.w.cursor != cursor {
		return fmt.Errorf("cursor %d after a clean stop at %d", h.s.w.cursor, cursor)
	}
	return nil
}

// lose takes the instance away.
func (h *history) lose() error {
	if err := h.s.Close(); err != nil {
		return err
	}
	h.logf("lose the instance")
	if err := h.fs.RemoveAll(h.o.Dirs[0]); err != nil {
		return err
	}
	return h.open()
}

func (h *history) open() (err error) {
	var why []error
	h.o.Notify = func(n Notice) { why = append(why, n.Err) }
	if h.s, err = Open(h.o); err == nil && len(why) > 0 {
		err = fmt.Errorf("wiped at open: %v", why)
	}
	return err
}

// check scrolls through the reader's whole feed.
func (h *history) check(reader id.ID) error {
	want := h.m.feed(reader)
	limit := 1 + h.rng.IntN(1+h.rng.IntN(20)) // small ones more often
	var before id.ID
	if h.rng.IntN(4) == 0 && len(want) > 0 { // begin somewhere, on a post or beside
		before = want[h.rng.IntN(len(want))].Pos + id.ID(h.rng.IntN(2))
		want = slices.DeleteFunc(want, func(p Post) bool { return p.Pos >= before })
	} else if h.rng.IntN(16) == 0 { // or beyond what there is yet
		before = h.pos + 1<<40
	}
	var got []Post
	for pages := 0; ; pages++ {
		posts, next, err := h.page(reader, before, limit)
		if err != nil {
			return fmt.Errorf("page: %w", err)
		}
		got = append(got, posts...)
		switch {
		case len(posts) > limit:
			return fmt.Errorf("page of %d, limit %d", len(posts), limit)
		case next != 0 && before != 0 && next >= before:
			return fmt.Errorf("next %d is not below %d", next, before)
		case next != 0 && len(posts) < limit && h.o.tune.examine == 1000:
			return fmt.Errorf("page of %d, limit %d, though more is left", len(posts), limit)
		case pages > 200:
			return fmt.Errorf("no end after %d pages", pages)
		}
		if next == 0 {
			break
		}
		before = next
	}
	same := func(a, b Post) bool { return a.Pos == b.Pos && a.Photo == b.Photo && a.Author == b.Author }
	if !slices.EqualFunc(got, want, same) {
		return fmt.Errorf("reader %d sees\n%s\nand not\n%s", reader, show(got), show(want))
	}
	return nil
}

// page reads a page that has taken the state, one time in two, before some of what is in the
// timeline by now.
func (h *history) page(reader, before id.ID, limit int) (posts []Post, next id.ID, err error) {
	if in := h.s.in; in != nil {
		now := in.shown.Load()
		if h.in != in {
			h.in, h.states = in, nil
		}
		if n := len(h.states); now != nil && (n == 0 || h.states[n-1] != now) {
			h.states = append(h.states, now)
		}
		if old := h.states[max(0, len(h.states)-8):]; len(old) > 0 && h.rng.IntN(2) == 0 {
			in.shown.Store(old[h.rng.IntN(len(old))])
			defer in.shown.Store(now)
		}
	}
	return h.s.Page(context.Background(), reader, before, limit, h.m.visible(reader))
}

func show(posts []Post) string {
	var b strings.Builder
	for _, p := range posts {
		fmt.Fprintf(&b, " %d by %d", p.Pos, p.Author)
	}
	return b.String()
}

// settle lets the writer finish and looks at everybody.
func (h *history) settle() error {
	for n := 0; ; n++ {
		worked, err := h.s.step()
		if err != nil {
			return err
		}
		if !worked {
			break
		}
		if n > 100_000 {
			return fmt.Errorf("the writer does not come to rest")
		}
	}
	if h.s.w.cursor != h.m.now.last || len(h.s.w.open) > 0 {
		return fmt.Errorf("at rest with cursor %d of %d, %d fan-outs under way", h.s.w.cursor, h.m.now.last, len(h.s.w.open))
	}
	for _, u := range h.users {
		if err := h.check(u); err != nil {
			return fmt.Errorf("at rest: %w", err)
		}
	}
	return nil
}
