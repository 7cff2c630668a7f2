package coding

import (
	"context"
	"fmt"
)

// Digests computes the digests of shards that are missing (nil) out of the others,
// as a rebuild would make them, and writes nothing: for who commits an epoch of
// which not all shards are left. Of c.Digests those of the missing are not looked
// at; the others are those of the heads. k shards are read whole, every block
// verified by its sum. With too few shards it is a *LostError.
func Digests(ctx context.Context, c Committed, shards []Shard, o Options) ([]Digest, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	g, err := newGatherer(c, shards)
	if err != nil {
		return nil, err
	}
	r := &rebuilder{work: work{Options: o}, gatherer: g, required: make([]bool, c.Shards())}
	g.report, g.throttle = r.work.found, r.work.wait
	out, err := r.digests(ctx)
	if err != nil {
		return nil, fmt.Errorf("digests of volume %d epoch %d: %w", c.Volume, c.Epoch, err)
	}
	return out, nil
}

func (r *rebuilder) digests(ctx context.Context) ([]Digest, error) {
	like, err := r.like(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Digest, len(r.c.Digests))
	copy(out, r.c.Digests)
	l := like.layout()
	raw := make([][]uint32, len(out))
	for i, in := range r.inputs {
		if in == nil {
			raw[i], r.required[i] = make([]uint32, l.blocks()), true
		}
	}
	sum := func(i int, b []byte, off int64) {
		if raw[i] != nil {
			sumColumn(raw[i], b, off)
		}
	}
	r.begin(StepRebuild, l.payload)
	p := &pass{shards: len(out), column: r.column(len(out)), total: l.payload}
	p.fill = func(ctx context.Context, s *stripe) error { return r.fetch(ctx, s, r.required) }
	p.compute = func(s *stripe) error { return r.compute(s.cols, r.required, s.use) }
	p.drain = func(_ context.Context, s *stripe) error {
		r.advance(s.n)
		for i := range out {
			sum(i, s.cols[i], s.off)
		}
		return nil
	}
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	lease := buffers.Get(BlockSize)
	defer lease.Release()
	for at := l.payload; at < l.bodyBytes(); at += BlockSize {
		b := lease.Bytes()[:min(BlockSize, l.bodyBytes()-at)]
		if err := r.readAny(ctx, b, at); err != nil {
			return nil, err
		}
		for i := range out {
			sum(i, b, at)
		}
	}
	for i := range out {
		if raw[i] != nil {
			out[i] = r.digestOf(*like, i, raw[i])
		}
	}
	return out, nil
}

// digestOf is the digest of shard i, of whose body raw are the sums.
func (r *rebuilder) digestOf(h head, i int, raw []uint32) Digest {
	h.Shard = i
	bind := h.binding()
	sums := make([]uint32, len(raw))
	for b := range raw {
		sums[b] = raw[b] ^ bind.mask(int64(b))
	}
	return h.digest(sums)
}
