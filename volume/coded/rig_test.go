package coded

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

var bg = context.Background()

// rig is an ordinary sealed volume, its shards on disks of their own, and a copy of
// its delete log beside each.
type rig struct {
	t        testing.TB
	c        coding.Committed
	source   *vfs.Mem // with the volume's directory
	disks    []*vfs.Mem
	fs       []vfs.FS // of the disks, as they are used
	needles  []volume.Needle
	deleted  map[id.ID]bool
	shardsOf *rig // whose shards are read; nil: its own
}

const (
	sourceDir = "/vol"
	shardDir  = "/disk/shards"
	testID    = volume.ID(7)
)

// newRig makes n needles, deletes some of them before the volume is compacted and
// some after, and codes it.
func newRig(t testing.TB, rng *rand.Rand, p coding.Policy, n int) *rig {
	t.Helper()
	return newRigOf(t, rng, p, n, func(i int) int {
		switch rng.IntN(12) {
		case 0:
			return 130_000 + rng.IntN(200_000) // with block CRCs
		case 1:
			return 0
		}
		if i == n/2 {
			return 1<<20 + 100_000 // more than one read
		}
		return rng.IntN(20_000)
	})
}

// newRigOf is newRig of needles of these sizes.
func newRigOf(t testing.TB, rng *rand.Rand, p coding.Policy, n int, sizeOf func(i int) int) *rig {
	t.Helper()
	r := &rig{t: t, source: vfs.NewMem(rng.Uint64()), deleted: make(map[id.ID]bool)}
	r.must(r.source.MkdirAll(sourceDir))
	o := volume.Options{FS: r.source, AllocChunk: 1 << 16}
	v, err := volume.Create(sourceDir, volume.Identity{Volume: testID, Generation: 1, Class: volume.ClassOriginals}, o)
	r.must(err)
	for i := range n {
		needle := volume.Needle{Key: id.ID(1000 + i/2), Alt: uint8(i % 2), Cookie: id.Cookie(rng.Uint64() | 1), Data: randomBytes(rng, sizeOf(i))}
		if rng.IntN(3) == 0 {
			needle.Master = &volume.MasterInfo{Photo: 5, Owner: 6, ContentType: "image/jpeg"}
		}
		r.needles = append(r.needles, needle)
		r.must(v.Append(bg, []volume.Needle{needle}))
	}
	r.delete(v, rng, n/10)
	r.must(v.Fence(bg))
	_, err = v.Seal(bg, volume.SealInfo{From: 1, To: 2})
	r.must(err)
	r.delete(v, rng, n/10)
	count, err := v.Deletes(bg, 0, func(volume.Delete) error { return nil })
	r.must(err)
	next, err := v.Compact(bg, volume.CompactOptions{Generation: 2, Deletes: count})
	r.must(err)
	r.delete(next, rng, n/10)
	rec, _ := next.Sealed()
	deletes := listDeletes(t, next)
	r.must(errors.Join(next.Close(), v.Close()))
	r.encode(rng, p, rec)
	for _, d := range r.disks {
		r.must(WriteLog(d, shardDir, testID, deletes))
	}
	return r
}

