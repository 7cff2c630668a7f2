package disk

import (
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
	"hayloft/volume/server"
)

// Run measures and returns the report; also, as far as it came, when
// something failed. Failed pieces are counted in the report and make no error
// of their own; whoever prints it looks at Report.Errors.
func Run(ctx context.Context, o Options) (*bench.Report, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("bench disk: %w", err)
	}
	o = o.withDefaults()
	b := &run{Options: o, report: &bench.Report{
		Bench: "disk", When: time.Now().UTC(), Machine: bench.ThisMachine(o.Dirs[0]),
		Settings: map[string]string{}, Ratios: map[string]float64{},
	}}
	for i, d := range o.Dirs {
		own, err := os.MkdirTemp(d, "hayloft-bench-disk-")
		if err != nil {
			return nil, fmt.Errorf("bench disk: %w", err)
		}
		defer os.RemoveAll(own) //nolint:errcheck // what is left is named bench
		b.Dirs[i] = own
	}
	b.describe()
	for _, step := range []func(context.Context) error{
		b.writes200, b.writes64, b.multiWrites, b.reads64, b.reads200, b.readsMixed, b.sealedIndexes, b.restarts, b.allDisks,
	} {
		if err := step(ctx); err != nil {
			return b.report, fmt.Errorf("bench disk: %w", err)
		}
	}
	return b.report, nil
}

// run is the state of Run. Dirs are our own directories inside those given.
type run struct {
	Options
	report *bench.Report
	align  int64 // of the engine's reads
	// best is the best durable raw method for the engine's batches, and batches
	// their sizes: of the last write ratio, 64 KiB.
	best    method
	batches []int

	rawReads  float64 // of 64 KiB, 16 at once, per second
	rawWrites float64 // of the best method for batches of 64 KiB images, bytes per second
}

const (
	readers16 = 16
	// sliceBytes is what a slice of writes puts down at most.
	sliceBytes = 768 << 20
	// mixSliceBytes bounds what workloads F and G add to a volume in a slice.
	mixSliceBytes = 192 << 20
	verifySample  = 500
)

func (b *run) describe() {
	s := b.report.Settings
	s["durability"] = "acknowledged after the sync of the batch (default)"
	s["engine"] = "default options, one volume, in the process of the benchmark"
	s["rounds"] = fmt.Sprintf("%d of %v for each side, sides in turn; ratios are medians of the rounds' ratios", b.Rounds, b.Slice)
	s["data set"] = fmt.Sprintf("volumes of %d MiB of incompressible needles, no needle read twice in a slice", b.Bytes>>20)
	s["cache state"] = "the file's pages dropped before each slice of reads (fadvise)"
	s["warm-up"] = "none; files open, extents known after the first round"
	s["raw memory"] = "ordinary pages, as fio has them; results named huge have pages of 2 MiB, as the engine has"
	s["mixes F, G"] = fmt.Sprintf("shares are of requests; a write is %d images of 64 KiB in one Append", mixGroup)
}

func (b *run) add(r ...bench.Result) { b.report.Results = append(b.report.Results, r...) }

func (b *run) contest(arms ...*contest.Arm) *contest.Contest {
	return &contest.Contest{Rounds: b.Rounds, Slice: b.Slice, Arms: arms}
}

// pair adds the results of an engine's arm and its raw side, and returns the
// ratio of the rates.
func (b *run) pair(engine, raw *contest.Arm, unit string, perUnit float64) float64 {
	b.add(engine.Results(unit, perUnit)...)
	b.add(raw.Results(unit, perUnit)...)
	return contest.Ratio(engine.Rates, raw.Rates)
}

// library makes a volume to be read; the caller removes it.
func (b *run) library(ctx context.Context, name string, size library.Sizes) (*library.Library, error) {
	b.Progress("writing a volume for " + name)
	return library.Build(ctx, filepath.Join(b.Dirs[0], name), b.Bytes, size)
}

