package coding

import (
	"context"
	"sync"

	"github.com/klauspost/reedsolomon"
	"golang.org/x/sync/errgroup"

	"hayloft/internal/slab"
)

// codes are those that were used: many volumes share a policy.
var codes sync.Map

// codeOf returns the code of docs/shard-format.md, which is what the library
// does unless it is told otherwise. It uses the caller's goroutine.
func codeOf(p Policy) (reedsolomon.Encoder, error) {
	if c, ok := codes.Load(p); ok {
		return c.(reedsolomon.Encoder), nil
	}
	c, err := reedsolomon.New(p.Data, p.Parity, reedsolomon.WithMaxGoroutines(1))
	if err == nil {
		codes.Store(p, c)
	}
	return c, err
}

// stripe is the same range of the payload of all shards.
type stripe struct {
	off, n int64
	size   int64    // largest n
	mem    []byte   // of all columns, one behind the other
	cols   [][]byte // per shard, n bytes, or nil where there are none
}

func newStripe(shards int, size int64) *stripe {
	return &stripe{n: size, size: size, mem: slab.Alloc(shards * int(size)), cols: make([][]byte, shards)}
}

// use gives the stripe column i and returns it.
func (s *stripe) use(i int) []byte {
	s.cols[i] = s.memory(i)
	return s.cols[i]
}

// memory is where column i lies if there is one.
func (s *stripe) memory(i int) []byte {
	at := int64(i) * s.size
	return s.mem[at : at+s.n : at+s.size]
}

// stripesInFlight is one being read, one being computed, one being written.
const stripesInFlight = 3

// pass moves all stripes of a payload through three stages, each of which runs
// on a goroutine of its own.
type pass struct {
	shards int   // columns
	column int64 // bytes
	total  int64 // bytes of the payload

	fill    func(ctx context.Context, s *stripe) error // sets columns with use
	compute func(s *stripe) error
	drain   func(ctx context.Context, s *stripe) error
}

func (p *pass) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	free := make(chan *stripe, stripesInFlight)
	filled := make(chan *stripe, stripesInFlight)
	computed := make(chan *stripe, stripesInFlight)
	for range stripesInFlight {
		free <- newStripe(p.shards, min(p.column, p.total))
	}
	group.Go(func() error {
		defer close(filled)
		for off := int64(0); off < p.total; off += p.column {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case s := <-free:
				s.off, s.n = off, min(p.column, p.total-off)
				clear(s.cols)
				if err := p.fill(ctx, s); err != nil {
					return err
				}
				filled <- s
			}
		}
		return nil
	})
	group.Go(func() error {
		defer close(computed)
		for s := range filled {
			if err := p.compute(s); err != nil {
				return err
			}
			computed <- s
		}
		return nil
	})
	group.Go(func() error {
		for s := range computed {
			if err := p.drain(ctx, s); err != nil {
				return err
			}
			free <- s
		}
		return nil
	})
	return group.Wait()
}

// sumColumn notes the raw sums of a column that begins at off of the payload.
func sumColumn(raw []uint32, col []byte, off int64) {
	for b := off / BlockSize; len(col) > 0; b++ {
		n := min(len(col), BlockSize)
		raw[b] = rawSum(col[:n])
		col = col[n:]
	}
}

// each runs fn for every i below n at once, up to a few at a time.
func each(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error { return fn(ctx, i) })
	}
	return group.Wait()
}

// atOnce bounds the requests and files that a call has under way.
const atOnce = 8
