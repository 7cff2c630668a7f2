package coding

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

func (r *rig) repair(c Committed, i int, damage []Finding) error {
	return Repair(context.Background(), c, r.open(c), Lost{i, r.homes[i]}, damage, Options{})
}

// TestFlipsAreFoundAndRepaired flips bits all over the payloads and indexes of all
// shards: each is found, and repaired where it is.
func TestFlipsAreFoundAndRepaired(t *testing.T) {
	seeded(t, 6, func(t *testing.T, rng *rand.Rand, round int) {
		p := Policy{Data: 2 + rng.IntN(4), Parity: 2 + rng.IntN(2)}
		r := newRig(t, rng, p, 3_000_000, 150_000)
		c := r.encode()
		body := r.plan.layout().bodyBytes()
		before := make([][]byte, p.Shards())
		for i := range before {
			before[i] = r.file(i)
		}
		// At most m shards lack the same block.
		type place struct{ shard, block int64 }
		flipped := map[place]bool{}
		perBlock := map[int64]int{}
		for range 60 {
			at := place{rng.Int64N(int64(p.Shards())), rng.Int64N(body / BlockSize)}
			if flipped[at] || perBlock[at.block] == p.Parity {
				continue
			}
			flipped[at] = true
			perBlock[at.block]++
			r.must(r.fs.Flip(r.path(int(at.shard)), headSize+at.block*BlockSize+rng.Int64N(BlockSize), 1<<rng.IntN(8)))
		}
		for i := range before {
			damage := r.findings(c, i)
			for _, f := range damage {
				at := place{int64(i), (f.Offset - headSize) / BlockSize}
				if !flipped[at] {
					t.Errorf("a finding where nothing is wrong: %+v", f)
				}
				delete(flipped, at)
			}
			r.must(r.repair(c, i, damage))
			r.must(r.repair(c, i, damage))
		}
		if len(flipped) != 0 {
			t.Errorf("not found: %v", flipped)
		}
		for i := range before {
			if !bytes.Equal(before[i], r.file(i)) {
				t.Errorf("shard %d is not what it was", i)
			}
		}
	})
}

func TestRepairIsInterrupted(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	r := newRig(t, rng, Policy{2, 1}, 300_000, 5000)
	c := r.encode()
	want := r.file(1)
	index := r.plan.ShardBytes()
	for _, at := range []int64{70_000, 90_000, index + 5} {
		r.must(r.fs.Flip(r.path(1), headSize+at, 1))
	}
	damage := r.findings(c, 1)
	if len(damage) != 2 {
		t.Fatalf("findings %v", damage)
	}
	repair := func(r *rig) error {
		shards := make([]Shard, c.Shards())
		for _, i := range []int{0, 2} {
			f, err := Open(r.homes[i], c, i)
			if err != nil {
				return err
			}
			defer f.Close() //nolint:errcheck // opened for reading only
			shards[i] = f
		}
		return Repair(context.Background(), c, shards, Lost{1, r.homes[1]}, damage, Options{})
	}
	r.everywhere(repair, func(r *rig, deed string, at moment) {
		got := r.file(1)
		for b := int64(0); b < int64(len(want)); b += pageSize {
			inDamage := b >= headSize+BlockSize && b < headSize+2*BlockSize || b >= headSize+index && b < r.plan.layout().tableAt()
			if !inDamage && !bytes.Equal(got[b:b+pageSize], want[b:b+pageSize]) {
				t.Fatalf("what was right at %d has changed", b)
			}
		}
		r.must(repair(r))
		r.on(r.fs.Crash(uint64(at.n))).allThere(c)
	})
}

func TestRepairIsAskedForWhatItCannot(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 6))
	r := newRig(t, rng, Policy{2, 1}, 300_000, 5000)
	c := r.encode()
	l := r.plan.layout()
	block := []Finding{{Shard: 1, Offset: headSize, Length: BlockSize}}
	for name, f := range map[string]Finding{"the whole file": {}, "head": {Length: headSize}, "table": {Offset: l.tableAt(), Length: pageSize}} {
		if err := r.repair(c, 1, []Finding{f}); !errors.Is(err, ErrNotBlocks) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, at := range map[string]int64{"table": l.tableAt() + 3, "head": 20, "tail": l.fileBytes() - 3} {
		r.must(r.fs.Flip(r.path(1), at, 1))
		if err := r.repair(c, 1, block); !errors.Is(err, ErrNotBlocks) {
			t.Errorf("with a damaged %s: %v", name, err)
		}
		r.must(r.fs.Flip(r.path(1), at, 1))
	}
	if err := r.repair(c, 1, block); err != nil {
		t.Errorf("nothing to repair: %v", err)
	}
	r.must(r.fs.Flip(r.path(1), headSize+7, 1))
	r.must(r.fs.Flip(r.path(2), headSize+7, 1))
	damaged := r.file(1)
	if err := r.repair(c, 1, block); !errors.Is(err, ErrLost) {
		t.Errorf("two of 2+1: %v", err)
	}
	if !bytes.Equal(damaged, r.file(1)) {
		t.Error("something was written")
	}
	for _, err := range []error{
		Repair(context.Background(), c, nil, Lost{1, r.homes[1]}, block, Options{}),
		Repair(context.Background(), c, r.open(c), Lost{3, r.homes[1]}, block, Options{}),
		Repair(context.Background(), c, r.open(c), Lost{1, r.homes[1]}, block, Options{StripeBytes: -1}),
	} {
		if !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
	other := c
	other.Digests = append([]Digest(nil), c.Digests...)
	other.Digests[1][0]++
	if err := Repair(context.Background(), other, r.open(c), Lost{1, r.homes[1]}, block, Options{}); !errors.Is(err, ErrForeign) {
		t.Errorf("a shard that was not committed: %v", err)
	}
	// A device that does not keep what it is given.
	r.must(r.fs.Flip(r.path(2), headSize+7, 1))
	fault := &vfs.Fault{FS: r.fs}
	fault.Before = func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead && op.Off == headSize {
			_ = r.fs.Flip(r.path(1), headSize+9, 1<<(op.N%8))
		}
		return vfs.Outcome{}
	}
	if err := Repair(context.Background(), c, r.open(c), Lost{1, r.on(fault).homes[1]}, block, Options{}); !errors.Is(err, volume.ErrCorrupt) {
		t.Errorf("read back as something else: %v", err)
	}
}
