package disk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// readers is one library open on both sides.
type readers struct {
	lib    *library
	v      *volume.Volume
	raw    *os.File
	direct bool
	align  int64
	*order
}

// order is in which order the needles are read.
type order struct {
	lib  *library
	perm []int // each slice takes a stretch of it
	at   int
}

// newOrder leaves the last needle out: its pages may end behind the file.
func newOrder(lib *library, seed uint64) *order {
	return &order{lib: lib, perm: rand.New(rand.NewPCG(seed, 1)).Perm(len(lib.needles) - 1)}
}

// fresh makes every page cold and returns needles in random order, each once.
// Over the slices all of the file gets its turn.
func (o *order) fresh() ([]int, error) {
	if err := evict(o.lib.dir); err != nil {
		return nil, err
	}
	out := append(append(make([]int, 0, len(o.perm)), o.perm[o.at:]...), o.perm[:o.at]...)
	o.at = (o.at + len(o.perm)/3 + 1) % len(o.perm)
	return out, nil
}

// openReaders opens the volume, and its file for direct reads. align is the
// alignment of the engine's own reads.
func openReaders(lib *library, align int64, seed uint64, o volume.Options) (*readers, error) {
	r := &readers{lib: lib, align: align, order: newOrder(lib, seed)}
	var err error
	if r.raw, r.direct, err = openDirect(lib.file, os.O_RDONLY); err != nil {
		return nil, err
	}
	if !r.direct {
		r.align = 1
	}
	if r.v, err = volume.Open(lib.dir, benchID, o); err != nil {
		return nil, errors.Join(err, r.raw.Close())
	}
	return r, nil
}

func (r *readers) close() error { return errors.Join(r.v.Close(), r.raw.Close()) }

// engine reads through the volume.
func (r *readers) engine(name string, clients int) *arm {
	return &arm{name: name, clients: clients, start: func(context.Context) (job, error) {
		order, err := r.fresh()
		return job{limit: len(order), do: func(ctx context.Context, _, i int) (float64, error) {
			return 1, r.read(ctx, &r.lib.needles[order[i]])
		}}, err
	}}
}

func (r *readers) read(ctx context.Context, n *needle) error {
	b, err := r.v.Read(ctx, n.key, 0, cookieOf(n.key))
	if err != nil {
		return err
	}
	defer b.Release()
	return checkFast(n, b)
}

// device reads the same extents from the device.
func (r *readers) device(name string, clients int, align int64) *arm {
	return &arm{name: name, clients: clients, start: func(context.Context) (job, error) {
		order, err := r.fresh()
		if err != nil {
			return job{}, err
		}
		bufs, free, err := clientBufs(clients, len(noise)+2*pageSize)
		return job{limit: len(order), do: func(_ context.Context, client, i int) (float64, error) {
			return 1, r.readDirect(bufs[client], &r.lib.needles[order[i]], align)
		}, stop: func() error { free(); return nil }}, err
	}}
}

// deviceHuge is device with the memory of the engine's kind.
func (r *readers) deviceHuge(name string, clients int, align int64) *arm {
	bufs := hugeBufs(clients, len(noise)+2*pageSize)
	return &arm{name: name, clients: clients, start: func(context.Context) (job, error) {
		order, err := r.fresh()
		return job{limit: len(order), do: func(_ context.Context, client, i int) (float64, error) {
			return 1, r.readDirect(bufs[client], &r.lib.needles[order[i]], align)
		}}, err
	}}
}

func (r *readers) readDirect(buf []byte, n *needle, align int64) error {
	return readExtent(r.raw, buf, n, align)
}

func readExtent(f *os.File, buf []byte, n *needle, align int64) error {
	e := cover(n.off, n.span, align)
	got, err := f.ReadAt(buf[:e.len], e.off)
	if got < e.len && err != nil {
		return fmt.Errorf("read of %d bytes at %d: %w", e.len, e.off, err)
	}
	return nil
}

// meanExtent is the mean length of the aligned extents, in bytes, and mean
// payload.
func (r *readers) meanExtent(align int64) (extent, payload float64) {
	for i := range r.lib.needles {
		n := &r.lib.needles[i]
		extent += float64(cover(n.off, n.span, align).len)
		payload += float64(n.size)
	}
	c := float64(len(r.lib.needles))
	return extent / c, payload / c
}

// verify reads a sample through the engine and compares every byte. It returns
// how many were wrong.
func (r *readers) verify(ctx context.Context, sample int) (checked, wrong int, first error) {
	scratch := make([]byte, len(noise))
	for _, i := range r.perm[:min(sample, len(r.perm))] {
		n := &r.lib.needles[i]
		b, err := r.v.Read(ctx, n.key, 0, cookieOf(n.key))
		if err == nil {
			err = checkAll(n, b, scratch)
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
func countCalls(ctx context.Context, lib *library, count int, seed uint64) (c calls, err error) {
	var reads, bits atomic.Int64
	hook := &vfs.Fault{FS: vfs.OS{}, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead {
			reads.Add(1)
			bits.Or(op.Off | op.Len)
		}
		return vfs.Outcome{}
	}}
	r, err := openReaders(lib, pageSize, seed, volume.Options{FS: hook})
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	order, err := r.fresh()
	if err != nil {
		return c, err
	}
	order = order[:min(count, len(order))]
	reads.Store(0)
	bits.Store(0)
	c.needles, c.device = len(order), -1
	before, known := deviceBytes()
	c.blocks = overBlocks(lib.dir, func() {
		for _, i := range order {
			if err := r.read(ctx, &lib.needles[i]); err != nil {
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
	for a := int64(512); a <= pageSize; a *= 2 {
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
	buf, err := alignedBuf(len(noise) + 2*pageSize)
	if err != nil {
		return 0, err
	}
	defer freeBuf(buf)
	n = overBlocks(r.lib.dir, func() {
		for _, i := range order {
			if e := r.readDirect(buf, &r.lib.needles[i], r.align); err == nil {
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
