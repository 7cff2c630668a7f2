package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hayloft/directory"
)

type ids = []directory.DiskID

func vol(n int, target int, replicas, inSync ids) Volume {
	return Volume{ID: directory.VolumeID(n), Sync: 1, Target: target, Replicas: replicas, InSync: inSync, Bytes: 10, Movable: true}
}

// told is a plan as text: op, disk and cause of each step, then what is lacking.
func told(p Plan) (out []string) {
	for _, s := range p.Steps {
		out = append(out, fmt.Sprintf("%d %s %d %s", s.Volume, s.Op, s.Disk, s.Cause))
	}
	for _, l := range p.Lacks {
		out = append(out, fmt.Sprintf("%d lacks", l.Volume))
	}
	return out
}

// What is done in one case each: three nodes a, b, c with a disk of 1000 bytes each,
// 10, 20 and 30.
func TestCases(t *testing.T) {
	set := func(n int, fn func(*Disk)) func([]Node, []Disk) {
		return func(_ []Node, d []Disk) { fn(&d[n-1]) }
	}
	away := func(n int, d time.Duration) func([]Node, []Disk) {
		return set(n, func(x *Disk) { x.Up, x.Away = false, d })
	}
	gone := func(n int) func([]Node, []Disk) {
		return func(nodes []Node, d []Disk) { nodes[n-1].Gone, d[n-1].Up = true, false }
	}
	drain := func(n int) func([]Node, []Disk) {
		return func(nodes []Node, _ []Disk) { nodes[n-1].Draining = true }
	}
	full := func(n int, free int64) func([]Node, []Disk) { return set(n, func(x *Disk) { x.Free = free }) }
	open := vol(1, 2, ids{10, 20}, ids{10, 20})
	open.Movable = false
	coded := vol(1, 2, ids{10, 20}, ids{10})
	coded.Coded, coded.Movable = true, false
	tests := []struct {
		name string
		is   []func([]Node, []Disk)
		v    Volume
		want string
		why  string
	}{
		{"all is well", nil, vol(1, 2, ids{10, 20}, ids{10, 20}), "", ""},
		{"away for a moment", []func([]Node, []Disk){away(2, testDelay-1)}, vol(1, 2, ids{10, 20}, ids{10}), "", ""},
		{"away since nobody knows when", []func([]Node, []Disk){away(2, 0)}, vol(1, 2, ids{10, 20}, ids{10}), "", ""},
		{"away for long", []func([]Node, []Disk){away(2, testDelay)}, vol(1, 2, ids{10, 20}, ids{10}), "1 add 30 repair", "1 of 2 copies are in sync and up, disk 20 of b is away for 10m0s"},
		{"away for long, and nobody wrote", []func([]Node, []Disk){away(2, testDelay)}, vol(1, 2, ids{10, 20}, ids{10, 20}), "1 add 30 repair", ""},
		{"being repaired", []func([]Node, []Disk){away(2, testDelay)}, vol(1, 2, ids{10, 20, 30}, ids{10}), "", ""},
		{"repaired", []func([]Node, []Disk){away(2, testDelay)}, vol(1, 2, ids{10, 20, 30}, ids{10, 30}), "1 remove 20 repair", "there are 2 whole copies elsewhere"},
		{"it came back while it was repaired", nil, vol(1, 2, ids{10, 20, 30}, ids{10, 20}), "1 remove 30 return", ""},
		{"it came back and is behind", nil, vol(1, 2, ids{10, 20, 30}, ids{10}), "1 remove 30 return", "disk 20 of b is there"},
		{"a new leader does not know for how long it is away", []func([]Node, []Disk){away(2, 0)}, vol(1, 2, ids{10, 20, 30}, ids{10}), "", ""},
		{"it came back when it was repaired", nil, vol(1, 2, ids{10, 20, 30}, ids{10, 20, 30}), "1 remove", ""},
		{"declared gone", []func([]Node, []Disk){gone(2)}, vol(1, 2, ids{10, 20}, ids{10, 20}), "1 remove 20 repair", "the disk is gone"},
		{"gone and given up", []func([]Node, []Disk){gone(2)}, vol(1, 2, ids{10}, ids{10}), "1 add 30 raise", ""},
		{"the last copy is gone", []func([]Node, []Disk){gone(2)}, vol(1, 2, ids{20, 10}, ids{20}), "1 lacks", "nothing to copy from"},
		{"opened at the floor", nil, vol(1, 3, ids{10, 20}, ids{10, 20}), "1 add 30 raise", ""},
		{"opened at the floor, and away", []func([]Node, []Disk){away(3, 0)}, vol(1, 3, ids{10, 20}, ids{10, 20}), "1 lacks", "no disk that takes replicas is on another host"},
		{"no room", []func([]Node, []Disk){full(3, 9)}, vol(1, 3, ids{10, 20}, ids{10, 20}), "1 lacks", "1 disks on another host have no room for 10 bytes"},
		{"room just so", []func([]Node, []Disk){full(3, 10)}, vol(1, 3, ids{10, 20}, ids{10, 20}), "1 add 30 raise", ""},
		{"more than there are hosts", nil, vol(1, 4, ids{10, 20, 30}, ids{10, 20, 30}), "1 lacks", ""},
		{"draining", []func([]Node, []Disk){drain(2)}, vol(1, 2, ids{10, 20}, ids{10, 20}), "1 add 30 drain", "disk 20 of b is draining"},
		{"draining the only copy", []func([]Node, []Disk){drain(2), away(3, 0)}, vol(1, 1, ids{20}, ids{20}), "1 add 10 drain", ""},
		{"draining, filling", []func([]Node, []Disk){drain(2)}, vol(1, 2, ids{10, 20, 30}, ids{10, 20}), "", ""},
		{"draining, filled", []func([]Node, []Disk){drain(2)}, vol(1, 2, ids{10, 20, 30}, ids{10, 20, 30}), "1 remove 20 drain", ""},
		{"draining, and the third is lost", []func([]Node, []Disk){drain(2), away(3, testDelay)}, vol(1, 2, ids{20, 30}, ids{20, 30}), "1 add 10 repair", ""},
		{"not draining any more", nil, vol(1, 2, ids{10, 20, 30}, ids{10, 20}), "1 remove 30 return", ""},
		{"draining what is open", []func([]Node, []Disk){drain(2)}, open, "1 lacks", "when it is sealed"},
		{"open, on a disk that is gone", []func([]Node, []Disk){gone(2)}, open, "1 lacks", "when it is sealed"},
		{"draining without a place", []func([]Node, []Disk){drain(2)}, vol(1, 3, ids{10, 20, 30}, ids{10, 20, 30}), "1 lacks", ""},
		{"one too many", nil, vol(1, 1, ids{10, 20}, ids{10, 20}), "1 remove", ""},
		{"one too many, and the fuller goes", []func([]Node, []Disk){full(2, 400)}, vol(1, 1, ids{10, 20}, ids{10, 20}), "1 remove 20 surplus", ""},
		{"filling a disk that is full", []func([]Node, []Disk){full(2, 0)}, vol(1, 2, ids{10, 20}, ids{10}), "1 add 30 repair", "full before"},
		{"coded", []func([]Node, []Disk){away(2, testDelay)}, coded, "", ""},
		{"void", nil, vol(1, 2, nil, nil), "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nodes, disks := grid(make([]Node, 3), 1)
			for _, fn := range tt.is {
				fn(nodes, disks)
			}
			p := New(nodes, disks).Plan([]Volume{tt.v}, Options{RepairDelay: testDelay}, rand.New(rand.NewPCG(1, 1)))
			if got := strings.Join(told(p), ", "); got != tt.want && (tt.want != "1 remove" || !strings.HasPrefix(got, tt.want)) {
				t.Fatalf("%q, want %q", got, tt.want)
			}
			if text := fmt.Sprint(p.Steps, p.Lacks); !strings.Contains(text, tt.why) {
				t.Errorf("%s does not say %q", text, tt.why)
			}
		})
	}
}

