package coding

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// rig is a source in a file system in memory, and homes for its shards.
type rig struct {
	t      testing.TB
	fs     *vfs.Mem
	plan   Plan
	source []byte
	index  []byte
	homes  []Home
}

const sourceName = "/src/volume"

func newRig(t testing.TB, rng *rand.Rand, p Policy, sourceBytes, indexBytes int) *rig {
	t.Helper()
	r := &rig{t: t, fs: vfs.NewMem(rng.Uint64()), source: randomBytes(rng, sourceBytes), index: randomBytes(rng, indexBytes)}
	r.plan = Plan{Policy: p, Volume: volume.ID(rng.Uint32() | 1), Generation: 2, Epoch: rng.Uint32() | 1, Encoder: rng.Uint64() | 1,
		SourceBytes: int64(sourceBytes), SourceDigest: sha256.Sum256(r.source), IndexBytes: int64(indexBytes)}
	r.must(r.fs.MkdirAll("/src"))
	r.must(vfs.WriteFile(r.fs, sourceName, r.source))
	for i := range p.Shards() {
		r.homes = append(r.homes, Home{FS: r.fs, Dir: fmt.Sprintf("/disk%02d", i)})
		r.must(r.fs.MkdirAll(r.homes[i].Dir))
	}
	return r
}

func (r *rig) src() Source {
	return Source{FS: r.homes[0].FS, Name: sourceName, Index: r.index}
}

// same is an Options.Verify that compares with the source.
func (r *rig) same(_ context.Context, got io.Reader) error {
	b, err := io.ReadAll(got)
	if err == nil && !bytes.Equal(b, r.source) {
		err = errors.New("the shards hold another source")
	}
	return err
}

func (r *rig) encode() Committed {
	r.t.Helper()
	digests, err := Encode(context.Background(), r.plan, r.src(), r.homes, Options{Verify: r.same})
	r.must(err)
	return Committed{Plan: r.plan, Digests: digests}
}

// open opens all shards that can be opened.
func (r *rig) open(c Committed) []Shard {
	out := make([]Shard, c.Shards())
	for i, h := range r.homes {
		f, err := Open(h, c, i)
		if err != nil {
			continue
		}
		r.t.Cleanup(func() { _ = f.Close() })
		out[i] = f
	}
	return out
}

func (r *rig) path(i int) string { return r.homes[i].path(r.plan, i) }

func (r *rig) file(i int) []byte {
	r.t.Helper()
	b, err := vfs.ReadFile(r.homes[i].FS, r.path(i), 1<<40)
	r.must(err)
	return b
}

// findings is what Check finds in shard i.
func (r *rig) findings(c Committed, i int) (all []Finding) {
	r.t.Helper()
	r.must(Check(context.Background(), r.homes[i], c.Plan, i, c.Digests[i], Options{}, func(f Finding) { all = append(all, f) }))
	return all
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	var c rand.Source = rand.NewPCG(rng.Uint64(), rng.Uint64())
	for i := 0; i < n; i += 8 {
		v := c.Uint64()
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
	return b
}

var seedFlag = flag.Uint64("coding.seed", 0, "repeat the random test with this seed alone")

// seeded runs fn n times, each with a random generator of its own and its number.
// What fails prints how to repeat it.
func seeded(t *testing.T, n int, fn func(t *testing.T, rng *rand.Rand, round int)) {
	run := func(seed uint64) {
		// The last digits are the round, which some tests go by.
		round := int(seed % 1000)
		t.Run(fmt.Sprintf("round-%d", round), func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					name, _, _ := strings.Cut(t.Name(), "/")
					t.Logf("repeat with: go test ./volume/coding -run '^%s$' -coding.seed=%d", name, seed)
				}
			})
			fn(t, rand.New(rand.NewPCG(seed, 0x636f64)), round)
		})
	}
	if *seedFlag != 0 {
		run(*seedFlag)
		return
	}
	base := (rand.Uint64()>>20 + 1) * 1000
	for i := range testenv.Rounds(n) {
		run(base + uint64(i))
	}
}
