package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// sealed measures the index of a sealed volume: all that it takes of memory,
// and how many reads a needle costs, as it was sealed and after a compaction.
type sealed struct {
	dir     string
	photos  int // each is a group
	largest []int

	// One for each state: as it was sealed, compacted.
	states [2]sealedState
}

// sealedState is what was measured of one file.
type sealedState struct {
	memory float64 // bytes per needle: heap after GC, mapped, and index pages in the page cache
	file   float64 // bytes of the index file per needle
	reads  float64 // read calls per needle
	n      int     // needles read
	errors int
}

// Record sizes of a photo's variants differ by a factor of 20, and take as many
// bits as images of up to 128 KiB do. Most needles are small all the same, or
// the volume would be too large for a measurement.
var (
	groupSizes = []int{6 * kib, 20 * kib, 64 * kib, 128 * kib}
	loneSizes  = []int{128 * kib}
)

// sealedSize is the size of one variant: one in sixteen is anything up to the
// largest, the others are small.
func sealedSize(photo, alt, largest int) int {
	rng := rand.New(rand.NewPCG(uint64(photo), uint64(alt)))
	if rng.IntN(16) == 0 {
		return 16 + rng.IntN(largest-16)
	}
	return 16 + rng.IntN(largest/64)
}

func (s *sealed) run(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	v, err := volume.Create(s.dir, library.Ident, volume.Options{})
	if err != nil {
		return err
	}
	if err := errors.Join(s.fill(ctx, v), v.Close()); err != nil {
		return err
	}
	if err := library.Seal(ctx, s.dir); err != nil {
		return err
	}
	if err := s.measure(ctx, &s.states[0], 1); err != nil {
		return err
	}
	if err := library.Compact(ctx, s.dir); err != nil {
		return err
	}
	return s.measure(ctx, &s.states[1], 2)
}

// fill appends one photo after another from sixteen clients, so that the file
// has them about in the order of their keys, as a server's has.
func (s *sealed) fill(ctx context.Context, v *volume.Volume) error {
	return contest.InParallel(ctx, readers16, s.photos, func(_, i int) error {
		group := make([]volume.Needle, len(s.largest))
		for alt, largest := range s.largest {
			key := photoKey(i)
			data := bytes.Clone(library.Noise[:sealedSize(i, alt, largest)])
			library.Stamp(data, key)
			group[alt] = volume.Needle{Key: key, Alt: uint8(alt), Cookie: library.CookieOf(key), Data: data}
		}
		return v.Append(ctx, group)
	})
}

// measure opens the volume anew and reads every needle once.
func (s *sealed) measure(ctx context.Context, st *sealedState, generation uint32) error {
	if err := raw.Evict(s.dir); err != nil {
		return err
	}
	var reads, failed atomic.Int64
	hook := &vfs.Fault{FS: vfs.OS{}, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead {
			reads.Add(1)
		}
		return vfs.Outcome{}
	}}
	v, err := volume.Open(s.dir, library.ID, volume.Options{FS: hook})
	if err != nil {
		return err
	}
	reads.Store(0)
	alts := len(s.largest)
	st.n = s.photos * alts
	err = contest.InParallel(ctx, readers16, st.n, func(_, i int) error {
		photo, alt := i/alts, i%alts
		n := library.Needle{Key: photoKey(photo), Size: sealedSize(photo, alt, s.largest[alt])}
		b, err := v.Read(ctx, n.Key, uint8(alt), library.CookieOf(n.Key))
		if err == nil {
			err = library.CheckFast(&n, b)
			b.Release()
		}
		if err != nil {
			failed.Add(1)
		}
		return ctx.Err()
	})
	st.reads, st.errors = float64(reads.Load())/float64(st.n), int(failed.Load())
	index := filepath.Join(s.dir, volume.IndexName(library.ID, generation))
	pages, cerr := cached(index)
	used, herr := held(v)
	if err := errors.Join(err, cerr, herr); err != nil {
		return err
	}
	st.memory = float64(used+pages) / float64(st.n)
	info, err := os.Stat(index)
	if err == nil {
		st.file = float64(info.Size()) / float64(st.n)
	}
	return err
}

// sealedIndexes measures groups and lone needles.
func (b *run) sealedIndexes(ctx context.Context) error {
	for _, kind := range []struct {
		name  string
		sizes []int
	}{{"group", groupSizes}, {"lone", loneSizes}} {
		b.Progress("sealed index, " + kind.name)
		s := &sealed{dir: filepath.Join(b.Dirs[0], "sealed"), photos: b.Sealed / len(kind.sizes), largest: kind.sizes}
		if err := errors.Join(s.run(ctx), os.RemoveAll(s.dir)); err != nil {
			return err
		}
		name := "_sealed_" + kind.name
		worst := max(s.states[0].memory, s.states[1].memory)
		b.add(bench.Result{Name: "index_bytes_per_needle" + name, Unit: "B", Value: worst, N: s.states[0].n})
		for i, state := range []string{"_in_place", "_compacted"} {
			st := &s.states[i]
			b.add(bench.Result{Name: "index_bytes_per_needle" + name + state, Unit: "B", Value: st.memory, N: st.n, Errors: st.errors},
				bench.Result{Name: "index_file_bytes_per_needle" + name + state, Unit: "B", Value: st.file, N: st.n},
				bench.Result{Name: "preads_per_read" + name + state, Unit: "1", Value: st.reads, N: st.n})
		}
	}
	b.report.Settings["sealed index"] = fmt.Sprintf(
		"%d needles, ids of eight slots at twenty photos a second, record sizes spread up to 128 KiB; bytes are the heap after a collection, what is mapped, and pages of the index file in the page cache, after every needle was read once; the figure is the worse of sealed in place and compacted",
		b.Sealed)
	return nil
}