// Room that is promised to a replica that fills itself is not promised again.
func TestPromisedRoom(t *testing.T) {
	nodes, disks := grid(make([]Node, 3), 1)
	disks[2].Free = 15
	p := New(nodes, disks).Plan([]Volume{vol(1, 3, ids{10, 20, 30}, ids{10, 20}), vol(2, 3, ids{10, 20}, ids{10, 20})}, Options{RepairDelay: testDelay}, rand.New(rand.NewPCG(1, 1)))
	if got := strings.Join(told(p), ", "); got != "2 lacks" {
		t.Error(got)
	}
	disks[2].Free = 25
	p = New(nodes, disks).Plan([]Volume{vol(1, 3, ids{10, 20}, ids{10, 20}), vol(2, 3, ids{10, 20}, ids{10, 20}), vol(3, 3, ids{10, 20}, ids{10, 20})}, Options{RepairDelay: testDelay}, rand.New(rand.NewPCG(1, 1)))
	if got := strings.Join(told(p), ", "); got != "1 add 30 raise, 2 add 30 raise, 3 lacks" {
		t.Error(got)
	}
}

// That a host is away or draining is no reason to put two replicas on another one.
func TestAnOutageBringsNothingTogether(t *testing.T) {
	for name, spoil := range map[string]func([]Node, []Disk){
		"away":     func(_ []Node, d []Disk) { d[2].Up, d[2].Away, d[3].Up, d[3].Away = false, testDelay, false, testDelay },
		"draining": func(n []Node, _ []Disk) { n[1].Draining = true },
	} {
		nodes, disks := grid(make([]Node, 2), 2)
		spoil(nodes, disks)
		c := New(nodes, disks)
		p := c.Plan([]Volume{vol(1, 2, ids{10, 20}, ids{10, 20})}, Options{RepairDelay: testDelay}, rand.New(rand.NewPCG(1, 1)))
		if got := strings.Join(told(p), ", "); got != "1 lacks" || c.Apart() != ByHost {
			t.Errorf("%s: %s, apart by %v", name, got, c.Apart())
		}
		if got, err := c.Choose(Request{Want: 2, Floor: 1}, rand.New(rand.NewPCG(1, 1))); err != nil || len(got) != 1 {
			t.Errorf("%s: a new volume is on %v, %v", name, got, err)
		}
	}
	nodes, disks := grid(make([]Node, 2), 2)
	nodes[1].Gone = true // it is no host any more
	if got, err := New(nodes, disks).Choose(Request{Want: 2, Floor: 2}, rand.New(rand.NewPCG(1, 1))); err != nil || len(got) != 2 {
		t.Errorf("gone: %v, %v", got, err)
	}
}

