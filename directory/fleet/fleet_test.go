package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// cluster is some nodes in one process, in a bubble of synctest.
type cluster struct {
	t *testing.T

	mu      sync.Mutex // guards all below
	leader  string
	led     bool // there is one
	version uint64
	fresh   error // what Fresh says where it is led
	known   map[string][]uint32
	nodes   map[string]*process
	events  []string
	calls   int
}

type process struct {
	c       *cluster
	name    string
	fleet   *Fleet
	stop    context.CancelFunc
	cut     bool // nobody reaches it, and it nobody
	behind  uint64
	slow    time.Duration // its calls take so long
	disks   []Disk
	stopped chan struct{}
}

func newCluster(t *testing.T, names ...string) *cluster {
	c := &cluster{t: t, known: map[string][]uint32{}, nodes: map[string]*process{}, version: 1}
	for i, n := range names {
		c.known[n] = []uint32{uint32(10*i + 10), uint32(10*i + 11)}
	}
	for i, n := range names {
		c.start(n, uint64(i+1))
	}
	t.Cleanup(func() {
		for _, p := range c.nodes {
			p.stop()
			<-p.stopped
		}
	})
	return c
}

func (c *cluster) start(name string, incarnation uint64) *process {
	p := &process{c: c, name: name, stopped: make(chan struct{})}
	for _, d := range c.known[name] {
		p.disks = append(p.disks, Disk{d, 500, 1000, true})
	}
	f, err := New(Options{Node: name, Incarnation: incarnation, Self: p.self, Table: p, Peers: p, Events: p.event})
	if err != nil {
		c.t.Fatal(err)
	}
	p.fleet = f
	ctx, cancel := context.WithCancel(c.t.Context())
	p.stop = cancel
	c.mu.Lock()
	c.nodes[name] = p
	c.mu.Unlock()
	go func() {
		f.Run(ctx)
		close(p.stopped)
	}()
	return p
}

func (c *cluster) do(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

func (c *cluster) lead(name string) { c.do(func() { c.leader, c.led = name, name != "" }) }

func (p *process) event(e Event) {
	p.c.do(func() {
		text := fmt.Sprintf("%s: %s %s", p.name, e.Kind, e.Node)
		if e.Kind == EventDisk {
			text += fmt.Sprintf(" %d %v", e.Disk, e.Up)
		}
		p.c.events = append(p.c.events, text)
	})
}

// told returns the events since the last time.
func (c *cluster) told() (out []string) {
	c.do(func() { out, c.events = c.events, nil })
	return out
}

func (p *process) self() (out []Disk) {
	p.c.do(func() { out = slices.Clone(p.disks) })
	return out
}

func (p *process) Leader() (n string, ok bool) {
	p.c.do(func() { n, ok = p.c.leader, p.c.led && !p.cut })
	return
}

func (p *process) Leading() (ok bool) {
	p.c.do(func() { ok = p.c.led && p.c.leader == p.name })
	return
}

func (p *process) Version() (v uint64) {
	p.c.do(func() { v = p.c.version - p.behind })
	return
}

func (p *process) Fresh(ctx context.Context) (v uint64, err error) {
	p.c.do(func() { v, err = p.c.version, p.c.fresh })
	return
}

func (p *process) Nodes() (out map[string][]uint32) {
	p.c.do(func() {
		out = map[string][]uint32{}
		for n, d := range p.c.known {
			out[n] = d
		}
	})
	return out
}

func (p *process) Call(ctx context.Context, node string, req []byte) ([]byte, error) {
	var to *process
	p.c.do(func() {
		p.c.calls++
		if q := p.c.nodes[node]; q != nil && !q.cut && !p.cut {
			to = q
		}
	})
	if to == nil {
		return nil, errors.New("no route")
	}
	res, err := to.fleet.Serve(ctx, p.name, req)
	select {
	case <-time.After(p.slow):
		return res, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// see describes who is up by what a node was told.
func (c *cluster) see(name string) string {
	var out []string
	for _, n := range c.nodes[name].fleet.View().Nodes {
		how := "up"
		if !n.Up {
			how = fmt.Sprint("away ", n.Away.Round(time.Second))
		}
		out = append(out, n.Name+" "+how)
	}
	return strings.Join(out, ", ")
}

// expect compares that, ages give or take two seconds: who beats first in a second is
// not determined.
func (c *cluster) expect(name, want string) {
	c.t.Helper()
	synctest.Wait()
	got := c.see(name)
	is, should := strings.Split(got, ", "), strings.Split(want, ", ")
	same := len(is) == len(should)
	for i := 0; same && i < len(is); i++ {
		a, ageA, _ := strings.Cut(is[i], " away ")
		b, ageB, _ := strings.Cut(should[i], " away ")
		x, _ := time.ParseDuration(ageA)
		y, _ := time.ParseDuration(ageB)
		same = a == b && (ageA == "") == (ageB == "") && (x-y).Abs() <= 2*time.Second
	}
	if !same {
		c.t.Errorf("%s sees %q, want %q", name, got, want)
	}
}

func (c *cluster) tells(want ...string) {
	c.t.Helper()
	got := c.told()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.t.Errorf("events %q, want %q", got, want)
	}
}

// pass lets the bubble's time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func bubble(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, fn)
}

func TestEverybodyKnowsEverybody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		pass(5 * time.Second)
		c.expect("b", "") // nobody leads
		if _, ok := c.nodes["b"].fleet.HeardFresh(); ok {
			t.Error("b is sure of its table, and never heard of any")
		}
		c.lead("a")
		pass(2500 * time.Millisecond)
		for n := range c.nodes {
			c.expect(n, "a up, b up, c up")
		}
		c.tells("a: leads a", "a: up a", "a: up b", "a: up c")
		n, ok := c.nodes["c"].fleet.View().Node("b")
		if !ok || n.Incarnation != 2 || n.Version != 1 || len(n.Disks) != 2 || n.Disks[0] != (DiskState{Disk{20, 500, 1000, true}, 0}) {
			t.Errorf("%+v", n)
		}
		if _, ok := c.nodes["c"].fleet.View().Node("x"); ok {
			t.Error("x is somebody")
		}
		calls := func() (n int) {
			c.do(func() { n = c.calls })
			return n
		}
		before := calls()
		pass(10 * time.Second)
		if n := calls() - before; n != 20 {
			t.Errorf("%d calls in 10 seconds of two followers", n)
		}
		if age, ok := c.nodes["b"].fleet.Heard(); !ok || age > time.Second {
			t.Errorf("heard %v ago", age)
		}
	})
}

func TestAwayAndBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		c.lead("a")
		pass(2500 * time.Millisecond)
		c.told()
		c.do(func() { c.nodes["c"].cut = true })
		pass(2 * time.Second)
		c.expect("b", "a up, b up, c up")
		pass(3 * time.Second)
		c.expect("a", "a up, b up, c away 5s")
		c.expect("b", "a up, b up, c away 5s")
		c.expect("c", "a up, b up, c up") // the last it was told
		if age, _ := c.nodes["c"].fleet.Heard(); age < 5*time.Second {
			t.Errorf("c heard of the leader %v ago", age)
		}
		pass(time.Minute)
		c.expect("b", "a up, b up, c away 1m5s")
		c.tells("a: away c")
		c.do(func() { c.nodes["c"].cut = false })
		pass(2 * time.Second)
		c.expect("b", "a up, b up, c up")
		c.tells("a: up c")
	})
}

// Another leader begins with what it was told: nobody dies of it, who was away still
// is, for as long, and the old leader gets its grace and no more.
func TestNewLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c", "d")
		c.lead("a")
		c.do(func() { c.nodes["d"].cut = true })
		pass(time.Minute)
		c.expect("c", "a up, b up, c up, d away 1m0s")
		if err := c.nodes["a"].fleet.Carry("balance"); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		c.told()
		c.do(func() { c.nodes["a"].cut = true })
		c.lead("")
		pass(20 * time.Second) // an election that takes long
		c.expect("c", "a up, b up, c up, d away 1m2s")
		c.lead("b")
		pass(2500 * time.Millisecond)
		c.expect("c", "a up, b up, c up, d away 1m24s")
		c.tells("b: leads b")
		if got := c.nodes["b"].fleet.Carried() + c.nodes["c"].fleet.Carried(); got != "balancebalance" {
			t.Errorf("carried: %q", got)
		}
		pass(6 * time.Second)
		c.expect("c", "a away 28s, b up, c up, d away 1m30s")
		c.tells("b: away a")
		c.do(func() { c.nodes["d"].cut, c.nodes["a"].cut = false, false })
		pass(3 * time.Second)
		c.expect("a", "a up, b up, c up, d up")
		if err := c.nodes["a"].fleet.Carry("x"); !errors.Is(err, ErrNotLeader) {
			t.Errorf("one that does not lead carries: %v", err)
		}
	})
}

// When all start at once, nobody is up before it spoke, and who never does is away
// since then.
func TestColdStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		c.do(func() { c.nodes["c"].cut = true })
		c.lead("a")
		pass(30 * time.Second)
		c.expect("b", "a up, b up, c away 30s")
		n, _ := c.nodes["b"].fleet.View().Node("c")
		if n.Incarnation != 0 || len(n.Disks) != 2 || n.Disks[1].Disk != (Disk{Disk: 31}) || n.Disks[1].Out < 28*time.Second {
			t.Errorf("%+v", n)
		}
	})
}

