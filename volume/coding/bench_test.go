package coding

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
)

var benchPolicies = []Policy{{4, 2}, {10, 4}}

// benchRig is a rig on a disk of the machine.
func benchRig(b *testing.B, p Policy, sourceBytes int) (*rig, Source) {
	r := newRig(b, rand.New(rand.NewPCG(1, 1)), p, sourceBytes, 1<<20)
	dir := b.TempDir()
	r.must(vfs.WriteFile(vfs.OS{}, dir+"/source", r.source))
	for i := range r.homes {
		r.homes[i] = Home{FS: vfs.OS{}, Dir: dir}
	}
	return r, Source{FS: vfs.OS{}, Name: dir + "/source", Index: r.index}
}

func BenchmarkEncode(b *testing.B) {
	for _, p := range benchPolicies {
		b.Run(p.String(), func(b *testing.B) {
			r, src := benchRig(b, p, 256<<20)
			b.SetBytes(int64(len(r.source)))
			for b.Loop() {
				r.plan.Epoch++
				_, err := Encode(context.Background(), r.plan, src, r.homes, Options{})
				r.must(err)
				for i := range r.homes {
					r.must(vfs.OS{}.Remove(r.path(i)))
				}
			}
		})
	}
}

// BenchmarkCode is what encoding costs the processor: code and sums, without a
// disk.
func BenchmarkCode(b *testing.B) {
	for _, p := range benchPolicies {
		b.Run(p.String(), func(b *testing.B) {
			code, err := codeOf(p)
			if err != nil {
				b.Fatal(err)
			}
			n := Options{}.column(p.Shards())
			s := newStripe(p.Shards(), n)
			raw := make([]uint32, n/BlockSize)
			b.SetBytes(n * int64(p.Data))
			for b.Loop() {
				for i := range s.cols {
					s.use(i)
				}
				if err := code.Encode(s.cols); err != nil {
					b.Fatal(err)
				}
				for i := range s.cols {
					sumColumn(raw, s.cols[i], 0)
				}
			}
		})
	}
}

// BenchmarkRead reads 64 KiB: healthy, degraded, and raw as k parallel reads of
// that length.
func BenchmarkRead(b *testing.B) {
	for _, p := range benchPolicies {
		r, src := benchRig(b, p, 256<<20)
		digests, err := Encode(context.Background(), r.plan, src, r.homes, Options{})
		r.must(err)
		c := Committed{Plan: r.plan, Digests: digests}
		shards := make([]Shard, p.Shards())
		for i, h := range r.homes {
			f, err := Open(h, c, i)
			r.must(err)
			b.Cleanup(func() { _ = f.Close() })
			shards[i] = f
		}
		rng := rand.New(rand.NewPCG(2, 2))
		offset := func() int64 { // in shard 0
			return rng.Int64N((c.ShardBytes()-64<<10)/8) * 8
		}
		for _, kind := range []string{"healthy", "degraded"} {
			given := append([]Shard(nil), shards...)
			if kind == "degraded" {
				given[0] = nil
			}
			reader, err := NewReader(c, given, ReaderOptions{})
			r.must(err)
			b.Run(fmt.Sprintf("%s/%s", p, kind), func(b *testing.B) {
				b.SetBytes(64 << 10)
				for b.Loop() {
					out, err := reader.Read(context.Background(), offset(), 64<<10, func([]byte) error { return nil })
					r.must(err)
					out.Release()
				}
			})
		}
		b.Run(fmt.Sprintf("%s/raw", p), func(b *testing.B) {
			mem := slab.Alloc(p.Data * 64 << 10)
			b.SetBytes(64 << 10)
			for b.Loop() {
				off := offset() &^ (pageSize - 1)
				var wait sync.WaitGroup
				for i := range p.Data {
					wait.Go(func() {
						if err := shards[i+1].ReadAt(context.Background(), mem[i*64<<10:][:64<<10], headSize+off); err != nil {
							b.Error(err)
						}
					})
				}
				wait.Wait()
			}
		})
	}
}
