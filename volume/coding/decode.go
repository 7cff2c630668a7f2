package coding

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"hayloft/internal/vfs"
)

// Decode writes the source of a committed epoch to the file name, byte for byte,
// out of any k shards: shards is as for Rebuild. The file gets its name after it
// was read back from the device and has the sum that the shards name. Where there
// is such a file already it is kept; another file of that name is left alone, and
// the error is fs.ErrExist. With too few shards it is a *LostError.
func Decode(ctx context.Context, c Committed, shards []Shard, fsys vfs.FS, name string, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	g, err := newGatherer(c, shards)
	if err != nil {
		return err
	}
	d := &decoder{work: work{Options: o}, gatherer: g, required: make([]bool, c.Shards())}
	for i := range c.Data {
		d.required[i] = true
	}
	g.report, g.throttle = d.work.found, d.work.wait
	if err := d.run(ctx, fsys, name); err != nil {
		return fmt.Errorf("decode volume %d epoch %d: %w", c.Volume, c.Epoch, err)
	}
	return nil
}

// decoder is one call of Decode.
type decoder struct {
	work
	*gatherer
	required []bool
	out      *output
}

func (d *decoder) run(ctx context.Context, fsys vfs.FS, name string) error {
	like, err := d.like(ctx)
	if err != nil {
		return err
	}
	if _, err := fsys.Stat(name); err == nil {
		if err := d.compare(ctx, fsys, name, like.SourceSum); err != nil {
			return fmt.Errorf("%w: %s: %w", fs.ErrExist, name, err)
		}
		return fsys.SyncDir(filepath.Dir(name))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if d.out, err = newOutput(fsys, name, d.c.ShardBytes()*int64(d.c.Data)); err != nil {
		return err
	}
	err = d.payload(ctx)
	if err == nil {
		err = d.out.lock.Truncate(d.c.SourceBytes)
	}
	if err == nil {
		err = d.out.sync()
	}
	if err == nil {
		err = d.compare(ctx, fsys, name+tmpExt, like.SourceSum)
	}
	if err == nil {
		err = d.out.publish()
	}
	if err = errors.Join(err, d.out.abandon()); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func (d *decoder) payload(ctx context.Context) error {
	d.begin(StepDecode, d.c.ShardBytes())
	s := d.c.ShardBytes()
	p := &pass{shards: d.c.Shards(), column: d.column(d.c.Shards()), total: s}
	p.fill = func(ctx context.Context, s *stripe) error { return d.fetch(ctx, s, d.required) }
	p.compute = func(s *stripe) error { return d.compute(s.cols, d.required, s.use) }
	p.drain = func(ctx context.Context, st *stripe) error {
		d.advance(st.n)
		return each(ctx, d.c.Data, func(ctx context.Context, i int) error {
			if err := d.wait(ctx, st.n); err != nil {
				return err
			}
			return d.out.write(st.cols[i], int64(i)*s+st.off)
		})
	}
	return p.run(ctx)
}

// compare compares a file, as the device holds it, with the sum of the source.
func (d *decoder) compare(ctx context.Context, fsys vfs.FS, name string, want [32]byte) error {
	dev, err := openDevice(fsys, name)
	if err != nil {
		return err
	}
	size, err := dev.f.Size()
	if err == nil && size != d.c.SourceBytes {
		err = corrupt("file of %d bytes, the source had %d", size, d.c.SourceBytes)
	}
	var sum [32]byte
	if err == nil {
		sum, err = d.sum(ctx, dev)
	}
	if err = errors.Join(err, dev.close()); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if sum != want {
		return corrupt("file with sum %x, the source had %x", sum, want)
	}
	return nil
}

func (d *decoder) sum(ctx context.Context, dev *device) ([32]byte, error) {
	d.begin(StepVerify, d.c.SourceBytes)
	total := d.c.ShardBytes() * int64(d.c.Data)
	raw := make([]uint32, total/BlockSize)
	lease := buffers.Get(maxColumn)
	defer lease.Release()
	buf := lease.Bytes()
	for at := int64(0); at < total; at += maxColumn {
		b := buf[:min(maxColumn, total-at)]
		if err := d.wait(ctx, int64(len(b))); err != nil {
			return [32]byte{}, err
		}
		n, err := readSource(dev, b, at, d.c.SourceBytes)
		if err != nil {
			return [32]byte{}, err
		}
		sumColumn(raw, b, at)
		d.advance(n)
	}
	return sourceSum([][]uint32{raw}), nil
}
