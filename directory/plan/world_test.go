package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"hayloft/directory"
)

const (
	testDelay = 10 * time.Minute
	tick      = time.Minute
)

// world is a cluster that plans are carried out on: disks come and go, replicas fill
// themselves, rows follow the directory's rules.
type world struct {
	t       testing.TB
	random  *rand.Rand
	nodes   []Node
	disks   []Disk // Free is reckoned
	down    map[directory.NodeID]bool
	out     map[directory.DiskID]bool
	other   map[directory.DiskID]int64 // bytes of others' files
	volumes []Volume
	filled  map[fill]int64 // bytes
	adds    map[directory.VolumeID]int
	copied  int64 // bytes of fills that ended
	steps   int
}

type fill struct {
	v directory.VolumeID
	d directory.DiskID
}

// newWorld makes a cluster with volumes that are as they should be, as far as it
// has room.
func newWorld(t testing.TB, seed uint64) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 7)), down: map[directory.NodeID]bool{}, out: map[directory.DiskID]bool{},
		other: map[directory.DiskID]int64{}, filled: map[fill]int64{}, adds: map[directory.VolumeID]int{}}
	r := w.random
	pick := func(of string, n int) string {
		if r.IntN(3) == 0 {
			return ""
		}
		return fmt.Sprint(of, r.IntN(n))
	}
	named := r.IntN(2) == 0
	for i := range 1 + r.IntN(6) {
		n := Node{ID: directory.NodeID(i + 1), Name: fmt.Sprint("node", i+1)}
		if named {
			n.Host, n.Rack, n.Zone = pick("h", 5), pick("r", 3), pick("z", 3)
		}
		w.nodes = append(w.nodes, n)
		for range 1 + r.IntN(4) {
			d := Disk{ID: directory.DiskID(len(w.disks) + 1), Node: n.ID, Up: true, Capacity: 1000 + r.Int64N(2000)}
			w.other[d.ID] = r.Int64N(d.Capacity / 3)
			w.disks = append(w.disks, d)
		}
	}
	w.reckon()
	for i := range 5 + r.IntN(60) {
		v := Volume{ID: directory.VolumeID(i + 1), Sync: 1, Target: 1 + r.IntN(3), Bytes: 1 + r.Int64N(60), Movable: r.IntN(10) > 0}
		disks, err := w.cluster().Choose(Request{Want: v.Target, Floor: 1, Bytes: v.Bytes}, r)
		if err != nil {
			continue
		}
		v.Replicas, v.InSync = disks, slices.Clone(disks)
		w.volumes = append(w.volumes, v)
		w.reckon()
	}
	return w
}

func (w *world) cluster() *Cluster { return New(w.nodes, w.disks) }

// reckon derives what disks say.
func (w *world) reckon() {
	for i := range w.disks {
		d := &w.disks[i]
		d.Up = !w.down[d.Node] && !w.out[d.ID] && !d.Gone
		if d.Up {
			d.Away = 0
		}
		d.Free = d.Capacity - w.other[d.ID]
		for _, v := range w.volumes {
			switch {
			case slices.Contains(v.InSync, d.ID):
				d.Free -= v.Bytes
			case slices.Contains(v.Replicas, d.ID):
				d.Free -= w.filled[fill{v.ID, d.ID}]
			}
		}
	}
}

func (w *world) disk(id directory.DiskID) *Disk { return &w.disks[id-1] }

// pass lets time pass: replicas fill themselves by some bytes.
func (w *world) pass(d time.Duration, bytes int64) (filled int64) {
	for i := range w.disks {
		if !w.disks[i].Up {
			w.disks[i].Away += d
		}
	}
	for i := range w.volumes {
		v := &w.volumes[i]
		source := slices.ContainsFunc(v.InSync, func(d directory.DiskID) bool { return w.disk(d).Up })
		for _, d := range v.Replicas {
			if slices.Contains(v.InSync, d) || !source || !w.disk(d).Up || !v.Movable {
				continue
			}
			f := fill{v.ID, d}
			n := min(v.Bytes-w.filled[f], bytes, max(w.disk(d).Free, 0))
			w.filled[f] += n
			filled += n
			w.disk(d).Free -= n
			if w.filled[f] >= v.Bytes {
				w.copied += v.Bytes
				v.InSync = slices.Clone(v.Replicas)
				v.InSync = slices.DeleteFunc(v.InSync, func(o directory.DiskID) bool {
					return o != d && !slices.Contains(w.volumes[i].InSync, o) && w.filled[fill{v.ID, o}] < v.Bytes
				})
				v.Sync++
			}
		}
	}
	w.reckon()
	return filled
}

