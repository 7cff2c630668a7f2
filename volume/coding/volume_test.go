package coding

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// TestCodedVolume codes a volume of the engine, loses what may be lost, and reads
// every needle out of the shards, and out of the decoded file.
func TestCodedVolume(t *testing.T) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(11, 12))
	mem := vfs.NewMem(1)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(mem.MkdirAll("/vol"))
	o := volume.Options{FS: mem, AllocChunk: 1 << 20}
	v, err := volume.Create("/vol", volume.Identity{Volume: 7, Generation: 1, Class: volume.ClassOriginals}, o)
	must(err)
	var needles []volume.Needle
	for i := range 60 {
		n := volume.Needle{Key: id.ID(1000 + i), Alt: uint8(i % 3), Cookie: id.Cookie(rng.Uint64() | 1), Data: randomBytes(rng, 1+rng.IntN(40_000))}
		if i == 30 {
			n.Data = randomBytes(rng, 1<<20+5)
		}
		needles = append(needles, n)
		must(v.Append(ctx, []volume.Needle{n}))
	}
	must(v.Fence(ctx))
	_, err = v.Seal(ctx, volume.SealInfo{From: 1, To: 2})
	must(err)
	next, err := v.Compact(ctx, volume.CompactOptions{Generation: 2})
	must(err)
	rec, _ := next.Sealed()
	must(errors.Join(next.Close(), v.Close()))

	index, err := vfs.ReadFile(mem, "/vol/00000007-00000002.idx", 1<<30)
	must(err)
	name := "/vol/" + volume.FileName(7, 2)
	p := Plan{Policy: Policy{4, 2}, Volume: 7, Generation: 2, Epoch: 3, Encoder: 77, SourceBytes: rec.End, SourceDigest: rec.Digest, IndexBytes: int64(len(index))}
	r := &rig{t: t, fs: mem, plan: p, index: index}
	for i := range p.Shards() {
		r.homes = append(r.homes, Home{FS: mem, Dir: fmt.Sprintf("/disk%d", i)})
		must(mem.MkdirAll(r.homes[i].Dir))
	}
	r.source, err = vfs.ReadFile(mem, name, 1<<40)
	must(err)
	if int64(len(r.source)) != rec.End {
		t.Fatalf("the compacted file has %d bytes, the seal says %d", len(r.source), rec.End)
	}
	digests, err := Encode(ctx, p, Source{FS: mem, Name: name, Index: index}, r.homes, Options{Verify: r.same})
	must(err)
	c := Committed{Plan: p, Digests: digests}
	must(mem.Remove(r.path(1)))
	must(mem.Remove(r.path(2)))

	reader, err := NewReader(c, r.open(c), ReaderOptions{})
	must(err)
	degraded, found := 0, 0
	_, err = volume.Scan(mem, name, func(rec volume.Record) error {
		if rec.Kind != volume.KindNeedle {
			return nil
		}
		found++
		b, err := reader.Read(ctx, rec.Offset, rec.Size, func(b []byte) error {
			if string(b[:4]) != "NDL1" {
				return volume.ErrCorrupt
			}
			return nil
		})
		must(err)
		defer b.Release()
		if !bytes.Equal(b.Data, r.source[rec.Offset:rec.Offset+rec.Size]) {
			t.Errorf("record at %d differs", rec.Offset)
		}
		if b.Degraded {
			degraded++
		}
		return nil
	})
	must(err)
	if found != len(needles) || degraded == 0 {
		t.Errorf("%d needles, %d of them degraded", found, degraded)
	}

	must(mem.MkdirAll("/back"))
	must(Decode(ctx, c, r.open(c), mem, "/back/"+volume.FileName(7, 2), Options{}))
	log, err := vfs.ReadFile(mem, "/vol/00000007.deletes", 1<<30)
	must(err)
	must(vfs.WriteFile(mem, "/back/00000007.deletes", log))
	back, err := volume.Open("/back", 7, o)
	must(err)
	for _, n := range needles {
		b, err := back.Read(ctx, n.Key, n.Alt, n.Cookie)
		must(err)
		if !bytes.Equal(b.Data, n.Data) {
			t.Errorf("needle %v differs", n.Key)
		}
		b.Release()
	}
	must(back.Close())
}