// Two replicas on one node are one too few as soon as there is another node, and of
// three the one goes that is beside another.
func TestSpreadsToASecondNode(t *testing.T) {
	nodes, disks := grid(make([]Node, 2), 2)
	o, random := Options{RepairDelay: testDelay}, rand.New(rand.NewPCG(1, 1))
	v := vol(1, 2, ids{10, 11}, ids{10, 11})
	if p := New(nodes[:1], disks[:2]).Plan([]Volume{v}, o, random); len(p.Steps)+len(p.Lacks) > 0 {
		t.Fatal(p)
	}
	p := New(nodes, disks).Plan([]Volume{v}, o, random)
	if len(p.Steps) != 1 || p.Steps[0].Op != Add || p.Steps[0].Disk < 20 || !strings.Contains(p.Steps[0].Why, "on one host") {
		t.Fatal(p)
	}
	v = vol(1, 2, ids{10, 11, 20}, ids{10, 11, 20})
	if p := New(nodes, disks).Plan([]Volume{v}, o, random); len(p.Steps) != 1 || p.Steps[0].Op != Remove || p.Steps[0].Disk >= 20 {
		t.Fatal(p)
	}
}

// The fewest copies come first; what is given up comes before all.
func TestPriorities(t *testing.T) {
	nodes, disks := grid(make([]Node, 5), 1)
	disks[3].Up, disks[3].Away = false, testDelay
	nodes[4].Draining = true
	p := New(nodes, disks).Plan([]Volume{
		vol(1, 3, ids{10, 20, 50}, ids{10, 20, 50}), // 3 copies, one leaves
		vol(2, 3, ids{10, 20, 40}, ids{10, 20, 40}), // 2 copies
		vol(3, 2, ids{10, 40}, ids{10, 40}),         // 1 copy
		vol(4, 2, ids{10, 50}, ids{10, 50}),         // 2 copies, one leaves
		vol(5, 1, ids{10, 20}, ids{10, 20}),         // one too many
		vol(6, 2, ids{10, 20}, ids{10, 20}),
	}, Options{RepairDelay: testDelay}, rand.New(rand.NewPCG(1, 1)))
	var order []int
	for _, s := range p.Steps {
		order = append(order, int(s.Volume))
	}
	if !slices.Equal(order, []int{5, 3, 2, 4, 1}) || p.Bytes() != 40 {
		t.Errorf("order %v, %d bytes: %v", order, p.Bytes(), p.Steps)
	}
	if only := p.Only(Drain); len(only.Steps) != 2 {
		t.Errorf("%v", only)
	}
}

