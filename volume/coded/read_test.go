package coded

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

var policies = []coding.Policy{{Data: 4, Parity: 2}, {Data: 1, Parity: 1}, {Data: 2, Parity: 1}, {Data: 5, Parity: 3}}

// TestReadsAsAnOrdinaryVolume compares with what was put, while up to m shards are
// gone.
func TestReadsAsAnOrdinaryVolume(t *testing.T) {
	seeded(t, 12, func(t *testing.T, rng *rand.Rand) {
		p := policies[rng.IntN(len(policies))]
		r := newRig(t, rng, p, 60)
		for _, i := range rng.Perm(p.Shards())[:rng.IntN(p.Parity+1)] {
			r.must(r.disks[i].Remove(r.shardPath(i)))
		}
		v := r.open(Options{})
		r.reads(v.Engine(), rng)
		r.delete(v.Engine(), rng, 10)
		r.reads(v.Engine(), rng)
		if _, err := v.Engine().Check(bg, func(f volume.Finding) { t.Errorf("check: %+v", f) }); err != nil {
			t.Error(err)
		}
		digest, n, findings, err := v.Engine().Inventory(bg)
		if rec, _ := v.Engine().Sealed(); err != nil || digest != rec.Digest || n != rec.Needles || len(findings) > 0 {
			t.Errorf("inventory: %d needles, findings %v, %v", n, findings, err)
		}
		r.exports(v.Engine())
		r.must(v.Close())
		v = r.open(Options{})
		r.reads(v.Engine(), rng)
		r.must(v.Close())
	})
}

// exports compares what an export gives.
func (r *rig) exports(v *volume.Volume) {
	r.t.Helper()
	live := 0
	for _, n := range r.needles {
		if !r.deleted[n.Key] {
			live++
		}
	}
	got := 0
	r.must(v.Export(bg, nil, func(n volume.Needle) error {
		got++
		want := r.needles[(int(n.Key)-1000)*2+int(n.Alt)]
		if want.Key != n.Key || want.Alt != n.Alt || string(n.Data) != string(want.Data) {
			r.t.Errorf("export of %v alt %d differs", n.Key, n.Alt)
		}
		return nil
	}, func(f volume.Finding) { r.t.Errorf("export: %+v", f) }))
	if got != live {
		r.t.Errorf("%d needles exported, %d live", got, live)
	}
}

// TestOneReadOfOneShard counts the reads that a healthy read costs, and that what is
// read goes into the memory that the engine hands out.
func TestOneReadOfOneShard(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := newRig(t, rng, coding.Policy{Data: 4, Parity: 2}, 80)
	var reads atomic.Int64
	for i, d := range r.disks {
		r.fs[i] = &vfs.Fault{FS: d, Before: func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpRead && op.Name == r.shardPath(i) {
				reads.Add(1)
			}
			return vfs.Outcome{}
		}}
	}
	v := r.open(Options{})
	defer v.Close()
	single, live := 0, 0
	for _, n := range r.needles {
		if r.deleted[n.Key] {
			continue
		}
		live++
		reads.Store(0)
		b, err := v.Engine().Read(bg, n.Key, n.Alt, n.Cookie)
		r.must(err)
		b.Release()
		switch got := reads.Load(); {
		case got == 1:
			single++
		case got > 2 || len(n.Data) < 1<<20 && got != 2: // 2: across a border
			t.Errorf("%d reads for %d bytes", got, len(n.Data))
		}
	}
	if single < live-5 { // three borders, and the large one
		t.Errorf("%d of %d needles cost one read", single, live)
	}
}

// TestRotIsServedRight flips bits all over up to m shards: every needle is served
// right all the same, by every way of reading, and what rotted is reported.
func TestRotIsServedRight(t *testing.T) {
	seeded(t, 12, func(t *testing.T, rng *rand.Rand) {
		p := policies[rng.IntN(len(policies))]
		r := newRig(t, rng, p, 60)
		var found atomic.Int64
		rotten := make(map[int]bool)
		v := r.open(Options{Reader: coding.ReaderOptions{Found: func(f coding.Finding) {
			if !rotten[f.Shard] {
				t.Errorf("found in a sound shard: %+v", f)
			}
			found.Add(1)
		}}})
		defer v.Close()
		for _, i := range rng.Perm(p.Shards())[:1+rng.IntN(p.Parity)] {
			rotten[i] = true
			for range 1 + rng.IntN(40) {
				r.must(r.disks[i].Flip(r.shardPath(i), rng.Int64N(r.c.FileBytes()), 1<<rng.IntN(8)))
			}
		}
		r.reads(v.Engine(), rng)
		r.exports(v.Engine())
		if _, err := v.Engine().Check(bg, func(f volume.Finding) { t.Errorf("check: %+v", f) }); err != nil {
			t.Error(err)
		}
		if stats := v.Engine().Stats(); stats.CorruptReads != 0 {
			t.Errorf("%d reads were called corrupt", stats.CorruptReads)
		}
	})
}

