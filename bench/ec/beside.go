package ec

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hayloft/bench"
	"hayloft/bench/contest"
)

// smallBytes is the size of the volume that is made again beside reads: for three
// slices, at a server's rate.
func (b *run) smallBytes() int64 {
	// What is read, written and read back of it, for one shard of four.
	return max(minBytes, int64(3*b.Slice.Seconds()*float64(b.budget())/1.5))
}

// besideRebuild measures open-loop reads of the coded volume: all shards there and
// nothing else under way; one shard away; and that while a shard of another volume
// on the same disks is made again, from beginning to end, at a server's rate.
func (b *run) besideRebuild(ctx context.Context, s *shards) (err error) {
	b.Progress("reads beside a rebuild, " + s.c.Policy.String())
	small, err := b.code(ctx, b.small, s.c.Policy, "small")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, small.remove()) }()
	away, at := s.c.Data/2, suffix(s.c.Policy)
	o := contest.Beside{Rate: contest.ReadShare * b.rawReads, Rounds: b.moves(), Sides: []*contest.Side{
		{Name: "read_p99_quiet" + at, Reader: b.openLoop(ctx, s), Work: b.rest(small)},
		{Name: "read_p99_shard_away" + at, Reader: b.openLoop(ctx, s, away), Work: b.rest(small)},
		{Name: "read_p99_rebuilding" + at, Reader: b.openLoop(ctx, s, away), Work: b.rebuilding(small)},
	}}
	if err := o.Run(ctx); err != nil {
		return err
	}
	for _, side := range o.Sides {
		res := side.All.Result(side.Name, 0.99)
		res.Value = contest.Median(side.P99s)
		b.add(res)
	}
	quiet, lacking, rebuilding := o.Sides[0], o.Sides[1], o.Sides[2]
	b.add(bench.Result{Name: rebuilding.Name + "_load", Unit: "B/s", Value: contest.Median(rebuilding.Load), N: o.Rounds})
	b.report.Ratios["read_p99_during_rebuild"+at] = contest.Ratio(rebuilding.P99s, quiet.P99s)
	b.report.Ratios["read_p99_during_rebuild_over_shard_away"+at] = contest.Ratio(rebuilding.P99s, lacking.P99s)
	b.report.Settings["open-loop reads"] = fmt.Sprintf(
		"%.0f reads of 64 KiB a second, %.0f %% of the raw device's throughput with 16 readers, at random moments (Poisson); latency from the intended beginning; values are medians of the rounds' p99; needles come again when all were read",
		o.Rate, 100*contest.ReadShare)
	b.report.Settings["rebuild beside reads"] = fmt.Sprintf(
		"a shard of another volume of %d MB on the same disks, from beginning to end, at %d MB/s read and written, as a server with %d disks does it beside traffic",
		b.small.Bytes/1e6, b.budget()/1e6, len(b.Dirs))
	return nil
}

// openLoop is reading needles of 64 KiB out of the shards that are not away, as
// often as it takes.
func (b *run) openLoop(ctx context.Context, s *shards, away ...int) func() (contest.Job, error) {
	order := s.order(b.src.sized(64 * kib))
	return func() (contest.Job, error) {
		v, err := s.serve(ctx, away...)
		if err != nil {
			return contest.Job{}, err
		}
		j, err := order.Engine("", contest.OpenClients, v.Engine()).Start(ctx)
		if err != nil {
			return j, errors.Join(err, v.Close())
		}
		n, do := j.Limit, j.Do
		return contest.Job{Limit: 1 << 40, Stop: v.Close, Do: func(ctx context.Context, client, i int) (float64, error) {
			return do(ctx, client, i%n)
		}}, nil
	}
}

// rest does nothing for as long as a shard is made again.
func (b *run) rest(small *shards) func(context.Context) (contest.Background, error) {
	moved := small.c.ShardBytes() * int64(small.c.Data+2) // read, written, read back
	took := time.Duration(float64(moved) / float64(b.budget()) * float64(time.Second))
	return func(context.Context) (contest.Background, error) {
		return contest.Background{Run: func(ctx context.Context) (int64, error) {
			contest.SleepUntil(ctx, time.Now().Add(took))
			return 0, ctx.Err()
		}}, nil
	}
}

// rebuilding makes a shard again at a server's rate.
func (b *run) rebuilding(small *shards) func(context.Context) (contest.Background, error) {
	return func(context.Context) (contest.Background, error) {
		return contest.Background{Run: func(ctx context.Context) (int64, error) {
			pace, moved := &contest.Pacer{Rate: b.budget()}, int64(0) // Rebuild asks from one goroutine at a time
			_, _, err := small.rebuild(ctx, 1, func(ctx context.Context, n int64) error {
				moved += n
				return pace.Wait(ctx, n)
			})
			return moved, err
		}}, nil
	}
}
