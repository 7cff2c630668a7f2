package feed

import (
	"context"
	"math"
	"time"
)

const (
	sweepRows   = 512              // per command, so that user commands pass in between
	sweepLook   = time.Minute      // at the latest the due index is looked at again
	sweepRetry  = time.Second      // after a command that was not accepted
	trimPause   = 10 * time.Second // between looks at what may be trimmed
	trimMinimum = 256              // events: fewer are not worth a command
)

// sweep ends what has ended by itself and does chores, while this node leads.
func (f *Feed) sweep(ctx context.Context) error {
	w := &f.machine.watch
	for {
		if err := f.lead(ctx); err != nil {
			return err
		}
		changed := w.on(&w.sweep)
		wait, err := f.sweepOnce(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			f.notify(Notice{Kind: SweepFailed, Err: err})
			changed, wait = nil, sweepRetry
		}
		select {
		case <-changed:
		case <-f.clock.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lead waits until this node leads.
func (f *Feed) lead(ctx context.Context) error {
	if err := f.group.Ready(ctx); err != nil {
		return firstErr(ctx.Err(), unavailable(err))
	}
	return nil
}

// sweepOnce sweeps up to the time that can be believed.
func (f *Feed) sweepOnce(ctx context.Context) (time.Duration, error) {
	f.machine.watch.planSweep(math.MaxUint64)
	through, err := f.sweepTime(ctx)
	if err != nil {
		return 0, err
	}
	wait, err := f.sweepThrough(ctx, through)
	if err != nil {
		return 0, err
	}
	f.machine.watch.planSweep(millis(through.Add(wait)))
	return wait, nil
}

// sweepThrough works until nothing is due at a time and no chore is left, and
// returns how long nothing will be.
func (f *Feed) sweepThrough(ctx context.Context, through time.Time) (time.Duration, error) {
	for {
		wait, err := f.untilDue(ctx, through)
		if err != nil || wait > 0 {
			return wait, err
		}
		if _, err := f.propose(ctx, &cmdSweep{Limit: f.sweepRows, Through: through}); err != nil {
			return 0, err
		}
	}
}

// untilDue is how long there is nothing to sweep; 0 when there is now.
func (f *Feed) untilDue(ctx context.Context, now time.Time) (wait time.Duration, err error) {
	wait = sweepLook
	err = f.read(ctx, func(v *view) error {
		err := v.scan([]byte{tabChore}, []byte{tabChore + 1}, func(_, _ []byte) error {
			wait = 0
			return errStop
		})
		if err != nil || wait == 0 {
			return err
		}
		return v.scan([]byte{tabDue}, []byte{tabDue + 1}, func(k, _ []byte) error {
			if len(k) < 11 {
				return corrupt("due key %x", k)
			}
			wait = min(wait, max(0, timeOf(parseBE(k[1:9])).Sub(now)))
			return errStop
		})
	})
	return wait, err
}

// trim removes events that every consumer has behind it and purge entries that
// are old enough.
func (f *Feed) trim(ctx context.Context) error {
	for {
		if err := f.lead(ctx); err != nil {
			return err
		}
		if err := f.trimNow(ctx); err != nil && ctx.Err() == nil {
			f.notify(Notice{Kind: SweepFailed, Err: err})
		}
		select {
		case <-f.clock.After(trimPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *Feed) trimNow(ctx context.Context) error {
	now, err := f.sweepTime(ctx)
	if err != nil {
		return err
	}
	through, err := f.processed(ctx, f.timeline.DurableCursor())
	if err != nil {
		return err
	}
	before := now.Add(-f.policy.PurgeLogLife)
	var first uint64
	oldPurge := false
	err = f.read(ctx, func(v *view) (err error) {
		if first, err = v.meta(metaFirstEvent); err != nil {
			return err
		}
		return v.scan([]byte{tabPurge}, []byte{tabPurge + 1}, func(_, value []byte) error {
			var row purgeRow
			if err := decodeRow(value, &row); err != nil {
				return err
			}
			oldPurge = row.At.Before(before)
			return errStop
		})
	})
	if err != nil {
		return err
	}
	if through >= max(first, 1)+trimMinimum {
		if _, err := f.propose(ctx, &cmdTrimEvents{Through: through}); err != nil {
			return err
		}
	}
	if oldPurge {
		_, err = f.propose(ctx, &cmdTrimPurges{Before: before})
	}
	return err
}
