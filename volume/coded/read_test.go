package coded

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

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
