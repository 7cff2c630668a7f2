package coding

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"testing"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

var errWrong = errors.New("wrong bytes")

// valid compares with the source, as a record's checksums would.
func (r *rig) valid(off int64) func([]byte) error {
	return func(b []byte) error {
		if !bytes.Equal(b, r.source[off:off+int64(len(b))]) {
			return errWrong
		}
		return nil
	}
}

// damage does something to shard i and says whether it is gone for good.
func (r *rig) damage(rng *rand.Rand, i int) {
	size := int64(len(r.file(i)))
	switch rng.IntN(6) {
	case 0:
		r.must(r.fs.Remove(r.path(i)))
	case 1: // short, or of no length
		f, err := r.fs.OpenWrite(r.path(i))
		r.must(err)
		r.must(f.Truncate(rng.Int64N(size)))
		r.must(f.Close())
	case 2: // both heads
		r.must(r.fs.Flip(r.path(i), rng.Int64N(headSize), 1<<rng.IntN(8)))
		r.must(r.fs.Flip(r.path(i), size-headSize+rng.Int64N(headSize), 1<<rng.IntN(8)))
	default: // anywhere
		for range 1 + rng.IntN(5) {
			r.must(r.fs.Flip(r.path(i), rng.Int64N(size), 1<<rng.IntN(8)))
		}
	}
}

func TestRandomLosses(t *testing.T) {
	seeded(t, 60, func(t *testing.T, rng *rand.Rand, round int) {
		p := Policy{Data: 1 + rng.IntN(10), Parity: 1 + rng.IntN(4)}
		if round%15 == 0 {
			p = Policy{Data: MaxData, Parity: MaxParity}
		}
		r := newRig(t, rng, p, minSourceBytes+rng.IntN(1<<(12+rng.IntN(10))), rng.IntN(1<<(4+rng.IntN(14))))
		c := r.encode()
		before := make([][]byte, p.Shards())
		for i := range before {
			before[i] = r.file(i)
			if f := r.findings(c, i); len(f) != 0 {
				t.Fatalf("shard %d of a fresh epoch: %v", i, f)
			}
		}
		hurt := rng.Perm(p.Shards())[:1+rng.IntN(p.Parity)]
		var lost []Lost
		for _, i := range hurt {
			r.damage(rng, i)
			if len(r.findings(c, i)) == 0 {
				t.Fatalf("damage of shard %d is not found", i)
			}
			lost = append(lost, Lost{i, r.homes[i]})
		}
		r.readEverywhere(rng, c)
		r.must(Rebuild(context.Background(), c, r.open(c), lost, Options{StripeBytes: int64(rng.IntN(1 << 23))}))
		for i := range before {
			if !bytes.Equal(before[i], r.file(i)) {
				t.Fatalf("shard %d is not what it was", i)
			}
		}
		r.decodes(rng, c)
	})
}

func (r *rig) readEverywhere(rng *rand.Rand, c Committed) {
	r.t.Helper()
	reader, err := NewReader(c, r.open(c), ReaderOptions{})
	r.must(err)
	for range 30 {
		off := rng.Int64N(c.SourceBytes)
		if rng.IntN(3) == 0 { // over the border of a shard
			off = max(0, min(c.SourceBytes-1, c.ShardBytes()*rng.Int64N(int64(c.Data)+1)-rng.Int64N(5000)))
		}
		n := 1 + rng.Int64N(min(c.SourceBytes-off, 1<<(1+rng.IntN(18))))
		valid := r.valid(off)
		if rng.IntN(3) == 0 {
			valid = nil
		}
		b, err := reader.Read(context.Background(), off, n, valid)
		r.must(err)
		r.must(r.valid(off)(b.Data))
		b.Release()
	}
}

func (r *rig) decodes(rng *rand.Rand, c Committed) {
	r.t.Helper()
	shards := r.open(c)
	for _, i := range rng.Perm(c.Shards())[:rng.IntN(c.Parity+1)] {
		shards[i] = nil
	}
	r.must(Decode(context.Background(), c, shards, r.fs, "/src/decoded", Options{}))
	got, err := vfs.ReadFile(r.fs, "/src/decoded", 1<<40)
	r.must(err)
	if !bytes.Equal(got, r.source) {
		r.t.Fatal("the decoded file is not the source")
	}
}

