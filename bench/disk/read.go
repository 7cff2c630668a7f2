package disk

import (
	"context"
	"errors"
	"os"
	"sync/atomic"

	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// readers is one library open on both sides.
type readers struct {
	lib    *library.Library
	v      *volume.Volume
	raw    *os.File
	direct bool
	align  int64
	*library.Order
}

// openReaders opens the volume, and its file for direct reads. align is the
// alignment of the engine's own reads.
func openReaders(lib *library.Library, align int64, seed uint64, o volume.Options) (*readers, error) {
	r := &readers{lib: lib, align: align, Order: library.NewOrder(lib, seed)}
	var err error
	if r.raw, r.direct, err = raw.OpenDirect(lib.File, os.O_RDONLY); err != nil {
		return nil, err
	}
	if !r.direct {
		r.align = 1
	}
	if r.v, err = volume.Open(lib.Dir, library.ID, o); err != nil {
		return nil, errors.Join(err, r.raw.Close())
	}
	return r, nil
}

func (r *readers) close() error { return errors.Join(r.v.Close(), r.raw.Close()) }

// engine reads through the volume.
func (r *readers) engine(name string, clients int) *contest.Arm { return r.Engine(name, clients, r.v) }

func (r *readers) read(ctx context.Context, n *library.Needle) error {
	return library.Read(ctx, r.v, n)
}

// device reads the same extents from the device.
func (r *readers) device(name string, clients int, align int64) *contest.Arm {
	return r.Device(name, clients, r.raw, align, nil)
}

// deviceHuge is device with the memory of the engine's kind.
func (r *readers) deviceHuge(name string, clients int, align int64) *contest.Arm {
	return r.Device(name, clients, r.raw, align, raw.HugeBufs(clients, library.MaxExtent))
}

func (r *readers) readDirect(buf []byte, n *library.Needle, align int64) error {
	return library.ReadExtent(r.raw, buf, n, align)
}

// meanExtent is the mean length of the aligned extents, in bytes, and mean
// payload.
func (r *readers) meanExtent(align int64) (extent, payload float64) {
	for i := range r.lib.Needles {
		n := &r.lib.Needles[i]
		extent += float64(raw.Cover(n.Off, n.Span, align).Len)
		payload += float64(n.Size)
	}
	c := float64(len(r.lib.Needles))
	return extent / c, payload / c
}

// calls is how the engine asks its files.
type calls struct {
	needles int
	reads   int64   // calls
	align   int64   // the largest power of two, 512 to 4096, that divides every offset and length; 0: none does
	device  int64   // bytes the device delivered; -1: not known
	blocks  int64   // reads that the block device completed, for whomever; -1: not known
	control int64   // the same over as many direct reads: one each, and what others add
	extent  float64 // mean bytes of the extents, aligned as the engine aligns them
	errors  int
	first   error
}

// countCalls reads cold needles one by one with a file system that counts.
func countCalls(ctx context.Context, lib *library.Library, count int, seed uint64) (c calls, err error) {
	var reads, bits atomic.Int64
	hook := &vfs.Fault{FS: vfs.OS{}, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead {
			reads.Add(1)
			bits.Or(op.Off | op.Len)
		}
		return vfs.Outcome{}
	}}
	r, err := openReaders(lib, raw.PageSize, seed, volume.Options{FS: hook})
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	order, err := r.Fresh()
	if err != nil {
		return c, err
	}
	order = order[:min(count, len(order))]
	reads.Store(0)
	bits.Store(0)
	c.needles, c.device = len(order), -1
	before, known := deviceBytes()
	c.blocks = overBlocks(lib.Dir, func() {
		for _, i := range order {
			if err := r.read(ctx, &lib.Needles[i]); err != nil {
				c.errors++
				c.first = errors.Join(c.first, err)
			}
			if ctx.Err() != nil {
				return
			}
		}
	})
	c.reads = reads.Load()
	if after, ok := deviceBytes(); known && ok {
		c.device = after - before
	}
	for a := int64(512); a <= raw.PageSize; a *= 2 {
		if c.reads > 0 && bits.Load()%a == 0 {
			c.align = a
		}
	}
	if c.align != 0 {
		r.align = c.align
	}
	c.extent, _ = r.meanExtent(r.align)
	c.control, err = r.control(order)
	return c, errors.Join(err, ctx.Err())
}

// control counts the block device's reads over as many direct reads.
func (r *readers) control(order []int) (n int64, err error) {
	buf, err := raw.AlignedBuf(library.MaxExtent)
	if err != nil {
		return 0, err
	}
	defer raw.FreeBuf(buf)
	n = overBlocks(r.lib.Dir, func() {
		for _, i := range order {
			if e := r.readDirect(buf, &r.lib.Needles[i], r.align); err == nil {
				err = e
			}
		}
	})
	return n, err
}

// overBlocks is how many reads the block device under dir completes during fn;
// -1 when there is none.
func overBlocks(dir string, fn func()) int64 {
	before, known := blockReads(dir)
	fn()
	after, ok := blockReads(dir)
	if !known || !ok {
		return -1
	}
	return after - before
}
