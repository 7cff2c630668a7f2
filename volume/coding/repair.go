package coding

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hayloft/volume"
)

// ErrNotBlocks: the damage is not in blocks alone. Rebuild makes the shard again.
var ErrNotBlocks = errors.New("the damage is not in blocks alone")

// Repair writes damaged blocks of a shard of a committed epoch again, in place,
// out of the same blocks of k other shards; shards is as for Rebuild. It is for
// what Check found in a few places: it reads k blocks for each. Nothing but blocks
// that do not have their sums is written, with what has it, and each is read back
// from the device. Head and table must be right, else the error is ErrNotBlocks.
// A crash leaves what was damaged damaged, or repaired.
func Repair(ctx context.Context, c Committed, shards []Shard, l Lost, damage []Finding, o Options) error {
	g, err := newGatherer(c, shards)
	if err = errors.Join(err, o.Validate()); err != nil {
		return err
	}
	if l.Shard < 0 || l.Shard >= c.Shards() {
		return fmt.Errorf("%w: shard %d of %s to repair", volume.ErrInvalid, l.Shard, c.Policy)
	}
	r := &repairer{work: work{Options: o}, gatherer: g, shard: l.Shard}
	g.report, g.throttle = r.work.found, r.work.wait
	name := l.Home.path(c.Plan, l.Shard)
	file, err := l.Home.FS.OpenWrite(name)
	if err != nil {
		return err
	}
	r.out = &output{fs: l.Home.FS, name: name, lock: file}
	if err = errors.Join(r.run(ctx, damage), r.out.close()); err != nil {
		return fmt.Errorf("repair %s: %w", name, err)
	}
	return nil
}

// repairer is one call of Repair.
type repairer struct {
	work
	*gatherer
	shard int
	out   *output
	own   *input // the shard, read from the device
}

func (r *repairer) run(ctx context.Context, damage []Finding) error {
	dev, err := openDevice(r.out.fs, r.out.name)
	if err != nil {
		return err
	}
	err = r.open(dev)
	if err == nil {
		err = r.blocks(ctx, damage)
	}
	return errors.Join(err, dev.close())
}

// open verifies that the file is the shard, but for its blocks.
func (r *repairer) open(dev *device) error {
	damaged := false
	in := &inspection{plan: r.c.Plan, shard: r.shard, found: func(Finding) { damaged = true }}
	h, err := readHead(dev, in)
	if err == nil {
		err = h.committed(r.c)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotBlocks, err)
	}
	sums, _ := in.readTable(dev, h)
	if damaged || h.digest(sums) != h.Digest {
		return ErrNotBlocks
	}
	r.own = &input{shard: &File{d: dev}, i: r.shard, c: &r.gatherer.c}
	return nil
}

// blocks repairs those that are damaged, in the order of the file.
func (r *repairer) blocks(ctx context.Context, damage []Finding) error {
	l := r.c.layout()
	var blocks []int64
	for _, f := range damage {
		if f.Offset < headSize || f.Length < 1 || f.Offset+f.Length > l.tableAt() {
			return fmt.Errorf("%w: %d bytes at %d: %w", ErrNotBlocks, f.Length, f.Offset, f.Err)
		}
		for b := (f.Offset - headSize) / BlockSize; b*BlockSize < f.Offset-headSize+f.Length; b++ {
			blocks = append(blocks, b)
		}
	}
	slices.Sort(blocks)
	blocks = slices.Compact(blocks)
	if in := r.inputs[r.shard]; in != nil {
		in.demote()
	}
	s := newStripe(r.c.Shards(), BlockSize)
	var written []int64
	for _, b := range blocks {
		s.off, s.n = b*BlockSize, l.blockLen(b)
		clear(s.cols)
		if r.own.read(ctx, s.memory(r.shard), s.off) == nil {
			continue // an earlier call repaired it, or the device can read it again
		}
		if err := r.block(ctx, s, l); err != nil {
			return err
		}
		written = append(written, b)
	}
	// Also when nothing was written: who wrote may have been killed before this.
	if err := r.out.sync(); err != nil {
		return err
	}
	for _, b := range written {
		s.off, s.n = b*BlockSize, l.blockLen(b)
		if err := r.own.read(ctx, s.memory(r.shard), s.off); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
	}
	return nil
}

// block computes one block and writes it.
func (r *repairer) block(ctx context.Context, s *stripe, l layout) error {
	if s.off >= l.payload { // of the index, which all shards have
		if err := r.readAny(ctx, s.use(r.shard), s.off); err != nil {
			return err
		}
	} else {
		required := make([]bool, len(s.cols))
		required[r.shard] = true
		if err := r.fetch(ctx, s, required); err != nil {
			return err
		}
		if err := r.compute(s.cols, required, s.use); err != nil {
			return err
		}
	}
	col := s.cols[r.shard]
	if err := r.own.check(ctx, col, s.off); err != nil {
		return fmt.Errorf("block %d as it was computed: %w", s.off/BlockSize, err)
	}
	return r.out.write(col, headSize+s.off)
}
