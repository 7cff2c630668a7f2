package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/volume"
)

const (
	// writeShare of the raw write throughput is the rate of writes beside
	// open-loop reads.
	writeShare = 0.3
	// besideGroup is the number of images in one write there.
	besideGroup = 16
	// besideLongest bounds the rate of those writes: what the volume grows by in
	// a slice.
	besideLongest = 128 << 20
)

// besideWrites measures open-loop reads of the library beside writes at a fixed
// rate: the engine's own to the same volume, and the best raw method's.
func (b *run) besideWrites(ctx context.Context, r *readers) error {
	b.Progress("reads beside writes")
	size := 64 * kib
	batch := besideGroup * int(recordBytes(size))
	rate := min(writeShare*b.rawWrites, besideLongest/b.Slice.Seconds()) / float64(batch) // batches per second
	count := max(1, int(rate*b.Slice.Seconds()))
	bufs := make([][]byte, besideGroup)
	for i := range bufs {
		bufs[i] = bytes.Clone(library.Noise[:size])
	}
	w := writing{size: size, group: besideGroup}
	base := 1 << 24 // keys that neither the library nor the mixes have
	engine := func(context.Context) (contest.Background, error) {
		first := base
		base += count
		return contest.Background{Run: func(ctx context.Context) (int64, error) {
			return evenly(ctx, count, rate, int64(batch), func(i int) error { return w.put(ctx, r.v, bufs, first+i) })
		}}, nil
	}
	raw := func(context.Context) (contest.Background, error) {
		buf, err := raw.AlignedBuf(batch + raw.PageSize)
		if err != nil {
			return contest.Background{}, err
		}
		copy(buf, library.Noise)
		l, err := newLog(filepath.Join(b.Dirs[0], "beside.log"), b.best, int64(count*(batch+raw.PageSize)), 16<<20)
		if err != nil {
			raw.FreeBuf(buf)
			return contest.Background{}, err
		}
		return contest.Background{Run: func(ctx context.Context) (int64, error) {
			return evenly(ctx, count, rate, int64(batch), func(int) error { return l.append(buf, batch) })
		}, Stop: func() error { raw.FreeBuf(buf); return l.close() }}, nil
	}
	b.report.Settings["reads beside writes"] = fmt.Sprintf(
		"%d batches of %d images, one at a time at even distances, %.0f MB/s, to the volume that is read; raw: the same with %s",
		count, besideGroup, rate*float64(batch)/1e6, b.best.name)
	return b.beside(ctx, r, "read_p99_beside_writes", engine, raw)
}

// evenly calls do n times at a fixed rate and returns the bytes of all calls.
func evenly(ctx context.Context, n int, rate float64, size int64, do func(i int) error) (int64, error) {
	begin := time.Now()
	for i := range n {
		if !contest.SleepUntil(ctx, begin.Add(time.Duration(float64(i)/rate*float64(time.Second)))) {
			return int64(i) * size, ctx.Err()
		}
		if err := do(i); err != nil {
			return int64(i) * size, err
		}
	}
	return int64(n) * size, nil
}

// besideCompaction measures open-loop reads of the library beside the
// compaction of another volume, from its beginning to its end, at a rate of so
// many bytes a second.
func (b *run) besideCompaction(ctx context.Context, r *readers, name string, rate int64) (err error) {
	b.Progress(name)
	dir := filepath.Join(b.Dirs[0], "compacted")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// A compaction reads, writes and reads again: three slices long.
	total := max(minBytes, int64(b.Slice.Seconds()*float64(rate)))
	lib, err := library.Build(ctx, dir, total, library.Only(64*kib))
	if err != nil {
		return err
	}
	if err := library.Seal(ctx, dir); err != nil {
		return err
	}
	seen := raw.NewRecorder()
	if _, err := compactOnce(ctx, dir, volume.Options{FS: seen}, nil); err != nil {
		return err
	}
	engine := func(context.Context) (contest.Background, error) {
		return contest.Background{Run: func(ctx context.Context) (int64, error) {
			pace := &contest.Pacer{Rate: rate}
			return compactOnce(ctx, dir, volume.Options{}, pace.Wait)
		}}, raw.Evict(dir)
	}
	raw := func(context.Context) (contest.Background, error) {
		if err := raw.Evict(dir); err != nil {
			return contest.Background{}, err
		}
		p, err := newReplay(seen.Ops, lib.File, filepath.Join(b.Dirs[0], "replay"), &contest.Pacer{Rate: rate})
		if err != nil {
			return contest.Background{}, err
		}
		return contest.Background{Run: p.run, Stop: p.close}, nil
	}
	b.report.Settings[name] = fmt.Sprintf(
		"another volume of %d MB on the same disk, at %d MB/s read and written, from beginning to end; raw: the compaction's reads, writes and syncs again, recorded from the engine",
		lib.Bytes/1e6, rate/1e6)
	return b.beside(ctx, r, name, engine, raw)
}

// compactOnce compacts the volume in dir, throws the result away, and returns
// how many bytes the throttle was asked for.
func compactOnce(ctx context.Context, dir string, o volume.Options, throttle func(context.Context, int64) error) (int64, error) {
	v, err := volume.Open(dir, library.ID, o)
	if err != nil {
		return 0, err
	}
	n := int64(0) // Compact asks from one goroutine
	next, err := v.Compact(ctx, volume.CompactOptions{Generation: 2, Throttle: func(ctx context.Context, more int64) error {
		if n += more; throttle == nil {
			return nil
		}
		return throttle(ctx, more)
	}})
	if err == nil {
		err = next.Close()
	}
	err = errors.Join(err, v.Close())
	for _, name := range []string{volume.FileName(library.ID, 2), volume.IndexName(library.ID, 2)} {
		if rerr := os.Remove(filepath.Join(dir, name)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return n, err
}

// beside runs both sides and reports them.
func (b *run) beside(ctx context.Context, r *readers, name string, engine, raw func(context.Context) (contest.Background, error)) error {
	o := &contest.Beside{Rate: contest.ReadShare * b.rawReads, Rounds: b.Rounds, Sides: []*contest.Side{
		{Name: name + "_engine", Reader: func() (contest.Job, error) { return r.engine("", contest.OpenClients).Start(ctx) }, Work: engine},
		{Name: name + "_raw", Reader: func() (contest.Job, error) { return r.device("", contest.OpenClients, r.align).Start(ctx) }, Work: raw},
	}}
	if err := o.Run(ctx); err != nil {
		return err
	}
	for _, s := range o.Sides {
		res := s.All.Result(s.Name, 0.99)
		res.Value = contest.Median(s.P99s)
		b.add(res, bench.Result{Name: s.Name + "_load", Unit: "B/s", Value: contest.Median(s.Load), N: len(s.Load)})
	}
	b.report.Ratios[name] = contest.Ratio(o.Sides[0].P99s, o.Sides[1].P99s)
	b.report.Settings["open-loop reads"] = fmt.Sprintf(
		"%.0f reads of 64 KiB a second, %.0f %% of the raw device's throughput with 16 readers, at random moments (Poisson); latency from the intended beginning; values are medians of the rounds' p99", o.Rate, 100*contest.ReadShare)
	return nil
}