// Balance evens disks out, no further than it is told, and then rests.
func TestBalance(t *testing.T) {
	rounds(t, 40, func(t *testing.T, w *world) {
		if w.random.IntN(2) == 0 { // an empty node comes
			n := Node{ID: directory.NodeID(len(w.nodes) + 1), Name: "new"}
			w.nodes = append(w.nodes, n)
			w.disks = append(w.disks, Disk{ID: directory.DiskID(len(w.disks) + 1), Node: n.ID, Capacity: 2000})
		}
		for i := range w.volumes {
			w.volumes[i].Movable = true
		}
		w.reckon()
		w.settle(Options{}) // what is not for the sake of balance
		spread := func() (worst []spread) {
			c := w.cluster()
			for _, v := range w.volumes {
				var disks []*disk
				for _, d := range v.InSync {
					disks = append(disks, c.byID[d])
				}
				worst = append(worst, spreadOf(disks))
			}
			return worst
		}
		unequal := func() float64 {
			least, most := 1.0, 0.0
			for _, d := range w.disks {
				full := 1 - float64(d.Free)/float64(d.Capacity)
				least, most = min(least, full), max(most, full)
			}
			return most - least
		}
		before, was := unequal(), spread()
		foreseen := w.cluster().Foresee(w.volumes, Options{RepairDelay: testDelay, Balance: 0.05}, w.random)
		copied := w.copied
		clear(w.adds)
		w.settle(Options{Balance: 0.05, BalanceBytes: 100})
		farther := false
		for i, s := range spread() {
			farther = farther || s.compare(was[i]) > 0
			if s.compare(was[i]) < 0 {
				t.Errorf("volume %d is worse spread: %v, was %v", w.volumes[i].ID, s, was[i])
			}
		}
		if after := unequal(); !farther && after > max(before, 0.05)+1e-9 {
			t.Errorf("fullness differs by %.3f, before by %.3f", after, before)
		}
		if moved := w.copied - copied; moved > 3*foreseen.Bytes()+200 {
			t.Errorf("%d bytes moved, %d were foreseen", moved, foreseen.Bytes())
		}
		w.atRest(Options{Balance: 0.05})
	})
}

// An empty node takes its share, and a plan keeps to its bytes.
func TestBalanceOntoAnEmptyNode(t *testing.T) {
	nodes, disks := grid(make([]Node, 3), 1)
	var volumes []Volume
	for i := range 60 {
		volumes = append(volumes, vol(i+1, 2, ids{10, 20}, ids{10, 20}))
	}
	disks[0].Free, disks[1].Free = 400, 400
	c, random := New(nodes, disks), rand.New(rand.NewPCG(1, 1))
	o := Options{RepairDelay: testDelay, Balance: 0.05}
	if p := c.Foresee(volumes, o, random); p.Bytes() < 350 || p.Bytes() > 410 || len(p.Steps) != 2*int(p.Bytes())/10 {
		t.Errorf("%d bytes move in %d steps", p.Bytes(), len(p.Steps))
	}
	o.BalanceBytes = 55
	if p := c.Plan(volumes, o, random); p.Bytes() != 50 {
		t.Errorf("%d bytes move at once", p.Bytes())
	}
	if p := c.Foresee(volumes, o, random); p.Bytes() != 50 || len(p.Steps) != 10 {
		t.Errorf("%d bytes move in %d steps", p.Bytes(), len(p.Steps))
	}
	disks[2].Up, disks[2].Away = false, testDelay
	if p := New(nodes, disks).Plan(volumes, o, random); len(p.Steps) > 0 {
		t.Errorf("onto a node that is away: %v", p)
	}
}

// What a node that came back makes needless is taken back even while balance is
// sought, unless it serves that.
func TestReturnWhileBalancing(t *testing.T) {
	nodes, disks := grid(make([]Node, 3), 1)
	v := vol(1, 2, ids{10, 20, 30}, ids{10, 20})
	o, random := Options{RepairDelay: testDelay, Balance: 0.05}, rand.New(rand.NewPCG(1, 1))
	disks[2].Free = 500
	if p := New(nodes, disks).Plan([]Volume{v}, o, random); len(p.Steps) != 1 || p.Steps[0].Cause != Return {
		t.Error(p)
	}
	disks[0].Free, disks[2].Free = 500, 1000
	if p := New(nodes, disks).Plan([]Volume{v}, o, random); len(p.Steps) != 0 {
		t.Error(p)
	}
}

