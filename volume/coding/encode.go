package coding

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/sync/errgroup"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// Source is the compacted file of a sealed volume.
type Source struct {
	FS   vfs.FS
	Name string
	// Index is its sealed index as on disk, verified.
	Index []byte
}

// Encode makes the shards of a plan and returns their digests, for the
// directory to commit. homes says where each of them shall live. It only returns
// nil after all of them were read back from the device. Called again with the
// same plan it keeps what is whole and makes the rest; the source must not have
// changed. It never replaces a file of another run: that is ErrForeign.
func Encode(ctx context.Context, p Plan, src Source, homes []Home, o Options) ([]Digest, error) {
	if err := errors.Join(p.Validate(), o.Validate()); err != nil {
		return nil, err
	}
	if len(homes) != p.Shards() || int64(len(src.Index)) != p.IndexBytes {
		return nil, fmt.Errorf("%w: %d homes for %s, index of %d bytes for %d", volume.ErrInvalid, len(homes), p.Policy, len(src.Index), p.IndexBytes)
	}
	e := &encoder{work: work{Options: o}, plan: p, src: src, homes: homes,
		targets: make([]*target, p.Shards()), kept: make([]*inspected, p.Shards()), raw: make([][]uint32, p.Shards())}
	err := e.run(ctx)
	for _, t := range e.targets {
		if t != nil {
			// What is left of a run that failed is removed by the next one, if not now.
			err = errors.Join(err, t.abandon())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("encode volume %d to epoch %d: %w", p.Volume, p.Epoch, err)
	}
	digests := make([]Digest, p.Shards())
	for i := range digests {
		if e.kept[i] != nil {
			digests[i] = e.kept[i].head.Digest
		} else {
			digests[i] = e.targets[i].head.Digest
		}
	}
	return digests, nil
}

// encoder is one call of Encode. Of each shard there is either what an earlier
// call made, or a target.
type encoder struct {
	work
	plan    Plan
	src     Source
	homes   []Home
	kept    []*inspected
	targets []*target
	raw     [][]uint32 // raw sums of the payloads
}

func (e *encoder) run(ctx context.Context) error {
	for i := range e.homes {
		var err error
		if e.kept[i], err = adopt(ctx, &e.work, e.homes[i], e.plan, i); err != nil {
			return err
		}
	}
	dev, err := openDevice(e.src.FS, e.src.Name)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	err = e.write(ctx, dev)
	if err = errors.Join(err, dev.close()); err != nil {
		return err
	}
	if err := e.readBack(ctx); err != nil {
		return err
	}
	for _, t := range e.targets {
		if t != nil {
			if err := t.publish(); err != nil {
				return err
			}
		}
	}
	// Also when nothing had to be made: who gave the names may have been killed
	// before this.
	return syncHomes(e.homes)
}

// syncHomes makes names durable.
func syncHomes(homes []Home) error {
	for _, h := range homes {
		if err := h.FS.SyncDir(h.Dir); err != nil {
			return fmt.Errorf("sync directory %s: %w", h.Dir, err)
		}
	}
	return nil
}

// adopt returns the shard that an earlier call of the same run has left, if it
// is whole, or nil.
func adopt(ctx context.Context, w *work, home Home, p Plan, i int) (*inspected, error) {
	name := home.path(p, i)
	if _, err := home.FS.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	w.begin(StepVerify, p.ShardBytes())
	damaged := false
	got, err := inspect(ctx, w, home.FS, name, inspection{plan: p, shard: i, found: func(Finding) { damaged = true }})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, ErrForeign) || errors.Is(err, volume.ErrUnsupported) || errors.Is(err, errStopped):
		return nil, fmt.Errorf("%s: %w", name, err)
	case err != nil || damaged:
		return nil, nil
	}
	return got, nil
}

// write writes all shards that are not kept under their unfinished names.
func (e *encoder) write(ctx context.Context, dev *device) error {
	h := head{Plan: e.plan}
	b := slab.Alloc(pageSize)
	size, err := dev.f.Size()
	if err == nil {
		err = dev.read(b, 0)
	}
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if size != e.plan.SourceBytes {
		return corrupt("source of %d bytes, which should have %d", size, e.plan.SourceBytes)
	}
	h.Superblock = [pageSize]byte(b)
	missing, blocks, index := false, e.plan.ShardBytes()/BlockSize, indexSums(e.src.Index)
	for i := range e.targets {
		if k := e.kept[i]; k != nil {
			if k.head.Superblock != h.Superblock || !slices.Equal(k.raw[blocks:], index) {
				return corrupt("shard %d was made from another source", i)
			}
			e.raw[i] = k.raw[:blocks]
			continue
		}
		missing = true
		h.Shard = i
		t, err := newTarget(e.homes[i], h)
		if err != nil {
			return err
		}
		e.targets[i], e.raw[i] = t, make([]uint32, blocks)
	}
	if missing {
		if err := e.encode(ctx, dev); err != nil {
			return err
		}
	}
	sum := sourceSum(e.raw[:e.plan.Data])
	for i, k := range e.kept {
		if k != nil && k.head.SourceSum != sum {
			return corrupt("shard %d was made from another source", i)
		}
	}
	return each(ctx, len(e.targets), func(ctx context.Context, i int) error {
		t := e.targets[i]
		if t == nil {
			return nil
		}
		copy(t.raw, e.raw[i])
		if err := putIndex(e.src.Index, t); err != nil {
			return err
		}
		return t.seal(sum)
	})
}

