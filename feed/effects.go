package feed

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// RunEffects hands the effects of one kind to handle, at most workers at a time,
// until ctx ends; then it waits for the handlers and returns ctx's error, or earlier
// that of a group that has stopped. The leader lends effects, each to one member at
// a time (lend.go); a member that cannot reach it waits, and without Options.Lender
// for its own turn to lead.
//
// A handler's nil completes the effect, unless a command of the handler's own
// (MarkReady, MarkFailed) already has; a photo that is still pending is not
// completed by a nil, which then counts as an error. An error has it tried again after
// a pause that doubles up to Policy.EffectBackoffMax, for as long as it takes:
// an outage ends, and what it held up goes on by itself. Only an error marked
// with Poison parks an effect, and only one of a kind that can be poisonous.
// A handler may see an effect twice: after a crash, when another member leads
// before it is done, or when the photo was deleted and restored meanwhile. What is
// cut short by ctx is not counted as an attempt.
func (f *Feed) RunEffects(ctx context.Context, kind EffectKind, workers int, handle func(context.Context, Effect) error) error {
	var running sync.WaitGroup
	defer running.Wait()
	free := make(chan struct{}, max(workers, 1))
	for {
		select {
		case free <- struct{}{}: // a worker is free
		case <-ctx.Done():
			return ctx.Err()
		}
		l, err := f.obtain(ctx, kind)
		if err != nil {
			return err
		}
		running.Go(func() {
			defer func() { <-free }()
			defer l.release()
			f.work(l.keep(ctx), l.effect, handle)
		})
	}
}

// effectLook is the longest that the queue is not looked at. Changes wake it.
const effectLook = time.Minute

// leaseEffect takes the first effect that is due and that nobody holds, or says
// how long there will be none.
func (f *Feed) leaseEffect(ctx context.Context, kind EffectKind, holder string) (*Effect, time.Duration, error) {
	for {
		e, wait, err := f.findEffect(ctx, kind, holder)
		// The view may be older than the release of the last lease on it.
		if err != nil || e == nil || f.owed(ctx, e.Seq) {
			return e, wait, err
		}
		f.leases.release(e.Seq, holder)
	}
}

func (f *Feed) findEffect(ctx context.Context, kind EffectKind, holder string) (e *Effect, wait time.Duration, err error) {
	now := f.now()
	wait = effectLook
	end := []byte{tabEffectByTime, byte(kind) + 1}
	later := effectTimeKey(kind, millis(now)+1, 0)
	// No pause is that long: such a time is of a clock that ran ahead.
	beyond := effectTimeKey(kind, millis(now.Add(longestPause(f.policy.EffectBackoffMax)))+1, 0)
	requeued := f.machine.requeued.Load()
	err = f.read(ctx, func(v *view) (err error) {
		if e, err = f.takeFresh(v, kind, holder, requeued); err != nil || e != nil {
			return err
		}
		if e, err = f.takeEffect(v, holder, effectTimeKey(kind, 1, 0), later, nil); err != nil || e != nil {
			return err
		}
		if e, err = f.takeEffect(v, holder, beyond, end, nil); err != nil || e != nil {
			return err
		}
		return v.scan(later, beyond, func(k, _ []byte) error {
			wait = min(wait, timeOf(parseBE(k[2:10])).Sub(now))
			return errStop
		})
	})
	return e, wait, err
}

// takeFresh is takeEffect for those that were never put off, which are first.
func (f *Feed) takeFresh(v *view, kind EffectKind, holder string, requeued uint64) (e *Effect, err error) {
	newest, err := v.meta(metaEffect)
	if err != nil {
		return nil, err
	}
	first := newest + 1 // that there is
	from := effectTimeKey(kind, 0, f.leases.freshFrom(kind, requeued))
	e, err = f.takeEffect(v, holder, from, effectTimeKey(kind, 1, 0), func(seq uint64) { first = min(first, seq) })
	if err == nil {
		f.leases.freshAt(kind, first, requeued)
	}
	return e, err
}

// takeEffect leases the first effect queued under a key in [from, to) that
// nobody holds; nil: there is none. seen, if not nil, is told of each that it came by.
func (f *Feed) takeEffect(v *view, holder string, from, to []byte, seen func(seq uint64)) (e *Effect, err error) {
	err = v.scan(from, to, func(k, _ []byte) error {
		if len(k) != 18 {
			return corrupt("effect key %x", k)
		}
		seq := parseBE(k[10:])
		if seen != nil {
			seen(seq)
		}
		if !f.leases.take(seq, holder, f.leaseEnd(holder), f.clock.Elapsed()) {
			return nil
		}
		row, err := v.effect(seq)
		if err != nil || row == nil {
			f.leases.release(seq, holder)
			return firstErr(err, corrupt("effect %d is queued but missing", seq))
		}
		e = effectOf(seq, row)
		return errStop
	})
	return e, err
}

func effectOf(seq uint64, row *effectRow) *Effect {
	return &Effect{Seq: seq, Kind: row.Kind, Photo: row.Photo, Blob: row.Blob, Attempts: row.Attempts}
}

// work handles one leased effect to the end.
func (f *Feed) work(ctx context.Context, e Effect, handle func(context.Context, Effect) error) {
	herr := handle(ctx, e)
	if herr != nil && ctx.Err() != nil {
		return // cut short
	}
	ctx, cancel := f.outlive(ctx)
	defer cancel()
	for pause := sweepRetry; ; pause = min(2*pause, effectLook) {
		err := f.finish(ctx, e, herr)
		if err == nil {
			return
		}
		f.notify(Notice{Kind: SweepFailed, Effect: e, Err: err})
		select {
		case <-f.clock.After(pause):
		case <-ctx.Done():
			return // the lease ends; it is started over
		}
	}
}

