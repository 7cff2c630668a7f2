package likes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/bench"
	"hayloft/feed"
	"hayloft/internal/heap"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// Options say what to measure. The zero value of each field takes its default.
type Options struct {
	Dir      string        // where the feed is kept meanwhile; default the temporary directory
	Rate     int           // likes per second; default 3,000
	Duration time.Duration // default 1 minute

	Progress func(string) // is told what goes on; may be nil
}

// Validate reports every fault of o.
func (o *Options) Validate() error {
	if o.Rate < 0 || o.Duration < 0 {
		return errors.New("a negative rate or duration")
	}
	return nil
}

// inFlight bounds the likes under way: beyond it they wait, and the wait counts.
const inFlight = 8192

// Run has as many people as there are likes like one photo, each once, at the given
// rate whatever the answers take. Latencies count from the intended start.
func Run(ctx context.Context, o Options) (*bench.Report, error) {
	if o.Rate == 0 {
		o.Rate = 3000
	}
	if o.Duration == 0 {
		o.Duration = time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	people := max(1, int(float64(o.Rate)*o.Duration.Seconds()))
	o.Progress(fmt.Sprintf("making %d people", people))
	w, err := open(ctx, o.Dir, people)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	report, err := w.measure(ctx, &o, people)
	return report, errors.Join(err, w.close())
}

func (w *world) measure(ctx context.Context, o *Options, people int) (*bench.Report, error) {
	o.Progress(fmt.Sprintf("%d likes a second for %v", o.Rate, o.Duration))
	took, lasted := w.like(ctx, people, o.Rate)
	p99 := took.Result("like_p99", 0.99)
	report := &bench.Report{
		Bench: "likes", When: time.Now(), Machine: bench.ThisMachine(w.dir),
		Settings: map[string]string{
			"durability": "each like synced in the log before it is answered; one voter",
			"load":       fmt.Sprintf("open loop, %d likes per second on one photo, each by somebody else", o.Rate),
		},
		Results: []bench.Result{p99, {Name: "likes_per_s", Unit: "1/s", Value: float64(p99.N) / lasted.Seconds(), N: p99.N, Errors: p99.Errors}},
	}
	if err := took.Err(); err != nil {
		return report, err
	}
	p, err := w.feed.Photo(ctx, 0, w.photo)
	if err != nil {
		return report, err
	}
	r, err := w.feed.Reconcile(ctx, false, nil)
	if err != nil {
		return report, err
	}
	report.Results = append(report.Results,
		bench.Result{Name: "likes_counted", Unit: "1", Value: float64(p.Likes), N: people},
		bench.Result{Name: "drift", Unit: "1", Value: float64(r.Drifts + r.Missing), N: int(r.Counters + r.Edges)})
	if p.Likes != uint64(people) || r.Drifts+r.Missing != 0 {
		err = fmt.Errorf("%d people like the photo and it counts %d; %d counters drifted, %d edges are incomplete", people, p.Likes, r.Drifts, r.Missing)
	}
	return report, err
}

// like has each of people like the photo and says how long all of it took.
func (w *world) like(ctx context.Context, people, rate int) (*bench.Latency, time.Duration) {
	var took bench.Latency
	var wg sync.WaitGroup
	room := make(chan struct{}, inFlight)
	begin := time.Now()
	for i := range people {
		start := begin.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if wait := time.Until(start); wait > 0 {
			time.Sleep(wait)
		}
		if ctx.Err() != nil {
			took.Add(0, ctx.Err())
			break
		}
		room <- struct{}{}
		wg.Go(func() {
			err := w.feed.Like(ctx, person(i), w.photo)
			took.Add(time.Since(start), err)
			<-room
		})
	}
	wg.Wait()
	return &took, time.Since(begin)
}

// world is a feed with people and one photo.
type world struct {
	dir    string
	group  *raftgroup.Group
	feed   *feed.Feed
	photo  id.ID
	minted atomic.Uint64
	stop   func() error
}

// seeded is a machine that finds a world in its empty state.
type seeded struct {
	*feed.Machine
	seed func(*pebble.DB) error
}

// Restored implements raftgroup.Machine.
func (m *seeded) Restored(db *pebble.DB) error {
	if err := m.seed(db); err != nil {
		return err
	}
	return m.Machine.Restored(db)
}

func open(ctx context.Context, dir string, people int) (w *world, err error) {
	w = &world{}
	if w.dir, err = os.MkdirTemp(dir, "hayloft-bench-likes-*"); err != nil {
		return w, err
	}
	machine := feed.NewMachine()
	blocks, _ := feed.SplitBlocks(feed.BlockCache(heap.Machine()))
	w.group, err = raftgroup.Open(ctx, raftgroup.Options{
		Dirs: []string{filepath.Join(w.dir, "group")}, Name: "feed", NodeID: "bench", Tune: feed.Tune(blocks),
		Machine: &seeded{machine, func(db *pebble.DB) error { return w.seed(db, people) }},
	})
	if err != nil {
		return w, err
	}
	if err := w.group.Ready(ctx); err != nil {
		return w, err
	}
	w.feed, err = feed.Open(feed.Options{
		Group: w.group, Machine: machine, Member: "bench", Mint: w.mint, TimelineDirs: []string{filepath.Join(w.dir, "timelines")},
	})
	if err != nil {
		return w, err
	}
	running, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.feed.Run(running) }()
	w.stop = func() error {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	return w, nil
}

// close ends the world and removes it.
func (w *world) close() error {
	var errs []error
	if w.stop != nil {
		errs = append(errs, w.stop())
	}
	if w.feed != nil {
		errs = append(errs, w.feed.Close())
	}
	if w.group != nil {
		errs = append(errs, w.group.Close())
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

func person(i int) id.ID { return id.Make(id.Millis(1000+i), 1, 0) }

// mint hands out ids that ascend and follow the clock.
func (w *world) mint(context.Context) (id.ID, error) {
	for {
		last := w.minted.Load()
		next := max(last+1, uint64(id.Make(id.MillisOf(time.Now()), 7, 0)))
		if w.minted.CompareAndSwap(last, next) {
			return id.ID(next), nil
		}
	}
}

// seed writes the people, an author, and the photo with a caption of ordinary length.
func (w *world) seed(db *pebble.DB, people int) error {
	s, err := feed.NewSeed(db, time.Now())
	if err != nil {
		return err
	}
	for i := range people {
		if err := s.Account(feed.User{ID: person(i), Handle: fmt.Sprintf("person%d", i)}, false); err != nil {
			return err
		}
	}
	author := feed.User{ID: person(people), Handle: "author", Photos: 1}
	pos := id.Make(id.MillisOf(time.Now().Add(-time.Hour)), 2, 0)
	w.photo = pos + 1
	p := feed.Photo{
		ID: w.photo, Author: author.ID, Status: feed.Ready, Pos: pos, CreatedAt: pos.Millis().Time(), PublishedAt: pos.Millis().Time(),
		Details:   feed.Details{Caption: "A caption of the length that people write, and a bit more", Tags: []string{"harbour", "morning"}},
		Master:    feed.Master{Blob: pos + 2, Cookie: 7, Size: 3 << 20, ContentType: "image/jpeg", Digest: [32]byte{1}, Width: 4000, Height: 3000},
		Rendition: feed.Rendition{Blob: pos + 3, Cookie: 9, Placeholder: "LEHV6nWB2yk8pyo0adR*.7kCMdnj", Colour: "#a4b5c6", Variants: []feed.Variant{{Alt: 4, Width: 1080, Height: 810, Size: 160_000}}},
	}
	return errors.Join(s.Account(author, false), s.Post(p), s.Close())
}