func listDeletes(t testing.TB, v *volume.Volume) (out []volume.Delete) {
	t.Helper()
	if _, err := v.Deletes(bg, 0, func(d volume.Delete) error {
		out = append(out, d)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func (r *rig) encode(rng *rand.Rand, p coding.Policy, rec volume.SealRecord) {
	r.t.Helper()
	index, err := vfs.ReadFile(r.source, sourceDir+"/"+volume.IndexName(testID, 2), 1<<30)
	r.must(err)
	plan := coding.Plan{Policy: p, Volume: testID, Generation: 2, Epoch: 3, Encoder: 77,
		SourceBytes: rec.End, SourceDigest: rec.Digest, IndexBytes: int64(len(index))}
	var homes []coding.Home
	for range p.Shards() {
		d := vfs.NewMem(rng.Uint64())
		r.must(d.MkdirAll(shardDir))
		r.disks, r.fs = append(r.disks, d), append(r.fs, d)
		homes = append(homes, coding.Home{FS: d, Dir: shardDir})
	}
	digests, err := coding.Encode(bg, plan, coding.Source{FS: r.source, Name: sourceDir + "/" + volume.FileName(testID, 2), Index: index}, homes, coding.Options{})
	r.must(err)
	r.c = coding.Committed{Plan: plan, Digests: digests}
}

// delete deletes n keys, some of them again.
func (r *rig) delete(v *volume.Volume, rng *rand.Rand, n int) {
	r.t.Helper()
	for range n {
		key := r.needles[rng.IntN(len(r.needles))].Key
		r.must(v.Delete(bg, key))
		r.deleted[key] = true
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// on is the rig with other disks.
func (r *rig) on(t testing.TB, disks []*vfs.Mem) *rig {
	c := *r
	c.t, c.disks, c.fs, c.deleted = t, disks, nil, maps.Clone(r.deleted)
	for _, d := range disks {
		c.fs = append(c.fs, d)
	}
	return &c
}

// copies of all disks.
func (r *rig) copies() []*vfs.Mem {
	var out []*vfs.Mem
	for _, d := range r.disks {
		out = append(out, d.Kill())
	}
	return out
}

func (r *rig) home(i int) coding.Home { return coding.Home{FS: r.fs[i], Dir: shardDir} }

func (r *rig) logs() []LogCopy {
	var out []LogCopy
	for i := range r.fs {
		out = append(out, LogCopy{Home: r.home(i), Disk: uint32(i)})
	}
	return out
}

func (r *rig) shardPath(i int) string {
	return shardDir + "/" + coding.FileName(testID, 2, 3, i)
}

// shards opens all that can be opened.
func (r *rig) shards() []coding.Shard {
	out := make([]coding.Shard, r.c.Shards())
	for i := range out {
		of := r
		if r.shardsOf != nil {
			of = r.shardsOf
		}
		f, err := coding.Open(of.home(i), r.c, i)
		if err == nil {
			r.t.Cleanup(func() { _ = f.Close() })
			out[i] = f
		}
	}
	return out
}

// try opens the volume with what the disks have.
func (r *rig) try(o Options) (*Volume, error) {
	return Open(bg, r.c, volume.ClassOriginals, r.shards(), r.logs(), o)
}

func (r *rig) open(o Options) *Volume {
	r.t.Helper()
	v, err := r.try(o)
	r.must(err)
	return v
}

// reads reads every needle, whole and in part, and tries wrong cookies.
func (r *rig) reads(v *volume.Volume, rng *rand.Rand) {
	r.t.Helper()
	for _, n := range r.needles {
		r.readsNeedle(v, rng, n)
	}
}

func (r *rig) readsNeedle(v *volume.Volume, rng *rand.Rand, n volume.Needle) {
	r.t.Helper()
	b, err := v.Read(bg, n.Key, n.Alt, n.Cookie)
	if r.deleted[n.Key] {
		if !errors.Is(err, volume.ErrNotFound) || v.Has(n.Key) {
			r.t.Fatalf("deleted %v: %v", n.Key, err)
		}
		return
	}
	if err != nil || string(b.Data) != string(n.Data) || (b.Master == nil) != (n.Master == nil) {
		r.t.Fatalf("read %v alt %d: %d bytes of %d, %v", n.Key, n.Alt, len(b.Data), len(n.Data), err)
	}
	b.Release()
	if _, err := v.Read(bg, n.Key, n.Alt, n.Cookie+1); !errors.Is(err, volume.ErrNotFound) {
		r.t.Fatalf("wrong cookie: %v", err)
	}
	off, size := rng.Int64N(int64(len(n.Data)+1)), rng.Int64N(int64(len(n.Data)+1))
	p, err := v.ReadRange(bg, n.Key, n.Alt, n.Cookie, off, size)
	if want := n.Data[off:min(off+size, int64(len(n.Data)))]; err != nil || string(p.Data) != string(want) {
		r.t.Fatalf("range of %d at %d of %v: %v", size, off, n.Key, err)
	}
	p.Release()
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

var seedFlag = flag.Uint64("coded.seed", 0, "repeat the random test with this seed alone")

// seeded runs fn n times, each with a random generator of its own. What fails prints
// how to repeat it.
func seeded(t *testing.T, n int, fn func(t *testing.T, rng *rand.Rand)) {
	run := func(seed uint64) {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					name, _, _ := strings.Cut(t.Name(), "/")
					t.Logf("repeat with: go test ./volume/coded -run '^%s$' -coded.seed=%d", name, seed)
				}
			})
			fn(t, rand.New(rand.NewPCG(seed, 0x636f6465)))
		})
	}
	if *seedFlag != 0 {
		run(*seedFlag)
		return
	}
	for range testenv.Rounds(n) {
		run(rand.Uint64()>>20 + 1)
	}
}