// TestFlippedBitIsFound flips one bit in the data of one needle: it is served right
// and told to ReaderOptions.Found, with shard and place.
func TestFlippedBitIsFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	r := newRigOf(t, rng, coding.Policy{Data: 4, Parity: 2}, 20, func(int) int { return 30_000 })
	var found []coding.Finding
	var reported atomic.Int64
	v := r.open(Options{
		Engine: volume.Options{Events: func(e volume.Event) {
			if e.Kind == volume.EventCorruptRead {
				reported.Add(1)
			}
		}},
		Reader: coding.ReaderOptions{Found: func(f coding.Finding) { found = append(found, f) }},
	})
	defer v.Close()
	var n volume.Needle
	for _, n = range r.needles {
		if !r.deleted[n.Key] {
			break
		}
	}
	shard, at := r.find(n)
	r.must(r.disks[shard].Flip(r.shardPath(shard), at+100, 4))
	r.readsNeedle(v.Engine(), rng, n)
	if len(found) == 0 || reported.Load() != 0 {
		t.Fatalf("findings %v, %d corrupt reads", found, reported.Load())
	}
	for _, f := range found {
		if f.Shard != shard || at < f.Offset || at >= f.Offset+f.Length {
			t.Errorf("found %+v, flipped shard %d at %d", f, shard, at)
		}
	}
	if st := v.Engine().Stats(); st.CorruptReads != 0 {
		t.Errorf("%d corrupt reads", st.CorruptReads)
	}
}

// find returns where the data of a needle begins: the shard and the offset in its
// file.
func (r *rig) find(n volume.Needle) (shard int, at int64) {
	r.t.Helper()
	for i := range r.c.Data {
		b, err := vfs.ReadFile(r.disks[i], r.shardPath(i), 1<<30)
		r.must(err)
		payload := b[2*pageSize:][:r.c.ShardBytes()]
		if off := bytes.Index(payload, n.Data[:100]); off >= 0 {
			return i, int64(off + 2*pageSize)
		}
	}
	r.t.Fatal("the needle is nowhere")
	return 0, 0
}

// TestMoreThanParityIsLost: what lies in the shards that are left is served, and the
// error of the rest names what is lost; nothing is guessed.
func TestMoreThanParityIsLost(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	r := newRigOf(t, rng, coding.Policy{Data: 4, Parity: 2}, 40, func(int) int { return 20_000 })
	for _, i := range []int{0, 4, 5} {
		r.must(r.disks[i].Remove(r.shardPath(i)))
	}
	v := r.open(Options{})
	defer v.Close()
	served, lost := 0, 0
	for _, n := range r.needles {
		if r.deleted[n.Key] {
			continue
		}
		b, err := v.Engine().Read(bg, n.Key, n.Alt, n.Cookie)
		var e *coding.LostError
		switch {
		case err == nil && string(b.Data) == string(n.Data):
			served++
			b.Release()
		case errors.As(err, &e) && errors.Is(err, volume.ErrCorrupt) && slices.Contains(e.Lost, 0):
			lost++
		default:
			t.Errorf("%v: %v", n.Key, err)
		}
	}
	if served < 10 || lost < 3 {
		t.Errorf("%d served, %d lost", served, lost)
	}
	if err := v.Engine().Delete(bg, 999); err != nil {
		t.Error(err)
	}
}

