package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"

	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

const (
	// headerBytes is what a record of up to 128 KiB is longer than its data
	// (docs/format.md).
	headerBytes = 64
	blockCRC    = 4 // bytes of a larger needle's table per 64 KiB
)

// recordBytes is the length of a needle's record.
func recordBytes(size int) int64 {
	n := int64(size) + headerBytes
	if size > 128*kib {
		n += int64(size+volume.BlockSize-1) / volume.BlockSize * blockCRC
	}
	return (n + 7) / 8 * 8
}

// writing is one kind of write: groups of needles of one size.
type writing struct {
	dir     string // an empty place of its own
	size    int
	group   int
	clients int
	slice   int64 // bytes that a slice writes at most

	key func(i int) id.ID // nil is library.KeyOf
}

// engine appends to a fresh volume in each slice. The weight of a call is the
// bytes of its records.
func (w writing) engine(name string, fsys vfs.FS) *contest.Arm {
	return &contest.Arm{Name: name, Clients: w.clients, Start: func(context.Context) (contest.Job, error) {
		dir := filepath.Join(w.dir, "engine")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return contest.Job{}, err
		}
		v, err := volume.Create(dir, library.Ident, volume.Options{FS: fsys})
		if err != nil {
			return contest.Job{}, err
		}
		bufs := make([][][]byte, w.clients)
		for c := range bufs {
			for range w.group {
				bufs[c] = append(bufs[c], bytes.Clone(library.Noise[:w.size]))
			}
		}
		weight := float64(int64(w.group) * recordBytes(w.size))
		return contest.Job{Limit: max(1, int(float64(w.slice)/weight)), Do: func(ctx context.Context, client, i int) (float64, error) {
			return weight, w.put(ctx, v, bufs[client], i)
		}, Stop: func() error { return w.finish(dir, v) }}, nil
	}}
}

// put appends the i-th group.
func (w writing) put(ctx context.Context, v *volume.Volume, bufs [][]byte, i int) error {
	group := make([]volume.Needle, w.group)
	keyOf := library.KeyOf
	if w.key != nil {
		keyOf = w.key
	}
	for g := range group {
		key := keyOf(i*w.group + g)
		library.Stamp(bufs[g], key)
		group[g] = volume.Needle{Key: key, Cookie: library.CookieOf(key), Data: bufs[g]}
	}
	return v.Append(ctx, group)
}

// finish closes and removes the volume. That it took what it acknowledged is
// what its counters say; that it can be read, the read workloads.
func (w writing) finish(dir string, v *volume.Volume) error {
	poisoned := v.Stats().Poisoned
	return errors.Join(poisoned, v.Close(), os.RemoveAll(dir))
}

// batchSizes records how many bytes of the volume the engine wrote from one
// sync to the next, in order, in a slice that is not measured.
func (w writing) batchSizes(ctx context.Context, c contest.Contest) ([]int, error) {
	var mu sync.Mutex // guards sizes and sum
	var sizes []int
	sum := int64(0)
	hook := &vfs.Fault{FS: vfs.OS{}, Before: func(op vfs.Op) vfs.Outcome {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case filepath.Base(op.Name) != volume.FileName(library.ID, 1):
		case op.Kind == vfs.OpWrite:
			sum += op.Len
		case op.Kind == vfs.OpSync:
			if sum >= recordBytes(w.size) { // else a mark, or a superblock
				sizes = append(sizes, int(sum))
			}
			sum = 0
		}
		return vfs.Outcome{}
	}}
	a := w.engine("the engine's batch sizes", hook)
	c.Rounds, c.Arms = 1, []*contest.Arm{a}
	if err := errors.Join(c.Run(ctx), a.All.Err()); err != nil {
		return nil, err
	}
	if len(sizes) == 0 {
		return nil, errors.New("the engine wrote nothing")
	}
	return sizes, nil
}

// device appends batches of the recorded sizes, one after another as the
// engine's writer does, with one method. Room for the slice is made ahead. What
// counts is whole records, as for the engine, and not what a batch is padded by.
func (w writing) device(name string, m method, sizes []int) *contest.Arm {
	return &contest.Arm{Name: name, Clients: 1, Start: func(context.Context) (contest.Job, error) {
		limit, total := 0, int64(0)
		for total < w.slice {
			total += raw.Cover(0, int64(sizes[limit%len(sizes)]), raw.PageSize).End()
			limit++
		}
		longest := 0
		for _, s := range sizes {
			longest = max(longest, s)
		}
		buf, free, err := batchBuf(m, longest+raw.PageSize)
		if err != nil {
			return contest.Job{}, err
		}
		for at := 0; at < len(buf); {
			at += copy(buf[at:], library.Noise)
		}
		l, err := newLog(filepath.Join(w.dir, "raw.log"), m, total, 16<<20)
		if err != nil {
			free()
			return contest.Job{}, err
		}
		return contest.Job{Limit: limit, Do: func(_ context.Context, _, i int) (float64, error) {
			n := sizes[i%len(sizes)]
			return float64(int64(n) / recordBytes(w.size) * recordBytes(w.size)), l.append(buf, n)
		}, Stop: func() error { free(); return l.close() }}, nil
	}}
}

// batchBuf is the memory that a method writes from.
func batchBuf(m method, n int) (buf []byte, free func(), err error) {
	if m.huge {
		return raw.HugeBufs(1, n)[0], func() {}, nil
	}
	buf, err = raw.AlignedBuf(n)
	return buf, func() { raw.FreeBuf(buf) }, err
}

// describe says how the batches were.
func describe(sizes []int, record int64) string {
	sum, least, most := 0.0, math.MaxInt, 0
	for _, s := range sizes {
		sum += float64(s)
		least, most = min(least, s), max(most, s)
	}
	mean := sum / float64(len(sizes)) / float64(record)
	return fmt.Sprintf("%.1f images on average, %d to %d", mean, int64(least)/record, int64(most)/record)
}