// indexSums are the raw sums of an index copy.
func indexSums(index []byte) []uint32 {
	padded := make([]byte, roundUp(int64(len(index)%BlockSize), pageSize))
	whole := len(index) / BlockSize * BlockSize
	copy(padded, index[whole:])
	sums := make([]uint32, roundUp(int64(len(index)), BlockSize)/BlockSize)
	sumColumn(sums, index[:whole], 0)
	sumColumn(sums, padded, int64(whole))
	return sums
}

// putIndex writes the index copy.
func putIndex(index []byte, t *target) error {
	lease := buffers.Get(min(maxColumn, len(index)))
	defer lease.Release()
	buf := lease.Bytes()[:roundUp(int64(min(maxColumn, len(index))), pageSize)]
	for off := 0; off < len(index); off += maxColumn {
		n := copy(buf, index[off:])
		padded := int(roundUp(int64(n), pageSize))
		clear(buf[n:padded])
		if err := t.putIndex(buf[:padded], int64(off)); err != nil {
			return err
		}
	}
	return nil
}

// encode reads the source once and writes the payloads.
func (e *encoder) encode(ctx context.Context, dev *device) error {
	code, err := codeOf(e.plan.Policy)
	if err != nil {
		return err
	}
	k := e.plan.Data
	e.begin(StepEncode, e.plan.SourceBytes)
	p := &pass{shards: e.plan.Shards(), column: e.column(e.plan.Shards()), total: e.plan.ShardBytes()}
	p.fill = func(ctx context.Context, s *stripe) error {
		if err := e.wait(ctx, s.n*int64(k)); err != nil {
			return err
		}
		return each(ctx, k, func(_ context.Context, i int) error {
			n, err := readSource(dev, s.use(i), int64(i)*e.plan.ShardBytes()+s.off, e.plan.SourceBytes)
			e.advance(n)
			return err
		})
	}
	p.compute = func(s *stripe) error {
		for i := k; i < len(s.cols); i++ {
			s.use(i)
		}
		if err := code.Encode(s.cols); err != nil {
			return err
		}
		for i := range s.cols {
			if i < k || e.targets[i] != nil {
				// A shard that is kept has the sums of its own: they are compared by
				// source_sum.
				sumColumn(e.raw[i], s.cols[i], s.off)
			}
		}
		return nil
	}
	p.drain = func(ctx context.Context, s *stripe) error { return writeColumns(ctx, &e.work, e.targets, s) }
	return p.run(ctx)
}

// writeColumns writes a stripe to the targets there are.
func writeColumns(ctx context.Context, w *work, targets []*target, s *stripe) error {
	return each(ctx, len(targets), func(ctx context.Context, i int) error {
		if targets[i] == nil {
			return nil
		}
		if err := w.wait(ctx, s.n); err != nil {
			return err
		}
		return targets[i].write(s.cols[i], headSize+s.off)
	})
}

// readSource fills b from offset off of the source, with zeros beyond its end,
// and returns how much of it the source had.
func readSource(dev *device, b []byte, off, size int64) (int64, error) {
	n := max(0, min(int64(len(b)), size-off))
	padded := min(int64(len(b)), roundUp(n, pageSize))
	if n > 0 {
		got, err := dev.f.ReadAt(b[:padded], off)
		if int64(got) < n {
			return 0, fmt.Errorf("source: %w", short(got, int(n), off, err))
		}
	}
	clear(b[n:])
	return n, nil
}

// readBack verifies all targets as the device holds them, and the source as it
// comes out of the data shards.
func (e *encoder) readBack(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	var source []int // data shards, read one after another, as the source is
	if e.Verify != nil {
		for i := range e.plan.Data {
			source = append(source, i)
		}
	}
	total := int64(0)
	for i, t := range e.targets {
		if t != nil || i < len(source) {
			total += e.plan.ShardBytes()
		}
	}
	e.begin(StepVerify, total)
	group.Go(func() error {
		return each(ctx, len(e.targets), func(ctx context.Context, i int) error {
			if i < len(source) || e.targets[i] == nil {
				return nil
			}
			return e.targets[i].readBack(ctx, &e.work, nil)
		})
	})
	if e.Verify != nil {
		r, w := io.Pipe()
		group.Go(func() error {
			if err := e.Verify(ctx, r); err != nil {
				return errors.Join(err, r.CloseWithError(err))
			}
			_, err := io.Copy(io.Discard, r) // the rest is read back too
			return err
		})
		group.Go(func() error {
			err := e.readSource(ctx, w)
			w.CloseWithError(err)
			return err
		})
	}
	return group.Wait()
}

// readSource reads the data shards back, and writes the source to w.
func (e *encoder) readSource(ctx context.Context, w io.Writer) error {
	left := e.plan.SourceBytes
	tee := func(payload []byte) error {
		n := min(left, int64(len(payload)))
		left -= n
		_, err := w.Write(payload[:n])
		return err
	}
	for i := range e.plan.Data {
		var err error
		if t := e.targets[i]; t != nil {
			err = t.readBack(ctx, &e.work, tee)
		} else {
			err = e.again(ctx, i, tee)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// again reads a shard that was kept once more.
func (e *encoder) again(ctx context.Context, i int, tee func([]byte) error) error {
	var damage error
	_, err := inspect(ctx, &e.work, e.homes[i].FS, e.homes[i].path(e.plan, i), inspection{plan: e.plan, shard: i, tee: tee,
		found: func(f Finding) { damage = errors.Join(damage, f.Err) }})
	return errors.Join(err, damage)
}
