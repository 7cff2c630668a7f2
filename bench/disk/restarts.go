package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"hayloft/bench"
	"hayloft/bench/contest"
)

// restarts opens volumes of a million needles, and of ten with Full.
func (b *run) restarts(ctx context.Context) error {
	sizes := []struct{ needles, bytes, repeat int }{{b.Needles, 1024, b.Rounds}}
	if b.Full {
		sizes = append(sizes, struct{ needles, bytes, repeat int }{10_000_000, 256, 3})
	}
	for i, s := range sizes {
		name := count(s.needles)
		r := &restart{writer: b.Writer, dir: filepath.Join(b.Dirs[0], "restart"), needles: s.needles, size: s.bytes, repeat: s.repeat}
		b.Progress("restart with " + name + " needles")
		err := r.run(ctx)
		if err == nil {
			b.restart(r, name, i == 0)
			b.Progress("restart with " + name + " needles and no checkpoint")
			err = b.rebuild(ctx, r.dir, "_small_"+name)
		}
		if err = errors.Join(err, os.RemoveAll(r.dir)); err != nil {
			return err
		}
		runtime.GC()
	}
	return nil
}

// restart reports one size.
func (b *run) restart(r *restart, name string, first bool) {
	full := "restart_seconds_" + name
	b.add(bench.Result{Name: full, Unit: "s", Value: contest.Median(r.clean), N: len(r.clean), Errors: r.lost},
		bench.Result{Name: full + "_killed", Unit: "s", Value: contest.Median(r.killed), N: len(r.killed)},
		bench.Result{Name: full + "_killed_tail", Unit: "B", Value: float64(r.tail), N: len(r.killed)},
		bench.Result{Name: "checkpoint_bytes_" + name, Unit: "B", Value: float64(r.checkpoint), N: 1})
	suffix := ""
	if !first {
		suffix = "_" + name
	}
	b.add(bench.Result{Name: "index_bytes_per_needle_open" + suffix, Unit: "B", Value: r.perNeedle, N: r.needles},
		bench.Result{Name: "index_bytes_per_needle_open_peak" + suffix, Unit: "B", Value: r.peak, N: r.needles})
	if r.loadPeak > 0 {
		b.add(bench.Result{Name: "index_bytes_per_needle_load_peak" + suffix, Unit: "B", Value: r.loadPeak, N: r.needles})
	}
	dropped := "all caches of the machine dropped before each"
	if !r.dropped {
		dropped = "only the volume's pages dropped before each: the rest takes root"
	}
	b.report.Settings["restart "+name] = fmt.Sprintf(
		"%d lone needles of %d bytes, ids of eight slots, a file of %d MB; stopped cleanly, and by kill -9 of a process that was appending; %s",
		r.needles, r.size, r.file/1e6, dropped)
}

// rebuild measures what a lost checkpoint costs. The volume in dir is closed.
func (b *run) rebuild(ctx context.Context, dir, suffix string) error {
	r := &rebuild{dir: dir, rounds: min(b.Rounds, 3)}
	if err := r.run(ctx); err != nil {
		return err
	}
	b.add(bench.Result{Name: "rebuild_bytes_per_s" + suffix, Unit: "B/s", Value: contest.Median(r.engine), N: len(r.engine)},
		bench.Result{Name: "rebuild_bytes_per_s" + suffix + "_raw", Unit: "B/s", Value: contest.Median(r.raw), N: len(r.raw)},
		bench.Result{Name: "rebuild_needles_per_s" + suffix, Unit: "1/s", Value: float64(r.needles) / contest.Median(r.seconds), N: len(r.seconds)},
		bench.Result{Name: "rebuild_progress_events" + suffix, Unit: "1", Value: float64(r.told), N: len(r.seconds)})
	b.report.Ratios["rebuild_throughput"+suffix] = contest.Ratio(r.engine, r.raw)
	return nil
}

// count writes 1000000 as 1m.
func count(n int) string {
	switch {
	case n%1_000_000 == 0:
		return fmt.Sprintf("%dm", n/1_000_000)
	case n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}
