package feed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/bench/contest"
	service "hayloft/feed"
	"hayloft/internal/id"
)

// publish takes a photo the whole road of the feed's commands, but for its bytes.
func (w *world) publish(ctx context.Context, author id.ID) error {
	photo, err := w.feed.BeginUpload(ctx, author, service.UploadSpec{
		Size: 3 << 20, ContentType: "image/jpeg", ExpiresAt: time.Now().Add(15 * time.Minute),
	})
	if err != nil {
		return err
	}
	blob, _ := w.mint(ctx) // it cannot fail
	if err := w.feed.Intend(ctx, photo, blob); err != nil {
		return err
	}
	d := details(uint64(photo))
	if err := w.feed.Stored(ctx, photo, master(blob), &d); err != nil {
		return err
	}
	blob, _ = w.mint(ctx)
	if err := w.feed.Intend(ctx, photo, blob); err != nil {
		return err
	}
	if err := w.feed.MarkReady(ctx, photo, rendition(blob)); err != nil {
		return err
	}
	w.ready.Add(1)
	return nil
}

const (
	publishers = 256
	// ahead is how many posts may wait for the fan-out: a bound that real authors do
	// not heed.
	ahead = 512
)

// post publishes by authors in proportion to followers until ctx ends; rate is in
// posts per second, 0: as fast as the fan-out follows.
func (w *world) post(ctx context.Context, rate float64, seed uint64) error {
	begin := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, publishers)
	for p := range publishers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(w.o.Seed+seed, uint64(p)))
			for ctx.Err() == nil {
				if rate > 0 {
					due := begin.Add(time.Duration(float64(next.Add(1)) / rate * float64(time.Second)))
					if !contest.SleepUntil(ctx, due) {
						return
					}
				}
				for rate == 0 && w.ready.Load() > w.feed.Timelines().Cursor()+ahead {
					if !contest.SleepUntil(ctx, time.Now().Add(time.Millisecond)) {
						return
					}
				}
				// A post that was begun is finished: ctx is not handed down.
				if errs[p] = w.publish(context.WithoutCancel(ctx), userID(w.g.author(rng))); errs[p] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// settle waits until the fan-out has caught up.
func (w *world) settle(ctx context.Context) error {
	for {
		st := w.feed.TimelineStats()
		if st.Cursor >= w.ready.Load() && st.OpenFanouts == 0 {
			return nil
		}
		if !contest.SleepUntil(ctx, time.Now().Add(time.Millisecond)) {
			return ctx.Err()
		}
	}
}

// rest waits until compactions owe no more than debt bytes, or do nothing about it:
// what Pebble calls debt need not begin one. It returns what they owe.
func (w *world) rest(ctx context.Context, debt uint64) (uint64, error) {
	last, since := uint64(math.MaxUint64), time.Now()
	for {
		st := w.feed.TimelineStats()
		now := st.CompactionDebtBytes
		if sum := now + st.DiskBytes; sum != last { // files come and go meanwhile
			last, since = sum, time.Now()
		}
		if now <= debt || time.Since(since) > restAfter {
			return now, nil
		}
		if !contest.SleepUntil(ctx, time.Now().Add(20*time.Millisecond)) {
			return now, ctx.Err()
		}
	}
}

// restAfter is how long nothing must have changed.
const restAfter = 3 * time.Second

// fanout is what a time of publishing has shown.
type fanout struct {
	deliveries, posts   uint64
	took                float64 // seconds, until debt was down again
	cpu                 float64 // seconds of processor
	debtBefore, debtEnd uint64  // bytes
}

func (f fanout) rate() float64 { return float64(f.deliveries) / f.took }

// fanOut publishes as fast as the fan-out follows for d, lets it catch up, and lets
// compactions come down to what they owed at the start: all of that counts.
func (w *world) fanOut(ctx context.Context, d time.Duration, seed uint64) (f fanout, err error) {
	if f.debtBefore, err = w.rest(ctx, 0); err != nil {
		return f, err
	}
	before, posts, cpu, begin := w.feed.TimelineStats(), w.ready.Load(), cpuSeconds(), time.Now()
	some, cancel := context.WithTimeout(ctx, d)
	err = w.post(some, 0, seed)
	cancel()
	if err := errors.Join(err, ctx.Err(), w.settle(ctx)); err != nil {
		return f, err
	}
	if f.debtEnd, err = w.rest(ctx, f.debtBefore); err != nil {
		return f, err
	}
	f.took, f.cpu = time.Since(begin).Seconds(), cpuSeconds()-cpu
	f.deliveries, f.posts = w.feed.TimelineStats().Deliveries-before.Deliveries, w.ready.Load()-posts
	return f, nil
}

// burst publishes one post of the author whom everybody follows, and returns how
// long it took from then until the last follower had it.
func (w *world) burst(ctx context.Context) (time.Duration, error) {
	before, begin := w.feed.TimelineStats().Deliveries, time.Now()
	if err := w.publish(ctx, userID(w.n+planted)); err != nil {
		return 0, err
	}
	if err := w.settle(ctx); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	if got := w.feed.TimelineStats().Deliveries - before; got != uint64(w.n) {
		return 0, fmt.Errorf("a post of the planted author came to %d of %d readers", got, w.n)
	}
	return took, nil
}

// cpuSeconds is the processor time that this process has used, user and system.
func cpuSeconds() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
