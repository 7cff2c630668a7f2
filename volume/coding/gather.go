package coding

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/reedsolomon"

	"hayloft/volume"
)

// gatherer reads verified blocks from whatever shards have them, and computes
// others.
type gatherer struct {
	c      Committed
	inputs []*input // nil: there is none
	first  int      // asked first, unless it is damaged; -1: none
	code   reedsolomon.Encoder
	report func(Finding)
	// throttle is asked before n bytes are read.
	throttle func(ctx context.Context, n int64) error
}

func newGatherer(c Committed, shards []Shard) (*gatherer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if len(shards) != c.Shards() {
		return nil, fmt.Errorf("%w: %d shards for %s", volume.ErrInvalid, len(shards), c.Policy)
	}
	code, err := codeOf(c.Policy)
	if err != nil {
		return nil, err
	}
	g := &gatherer{c: c, code: code, first: -1, inputs: make([]*input, len(shards)), report: func(Finding) {},
		throttle: func(ctx context.Context, _ int64) error { return ctx.Err() }}
	for i, s := range shards {
		if s != nil {
			g.inputs[i] = &input{shard: s, i: i, c: &g.c}
		}
	}
	return g, nil
}

// like returns the head of one of the inputs: what all shards have in common.
func (g *gatherer) like(ctx context.Context) (*head, error) {
	var causes []error
	for i, in := range g.inputs {
		if in == nil {
			continue
		}
		h, err := in.open(ctx)
		if err == nil {
			return h, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		causes = append(causes, fmt.Errorf("shard %d: %w", i, err))
	}
	return nil, g.lost(func(int) bool { return false }, errors.Join(causes...))
}

func (g *gatherer) lost(has func(i int) bool, causes error) error {
	e := &LostError{Plan: g.c.Plan, Causes: causes}
	for i := range g.inputs {
		if !has(i) {
			e.Lost = append(e.Lost, i)
		}
	}
	return e
}

// columns fills k columns of the range [off, off+n) of the payload, which are
// whole blocks, those of cols that it can get by itself with the least reading.
// use(i) gives the memory of one. An input that fails is replaced by another
// one; the error is a *LostError when there are too few.
func (g *gatherer) columns(ctx context.Context, off, n int64, use func(i int) []byte, drop func(i int)) error {
	order := g.order()
	have := make([]bool, len(g.inputs))
	var causes []error
	for need := g.c.Data; need > 0; {
		if len(order) < need {
			return g.lost(func(i int) bool { return have[i] || slices.Contains(order, i) }, errors.Join(causes...))
		}
		ask := order[:need]
		order = order[need:]
		if err := g.throttle(ctx, n*int64(need)); err != nil {
			return err
		}
		errs := make([]error, len(ask))
		// fn has no error: one that fails must not stop the others.
		_ = each(ctx, len(ask), func(ctx context.Context, j int) error {
			errs[j] = g.inputs[ask[j]].read(ctx, use(ask[j]), off)
			return nil
		})
		if err := ctx.Err(); err != nil {
			return err
		}
		for j, i := range ask {
			if errs[j] == nil {
				have[i] = true
				need--
				continue
			}
			drop(i)
			g.inputs[i].demote()
			g.report(Finding{Shard: i, Offset: headSize + off, Length: n, Err: errs[j]})
			causes = append(causes, fmt.Errorf("shard %d: %w", i, errs[j]))
		}
	}
	return nil
}

// order is whom to ask: those without damage first, data before parity.
func (g *gatherer) order() []int {
	var good, bad []int
	for i, in := range g.inputs {
		switch {
		case in == nil:
		case in.demoted():
			bad = append(bad, i)
		case i == g.first:
			good = slices.Insert(good, 0, i)
		default:
			good = append(good, i)
		}
	}
	return append(good, bad...)
}

// fetch reads k columns of a stripe. Where no k inputs have all of it each block
// is solved by itself, and the stripe is.
func (g *gatherer) fetch(ctx context.Context, s *stripe, required []bool) error {
	err := g.columns(ctx, s.off, s.n, s.use, func(i int) { s.cols[i] = nil })
	if err == nil || !errors.Is(err, ErrLost) || s.n <= BlockSize {
		return err
	}
	for at := int64(0); at < s.n; at += BlockSize {
		n := min(BlockSize, s.n-at)
		part := make([][]byte, len(s.cols))
		use := func(i int) []byte {
			part[i] = s.memory(i)[at : at+n]
			return part[i]
		}
		err := g.columns(ctx, s.off+at, n, use, func(i int) { part[i] = nil })
		if err == nil {
			err = g.compute(part, required, use)
		}
		if err != nil {
			return err
		}
	}
	clear(s.cols)
	for i := range s.cols {
		if required[i] {
			s.use(i)
		}
	}
	return nil
}

// compute fills the required columns out of k others.
func (g *gatherer) compute(cols [][]byte, required []bool, use func(i int) []byte) error {
	shards := make([][]byte, len(cols))
	copy(shards, cols)
	missing := make([]bool, len(cols))
	any := false
	for i := range cols {
		if required[i] && len(cols[i]) == 0 {
			shards[i], missing[i], any = use(i)[:0], true, true
		}
	}
	if !any {
		return nil
	}
	return g.code.ReconstructSome(shards, missing)
}

// readAny reads whole blocks of the body that are the same in all shards, each
// from any that has it.
func (g *gatherer) readAny(ctx context.Context, b []byte, off int64) error {
	for len(b) > 0 {
		n := min(len(b), BlockSize)
		var causes []error
		done := false
		for _, i := range g.order() {
			err := g.inputs[i].read(ctx, b[:n], off)
			if done = err == nil; done {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			g.inputs[i].demote()
			g.report(Finding{Shard: i, Offset: headSize + off, Length: int64(n), Err: err})
			causes = append(causes, fmt.Errorf("shard %d: %w", i, err))
		}
		if !done {
			return g.lost(func(int) bool { return false }, errors.Join(causes...))
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
