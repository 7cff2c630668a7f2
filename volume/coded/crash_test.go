package coded

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// cut is a run on several disks of which the power is cut at one of their calls.
type cut struct {
	r  *rig
	at int64 // which call
	n  int64
	// bad is the disk that fails a write or sync once, at a call of its own.
	bad   int
	badAt int64

	mu           sync.Mutex // guards all below, and n
	asked, acked map[id.ID]bool
	after        []*vfs.Mem     // the disks that are found
	maybe, sure  map[id.ID]bool // asked and acked when the power was cut
}

// hook is asked before every call of disk i.
func (c *cut) hook(seed uint64, i int) func(vfs.Op) vfs.Outcome {
	return func(op vfs.Op) vfs.Outcome {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n++
		if c.n == c.at {
			c.crash(seed)
		}
		if i == c.bad && c.n >= c.badAt && (op.Kind == vfs.OpWrite || op.Kind == vfs.OpSync) {
			c.bad = -1
			return vfs.Outcome{Err: errDisk, Short: int64(seed % 200)}
		}
		return vfs.Outcome{}
	}
}

func (c *cut) crash(seed uint64) {
	c.sure = maps.Clone(c.acked)
	for i, d := range c.r.disks {
		c.after = append(c.after, d.Crash(seed+uint64(i)))
	}
	c.maybe = maps.Clone(c.asked)
}

func (c *cut) delete(v *Volume, key id.ID) {
	c.mu.Lock()
	c.asked[key] = true
	c.mu.Unlock()
	if v.Engine().Delete(bg, key) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked[key] = true
}

// run opens the volume and deletes from it until it is closed.
func (c *cut) run(rng *rand.Rand, f int) {
	var work [2][]id.ID
	for i, n := range c.r.needles {
		if rng.IntN(2) == 0 {
			work[i%2] = append(work[i%2], n.Key)
		}
	}
	v, err := c.r.try(Options{Tolerance: f})
	if err != nil {
		return // the disk that fails
	}
	var deleting sync.WaitGroup
	for _, keys := range work {
		deleting.Go(func() {
			for _, key := range keys {
				c.delete(v, key)
			}
		})
	}
	deleting.Go(func() { _ = v.SetLogs(bg, c.r.logs(), f) }) // copies that left come back
	deleting.Wait()
	_ = v.Close() // whatever it says, the power goes
}

// TestPowerCutsWhileDeleting cuts the power of all disks at any call of any of them,
// loses up to f copies of the delete log, and opens what is left; then loses others,
// while the first ones come back as they were, or are new. What was acknowledged, or seen to be deleted under a log
// that takes deletes, stays deleted; nothing else is.
func TestPowerCutsWhileDeleting(t *testing.T) {
	bases := make(map[coding.Policy]*rig)
	for _, p := range policies {
		bases[p] = smallRig(t, p)
	}
	crashed, deletes := 0, 0
	seeded(t, 400, func(t *testing.T, rng *rand.Rand) {
		p := policies[rng.IntN(len(policies))]
		base := bases[p]
		f := rng.IntN(p.Parity + 1)
		r := base.on(t, base.copies())
		c := &cut{r: r, at: 1 + rng.Int64N(400), bad: -1, asked: maps.Clone(r.deleted), acked: maps.Clone(r.deleted)}
		if rng.IntN(2) == 0 {
			c.bad, c.badAt = rng.IntN(p.Shards()), 1+rng.Int64N(300)
		}
		seed := rng.Uint64()
		for i := range r.disks {
			r.hooked(i, c.hook(seed, i))
		}
		c.run(rng, f)
		c.mu.Lock()
		if c.after == nil {
			c.crash(seed)
		} else {
			crashed++
		}
		c.mu.Unlock()
		deletes += len(c.sure)
		next := base.on(t, c.after)
		next.deleted, next.shardsOf = c.sure, base
		for range 3 {
			next = next.survives(rng, f, c.maybe)
		}
	})
	testenv.Tell(t, "%d power cuts in the middle, %d acknowledged deletes", crashed, deletes)
}

// survives loses up to f copies, opens the rest and compares: r.deleted is gone, what is
// neither in it nor in maybe is there. It returns the rig after another power cut, with
// the lost disks as they were.
func (r *rig) survives(rng *rand.Rand, f int, maybe map[id.ID]bool) *rig {
	r.t.Helper()
	was := slices.Clone(r.disks)
	lost := rng.Perm(len(r.disks))[:rng.IntN(f+1)]
	for _, i := range lost {
		r.disks[i] = vfs.NewMem(1)
		if rng.IntN(2) == 0 {
			r.must(r.disks[i].MkdirAll(shardDir)) // a new disk, else none
		}
		r.fs[i] = r.disks[i]
	}
	v, err := r.try(Options{Tolerance: f})
	if err != nil {
		r.t.Fatalf("%d of %d disks lost, %d may be: %v", len(lost), len(r.disks), f, err)
	}
	seen := maps.Clone(r.deleted)
	for _, n := range r.needles {
		b, err := v.Engine().Read(bg, n.Key, n.Alt, n.Cookie)
		switch {
		case err == nil && r.deleted[n.Key]:
			r.t.Fatalf("%v is back", n.Key)
		case err == nil:
			b.Release()
		case errors.Is(err, volume.ErrNotFound) && (r.deleted[n.Key] || maybe[n.Key]):
			seen[n.Key] = true
		default:
			r.t.Fatalf("%v: %v", n.Key, err)
		}
	}
	next := &rig{t: r.t, c: r.c, source: r.source, needles: r.needles, deleted: r.deleted, shardsOf: r.shardsOf}
	if v.Engine().Stats().Poisoned == nil {
		next.deleted = seen
		key := r.needles[rng.IntN(len(r.needles))].Key
		if err := v.Engine().Delete(bg, key); err != nil {
			r.t.Fatal(err)
		}
		seen[key], maybe[key] = true, true
	} else if len(inSet(v)) > f {
		r.t.Fatalf("%d copies, and no deletes: %v", len(inSet(v)), v.Engine().Stats().Poisoned)
	}
	seed := rng.Uint64()
	for i, d := range r.disks {
		if slices.Contains(lost, i) && !slices.Contains(inSet(v), i) {
			d = was[i]
		}
		d = d.Crash(seed)
		next.disks, next.fs = append(next.disks, d), append(next.fs, d)
	}
	r.must(v.Close())
	return next
}
