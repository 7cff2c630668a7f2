package coding

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// The digests of missing shards are those that the encoder committed, also with a
// damaged block in those that are left; and nothing is written.
func TestDigests(t *testing.T) {
	seeded(t, 20, func(t *testing.T, rng *rand.Rand, _ int) {
		p := Policy{Data: 1 + rng.IntN(5), Parity: 1 + rng.IntN(3)}
		r := newRig(t, rng, p, 8192+rng.IntN(3<<20), rng.IntN(200_000))
		c := r.encode()
		lost := rng.Perm(p.Shards())[:rng.IntN(p.Parity+1)]
		known := Committed{Plan: c.Plan, Digests: slices.Clone(c.Digests)}
		for _, i := range lost {
			known.Digests[i] = Digest{}
			r.must(r.fs.Remove(r.path(i)))
		}
		shards := r.open(c)
		got, err := Digests(context.Background(), known, shards, Options{StripeBytes: 1 << 19})
		r.must(err)
		if !slices.Equal(got, c.Digests) {
			t.Errorf("without %v: %x, want %x", lost, got, c.Digests)
		}
		for _, i := range lost {
			if _, err := r.fs.Stat(r.path(i) + tmpExt); err == nil {
				t.Errorf("a file of shard %d was made", i)
			}
		}
		if len(lost) == p.Parity {
			for i := range shards {
				if shards[i] != nil {
					shards[i] = nil
					break
				}
			}
			if _, err := Digests(context.Background(), known, shards, Options{}); !errors.Is(err, ErrLost) {
				t.Errorf("too few shards: %v", err)
			}
		}
	})
}
