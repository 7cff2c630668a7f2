package coding

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/reedsolomon"

	"hayloft/internal/clock"
	"hayloft/internal/slab"
	"hayloft/volume"
)

// ReaderOptions configures a Reader. The zero value works. All functions are
// called by many goroutines.
type ReaderOptions struct {
	// HedgeAfter is how long a degraded read waits for k shards before it asks
	// one more: the recent p95, say. Nil or not positive: it asks no more.
	HedgeAfter func() time.Duration
	// Admit is asked before a range is computed from others; it may wait, or
	// refuse with an error, so that reconstructions stay a share of all reads.
	// What it returns is called when the range is done.
	Admit func(ctx context.Context) (func(), error)
	// Found is told of shards that did not have what they should.
	Found func(Finding)
	Clock clock.Clock // nil is the machine's
}

func (o ReaderOptions) withDefaults() ReaderOptions {
	if o.HedgeAfter == nil {
		o.HedgeAfter = func() time.Duration { return 0 }
	}
	if o.Admit == nil {
		o.Admit = func(context.Context) (func(), error) { return func() {}, nil }
	}
	if o.Found == nil {
		o.Found = func(Finding) {}
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	return o
}

// Reader reads ranges of the source of a committed epoch. It never changes:
// when shards move there is a new one.
type Reader struct {
	c      Committed
	shards []Shard
	code   reedsolomon.Encoder
	o      ReaderOptions
}

// NewReader returns a reader. shards has one entry for each number, nil for
// those that cannot be reached; all are of the committed epoch, as far as who
// opened them knows.
func NewReader(c Committed, shards []Shard, o ReaderOptions) (*Reader, error) {
	g, err := newGatherer(c, shards)
	if err != nil {
		return nil, err
	}
	return &Reader{c: c, shards: shards, code: g.code, o: o.withDefaults()}, nil
}

// Bytes are what Read returns.
type Bytes struct {
	Data     []byte // the caller's until Release
	Degraded bool   // computed, in part or whole
	lease    slab.Lease
}

// Release gives the memory of Data to later reads. Again it does nothing.
func (b *Bytes) Release() {
	b.lease.Release()
	b.Data = nil
}

// piece is the part of a range that lies in one shard.
type piece struct {
	shard int
	off   int64 // in the payload
	b     []byte
}

// Read returns n bytes of the source from off. valid verifies them, as records
// are: by their own checksums. Then a range in one shard costs one read of it,
// and one whose shard is away a read of the same range from k others. When valid
// refuses the bytes, everything is read again with the blocks' sums, and what
// does not have its sum is computed from what has. If valid refuses those too,
// its error is returned: so was the source. With a nil valid the sums are always
// asked. The error is a *LostError when fewer than k shards have the range.
//
// It takes the memory of the range, and of k+1 more when it is computed.
func (r *Reader) Read(ctx context.Context, off, n int64, valid func([]byte) error) (Bytes, error) {
	if off < 0 || n < 1 || n > r.c.SourceBytes || off > r.c.SourceBytes-n {
		return Bytes{}, fmt.Errorf("%w: %d bytes at %d of a source of %d", volume.ErrInvalid, n, off, r.c.SourceBytes)
	}
	from, to := off&^(pageSize-1), roundUp(off+n, pageSize)
	out := Bytes{lease: buffers.Get(int(to - from))}
	all := out.lease.Bytes()[:to-from]
	out.Data = all[off-from:][:n:n]
	pieces := r.cut(all, from)
	err := errUnproven
	if valid != nil {
		out.Degraded, err = r.quick(ctx, pieces)
		if err == nil {
			if err = valid(out.Data); err == nil {
				return out, nil
			}
			err = errUnproven
		}
	}
	// Shards that each lack another block of the range may still have it all.
	if errors.Is(err, errUnproven) || errors.Is(err, ErrLost) {
		if out.Degraded, err = r.careful(ctx, pieces); err == nil && valid != nil {
			err = valid(out.Data)
		}
	}
	if err != nil {
		out.Release()
		return Bytes{}, fmt.Errorf("volume %d epoch %d: %d bytes at %d: %w", r.c.Volume, r.c.Epoch, n, off, err)
	}
	return out, nil
}

// errUnproven says that bytes have to be read again with their sums.
var errUnproven = errors.New("not verified")

// cut says where the bytes lie that begin at offset from, a multiple of
// pageSize. So is every border of a shard.
func (r *Reader) cut(all []byte, from int64) []piece {
	s := r.c.ShardBytes()
	var pieces []piece
	for len(all) > 0 {
		n := min(int64(len(all)), s-from%s)
		pieces = append(pieces, piece{shard: int(from / s), off: from % s, b: all[:n:n]})
		all, from = all[n:], from+n
	}
	return pieces
}

// quick reads each piece from its shard, or computes it.
func (r *Reader) quick(ctx context.Context, pieces []piece) (degraded bool, err error) {
	if len(pieces) == 1 {
		return r.quickPiece(ctx, &pieces[0])
	}
	computed := make([]bool, len(pieces))
	err = each(ctx, len(pieces), func(ctx context.Context, j int) (err error) {
		computed[j], err = r.quickPiece(ctx, &pieces[j])
		return err
	})
	for _, c := range computed {
		degraded = degraded || c
	}
	return degraded, err
}

func (r *Reader) quickPiece(ctx context.Context, p *piece) (degraded bool, err error) {
	cause := errAway
	if s := r.shards[p.shard]; s != nil {
		if cause = s.ReadAt(ctx, p.b, headSize+p.off); cause == nil {
			return false, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		r.o.Found(Finding{Shard: p.shard, Offset: headSize + p.off, Length: int64(len(p.b)), Err: cause})
	}
	done, err := r.o.Admit(ctx)
	if err != nil {
		return false, fmt.Errorf("shard %d: %w; not computed: %w", p.shard, cause, err)
	}
	defer done()
	return true, r.compute(ctx, p)
}

// errAway says that there is no such shard.
var errAway = errors.New("the shard cannot be reached")

// careful fills the pieces with bytes that have their sums.
func (r *Reader) careful(ctx context.Context, pieces []piece) (degraded bool, err error) {
	g, err := newGatherer(r.c, r.shards)
	if err != nil {
		return false, err
	}
	g.report = r.o.Found
	for i := range pieces {
		p := &pieces[i]
		from := p.off / BlockSize * BlockSize
		n := roundUp(p.off+int64(len(p.b)), BlockSize) - from
		s := newStripe(r.c.Shards(), n)
		s.off = from
		computed, err := r.carefulStripe(ctx, g, s, p.shard)
		if err != nil {
			return false, err
		}
		degraded = degraded || computed
		copy(p.b, s.cols[p.shard][p.off-from:])
	}
	return degraded, nil
}

// carefulStripe fills one column of the stripe, by itself if its shard has it.
func (r *Reader) carefulStripe(ctx context.Context, g *gatherer, s *stripe, shard int) (degraded bool, err error) {
	if in := g.inputs[shard]; in != nil {
		if err = in.read(ctx, s.use(shard), s.off); err == nil {
			return false, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		s.cols[shard] = nil
		in.demote()
		r.o.Found(Finding{Shard: shard, Offset: headSize + s.off, Length: s.n, Err: err})
	}
	done, err := r.o.Admit(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	required := make([]bool, len(s.cols))
	required[shard] = true
	if err := g.fetch(ctx, s, required); err != nil {
		return false, err
	}
	return true, g.compute(s.cols, required, s.use)
}

// ReadIndex fills p with bytes of the source's sealed index from off, out of the
// copy in one shard, verified by its sums: in shard first, or in another one
// where that does not have them.
func (r *Reader) ReadIndex(ctx context.Context, p []byte, off int64, first int) error {
	if off < 0 || off > r.c.IndexBytes-int64(len(p)) {
		return fmt.Errorf("%w: %d bytes at %d of an index of %d", volume.ErrInvalid, len(p), off, r.c.IndexBytes)
	}
	g, err := newGatherer(r.c, r.shards)
	if err != nil {
		return err
	}
	g.report, g.first = r.o.Found, first
	l := r.c.layout()
	lease := buffers.Get(BlockSize)
	defer lease.Release()
	for len(p) > 0 {
		at := (l.payload + off) / BlockSize
		block := lease.Bytes()[:l.blockLen(at)]
		if err := g.readAny(ctx, block, at*BlockSize); err != nil {
			return fmt.Errorf("volume %d epoch %d: index: %w", r.c.Volume, r.c.Epoch, err)
		}
		n := copy(p, block[l.payload+off-at*BlockSize:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}
