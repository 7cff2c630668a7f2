package ec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hayloft/bench"
)

// stored measures what shards and delete logs take on the disk, over the bytes of
// what lives in them. One needle is deleted first, so that every log has the room
// that a log in use has.
func (b *run) stored(ctx context.Context, s *shards) error {
	v, err := s.serve(ctx)
	if err != nil {
		return err
	}
	last := &b.src.Needles[len(b.src.Needles)-1]
	if err := errors.Join(v.Engine().Delete(ctx, last.Key), v.Close()); err != nil {
		return err
	}
	allocated, sizes := int64(0), int64(0)
	for _, dir := range s.dir {
		a, n, err := usage(dir)
		if err != nil {
			return err
		}
		allocated, sizes = allocated+a, sizes+n
	}
	live := b.src.rec.DataBytes - int64(last.Size)
	p, at := s.c.Policy, suffix(s.c.Policy)
	b.add(bench.Result{Name: "stored_bytes" + at, Unit: "B", Value: float64(allocated), N: s.c.Shards()},
		bench.Result{Name: "stored_file_bytes" + at, Unit: "B", Value: float64(sizes), N: s.c.Shards()},
		bench.Result{Name: "live_bytes" + at, Unit: "B", Value: float64(live), N: len(b.src.Needles) - 1})
	x := float64(allocated) / float64(live)
	b.report.Ratios["stored_over_live"+at] = x
	b.report.Ratios["stored_over_policy"+at] = x * float64(p.Data) / float64(p.Shards())
	b.report.Settings["stored"+at] = fmt.Sprintf("allocated blocks of %d shards and %d delete logs, over the data of %d needles of %.1f KiB on average",
		p.Shards(), len(s.dir), len(b.src.Needles)-1, float64(live)/float64(len(b.src.Needles)-1)/kib)
	return nil
}

// usage is what the files in dir take on the disk, and their sizes, in bytes.
func usage(dir string) (allocated, size int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, e := range entries {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, e.Name()), &st); err != nil {
			return 0, 0, err
		}
		allocated, size = allocated+st.Blocks*512, size+st.Size
	}
	return allocated, size, nil
}
