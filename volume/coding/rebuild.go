package coding

import (
	"context"
	"errors"
	"fmt"

	"hayloft/volume"
)

// Lost is a shard to be made again, and where.
type Lost struct {
	Shard int
	Home  Home
}

// Rebuild makes shards of a committed epoch again out of the others. shards has
// one entry for each number, nil for those that are gone; one that is lost may
// be given, for what is left of it: it is asked last. Every block read is
// verified by its sum, and one that fails is taken from another shard. However
// many shards are lost, k are read. A rebuilt shard gets its name after it was
// read back from the device and has the digest of the commit, and replaces what
// is left of the old one. Called again it keeps what is whole. With too few
// shards the error is a *LostError and nothing has changed.
func Rebuild(ctx context.Context, c Committed, shards []Shard, lost []Lost, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	g, err := newGatherer(c, shards)
	if err != nil {
		return err
	}
	r := &rebuilder{work: work{Options: o}, gatherer: g, targets: make([]*target, c.Shards()), required: make([]bool, c.Shards())}
	g.report, g.throttle = r.work.found, r.work.wait
	err = r.run(ctx, lost)
	for _, t := range r.targets {
		if t != nil {
			err = errors.Join(err, t.abandon())
		}
	}
	if err != nil {
		return fmt.Errorf("rebuild volume %d epoch %d: %w", c.Volume, c.Epoch, err)
	}
	return nil
}

// rebuilder is one call of Rebuild.
type rebuilder struct {
	work
	*gatherer
	targets  []*target
	required []bool
}

func (r *rebuilder) run(ctx context.Context, lost []Lost) error {
	missing, homes, err := r.missing(ctx, lost)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		if err := r.make(ctx, missing); err != nil {
			return err
		}
	}
	return syncHomes(homes)
}

// missing says which of the lost shards are still so.
func (r *rebuilder) missing(ctx context.Context, lost []Lost) (missing []Lost, homes []Home, err error) {
	seen := make(map[int]bool)
	for _, l := range lost {
		if l.Shard < 0 || l.Shard >= r.c.Shards() || seen[l.Shard] {
			return nil, nil, fmt.Errorf("%w: shard %d of %s to rebuild", volume.ErrInvalid, l.Shard, r.c.Policy)
		}
		seen[l.Shard] = true
		homes = append(homes, l.Home)
		got, err := adopt(ctx, &r.work, l.Home, r.c.Plan, l.Shard)
		switch {
		case err != nil:
			return nil, nil, err
		case got != nil && got.head.Digest == r.c.Digests[l.Shard]:
			continue
		case got != nil:
			return nil, nil, got.head.committed(r.c)
		}
		missing = append(missing, l)
		if in := r.inputs[l.Shard]; in != nil {
			in.demote()
		}
	}
	return missing, homes, nil
}

func (r *rebuilder) make(ctx context.Context, missing []Lost) error {
	like, err := r.like(ctx)
	if err != nil {
		return err
	}
	for _, l := range missing {
		h := *like
		h.Shard = l.Shard
		if r.targets[l.Shard], err = newTarget(l.Home, h); err != nil {
			return err
		}
		r.required[l.Shard] = true
	}
	if err := r.payload(ctx); err != nil {
		return err
	}
	if err := r.index(ctx, like); err != nil {
		return err
	}
	r.begin(StepVerify, r.c.ShardBytes()*int64(len(missing)))
	return each(ctx, len(missing), func(ctx context.Context, j int) error {
		t := r.targets[missing[j].Shard]
		if err := t.seal(like.SourceSum); err != nil {
			return err
		}
		if t.head.Digest != r.c.Digests[t.head.Shard] {
			return corrupt("shard %d was rebuilt with digest %x, committed is %x", t.head.Shard, t.head.Digest, r.c.Digests[t.head.Shard])
		}
		if err := t.readBack(ctx, &r.work, nil); err != nil {
			return err
		}
		return t.publish()
	})
}

func (r *rebuilder) payload(ctx context.Context) error {
	r.begin(StepRebuild, r.c.ShardBytes())
	p := &pass{shards: r.c.Shards(), column: r.column(r.c.Shards()), total: r.c.ShardBytes()}
	p.fill = func(ctx context.Context, s *stripe) error { return r.fetch(ctx, s, r.required) }
	p.compute = func(s *stripe) error {
		if err := r.compute(s.cols, r.required, s.use); err != nil {
			return err
		}
		for i, t := range r.targets {
			if t != nil {
				sumColumn(t.raw, s.cols[i], s.off)
			}
		}
		return nil
	}
	p.drain = func(ctx context.Context, s *stripe) error {
		r.advance(s.n)
		return writeColumns(ctx, &r.work, r.targets, s)
	}
	return p.run(ctx)
}

// index copies the index from the first inputs that have it.
func (r *rebuilder) index(ctx context.Context, like *head) error {
	l := like.layout()
	lease := buffers.Get(maxColumn)
	defer lease.Release()
	buf := lease.Bytes()
	for at := l.payload; at < l.bodyBytes(); at += maxColumn {
		b := buf[:min(maxColumn, l.bodyBytes()-at)]
		if err := r.wait(ctx, int64(len(b))); err != nil {
			return err
		}
		if err := r.readAny(ctx, b, at); err != nil {
			return err
		}
		for _, t := range r.targets {
			if t != nil {
				if err := t.putIndex(b, at-l.payload); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