func TestBalanceSpreads(t *testing.T) {
	nodes, disks := grid([]Node{{Zone: "u"}, {Zone: "u"}, {Zone: "v"}}, 1)
	p := New(nodes, disks).Foresee([]Volume{vol(1, 2, ids{10, 20}, ids{10, 20})}, Options{RepairDelay: testDelay, Balance: 0.05}, rand.New(rand.NewPCG(1, 1)))
	if len(p.Steps) != 2 || p.Steps[0].Disk != 30 || p.Steps[0].Cause != Balance || !strings.Contains(p.Steps[0].Why, "farther apart") {
		t.Error(p)
	}
}

func TestForeseeDrain(t *testing.T) {
	nodes, disks := grid(make([]Node, 4), 1)
	nodes[0].Draining = true
	volumes := []Volume{vol(1, 2, ids{10, 20}, ids{10, 20}), vol(2, 3, ids{10, 20, 30}, ids{10, 20, 30}), vol(3, 4, ids{10, 20, 30, 40}, ids{10, 20, 30, 40})}
	p := New(nodes, disks).Foresee(volumes, Options{RepairDelay: testDelay}, rand.New(rand.NewPCG(1, 1)))
	if got := told(p); len(p.Steps) != 4 || len(p.Lacks) != 1 || !slices.Contains(got, "2 add 40 drain") || !slices.Contains(got, "2 remove 10 drain") || !slices.Contains(got, "3 lacks") {
		t.Error(got)
	}
	if len(volumes[0].Replicas) != 2 {
		t.Error("the caller's rows were changed")
	}
}

func TestSurvives(t *testing.T) {
	nodes, disks := grid([]Node{{Host: "x", Zone: "u"}, {Host: "x", Zone: "u"}, {Zone: "v"}, {Zone: "v"}}, 3)
	c := New(nodes, disks)
	coded := func(n int, data int, homes ...directory.DiskID) Volume {
		v := vol(n, 0, nil, nil)
		v.Shards = []Shards{{Data: data, Homes: homes}}
		return v
	}
	both := coded(1, 2, 20, 30, 40) // 2+1, and a replica
	both.Replicas, both.InSync = ids{10}, ids{10}
	epochs := coded(1, 2, 10, 11, 20)
	epochs.Shards = append(epochs.Shards, Shards{Data: 2, Homes: ids{20, 30, 40}})
	down := slices.Clone(disks)
	down[0].Up = false // disk 10
	for _, tt := range []struct {
		name string
		c    *Cluster
		vs   []Volume
		want [levels]int // disk, node, host, rack, zone
	}{
		{"nothing stored", c, nil, [levels]int{12, 4, 3, 2, 2}},
		{"one copy", c, []Volume{vol(1, 1, ids{10}, ids{10})}, [levels]int{}},
		{"two on a host", c, []Volume{vol(1, 2, ids{10, 20}, ids{10, 20})}, [levels]int{1, 1, 0, 0, 0}},
		{"two of three in sync", c, []Volume{vol(1, 3, ids{10, 20, 30}, ids{10, 30})}, [levels]int{1, 1, 1, 1, 1}},
		{"three", c, []Volume{vol(1, 3, ids{10, 20, 30}, ids{10, 20, 30})}, [levels]int{2, 2, 1, 1, 1}},
		{"one of them away", New(nodes, down), []Volume{vol(1, 3, ids{10, 20, 30}, ids{10, 20, 30})}, [levels]int{1, 1, 1, 1, 1}},
		{"all away", New(nodes, down), []Volume{vol(1, 1, ids{10}, ids{10})}, [levels]int{-1, -1, -1, -1, -1}},
		{"shards of one node", c, []Volume{coded(1, 2, 10, 11, 12)}, [levels]int{1, 0, 0, 0, 0}},
		{"shards of three", c, []Volume{coded(1, 4, 10, 11, 20, 21, 30, 31)}, [levels]int{2, 1, 0, 0, 0}},
		{"too few shards", New(nodes, down), []Volume{coded(1, 3, 10, 11, 20)}, [levels]int{-1, -1, -1, -1, -1}},
		{"shards and the source", c, []Volume{both}, [levels]int{2, 2, 1, 1, 1}},
		{"two epochs", c, []Volume{epochs}, [levels]int{1, 1, 1, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.c.Survives(tt.vs)
			for l, s := range got {
				if s.May != tt.want[l] || s.Level != Level(l).String() || len(tt.vs) > 0 && (s.Limits != 1 || !slices.Equal(s.Limiting, []directory.VolumeID{1})) {
					t.Errorf("%+v, want %d", s, tt.want[l])
				}
			}
		})
	}
	if s := c.Survives([]Volume{vol(1, 2, ids{10, 30}, ids{10, 30}), vol(2, 1, ids{10}, ids{10}), vol(3, 1, ids{10}, ids{10})})[ByNode]; s.May != 0 || s.Limits != 2 || s.Limiting[0] != 2 {
		t.Errorf("%+v", s)
	}
}