func TestDisks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		c.lead("a")
		pass(2500 * time.Millisecond)
		c.told()
		disks := func(seen string) []DiskState {
			n, _ := c.nodes[seen].fleet.View().Node("b")
			return n.Disks
		}
		c.do(func() { c.nodes["b"].disks[0].Free, c.nodes["b"].disks[1].InService = 77, false })
		pass(3 * time.Second)
		if d := disks("b"); d[0].Free != 77 || d[1].InService || d[1].Out < time.Second {
			t.Errorf("%+v", d)
		}
		c.tells("a: disk b 21 false")
		// It does not say anything of the disk any more; it names one that is not its.
		c.do(func() { c.nodes["b"].disks[1] = Disk{99, 1, 1, true} })
		pass(time.Minute)
		if d := disks("a"); len(d) != 2 || d[1].Disk.Disk != 21 || d[1].InService || d[1].Out < time.Minute {
			t.Errorf("%+v", d)
		}
		c.tells()
		c.do(func() { c.nodes["b"].disks[1] = Disk{21, 1, 1, true} })
		pass(2 * time.Second)
		c.tells("a: disk b 21 true")
		// The table gets to know the disk, and forgets a node.
		c.do(func() {
			c.known["b"] = []uint32{20, 21, 22}
			c.nodes["b"].disks = append(c.nodes["b"].disks, Disk{22, 5, 5, true})
		})
		pass(2500 * time.Millisecond)
		if d := disks("a"); len(d) != 3 || !d[2].InService {
			t.Errorf("%+v", d)
		}
		c.do(func() { delete(c.known, "b") })
		pass(2 * time.Second)
		c.expect("a", "a up")
	})
}

func TestHeardFresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		c.lead("a")
		pass(2500 * time.Millisecond)
		age := func(n string, least, most time.Duration) {
			t.Helper()
			if got, ok := c.nodes[n].fleet.HeardFresh(); !ok || got < least || got > most {
				t.Errorf("the table of %s is %v old, want %v to %v", n, got, least, most)
			}
		}
		age("a", 0, time.Second)
		age("b", 0, 2*time.Second+time.Millisecond)
		// b falls behind: it hears the leader, and its table gets older.
		c.do(func() { c.version, c.nodes["b"].behind = 5, 1 })
		pass(time.Minute)
		age("a", 0, time.Second)
		age("b", time.Minute, time.Minute+2*time.Second)
		// It never catches up with the newest, only with what was the newest.
		for range 60 {
			c.do(func() { c.version++ })
			pass(time.Second)
		}
		age("b", 0, 4*time.Second)
		c.do(func() { c.nodes["b"].behind = 0 })
		pass(2 * time.Second)
		age("b", 0, 2*time.Second+time.Millisecond)
		// The leader has lost its quorum: it answers, and is sure of nothing.
		c.do(func() { c.fresh = errors.New("no quorum") })
		pass(time.Minute)
		age("a", time.Minute, time.Minute+time.Second)
		age("b", time.Minute, time.Minute+3*time.Second)
		c.do(func() { c.fresh = nil })
		pass(3 * time.Second)
		age("b", 0, 2*time.Second+time.Millisecond)
		// An answer that takes long is as old as its question.
		c.do(func() { c.nodes["b"].slow = time.Second })
		pass(10 * time.Second)
		age("b", time.Second, 4*time.Second)
	})
}

func TestRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		c.lead("a")
		pass(1500 * time.Millisecond)
		a, b := c.nodes["a"].fleet, c.nodes["b"].fleet
		good := beat{V: 1, Node: "b", Incarnation: 9, Number: 1}
		with := func(fn func(*beat)) []byte {
			x := good
			fn(&x)
			return encode(x)
		}
		for _, tt := range []struct {
			name string
			at   *Fleet
			from string
			req  []byte
			want error
		}{
			{"good", a, "b", encode(good), nil},
			{"to one that does not lead", b, "b", encode(good), ErrNotLeader},
			{"for another", a, "c", encode(good), ErrInvalid},
			{"unknown", a, "x", with(func(b *beat) { b.Node = "x" }), ErrUnknown},
			{"nobody", a, "", with(func(b *beat) { b.Node = "" }), ErrInvalid},
			{"no incarnation", a, "b", with(func(b *beat) { b.Incarnation = 0 }), ErrInvalid},
			{"another version", a, "b", with(func(b *beat) { b.V = 2 }), ErrInvalid},
			{"too many disks", a, "b", with(func(b *beat) { b.Disks = make([]Disk, maxDisks+1) }), ErrInvalid},
			{"no JSON", a, "b", []byte("{"), ErrInvalid},
			{"too long", a, "b", make([]byte, maxBeat+1), ErrInvalid},
		} {
			if _, err := tt.at.Serve(t.Context(), tt.from, tt.req); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if err := a.Carry(strings.Repeat("x", maxText+1)); !errors.Is(err, ErrInvalid) {
			t.Errorf("a long text: %v", err)
		}
		// Fields of a later minor version are no trouble.
		if _, err := a.Serve(t.Context(), "b", []byte(`{"v":1,"node":"b","incarnation":9,"number":2,"mood":"fine"}`)); err != nil {
			t.Error(err)
		}
		for _, bad := range [][]byte{nil, []byte("[]"), []byte(`{"v":9}`), make([]byte, maxAnswer+1)} {
			if _, err := decodeAnswer(bad); err == nil {
				t.Errorf("%.10q was read", bad)
			}
		}
	})
}

