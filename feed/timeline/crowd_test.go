package timeline

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

const (
	star      = id.ID(1)  // all follow them
	smalls    = 20        // other authors
	smallFans = 100       // of each of these
	oldPost   = 0         // the star's, which is in all timelines from the beginning
	starPost  = 1         // the one that is being delivered
	readerGap = id.ID(24) // bits between the ids of readers
)

func small(n int) id.ID { return star + 1 + id.ID(n%smalls) }

func fan(n int) id.ID { return id.ID(n+1) << readerGap }

// crowd is a Source of which all readers follow one author, and some another one
// besides. Who follows whom is computed: a million of them take no memory.
type crowd struct {
	Source
	readers int
	posts   []Post // event n is the n-th of them
}

// apart is how far apart the fans of a small author are.
func (c *crowd) apart() int { return c.readers / smallFans }

func (c *crowd) publish(p Post) { c.posts = append(c.posts, p) }

func (c *crowd) Snapshot() Snapshot { return &crowdSnapshot{crowd: c, last: len(c.posts)} }

type crowdSnapshot struct {
	Snapshot
	*crowd
	last int
}

func (s *crowdSnapshot) Close() error                { return nil }
func (s *crowdSnapshot) LastSeq() (uint64, error)    { return uint64(s.last), nil }
func (s *crowdSnapshot) HasPull(id.ID) (bool, error) { return false, nil }
func (s *crowdSnapshot) first(author id.ID) (int, int) { // fan of author, and how far the next is
	if author == star {
		return 0, 1
	}
	return int(author - star - 1), s.apart()
}

func (s *crowdSnapshot) Events(after uint64, limit int) (out []Event, first uint64, err error) {
	for n := int(after); n < s.last && len(out) < limit; n++ {
		out = append(out, Event{Seq: uint64(n + 1), Kind: Published, Post: s.posts[n]})
	}
	return out, 1, nil
}

func (s *crowdSnapshot) Followers(dst []id.ID, author, after id.ID, limit int) ([]id.ID, error) {
	n, step := s.first(author)
	if next := int(after >> readerGap); next > n { // fans are numbered from 0: next is the one behind after
		n += (next - n + step - 1) / step * step
	}
	for ; n < s.readers && limit > 0; n, limit = n+step, limit-1 {
		dst = append(dst, fan(n))
	}
	return dst, nil
}

func (s *crowdSnapshot) Followees(reader id.ID) ([]id.ID, error) {
	out := []id.ID{star}
	if n := (int(reader>>readerGap) - 1) % s.apart(); n < smalls {
		out = append(out, small(n))
	}
	return out, nil
}

func (s *crowdSnapshot) Posts(dst []Post, author, before id.ID, limit int) ([]Post, error) {
	for _, p := range slices.Backward(s.posts[:s.last]) {
		if p.Author == author && limit > 0 && (before == 0 || p.Pos < before) {
			dst, limit = append(dst, p), limit-1
		}
	}
	return dst, nil
}

// crowded is a Store of which every reader of a crowd has a timeline.
type crowded struct {
	t     *testing.T
	rng   *rand.Rand
	src   *crowd
	fs    *vfs.MemFS
	clock *clock.Fake
	s     *Store
}

func newCrowded(t *testing.T, readers int) *crowded {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat: go test ./feed/timeline -run '%s$' -timeline.seed=%d", t.Name(), seed)
	c := &crowded{
		t: t, rng: rand.New(rand.NewPCG(seed, 8)), src: &crowd{readers: readers},
		fs: vfs.NewCrashableMem(), clock: clock.NewFake(id.Epoch.Add(1000 * time.Hour)),
	}
	c.src.publish(post(oldPost, star))
	c.open()
	t.Cleanup(func() {
		if err := c.s.Close(); err != nil {
			t.Error(err)
		}
	})
	c.must(c.s.Seed(slices.Values(c.src.posts), func(yield func(id.ID, []id.ID) bool) {
		for n := range readers {
			if !yield(fan(n), []id.ID{at(oldPost)}) {
				return
			}
		}
	}))
	c.step()
	c.flush()
	return c
}

func (c *crowded) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowded) open() {
	c.t.Helper()
	o := Options{Dirs: []string{"t"}, Source: c.src, Clock: c.clock, FS: c.fs}
	o.tune.chunk = min(max(c.src.readers/64, smallFans+1), 4096)
	s, err := Open(o)
	c.must(err)
	c.s = s
}

func (c *crowded) step() bool {
	c.t.Helper()
	worked, err := c.s.Step()
	c.must(err)
	if n := c.s.Stats().OpenFanouts; n > c.s.o.tune.openFanouts {
		c.t.Fatalf("%d fan-outs under way", n)
	}
	return worked
}

// flush lets so much time pass that what is written becomes durable.
func (c *crowded) flush() {
	c.t.Helper()
	c.clock.Advance(c.s.o.tune.flushEvery)
	c.step()
	if c.must(c.s.w.flush()); c.s.DurableCursor() != c.s.Cursor() || c.s.w.dirty {
		c.t.Fatalf("durable %d of %d", c.s.DurableCursor(), c.s.Cursor())
	}
}

// cut cuts the power, while a flush is under way or not.
func (c *crowded) cut(flushing bool) {
	c.t.Helper()
	if flushing && c.s.w.flushing == nil {
		c.must(c.s.w.beginFlush())
	}
	fs := c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.rng.IntN(101), RNG: c.rng})
	c.must(c.s.Close())
	c.fs = fs
	c.open()
	if c.s.Stats().Wipes != 0 {
		c.t.Fatal("wiped at open")
	}
}

