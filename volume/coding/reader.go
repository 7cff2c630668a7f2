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
	err := errUnproven
	if valid != nil {
		out.Degraded, err = r.ReadInto(ctx, all, from)
		if err == nil {
			if err = valid(out.Data); err == nil {
				return out, nil
			}
			err = errUnproven
		}
	}
	// Shards that each lack another block of the range may still have it all.
	if errors.Is(err, errUnproven) || errors.Is(err, ErrLost) {
		if out.Degraded, err = r.ReadSurely(ctx, all, from); err == nil && valid != nil {
			err = valid(out.Data)
		}
	}
	if err != nil {
		out.Release()
		return Bytes{}, fmt.Errorf("volume %d epoch %d: %d bytes at %d: %w", r.c.Volume, r.c.Epoch, n, off, err)
	}
	return out, nil
}

// ReadInto fills b with bytes of the source from off, zeros beyond its end, as far
// as the shards go. It is the quick half of Read: nothing is verified. A range in
// one shard costs one read of it, straight into b if offset, length and memory are
// multiples of 4096; what is not there is computed into b. Whoever finds the bytes
// wrong, or gets a *LostError, calls ReadSurely.
func (r *Reader) ReadInto(ctx context.Context, b []byte, off int64) (degraded bool, err error) {
	if err := r.within(off, int64(len(b))); err != nil {
		return false, err
	}
	return r.quick(ctx, r.cut(b, off))
}

// ReadSurely is ReadInto of bytes that all have their blocks' sums; what has not is
// computed from what has, and reported. It reads whole blocks. The error is a
// *LostError when fewer than k shards have them.
func (r *Reader) ReadSurely(ctx context.Context, b []byte, off int64) (degraded bool, err error) {
	if err := r.within(off, int64(len(b))); err != nil {
		return false, err
	}
	return r.careful(ctx, r.cut(b, off))
}

// within refuses ranges that the data shards do not have.
func (r *Reader) within(off, n int64) error {
	if all := r.c.ShardBytes() * int64(r.c.Data); off < 0 || n < 1 || n > all || off > all-n {
		return fmt.Errorf("%w: %d bytes at %d of %d in the data shards", volume.ErrInvalid, n, off, all)
	}
	return nil
}

// Superblock returns the copy of the source's superblock that every shard has
// besides its payload: it is there as long as one shard is. The error is a
// *LostError.
func (r *Reader) Superblock(ctx context.Context) ([]byte, error) {
	g, err := newGatherer(r.c, r.shards)
	if err != nil {
		return nil, err
	}
	h, err := g.like(ctx)
	if err != nil {
		return nil, err
	}
	return h.Superblock[:], nil
}

// errUnproven says that bytes have to be read again with their sums.
var errUnproven = errors.New("not verified")

// cut says where the bytes lie that begin at offset from. Every border of a shard is
// a multiple of pageSize.
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
	for _, p := range pieces {
		end := p.off + int64(len(p.b))
		for at := p.off / BlockSize * BlockSize; at < end; at += carefulStep {
			n := min(roundUp(end, BlockSize)-at, carefulStep)
			computed, err := r.carefully(ctx, g, p, at, n)
			if err != nil {
				return false, err
			}
			degraded = degraded || computed
		}
	}
	return degraded, nil
}

// carefulStep is how much of a shard is read with its sums at a time.
const carefulStep = 8 * BlockSize

// carefully fills what the piece has of n bytes of its shard from offset at, which
// are whole blocks: out of the shard itself, if it has them.
func (r *Reader) carefully(ctx context.Context, g *gatherer, p piece, at, n int64) (degraded bool, err error) {
	keep := func(col []byte) {
		from := max(at, p.off)
		copy(p.b[from-p.off:], col[from-at:])
	}
	if in := g.inputs[p.shard]; in != nil {
		lease := buffers.Get(int(n))
		defer lease.Release()
		col := lease.Bytes()[:n]
		if err = in.read(ctx, col, at); err == nil {
			keep(col)
			return false, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		in.demote()
		r.o.Found(Finding{Shard: p.shard, Offset: headSize + at, Length: n, Err: err})
	}
	done, err := r.o.Admit(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	s := newStripe(r.c.Shards(), n)
	s.off = at
	required := make([]bool, len(s.cols))
	required[p.shard] = true
	if err := g.fetch(ctx, s, required); err != nil {
		return false, err
	}
	if err := g.compute(s.cols, required, s.use); err != nil {
		return false, err
	}
	keep(s.cols[p.shard])
	return true, nil
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
