package plan

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"hayloft/directory"
)

// rounds runs a test over random worlds.
func rounds(t *testing.T, n int, fn func(t *testing.T, w *world)) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d (repeat: put it in place of the clock's in rounds)", seed)
	for i := range uint64(n) {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) { fn(t, newWorld(t, seed+i)) })
	}
}

// disturb has something happen.
func (w *world) disturb() {
	r := w.random
	n, d := &w.nodes[r.IntN(len(w.nodes))], &w.disks[r.IntN(len(w.disks))]
	switch r.IntN(12) {
	case 0, 1:
		w.down[n.ID] = true
	case 2, 3, 4:
		delete(w.down, n.ID)
	case 5:
		w.out[d.ID] = true
	case 6:
		delete(w.out, d.ID)
	case 7:
		n.Draining = !n.Draining
	case 8:
		d.Draining = !d.Draining
	case 9:
		if r.IntN(8) == 0 && w.spare(d) {
			d.Gone = true
		}
	case 10:
		if len(w.volumes) > 0 {
			v := &w.volumes[r.IntN(len(w.volumes))]
			w.leave(v, v.Replicas[r.IntN(len(v.Replicas))])
		}
	case 11:
		if len(w.volumes) > 0 {
			w.volumes[r.IntN(len(w.volumes))].Movable = true
		}
	}
	w.reckon()
}

// spare tells whether nothing is only on a disk.
func (w *world) spare(d *Disk) bool {
	for _, v := range w.volumes {
		if len(v.InSync) == 1 && v.InSync[0] == d.ID {
			return false
		}
	}
	return true
}

// Whatever happens, no step takes what a volume needs, and when it stops happening
// everything comes to rest as it should be.
func TestPlansConverge(t *testing.T) {
	n := 150
	if testing.Short() {
		n = 30
	}
	rounds(t, n, func(t *testing.T, w *world) {
		o := Options{Balance: 0.1 * float64(w.random.IntN(2)), BalanceBytes: 200 * w.random.Int64N(2)}
		for range 120 {
			if w.random.IntN(3) == 0 {
				w.disturb()
			}
			w.work(o, 1+w.random.IntN(8))
			w.pass(tick*time.Duration(w.random.IntN(5)), w.random.Int64N(60))
		}
		for i := range w.volumes {
			w.volumes[i].Movable = true
		}
		clear(w.adds)
		w.settle(o)
		for v, n := range w.adds {
			if most := MaxReplicas; n > most {
				t.Errorf("volume %d moved %d times before it came to rest", v, n)
			}
		}
		w.atRest(o)
	})
}

// atRest checks that every volume has what it should have or a reason why not, and
// that no source of randomness finds anything to do.
func (w *world) atRest(o Options) {
	w.t.Helper()
	o.RepairDelay = testDelay
	c := w.cluster()
	for seed := range uint64(5) {
		p := c.Plan(w.volumes, o, rand.New(rand.NewPCG(seed, 1)))
		if len(p.Steps) > 0 {
			w.t.Fatalf("at rest, and then %v", p.Steps)
		}
		lacks := map[directory.VolumeID]bool{}
		for _, l := range p.Lacks {
			lacks[l.Volume] = true
		}
		for i := range w.volumes {
			v := &w.volumes[i]
			firm, domains := w.firm(v)
			short := slices.ContainsFunc(v.Replicas, func(d directory.DiskID) bool {
				return !w.disk(d).Up && w.disk(d).Away < testDelay // it may come back
			})
			switch whole := domains == v.Target && len(firm) == v.Target && len(v.Replicas) == v.Target; {
			case lacks[v.ID]:
				if domains >= v.Target {
					w.t.Errorf("volume %+v lacks something, and is on %d domains", v, domains)
				}
				w.impossible(w.cluster(), v)
			case !whole && !short:
				w.t.Errorf("volume %+v: %d whole copies on %d domains, and nothing is said", v, len(firm), domains)
			}
		}
	}
}

// impossible checks that a volume that lacks something cannot be helped.
func (w *world) impossible(c *Cluster, v *Volume) {
	w.t.Helper()
	if !slices.ContainsFunc(v.InSync, func(d directory.DiskID) bool { return w.disk(d).Up }) {
		return
	}
	var there []*disk
	for _, id := range v.Replicas {
		if d := c.byID[id]; !d.gone && !d.leaving && (d.Up || d.Away < testDelay) {
			there = append(there, d)
		}
	}
	for _, d := range c.disks {
		for _, o := range w.volumes {
			if slices.Contains(o.Replicas, d.ID) && !slices.Contains(o.InSync, d.ID) {
				d.room -= o.Bytes // it is promised
			}
		}
		if d.taking() && !slices.Contains(v.Replicas, d.ID) && !containsDomain(there, c.apart, d) && d.room >= v.Bytes && len(v.Replicas) < MaxReplicas {
			w.t.Errorf("volume %+v could have a replica on disk %+v", v, d.Disk)
		}
	}
}

// A cluster that has everything is left alone.
func TestHealthyIsLeftAlone(t *testing.T) {
	rounds(t, 50, func(t *testing.T, w *world) {
		for _, v := range w.volumes {
			if _, domains := w.firm(&v); domains < v.Target {
				continue
			}
			p := w.cluster().Plan([]Volume{v}, Options{RepairDelay: testDelay}, w.random)
			if len(p.Steps)+len(p.Lacks) > 0 {
				t.Fatalf("%+v: %+v", v, p)
			}
		}
	})
}

// The same cluster and the same seed give the same plan.
func TestDeterministic(t *testing.T) {
	rounds(t, 20, func(t *testing.T, w *world) {
		for range 20 {
			w.disturb()
			w.pass(5*tick, 10)
		}
		o := Options{RepairDelay: testDelay, Balance: 0.05}
		a := w.cluster().Plan(w.volumes, o, rand.New(rand.NewPCG(1, 2)))
		slices.Reverse(w.nodes)
		disks := slices.Clone(w.disks)
		slices.Reverse(disks)
		if b := New(w.nodes, disks).Plan(w.volumes, o, rand.New(rand.NewPCG(1, 2))); !reflect.DeepEqual(a, b) {
			t.Fatalf("%v\n%v", a, b)
		}
		x := New(w.nodes, disks).Foresee(w.volumes, o, rand.New(rand.NewPCG(1, 2)))
		if y := New(w.nodes, disks).Foresee(w.volumes, o, rand.New(rand.NewPCG(1, 2))); !reflect.DeepEqual(x, y) {
			t.Fatalf("%v\n%v", x, y)
		}
	})
}
