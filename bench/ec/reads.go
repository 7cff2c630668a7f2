package ec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/volume"
)

// rate finds out how many direct reads of 64 KiB the device does with 16 readers.
func (b *run) rate(ctx context.Context) error {
	f, _, err := raw.OpenDirect(b.src.File, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	order := library.NewOrder(b.src.sized(64*kib), 2)
	device := order.Device("read_64k_r16_raw", readers16, f, raw.PageSize, nil)
	if err := b.contest(ctx, 1, device); err != nil {
		return err
	}
	b.rawReads = contest.Median(device.Rates)
	b.add(device.Results("1/s", 1)...)
	return nil
}

// reads measures needles out of shards that are all there, beside the same needles
// out of the volume's file, one at a time.
func (b *run) reads(ctx context.Context, s *shards) (err error) {
	plain, err := volume.OpenGeneration(b.src.Dir, library.ID, 2, volume.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	v, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	at := suffix(s.c.Policy)
	for _, kind := range []struct {
		size        int
		name, ratio string
	}{{64 * kib, "read_64k", "coded_read_latency"}, {200 * kib, "read_200k", "coded_read_200k_latency"}} {
		b.Progress(fmt.Sprintf("%s out of shards, %s", kind.name, s.c.Policy))
		lib := b.src.sized(kind.size)
		coded := s.order(lib).Engine(kind.name+at+"_coded", 1, v.Engine())
		replicated := s.order(lib).Engine(kind.name+at+"_replicated", 1, plain)
		if err := b.contest(ctx, b.Rounds, coded, replicated); err != nil {
			return err
		}
		b.add(coded.Results("1/s", 1)...)
		b.add(replicated.Results("1/s", 1)...)
		b.report.Ratios[kind.ratio+at] = contest.Ratio(coded.P50s, replicated.P50s)
	}
	checked, wrong, _ := s.order(b.src.Library).Verify(ctx, v.Engine(), verifySample)
	b.add(identical("coded_needles_identical"+at, checked, wrong))
	return ctx.Err()
}

func identical(name string, checked, wrong int) bench.Result {
	return bench.Result{Name: name, Unit: "1", Value: float64(checked - wrong), N: checked, Errors: wrong}
}

// degradedReads measures needles whose shard is away, beside k direct reads at once
// of the same extent of k other shards.
func (b *run) degradedReads(ctx context.Context, s *shards) (err error) {
	b.Progress("read_64k with a shard away, " + s.c.Policy.String())
	away := s.c.Data / 2
	v, err := s.serve(ctx, away)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	r, err := s.openRaw(away)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	lib := b.src.sized(64 * kib).Of(r.inside)
	if len(lib.Needles) < 2 {
		return fmt.Errorf("shard %d of %s holds %d needles of 64 KiB: the volume is too small", away, s.c.Policy, len(lib.Needles))
	}
	at := suffix(s.c.Policy)
	engine := s.order(lib).Engine("degraded_read_64k"+at+"_engine", 1, v.Engine())
	device := r.arm("degraded_read_64k"+at+"_raw", s.order(lib), nil)
	huge := r.arm("degraded_read_64k"+at+"_raw_huge", s.order(lib), raw.HugeBufs(s.c.Data, library.MaxExtent))
	if err := b.contest(ctx, b.Rounds, engine, device, huge); err != nil {
		return err
	}
	for _, a := range []*contest.Arm{engine, device, huge} {
		b.add(a.Results("1/s", 1)...)
	}
	b.report.Ratios["degraded_read_latency"+at] = contest.Ratio(engine.P50s, device.P50s)
	b.report.Ratios["degraded_read_over_huge"+at] = contest.Ratio(engine.P50s, huge.P50s)
	checked, wrong, _ := s.order(lib).Verify(ctx, v.Engine(), verifySample)
	b.add(identical("degraded_needles_identical"+at, checked, wrong))
	return ctx.Err()
}

// rawShards are k shards that are not away, open past the page cache.
type rawShards struct {
	s     *shards
	away  int
	files []*os.File
}

func (s *shards) openRaw(away int) (*rawShards, error) {
	r := &rawShards{s: s, away: away}
	for i := 0; len(r.files) < s.c.Data; i++ {
		if i == away {
			continue
		}
		f, _, err := raw.OpenDirect(s.path(i), os.O_RDONLY)
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.files = append(r.files, f)
	}
	return r, nil
}

func (r *rawShards) close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// shardHead is what lies in front of a shard's payload (docs/shard-format.md).
const shardHead = 8192

// extent is where the aligned extent around a needle lies in a shard's file.
func (r *rawShards) extent(n *library.Needle) raw.Extent {
	e := raw.Cover(n.Off, n.Span, raw.PageSize)
	e.Off = shardHead + e.Off - int64(r.away)*r.s.c.ShardBytes()
	return e
}

// inside tells whether all of a needle's extent lies in the shard that is away.
func (r *rawShards) inside(n *library.Needle) bool {
	e := r.extent(n)
	return e.Off >= shardHead && e.End() <= shardHead+r.s.c.ShardBytes()
}

// arm reads the extent of one needle after another from k shards at once, into
// memory for each of them; nil is ordinary memory.
func (r *rawShards) arm(name string, order *library.Order, memory [][]byte) *contest.Arm {
	return &contest.Arm{Name: name, Clients: 1, Start: func(context.Context) (contest.Job, error) {
		list, err := order.Fresh()
		bufs, free := memory, func() {}
		if err == nil && memory == nil {
			bufs, free, err = raw.ClientBufs(len(r.files), library.MaxExtent)
		}
		return contest.Job{Limit: len(list), Do: func(_ context.Context, _, i int) (float64, error) {
			return 1, r.read(r.extent(&order.Lib.Needles[list[i]]), bufs)
		}, Stop: func() error { free(); return nil }}, err
	}}
}

func (r *rawShards) read(e raw.Extent, bufs [][]byte) error {
	errs := make([]error, len(r.files))
	var wg sync.WaitGroup
	for i, f := range r.files {
		wg.Go(func() { errs[i] = readRaw(f, bufs[i], e) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