// finish records how handling an effect went.
func (f *Feed) finish(ctx context.Context, e Effect, herr error) error {
	if herr == nil {
		if !f.owed(ctx, e.Seq) {
			return nil // the handler's own command has completed it
		}
		_, err := f.propose(ctx, &cmdEffectDone{Seq: e.Seq})
		if !errors.Is(err, ErrConflict) {
			return err
		}
		herr = errUnfinished
	}
	_, err := f.propose(ctx, f.retry(e, herr))
	return err
}

// errUnfinished is a handler's fault: it said that it was done with a photo that
// is neither ready nor failed.
var errUnfinished = errors.New("feed: handled, but the photo is still pending")

// lastWords is how long after a stop the outcome of finished work may take to be
// recorded.
const lastWords = 2 * time.Second

// outlive returns a context that ends lastWords after ctx, so that work which is
// done is not done again only because its handler was the last.
func (f *Feed) outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-f.clock.After(lastWords):
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
}

// owed says whether an effect is still there. When in doubt it is.
func (f *Feed) owed(ctx context.Context, seq uint64) bool {
	owed := true
	_ = f.read(ctx, func(v *view) error {
		has, err := v.has(key1(tabEffect, seq))
		if err == nil {
			owed = has
		}
		return err
	}) // a failed look only costs a command
	return owed
}

// retry makes the command that records a failure.
func (f *Feed) retry(e Effect, why error) command {
	e.Attempts++
	cmd := &cmdEffectFailed{Seq: e.Seq, Attempt: e.Attempts, Reason: shorten(why.Error())}
	if e.Kind != EffectReclaim && errors.As(why, new(*poison)) { // bytes that nobody needs must go in the end
		cmd.Park = true
		f.notify(Notice{Kind: EffectParked, Effect: e, Err: why})
		return cmd
	}
	pause := f.policy.EffectBackoffMax
	if shift := e.Attempts - 1; shift < 30 {
		pause = min(pause, f.policy.EffectBackoff<<shift)
	}
	cmd.NotBefore = f.due(pause + time.Duration(rand.Int64N(int64(longestPause(pause)-pause)+1)))
	if telling(e.Attempts) {
		f.notify(Notice{Kind: EffectRetried, Effect: e, Err: why})
	}
	return cmd
}

// longestPause is what a pause may become, so that effects that failed together
// are spread.
func longestPause(pause time.Duration) time.Duration { return pause + pause/4 }

// telling says which failures of one effect an operator is told of: the 1st,
// 2nd, 4th and so on, and in the end every 128th (about one a day).
func telling(attempt int) bool {
	const often = 128
	return attempt%often == 0 || attempt < often && attempt&(attempt-1) == 0
}

// poison is an error of the effect itself.
type poison struct{ err error }

func (e *poison) Error() string { return e.err.Error() }
func (e *poison) Unwrap() error { return e.err }

// Poison marks err, which a handler of RunEffects returns, as a fault of the
// effect itself that no repetition will cure: the effect is parked until
// RetryEffect. Whatever may be the fault of the surroundings (a full disk, a
// decoder that is missing) must not be marked. A nil stays nil. The mark is
// ignored for EffectReclaim.
func Poison(err error) error {
	if err == nil {
		return nil
	}
	return &poison{err}
}

// shorten bounds what an error may say in a row.
func shorten(s string) string {
	const limit = 500
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}

// RetryEffect takes a parked effect back to work; ErrNotFound when it is not
// parked.
func (f *Feed) RetryEffect(ctx context.Context, seq uint64) error {
	_, err := f.propose(ctx, &cmdEffectUnpark{Seq: seq})
	return err
}

// Backlog is how much work is owed.
type Backlog struct {
	Queued  map[EffectKind]int // effects, those under way included
	Parked  int
	Tell    int           // photos of which listeners are still to be told
	Events  uint64        // that the timelines have not processed
	Chores  int           //
	Oldest  time.Duration // since the effect that waits longest was owed, retries included, parked ones not; 0: none
	Counted time.Time
}

// Backlog counts what is owed, for metrics. It walks the queues: call it at
// most every few seconds.
func (f *Feed) Backlog(ctx context.Context) (b Backlog, err error) {
	b.Queued = map[EffectKind]int{EffectTranscode: 0, EffectReclaim: 0}
	b.Counted = f.now()
	err = f.read(ctx, func(v *view) error {
		last, err := v.meta(metaEvent)
		if err != nil {
			return err
		}
		if done := f.timeline.Stats().Cursor; last > done {
			b.Events = last - done
		}
		err = v.scan([]byte{tabEffectByTime}, []byte{tabEffectByTime + 1}, func(k, _ []byte) error {
			if len(k) != 18 {
				return corrupt("effect key %x", k)
			}
			b.Queued[EffectKind(k[1])]++
			return nil
		})
		if err != nil {
			return err
		}
		// Numbers are given out as effects are owed: the first is the oldest.
		err = v.scan([]byte{tabEffect}, []byte{tabEffect + 1}, func(_, value []byte) error {
			var row effectRow
			if err := decodeRow(value, &row); err != nil {
				return err
			}
			b.Oldest = max(0, b.Counted.Sub(row.Owed))
			return errStop
		})
		if err != nil {
			return err
		}
		for _, t := range []struct {
			table byte
			to    *int
		}{{tabParked, &b.Parked}, {tabChore, &b.Chores}, {tabTelling, &b.Tell}} {
			err := v.scan([]byte{t.table}, []byte{t.table + 1}, func(_, _ []byte) error { *t.to++; return nil })
			if err != nil {
				return err
			}
		}
		return nil
	})
	return b, err
}
