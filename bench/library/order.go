package library

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"hayloft/bench/contest"
	"hayloft/bench/raw"
	"hayloft/volume"
)

// Order is in which order the needles are read.
type Order struct {
	Lib  *Library
	Dirs []string // whose pages are dropped before each slice
	Perm []int    // each slice takes a stretch of it
	at   int
}

// NewOrder leaves the last needle out: its pages may end behind the file.
func NewOrder(lib *Library, seed uint64) *Order {
	return &Order{Lib: lib, Dirs: []string{lib.Dir}, Perm: rand.New(rand.NewPCG(seed, 1)).Perm(len(lib.Needles) - 1)}
}

// Fresh makes every page cold and returns needles in random order, each once.
// Over the slices all of the file gets its turn.
func (o *Order) Fresh() ([]int, error) {
	for _, dir := range o.Dirs {
		if err := raw.Evict(dir); err != nil {
			return nil, err
		}
	}
	out := append(append(make([]int, 0, len(o.Perm)), o.Perm[o.at:]...), o.Perm[:o.at]...)
	o.at = (o.at + len(o.Perm)/3 + 1) % len(o.Perm)
	return out, nil
}

// MaxExtent is what the extent around any needle takes at most.
const MaxExtent = maxNeedle + 2*raw.PageSize

// ReadExtent reads the aligned extent around a needle.
func ReadExtent(f *os.File, buf []byte, n *Needle, align int64) error {
	e := raw.Cover(n.Off, n.Span, align)
	got, err := f.ReadAt(buf[:e.Len], e.Off)
	if got < e.Len && err != nil {
		return fmt.Errorf("read of %d bytes at %d: %w", e.Len, e.Off, err)
	}
	return nil
}

// Engine is reading through an open volume of the library.
func (o *Order) Engine(name string, clients int, v *volume.Volume) *contest.Arm {
	return &contest.Arm{Name: name, Clients: clients, Start: func(context.Context) (contest.Job, error) {
		order, err := o.Fresh()
		return contest.Job{Limit: len(order), Do: func(ctx context.Context, _, i int) (float64, error) {
			return 1, Read(ctx, v, &o.Lib.Needles[order[i]])
		}}, err
	}}
}

// Device is reading the same extents from the device, into memory of each client
// that has room for any needle and two pages; nil is ordinary memory.
func (o *Order) Device(name string, clients int, f *os.File, align int64, memory [][]byte) *contest.Arm {
	return &contest.Arm{Name: name, Clients: clients, Start: func(context.Context) (contest.Job, error) {
		order, err := o.Fresh()
		bufs, free := memory, func() {}
		if err == nil && memory == nil {
			bufs, free, err = raw.ClientBufs(clients, MaxExtent)
		}
		return contest.Job{Limit: len(order), Do: func(_ context.Context, client, i int) (float64, error) {
			return 1, ReadExtent(f, bufs[client], &o.Lib.Needles[order[i]], align)
		}, Stop: func() error { free(); return nil }}, err
	}}
}

// Read reads a needle and compares what CheckFast does.
func Read(ctx context.Context, v *volume.Volume, n *Needle) error {
	b, err := v.Read(ctx, n.Key, 0, CookieOf(n.Key))
	if err != nil {
		return err
	}
	defer b.Release()
	return CheckFast(n, b)
}

// Verify reads a sample through the engine and compares every byte. It returns
// how many were wrong.
func (o *Order) Verify(ctx context.Context, v *volume.Volume, sample int) (checked, wrong int, first error) {
	scratch := make([]byte, len(Noise))
	for _, i := range o.Perm[:min(sample, len(o.Perm))] {
		n := &o.Lib.Needles[i]
		b, err := v.Read(ctx, n.Key, 0, CookieOf(n.Key))
		if err == nil {
			err = CheckAll(n, b, scratch)
			b.Release()
		}
		if err != nil {
			wrong++
			first = errors.Join(first, err)
			if ctx.Err() != nil {
				break
			}
		}
		checked++
	}
	return checked, wrong, first
}
