package ec

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/volume/coding"
	"hayloft/volume/server"
)

// Run measures and returns the report; also, as far as it came, when
// something failed. Failed pieces are counted in the report and make no error
// of their own; whoever prints it looks at Report.Errors.
func Run(ctx context.Context, o Options) (*bench.Report, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("bench ec: %w", err)
	}
	o = o.withDefaults()
	o.Dirs = slices.Clone(o.Dirs)
	b := &run{Options: o, report: &bench.Report{
		Bench: "ec", When: time.Now().UTC(), Machine: bench.ThisMachine(o.Dirs[0]),
		Settings: map[string]string{}, Ratios: map[string]float64{},
	}}
	for i, d := range o.Dirs {
		own, err := os.MkdirTemp(d, "hayloft-bench-ec-")
		if err != nil {
			return nil, fmt.Errorf("bench ec: %w", err)
		}
		defer os.RemoveAll(own) //nolint:errcheck // what is left is named bench
		b.Dirs[i] = own
	}
	if b.Seed == 0 {
		b.Seed = rand.Uint64()>>20 + 1
	}
	b.describe()
	if err := b.all(ctx); err != nil {
		return b.report, fmt.Errorf("bench ec: %w", err)
	}
	b.worst()
	return b.report, nil
}

// run is the state of Run. Dirs are our own directories inside those given.
type run struct {
	Options
	report *bench.Report
	src    *source // what is coded and measured
	small  *source // what is made again beside reads

	rawReads float64 // direct reads of 64 KiB, 16 at once, per second
}

const (
	kib          = 1 << 10
	readers16    = 16
	verifySample = 500
	// mostMoves bounds how often whole volumes are coded or shards made again.
	mostMoves = 3
)

// sizes are those of photos: ten thumbnails, three middle sizes and a large one
// among fourteen needles, 33.7 KiB on average.
func sizes(i int) int {
	switch i % 14 {
	case 0, 5, 10:
		return 64 * kib
	case 7:
		return 200 * kib
	}
	return 8 * kib
}

func (b *run) describe() {
	s := b.report.Settings
	s["durability"] = "shards and raw files synced, read back from the device, then named (default)"
	s["engine"] = "coding, coded volumes and volumes with default options, in the process of the benchmark"
	s["rounds"] = fmt.Sprintf("%d of %v for each side, %d of what moves whole volumes, sides in turn; ratios are medians of the rounds' ratios",
		b.Rounds, b.Slice, b.moves())
	s["data set"] = fmt.Sprintf("one volume of %d MiB of incompressible needles, sealed and compacted: of fourteen, ten of 8 KiB, three of 64, one of 200", b.Bytes>>20)
	s["shards"] = fmt.Sprintf("each in a folder of its own with a copy of the delete log, over %d directories in turn", len(b.Dirs))
	s["cache state"] = "the files' pages dropped before each slice (fadvise); all reads go past the page cache"
	s["warm-up"] = "one coding, of which the raw side's calls are recorded; else none"
	s["raw memory"] = "ordinary pages, as fio has them; results named huge have pages of 2 MiB, as the engine has"
	s["seed"] = fmt.Sprint(b.Seed)
}

func (b *run) moves() int { return min(b.Rounds, mostMoves) }

func (b *run) add(r ...bench.Result) { b.report.Results = append(b.report.Results, r...) }

// contest measures arms and fails if one of them never worked.
func (b *run) contest(ctx context.Context, rounds int, arms ...*contest.Arm) error {
	c := contest.Contest{Rounds: rounds, Slice: b.Slice, Arms: arms}
	if err := c.Run(ctx); err != nil {
		return err
	}
	for _, a := range arms {
		if contest.Median(a.Rates) == 0 {
			return fmt.Errorf("%s: nothing was done: %w", a.Name, a.All.Err())
		}
	}
	return nil
}

// all makes the volumes and measures each policy.
func (b *run) all(ctx context.Context) error {
	b.Progress("writing the volumes")
	var err error
	if b.src, err = makeSource(ctx, filepath.Join(b.Dirs[0], "source"), b.Bytes, sizes); err != nil {
		return err
	}
	if b.small, err = makeSource(ctx, filepath.Join(b.Dirs[0], "small"), b.smallBytes(), library.Only(64*kib)); err != nil {
		return err
	}
	if err := b.rate(ctx); err != nil {
		return err
	}
	for _, p := range b.Policies {
		if err := b.policy(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// policy measures one.
func (b *run) policy(ctx context.Context, p coding.Policy) (err error) {
	if err := b.encodes(ctx, p); err != nil {
		return err
	}
	s, err := b.code(ctx, b.src, p, "shards")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	for _, step := range []func(context.Context, *shards) error{
		b.reads, b.degradedReads, b.stored, b.rebuilds, b.besideRebuild, b.scrub,
	} {
		if err := step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// budget is what a server's rebuild takes beside traffic, in bytes per second read
// and written: a share of the rate of half its disks.
func (b *run) budget() int64 {
	return max(b.Maintenance/server.TrafficShare, 1) * (int64(len(b.Dirs)+1) / 2)
}