// Survives is right: losing that many domains, whichever, leaves everything
// readable, and some way of losing one more does not.
func TestSurvivesIsExact(t *testing.T) {
	rounds(t, 60, func(t *testing.T, w *world) {
		for range 10 {
			w.disturb()
		}
		for i := range w.volumes {
			if w.random.IntN(3) == 0 {
				v := &w.volumes[i]
				v.Shards = []Shards{{Data: 1 + w.random.IntN(3)}}
				for range v.Shards[0].Data + w.random.IntN(3) {
					v.Shards[0].Homes = append(v.Shards[0].Homes, directory.DiskID(1+w.random.IntN(len(w.disks))))
				}
				if w.random.IntN(2) == 0 {
					v.Replicas, v.InSync = nil, nil
				}
			}
		}
		c := w.cluster()
		readable := func(v *Volume, lost map[string]bool) bool {
			up := func(id directory.DiskID) bool {
				d := c.byID[id]
				return d.Up && !d.gone && !lost[d.domains[ByNode]]
			}
			if slices.ContainsFunc(v.InSync, up) {
				return true
			}
			for _, e := range v.Shards {
				n := 0
				for _, h := range e.Homes {
					if up(h) {
						n++
					}
				}
				if n >= e.Data {
					return true
				}
			}
			return false
		}
		fewest := len(w.nodes) + 1 // nodes that must be lost until something is not readable
		for set := range 1 << len(w.nodes) {
			lost, n := map[string]bool{}, 0
			for i := range w.nodes {
				if set>>i&1 == 1 {
					lost[domainsOf(&w.nodes[i], 0)[ByNode]] = true
					n++
				}
			}
			for i := range w.volumes {
				if !readable(&w.volumes[i], lost) {
					fewest = min(fewest, n)
				}
			}
		}
		if s := c.Survives(w.volumes)[ByNode]; len(w.volumes) > 0 && s.May != fewest-1 {
			t.Errorf("%+v, want %d", s, fewest-1)
		}
	})
}

func TestLeft(t *testing.T) {
	nodes, disks := grid(make([]Node, 2), 2)
	open := vol(3, 2, ids{10, 20}, ids{10, 20})
	open.Movable = false
	coded := vol(4, 0, nil, nil)
	coded.Shards = []Shards{{Data: 1, Homes: ids{10, 11, 20}}}
	c := New(nodes, disks)
	vs := []Volume{vol(1, 2, ids{10, 20}, ids{10, 20}), vol(2, 2, ids{10, 20}, ids{10}), open, coded}
	if got := c.Left(vs, ids{10, 11}); got != (Left{Disks: 2, Replicas: 3, Bytes: 30, Unsealed: 1, Shards: 2, Only: 1}) || got.Empty() {
		t.Errorf("%+v", got)
	}
	if got := c.Left(vs, ids{21}); !got.Empty() || got.Only != 0 {
		t.Errorf("%+v", got)
	}
}

// A row that names as many disks as it can, most of them lost, makes room.
func TestFullRow(t *testing.T) {
	nodes, disks := grid(make([]Node, 10), 1)
	var all ids
	for i := range MaxReplicas {
		all = append(all, disks[i].ID)
		if i > 0 {
			disks[i].Up, disks[i].Away = false, testDelay
		}
	}
	p := New(nodes, disks).Plan([]Volume{vol(1, 2, all, all[:1])}, Options{RepairDelay: testDelay}, rand.New(rand.NewPCG(1, 1)))
	if len(p.Steps) != 1 || p.Steps[0].Op != Remove || p.Steps[0].Disk == 10 {
		t.Error(p)
	}
}
