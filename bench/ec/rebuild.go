package ec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/raw"
	"hayloft/internal/vfs"
	"hayloft/volume/coding"
	"hayloft/volume/server"
)

// rebuilds measures making one shard again, and m.
func (b *run) rebuilds(ctx context.Context, s *shards) error {
	counts := []int{1, s.c.Parity}
	for _, n := range slices.Compact(counts) {
		b.Progress(fmt.Sprintf("rebuild of %d shards of %s", n, s.c.Policy))
		var took, rates, reads []float64
		for range b.moves() {
			seconds, read, err := s.rebuild(ctx, n, nil)
			if err != nil {
				return err
			}
			file := float64(s.c.FileBytes())
			took, rates, reads = append(took, seconds), append(rates, float64(n)*file/seconds), append(reads, float64(read)/file)
		}
		at := fmt.Sprintf("_of_%d%s", n, suffix(s.c.Policy))
		b.add(bench.Result{Name: "rebuild_seconds" + at, Unit: "s", Value: contest.Median(took), N: len(took)},
			bench.Result{Name: "rebuild_bytes_per_s" + at, Unit: "B/s", Value: contest.Median(rates), N: len(rates)})
		b.report.Ratios["rebuild_read_over_shard"+at] = slices.Max(reads)
	}
	b.report.Settings["rebuild"] = "shards 0 to n-1, which are data; bytes per second of shards made; read_over_shard is what was read of the others, in shard files"
	return nil
}

// rebuild removes the first n shards and makes them again. It returns how long that
// took, in seconds, and how many bytes of other shards were read. That they are what
// they were, as the device holds them, is what Rebuild itself verifies.
func (s *shards) rebuild(ctx context.Context, n int, throttle func(context.Context, int64) error) (seconds float64, read int64, err error) {
	var lost []coding.Lost
	var away []int
	for i := range n {
		if err := os.Remove(s.path(i)); err != nil {
			return 0, 0, err
		}
		away = append(away, i)
		lost = append(lost, coding.Lost{Shard: i, Home: coding.Home{FS: vfs.OS{}, Dir: s.dir[i]}})
	}
	if err := s.evict(); err != nil {
		return 0, 0, err
	}
	seen := raw.NewRecorder()
	files, err := s.files(seen, away...)
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	o := coding.Options{Throttle: throttle}
	if throttle != nil {
		o.StripeBytes = server.CodingStripe // as a server does it
	}
	err = coding.Rebuild(ctx, s.c, files, lost, o)
	seconds = time.Since(begin).Seconds()
	for _, op := range seen.Ops {
		if op.Kind == vfs.OpRead {
			read += op.Len
		}
	}
	return seconds, read, errors.Join(err, closeFiles(files))
}