// TestCompactOutOfShards: what is made out of the shards that are left is what the
// source would have made, byte for byte.
func TestCompactOutOfShards(t *testing.T) {
	seeded(t, 6, func(t *testing.T, rng *rand.Rand) {
		p := policies[rng.IntN(len(policies))]
		r := newRig(t, rng, p, 60)
		v := r.open(Options{})
		r.delete(v.Engine(), rng, 10)
		deletes := listDeletes(t, v.Engine())
		lost := rng.Perm(p.Shards())[:p.Parity]
		left := r.shards()
		for _, i := range lost[:rng.IntN(p.Parity+1)] {
			left[i] = nil
		}
		r.must(v.SetShards(left))
		if i := lost[p.Parity-1]; left[i] != nil {
			r.must(r.disks[i].Flip(r.shardPath(i), 2*pageSize+rng.Int64N(r.c.ShardBytes()), 1))
		}
		o := volume.CompactOptions{Generation: 3, Deletes: uint32(len(deletes)), Secret: [32]byte{1}, Time: time.UnixMilli(1e12)}

		into := vfs.NewMem(1)
		r.must(into.MkdirAll("/d/volumes"))
		rec, err := v.Compact(bg, coding.Home{FS: into, Dir: "/d/volumes"}, o)
		r.must(err)
		again, err := v.Compact(bg, coding.Home{FS: into, Dir: "/d/volumes"}, o)
		if err != nil || again.Digest != rec.Digest {
			t.Errorf("called again: %v", err)
		}
		if names, err := v.view.ReadDir(viewDir); err != nil || len(names) != 3 {
			t.Errorf("the engine sees %v, %v", names, err)
		}
		source := r.sourceWith(deletes)
		next, err := source.Compact(bg, o)
		r.must(err)
		want, _ := next.Sealed()
		if rec.Digest != want.Digest || rec.Needles != want.Needles || rec.Deletes != o.Deletes {
			t.Errorf("the shards give %+v, the source %+v", rec, want)
		}
		r.must(errors.Join(next.Close(), source.Close()))
		for _, name := range []string{volume.FileName(testID, 3), volume.IndexName(testID, 3)} {
			a, err := vfs.ReadFile(into, "/d/volumes/"+name, 1<<30)
			r.must(err)
			b, err := vfs.ReadFile(r.source, sourceDir+"/"+name, 1<<30)
			r.must(err)
			if !bytes.Equal(a, b) {
				t.Errorf("%s differs", name)
			}
		}
		r.reads(v.Engine(), rng)
		r.must(v.Close())

		r.must(WriteLog(into, "/d/volumes", testID, deletes))
		made, err := volume.Open("/d/volumes", testID, volume.Options{FS: into})
		r.must(err)
		r.reads(made, rng)
		r.must(made.Close())
	})
}

// sourceWith opens the source with this delete log.
func (r *rig) sourceWith(deletes []volume.Delete) *volume.Volume {
	r.t.Helper()
	r.must(WriteLog(r.source, sourceDir, testID, deletes))
	v, err := volume.OpenGeneration(sourceDir, testID, 2, volume.Options{FS: r.source})
	r.must(err)
	return v
}

// TestShardsMoveUnderReads replaces shards while they are read: no read fails, and
// each shard that is out is told to be unused once, when nobody reads it.
func TestShardsMoveUnderReads(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	r := newRigOf(t, rng, coding.Policy{Data: 3, Parity: 2}, 30, func(int) int { return 5000 })
	var mu sync.Mutex
	unused := make(map[coding.Shard]int)
	o := Options{Unused: func(s coding.Shard) {
		mu.Lock()
		unused[s]++
		mu.Unlock()
		if err := s.(*coding.File).Close(); err != nil {
			t.Error(err)
		}
	}}
	opened := 0
	fresh := func(i int) coding.Shard {
		f, err := coding.Open(r.home(i), r.c, i)
		r.must(err)
		opened++
		return f
	}
	now := make([]coding.Shard, r.c.Shards())
	for i := range now {
		now[i] = fresh(i)
	}
	o.Reader.Found = func(f coding.Finding) { t.Errorf("found %+v", f) }
	v, err := Open(bg, r.c, volume.ClassOriginals, now, r.logs(), o)
	r.must(err)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var reads atomic.Int64
	for i := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 9))
			for {
				select {
				case <-stop:
					return
				default:
					r.readsNeedle(v.Engine(), rng, r.needles[rng.IntN(len(r.needles))])
					reads.Add(1)
				}
			}
		})
	}
	for range 300 {
		now = slices.Clone(now)
		i := rng.IntN(len(now))
		if gone := countNil(now); now[i] != nil && gone < r.c.Parity && rng.IntN(2) == 0 {
			now[i] = nil
		} else {
			now[i] = fresh(i)
		}
		r.must(v.SetShards(now))
		for before := reads.Load(); reads.Load() == before; {
			runtime.Gosched()
		}
	}
	if err := v.SetShards(now[1:]); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("too few: %v", err)
	}
	close(stop)
	readers.Wait()
	r.must(v.Close())
	if len(unused) != opened {
		t.Errorf("%d of %d shards are unused", len(unused), opened)
	}
	for _, n := range unused {
		if n != 1 {
			t.Errorf("told %d times", n)
		}
	}
}

func countNil(all []coding.Shard) (n int) {
	for _, s := range all {
		if s == nil {
			n++
		}
	}
	return n
}