func TestTooManyLost(t *testing.T) {
	seeded(t, 20, func(t *testing.T, rng *rand.Rand, round int) {
		p := Policy{Data: 1 + rng.IntN(6), Parity: 1 + rng.IntN(3)}
		r := newRig(t, rng, p, minSourceBytes+rng.IntN(1<<20), 100)
		c := r.encode()
		gone := make([]bool, p.Shards())
		var lost []Lost
		for _, i := range append([]int{0}, rng.Perm(p.Shards())...) { // shard 0, and m others
			if !gone[i] && len(lost) <= p.Parity {
				gone[i] = true
				r.must(r.fs.Remove(r.path(i)))
				lost = append(lost, Lost{i, r.homes[i]})
			}
		}
		shards := r.open(c)
		names := r.fs.String()
		wants := func(err error) {
			t.Helper()
			var e *LostError
			if !errors.As(err, &e) || !errors.Is(err, ErrLost) {
				t.Fatalf("error %v, want a LostError", err)
			}
			for _, i := range e.Lost {
				if !gone[i] {
					t.Fatalf("shard %d is not lost: %v", i, err)
				}
			}
			if len(e.Lost) != p.Parity+1 {
				t.Fatalf("%d shards are lost: %v", p.Parity+1, err)
			}
			if r.fs.String() != names {
				t.Fatalf("files have changed:\n%s\nthey were\n%s", r.fs, names)
			}
		}
		wants(Rebuild(context.Background(), c, shards, lost, Options{}))
		wants(Decode(context.Background(), c, shards, r.fs, "/src/decoded", Options{}))
		reader, err := NewReader(c, shards, ReaderOptions{})
		r.must(err)
		for _, valid := range []func([]byte) error{nil, r.valid(100)} {
			_, err = reader.Read(context.Background(), 100, 1000, valid)
			wants(err)
		}
		// What lies in a data shard that is left can still be read.
		for i := range p.Data {
			off := int64(i) * c.ShardBytes()
			if gone[i] || off >= c.SourceBytes {
				continue
			}
			b, err := reader.Read(context.Background(), off, 1, r.valid(off))
			r.must(err)
			b.Release()
		}
	})
}

func TestOpenRefusesOtherEpochs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newRig(t, rng, Policy{2, 1}, 100_000, 10)
	c := r.encode()
	other := *r
	other.plan.Encoder++
	if _, err := Encode(context.Background(), other.plan, r.src(), r.homes, Options{}); !errors.Is(err, ErrForeign) {
		t.Fatalf("a second encoder under the same epoch: %v", err)
	}
	other.plan.Epoch++
	second := other.encode()
	for name, tt := range map[string]struct {
		c    Committed
		want error
	}{
		"epoch under another name": {Committed{Plan: func() Plan { p := c.Plan; p.Epoch += 2; return p }(), Digests: c.Digests}, fs.ErrNotExist},
		"digests of another epoch": {Committed{Plan: c.Plan, Digests: second.Digests}, ErrForeign},
		"encoder":                  {Committed{Plan: func() Plan { p := c.Plan; p.Encoder++; return p }(), Digests: c.Digests}, ErrForeign},
		"source":                   {Committed{Plan: func() Plan { p := c.Plan; p.SourceDigest[0]++; return p }(), Digests: c.Digests}, ErrForeign},
		"policy":                   {Committed{Plan: func() Plan { p := c.Plan; p.Data++; return p }(), Digests: append(c.Digests, Digest{})}, ErrForeign},
		"no digests":               {Committed{Plan: c.Plan}, volume.ErrInvalid},
	} {
		if _, err := Open(r.homes[0], tt.c, 0); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	// A shard of the other epoch under this one's name.
	r.must(vfs.WriteFile(r.fs, r.path(1), other.file(1)))
	if _, err := Open(r.homes[1], c, 1); !errors.Is(err, ErrForeign) {
		t.Errorf("shard of another epoch: %v", err)
	}
	if err := Rebuild(context.Background(), c, r.open(c), []Lost{{1, r.homes[1]}}, Options{}); !errors.Is(err, ErrForeign) {
		t.Errorf("rebuild over a shard of another epoch: %v", err)
	}
	if !bytes.Equal(r.file(1), other.file(1)) {
		t.Error("a foreign file was changed")
	}
}