// leave has a replica fall behind, as when it missed a delete.
func (w *world) leave(v *Volume, d directory.DiskID) {
	if len(v.InSync) > 1 && slices.Contains(v.InSync, d) {
		v.InSync = slices.DeleteFunc(slices.Clone(v.InSync), func(o directory.DiskID) bool { return o == d })
		w.filled[fill{v.ID, d}] = v.Bytes - min(v.Bytes, 1) // it lacks little
		v.Sync++
	}
}

// firm are the disks of a volume that stay, are up and in sync.
func (w *world) firm(v *Volume) (ids []directory.DiskID, domains int) {
	c := w.cluster()
	var disks []*disk
	for _, id := range v.InSync {
		if d := c.byID[id]; d.Up && !d.leaving && !d.gone {
			ids, disks = append(ids, id), append(disks, d)
		}
	}
	return ids, spreadOf(disks)[c.apart]
}

// take carries a step out and holds it to the rules.
func (w *world) take(s Step) {
	w.t.Helper()
	w.steps++
	i := slices.IndexFunc(w.volumes, func(v Volume) bool { return v.ID == s.Volume })
	v := &w.volumes[i]
	if s.Sync != v.Sync || s.Why == "" || s.Cause == "" {
		w.t.Fatalf("%+v on %+v", s, v)
	}
	d := w.disk(s.Disk)
	if s.Op == Add {
		if slices.Contains(v.Replicas, s.Disk) || !d.Up || d.Draining || d.Gone || w.nodes[d.Node-1].Draining || w.nodes[d.Node-1].Gone || !v.Movable || len(v.Replicas) >= MaxReplicas {
			w.t.Fatalf("%v: disk %+v, volume %+v", s, d, v)
		}
		v.Replicas = append(slices.Clone(v.Replicas), s.Disk)
		v.Sync++
		w.adds[v.ID]++
		return
	}
	_, before := w.firm(v)
	wasFirm := slices.Contains(v.InSync, s.Disk) && !d.Gone && !w.nodes[d.Node-1].Gone
	if !slices.Contains(v.Replicas, s.Disk) || len(v.InSync) == 1 && v.InSync[0] == s.Disk {
		w.t.Fatalf("%v: volume %+v: the directory refuses that", s, v)
	}
	v.apply(s)
	v.Sync = s.Sync + 1
	delete(w.filled, fill{v.ID, s.Disk})
	if _, after := w.firm(v); wasFirm && after < v.Target || after < min(before, v.Target) {
		w.t.Fatalf("%v: it leaves %d domains of %d, there were %d: %+v", s, after, v.Target, before, v)
	}
	w.reckon()
}

// work makes a plan and carries out some of it, at most so many fills at once.
func (w *world) work(o Options, most int) (taken int) {
	o.RepairDelay = testDelay
	p := w.cluster().Plan(w.volumes, o, w.random)
	seen := map[directory.VolumeID]bool{}
	fills := w.fills()
	for _, s := range p.Steps {
		if seen[s.Volume] {
			w.t.Fatalf("volume %d has two steps: %v", s.Volume, p.Steps)
		}
		seen[s.Volume] = true
		if s.Op == Add {
			if fills >= most {
				continue
			}
			fills++
		}
		w.take(s)
		taken++
	}
	w.reckon()
	return taken
}

// fills is how many replicas can fill themselves.
func (w *world) fills() (n int) {
	for _, v := range w.volumes {
		if !v.Movable || !slices.ContainsFunc(v.InSync, func(d directory.DiskID) bool { return w.disk(d).Up }) {
			continue
		}
		for _, d := range v.Replicas {
			if !slices.Contains(v.InSync, d) && w.disk(d).Up {
				n++
			}
		}
	}
	return n
}

// settle works until nothing is left to do.
func (w *world) settle(o Options) {
	w.t.Helper()
	rest := 0
	for range 3000 {
		taken := w.work(o, 4)
		if filled := w.pass(tick, 40); taken == 0 && filled == 0 && rest > int(testDelay/tick) {
			return
		} else if taken > 0 || filled > 0 {
			rest = 0
		}
		rest++
	}
	o.RepairDelay = testDelay
	p := w.cluster().Plan(w.volumes, o, w.random)
	w.t.Fatalf("it never comes to rest: %d fills, next %v", w.fills(), p.Steps)
}