// served is how many fans of the star have the post that is under way; all when none is.
func (c *crowded) served() int {
	for _, f := range c.s.w.open {
		if f.Post.Pos == at(starPost) {
			return int(f.After >> readerGap)
		}
	}
	if c.s.Cursor() < starPost+1 {
		return 0
	}
	return c.src.readers
}

// smallPost has a small author publish and wants the post delivered at once, though the
// star's is still under way.
func (c *crowded) smallPost() {
	c.t.Helper()
	p := post(len(c.src.posts), small(len(c.src.posts)))
	c.src.publish(p)
	for range 4 { // once for each kind of work
		c.step()
	}
	if c.served() == c.src.readers {
		c.t.Fatal("the fan-out to all is over already")
	}
	last := fan(int(p.Author-star-1) + (smallFans-1)*c.src.apart())
	r, err := readTimeline(c.s.in.db, last)
	if c.must(err); !slices.Contains(r.pos, p.Pos) {
		c.t.Errorf("a small author's post waits for the star's: %v, %d under way", r.pos, len(c.s.w.open))
	}
}

// compare wants every timeline to be what was published, each post once, and pages of
// some to show it.
func (c *crowded) compare() {
	c.t.Helper()
	byAuthor := map[id.ID][]id.ID{}
	for _, p := range c.src.posts {
		byAuthor[p.Author] = append(byAuthor[p.Author], p.Pos)
	}
	want := func(n int) []id.ID {
		out := slices.Clone(byAuthor[star])
		if k := n % c.src.apart(); k < smalls {
			out = append(out, byAuthor[small(k)]...)
		}
		slices.Sort(out)
		slices.Reverse(out)
		return out
	}
	n := 0
	c.must(scan(c.s.in.db, keyTimeline, func(k, v []byte) error {
		var r run
		if err := decodeOperand(&r, v); err != nil {
			return err
		}
		reader, err := key8Of(k)
		if w := want(n); id.ID(reader) != fan(n) || !r.base || r.floor != 0 || !slices.Equal(r.pos, w) {
			c.t.Fatalf("fan %d: timeline of %x is %v above %v, want %v", n, reader, r.pos, r.floor, w)
		}
		n++
		return err
	}))
	if n != c.src.readers {
		c.t.Errorf("%d timelines of %d", n, c.src.readers)
	}
	for range 20 {
		n := c.rng.IntN(c.src.readers)
		c.page(n, want(n))
	}
	if p := c.s.Stats().PulledPages; p != 0 {
		c.t.Errorf("%d pages were pulled", p)
	}
}

func (c *crowded) page(n int, want []id.ID) {
	c.t.Helper()
	all := func(posts []Post, show []bool) error {
		for i := range show {
			show[i] = true
		}
		return nil
	}
	posts, _, err := c.s.Page(context.Background(), fan(n), 0, 100, all)
	c.must(err)
	var got []id.ID
	for _, p := range posts {
		got = append(got, p.Pos)
	}
	if !slices.Equal(got, want) {
		c.t.Errorf("fan %d sees %v, want %v", n, got, want)
	}
}

// A fan-out to very many followers goes on after each of several power cuts where it
// was durable, and not from its beginning. Each follower has the post once, and those
// of small authors do not wait for it.
func TestLargeFanoutGoesOnAfterPowerCuts(t *testing.T) {
	readers := testenv.Times("HAYLOFT_FOLLOWERS", testenv.Rounds(200_000)/2)
	c := newCrowded(t, readers)
	c.src.publish(post(starPost, star))
	total, again := 0, 0 // deliveries of all lives; those that a cut had taken back
	upTo := func(share int) {
		t.Helper()
		for c.served() < readers*share/100 {
			c.smallPost()
		}
	}
	for i, life := range []struct {
		durable, written int // percent
		flushing         bool
	}{{30, 45, false}, {60, 70, true}, {70, 75, false}} {
		upTo(life.durable)
		c.flush()
		durable := c.served()
		upTo(life.written)
		written := c.served()
		total += int(c.s.Stats().Deliveries)
		c.cut(life.flushing)
		now := c.served()
		if now < durable || now > written {
			t.Fatalf("life %d: %d are served after the cut, %d were durable, %d written", i, now, durable, written)
		}
		again += written - now
	}
	for c.step() {
	}
	total += int(c.s.Stats().Deliveries)
	posts := len(c.src.posts) - 2
	if limit := readers + again + 2*posts*smallFans; total < readers || total > limit || again > readers/2 {
		t.Errorf("%d deliveries to %d followers, %d of them again; %d would be enough", total, readers, again, limit)
	}
	if c.s.Cursor() != uint64(len(c.src.posts)) || c.s.Stats().OpenFanouts != 0 {
		t.Errorf("at rest with %+v", c.s.Stats())
	}
	c.compare()
	testenv.Tell(t, "%d followers, %d deliveries, %d of them again after 3 power cuts, %d posts of small authors meanwhile", readers, total, again, posts)
}

// As many fan-outs to all as may be under way at once: one more waits for the first to
// end, and small authors for none.
func TestSmallPostsPassAFullQueue(t *testing.T) {
	c := newCrowded(t, 4000)
	stars := func(n int) {
		for range n {
			c.src.publish(post(len(c.src.posts), star))
		}
	}
	full := c.s.o.tune.openFanouts
	stars(full)
	for c.s.Stats().OpenFanouts < full {
		c.step()
	}
	for range 3 {
		c.smallPost()
	}
	stars(full / 4)
	for c.step() {
	}
	c.compare()
}
