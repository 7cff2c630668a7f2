package disk

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// multiWrites is workloads C, D and E with one writer: what a group saves.
func (b *run) multiWrites(ctx context.Context) error {
	b.Progress("write_64k, groups of 1, 4, 16, one writer")
	var arms []*contest.Arm
	for _, group := range []int{1, 4, 16} {
		w := writing{dir: b.Dirs[0], size: 64 * kib, group: group, clients: 1, slice: sliceBytes}
		arms = append(arms,
			w.engine(fmt.Sprintf("write_64k_x%d_w1_engine", group), vfs.OS{}),
			w.device(fmt.Sprintf("write_64k_x%d_w1_raw", group), b.best, []int{group * int(recordBytes(w.size))}))
	}
	if err := b.contest(arms...).Run(ctx); err != nil {
		return err
	}
	record := float64(recordBytes(64 * kib))
	for i := 0; i < len(arms); i += 2 {
		x := b.pair(arms[i], arms[i+1], "1/s", record)
		b.report.Ratios[fmt.Sprintf("write_64k_x%d_throughput_w1", []int{1, 4, 16}[i/2])] = x
	}
	b.report.Ratios["multiwrite_x4_over_x1_w1"] = contest.Ratio(arms[2].Rates, arms[0].Rates)
	b.report.Ratios["multiwrite_x16_over_x1_w1"] = contest.Ratio(arms[4].Rates, arms[0].Rates)
	return nil
}

func (b *run) writes64(ctx context.Context) error  { return b.writes(ctx, "write_64k", 64*kib) }
func (b *run) writes200(ctx context.Context) error { return b.writes(ctx, "write_200k", 200*kib) }

// writes is 16 writers of single needles beside every raw method, fed with
// the batch sizes that the engine was seen to write.
func (b *run) writes(ctx context.Context, name string, size int) error {
	b.Progress(name + ", 16 writers")
	w := writing{dir: b.Dirs[0], size: size, group: 1, clients: 16, slice: sliceBytes}
	sizes, err := w.batchSizes(ctx, *b.contest())
	if err != nil {
		return err
	}
	engine := w.engine(name+"_w16_engine", vfs.OS{})
	arms := []*contest.Arm{engine}
	for i, m := range methods[:rawMethods] {
		arms = append(arms, w.device(fmt.Sprintf("%s_w16_raw_%d", name, i+1), m, sizes))
		b.report.Settings[fmt.Sprintf("raw method %d", i+1)] = m.name
	}
	huge := w.device(name+"_w16_raw_huge", hugeMethod, sizes)
	if err := b.contest(append(arms, huge)...).Run(ctx); err != nil {
		return err
	}
	record := float64(recordBytes(size))
	for _, a := range append(arms, huge) {
		b.add(a.Results("1/s", record)...)
	}
	b.report.Ratios[name+"_over_huge_w16"] = contest.Ratio(engine.Rates, huge.Rates)
	b.report.Settings["raw method huge"] = hugeMethod.name
	raw := contest.Best(arms[1:])
	b.best, b.batches = methods[slices.Index(arms, raw)-1], sizes
	b.rawWrites = contest.Median(raw.Rates)
	b.report.Ratios[name+"_throughput_w16"] = contest.Ratio(engine.Rates, raw.Rates)
	b.report.Settings[name+" batches"] = describe(sizes, recordBytes(size))
	b.report.Settings[name+" best raw method"] = b.best.name
	return nil
}

// allDisks runs reads and writes of 64 KiB on all directories at once.
func (b *run) allDisks(ctx context.Context) error {
	if len(b.Dirs) < 2 {
		return nil
	}
	var all []*readers
	defer func() {
		for _, r := range all {
			r.close() //nolint:errcheck // the directories are removed
		}
	}()
	for i, dir := range b.Dirs {
		b.Progress(fmt.Sprintf("writing a volume on disk %d", i+1))
		lib, err := library.Build(ctx, filepath.Join(dir, "read_64k"), b.Bytes, library.Only(64*kib))
		if err != nil {
			return err
		}
		r, err := openReaders(lib, b.align, uint64(i), volume.Options{})
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	b.Progress("reads on all disks at once")
	err := b.together(ctx, "read_64k_r16", 1, func(i int) []*contest.Arm {
		return []*contest.Arm{all[i].engine("engine", readers16), all[i].device("raw", readers16, all[i].align)}
	})
	if err != nil {
		return err
	}
	b.Progress("writes on all disks at once")
	return b.together(ctx, "write_64k_w16", float64(recordBytes(64*kib)), func(i int) []*contest.Arm {
		w := writing{dir: b.Dirs[i], size: 64 * kib, group: 1, clients: 16, slice: sliceBytes}
		return []*contest.Arm{w.engine("engine", vfs.OS{}), w.device("raw", b.best, b.batches)}
	})
}

// together lets the same arm run on every disk at the same time, one arm after
// another, and reports each disk and the sum.
func (b *run) together(ctx context.Context, name string, perUnit float64, armsOf func(disk int) []*contest.Arm) error {
	disks := make([][]*contest.Arm, len(b.Dirs))
	for i := range disks {
		disks[i] = armsOf(i)
	}
	sums := make([][]float64, len(disks[0]))
	for range b.Rounds {
		for a := range sums {
			errs := make([]error, len(disks))
			var wg sync.WaitGroup
			for i := range disks {
				wg.Go(func() { errs[i] = disks[i][a].Measure(ctx, b.Slice) })
			}
			wg.Wait()
			sum := 0.0
			for i, err := range errs {
				if err != nil {
					return fmt.Errorf("disk %d: %w", i+1, err)
				}
				rates := disks[i][a].Rates
				sum += rates[len(rates)-1]
			}
			sums[a] = append(sums[a], sum)
		}
	}
	for a := range sums {
		side, n := disks[0][a].Name, 0
		for i := range disks {
			disks[i][a].Name = fmt.Sprintf("%s_%s_disk%d", name, side, i+1)
			res := disks[i][a].Results("1/s", perUnit)[:2] // the processor time is that of all disks
			n += res[0].N
			b.add(res...)
		}
		b.add(bench.Result{Name: fmt.Sprintf("%s_%s_sum", name, side), Unit: "1/s", Value: contest.Median(sums[a]) / perUnit, N: n})
	}
	b.report.Ratios[name+"_sum"] = contest.Ratio(sums[0], sums[1])
	return nil
}