// reads64 is workload A with 16 readers and with one, the engine's read calls,
// and workloads F and G on the same volume.
func (b *run) reads64(ctx context.Context) (err error) {
	lib, err := b.library(ctx, "read_64k", library.Only(64*kib))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(lib.Dir)) }()
	if err := errors.Join(b.calls(ctx, lib), b.rebuild(ctx, lib.Dir, "")); err != nil {
		return err
	}
	r, err := openReaders(lib, b.align, 1, volume.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if !r.direct {
		b.report.Settings["raw side"] = "NOT DIRECT: this file system does not know O_DIRECT, so the ratios mean nothing"
	}
	if err := b.readPair(ctx, r, "read_64k", readers16); err != nil {
		return err
	}
	if err := b.readLatency(ctx, r); err != nil {
		return err
	}
	if err := b.fio(ctx, r); err != nil {
		return err
	}
	b.verify(ctx, r)
	for _, m := range []struct {
		name   string
		writes int
	}{{"mix_98_2", 2}, {"mix_96_4", 4}} {
		if err := b.mix(ctx, r, m.name, m.writes); err != nil {
			return err
		}
	}
	return errors.Join(b.besideWrites(ctx, r),
		// As a server does it, which sees the reads; and as if it did not.
		b.besideCompaction(ctx, r, "read_p99_beside_compaction", b.Maintenance/server.TrafficShare),
		b.besideCompaction(ctx, r, "read_p99_beside_compaction_full_rate", b.Maintenance))
}

// calls finds out how the engine reads, which the raw side then copies.
func (b *run) calls(ctx context.Context, lib *library.Library) error {
	b.Progress("counting the engine's read calls")
	c, err := countCalls(ctx, lib, b.ReadCount, 2)
	if err != nil {
		return err
	}
	n := float64(c.needles)
	b.add(bench.Result{Name: "preads_per_read", Unit: "1", Value: float64(c.reads) / n, N: c.needles, Errors: c.errors})
	if c.device >= 0 {
		b.add(bench.Result{Name: "device_bytes_per_read_64k", Unit: "B", Value: float64(c.device) / n, N: c.needles})
		// The block device's count has everybody's reads in it; this has not.
		b.report.Ratios["device_bytes_over_extent"] = float64(c.device) / n / c.extent
	}
	if c.blocks >= 0 {
		b.add(bench.Result{Name: "device_reads_per_read", Unit: "1", Value: float64(c.blocks) / n, N: c.needles},
			bench.Result{Name: "device_reads_per_raw_read", Unit: "1", Value: float64(c.control) / n, N: c.needles})
	}
	b.align = c.align
	how := fmt.Sprintf("direct or aligned by itself, to %d bytes", c.align)
	if c.align == 0 {
		b.align = raw.PageSize
		how = fmt.Sprintf("through the page cache, in pages of %d bytes", raw.PageSize)
	}
	b.report.Settings["engine's reads"] = how
	b.report.Settings["raw side"] = fmt.Sprintf("O_DIRECT pread of the same extents, aligned to %d bytes", b.align)
	return c.first
}

// readPair is one read workload: throughput of both sides, and the ratio.
func (b *run) readPair(ctx context.Context, r *readers, name string, clients int) error {
	b.Progress(fmt.Sprintf("%s, %d readers", name, clients))
	suffix := fmt.Sprintf("_r%d", clients)
	engine := r.engine(name+suffix+"_engine", clients)
	raw := r.device(name+suffix+"_raw", clients, r.align)
	huge := r.deviceHuge(name+suffix+"_raw_huge", clients, r.align)
	if err := b.contest(engine, raw, huge).Run(ctx); err != nil {
		return err
	}
	x := b.pair(engine, raw, "1/s", 1)
	b.add(huge.Results("1/s", 1)...)
	b.report.Ratios[name+"_over_huge"+suffix] = contest.Ratio(engine.Rates, huge.Rates)
	b.rawReads = contest.Median(raw.Rates)
	b.report.Ratios[name+"_throughput"+suffix] = x
	extent, payload := r.meanExtent(r.align)
	b.report.Ratios[name+"_payload"+suffix] = x * payload / extent
	b.add(bench.Result{Name: name + suffix + "_raw_extent", Unit: "B", Value: extent, N: len(r.lib.Needles)})
	return nil
}