// A beat that was on its way for long says nothing new.
func TestLateBeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		c.lead("a")
		c.do(func() { c.nodes["b"].cut = true })
		pass(1500 * time.Millisecond)
		a := c.nodes["a"].fleet
		send := func(incarnation, number uint64, free int64) {
			if _, err := a.Serve(t.Context(), "b", encode(beat{V: 1, Node: "b", Incarnation: incarnation, Number: number, Disks: []Disk{{20, free, 9, true}}})); err != nil {
				t.Fatal(err)
			}
		}
		free := func() int64 {
			pass(time.Second)
			n, _ := a.View().Node("b")
			return n.Disks[0].Free
		}
		send(7, 5, 1)
		send(7, 4, 2)
		if got := free(); got != 1 {
			t.Errorf("the earlier beat counts: %d", got)
		}
		send(8, 1, 3) // it started again
		if got := free(); got != 3 {
			t.Errorf("the new process does not count: %d", got)
		}
	})
}

// A leader that stood still for a while heard nobody meanwhile, and takes nobody for
// away because of that.
func TestPausedLeader(t *testing.T) {
	o := Options{Node: "a", Table: &process{c: &cluster{known: map[string][]uint32{"a": nil, "b": nil}}}, Every: time.Second, AwayAfter: 3 * time.Second, Grace: 5 * time.Second}
	l := takeOver(&o, &View{}, 0)
	l.take(&beat{Node: "b", Incarnation: 1, Number: 1}, time.Second)
	l.miss(time.Second)
	if got := l.miss(31 * time.Second); len(got) != 0 {
		t.Errorf("after a pause: %v", got)
	}
	l.miss(32 * time.Second)
	if got := l.miss(33*time.Second + 1); len(got) != 1 || got[0].Kind != EventAway {
		t.Errorf("it is still not away: %v", got)
	}
}

// The wire keeps what it says: fields have the names that docs/placement.md gives.
func TestWire(t *testing.T) {
	b := encode(beat{V: 1, Node: "b", Incarnation: 9, Number: 3, Version: 7, Disks: []Disk{{20, 5, 6, true}}})
	if want := `{"v":1,"node":"b","incarnation":9,"number":3,"version":7,"disks":[{"disk":20,"free":5,"capacity":6,"in_service":true}]}`; string(b) != want {
		t.Errorf("%s", b)
	}
	a := encode(answer{V: 1, Leader: "a", Version: 7, VerifiedMS: 2, Carried: "x", Nodes: []answerNode{{Name: "b", Incarnation: 9, AwayMS: 4, Version: 7, Disks: []answerDisk{{Disk{20, 5, 6, false}, 8}}}}})
	if want := `{"v":1,"leader":"a","version":7,"verified_ms":2,"nodes":[{"name":"b","incarnation":9,"up":false,"away_ms":4,"version":7,"disks":[{"disk":20,"free":5,"capacity":6,"in_service":false,"out_ms":8}]}],"carried":"x"}`; string(a) != want {
		t.Errorf("%s", a)
	}
	if !json.Valid(a) {
		t.Error("no JSON")
	}
	if d := span(-5) + span(1<<62); d < 0 || span(-5) != 0 {
		t.Errorf("ages from elsewhere: %v", d)
	}
}

func TestOptions(t *testing.T) {
	_, err := New(Options{})
	for _, s := range []string{"Node", "Incarnation", "Self", "Table"} {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("%v does not name %s", err, s)
		}
	}
}

// What a follower was told is what the leader told, for any values.
func TestViewSurvivesTheWire(t *testing.T) {
	v := &View{Leader: "a", carried: "t", at: 5, Nodes: []Node{
		{Name: "a", Incarnation: 1, Up: true, Version: 3, Disks: []DiskState{{Disk{1, 2, 3, true}, 0}, {Disk{2, 0, 3, false}, time.Hour}}},
		{Name: "b", Away: 3 * time.Second}}}
	a, err := decodeAnswer(encode(answer{V: 1, Leader: "a", Nodes: v.nodes(), Carried: "t"}))
	if err != nil {
		t.Fatal(err)
	}
	if got := viewOf(&a, 5); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", v) {
		t.Errorf("%+v\n%+v", got, v)
	}
}