// readLatency is workload A with one reader: the ratio of the medians.
func (b *run) readLatency(ctx context.Context, r *readers) error {
	b.Progress("read_64k, 1 reader")
	engine, raw := r.engine("read_64k_r1_engine", 1), r.device("read_64k_r1_raw", 1, r.align)
	if err := b.contest(engine, raw).Run(ctx); err != nil {
		return err
	}
	b.report.Ratios["read_64k_throughput_r1"] = b.pair(engine, raw, "1/s", 1)
	b.report.Ratios["read_64k_latency_r1"] = contest.Ratio(engine.P50s, raw.P50s)
	return nil
}

// verify compares every byte of a sample.
func (b *run) verify(ctx context.Context, r *readers) {
	checked, wrong, _ := r.Verify(ctx, r.v, verifySample)
	b.add(bench.Result{Name: "needles_identical", Unit: "1", Value: float64(checked - wrong), N: checked, Errors: wrong})
}

func (b *run) reads200(ctx context.Context) error {
	return b.readOnly(ctx, "read_200k", library.Only(200*kib))
}

// readsMixed is workload B.
func (b *run) readsMixed(ctx context.Context) error {
	return b.readOnly(ctx, "read_8k_64k", mix7030)
}

func (b *run) readOnly(ctx context.Context, name string, size library.Sizes) (err error) {
	lib, err := b.library(ctx, name, size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(lib.Dir)) }()
	r, err := openReaders(lib, b.align, 3, volume.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	return b.readPair(ctx, r, name, readers16)
}

// mix is workload F or G.
func (b *run) mix(ctx context.Context, r *readers, name string, writes int) error {
	b.Progress(name)
	m := &mix{r: r, dir: b.Dirs[0], writes: writes, size: 64 * kib, method: b.best, slice: mixSliceBytes, puts: writes << 20}
	engine, raw := m.engine(name+"_c16_engine", readers16), m.device(name+"_c16_raw", readers16)
	if err := b.contest(engine, raw).Run(ctx); err != nil {
		return err
	}
	b.report.Ratios[name+"_throughput_c16"] = b.pair(engine, raw, "1/s", 1)
	return nil
}

// fio compares the raw side with fio's idea of it.
func (b *run) fio(ctx context.Context, r *readers) error {
	if b.Fio == nil || !r.direct {
		b.report.Settings["fio"] = "not installed"
		return nil
	}
	b.Progress("fio")
	extent, _ := r.meanExtent(r.align)
	length := int64(extent) / r.align * r.align
	raw := r.device("", readers16, r.align)
	var rates, p50s []float64
	for range b.Rounds {
		perSecond, p50, err := fioReads(ctx, b.Fio, r.lib.File, length, r.align, readers16, b.Slice)
		if err != nil {
			b.report.Settings["fio"] = err.Error() // another tool's trouble ends nothing
			return ctx.Err()
		}
		rates, p50s = append(rates, perSecond), append(p50s, p50)
		if err := raw.Measure(ctx, b.Slice); err != nil {
			return err
		}
	}
	b.add(bench.Result{Name: "read_64k_r16_fio", Unit: "1/s", Value: contest.Median(rates), N: len(rates)},
		bench.Result{Name: "read_64k_r16_fio_closed", Unit: "s", Value: contest.Median(p50s), P50: contest.Median(p50s), N: len(p50s)})
	b.report.Ratios["raw_over_fio_r16"] = contest.Ratio(raw.Rates, rates)
	b.report.Settings["fio"] = fmt.Sprintf("psync, 16 threads, extents of %d bytes", length)
	return nil
}
