package cache

import (
	"math/rand/v2"
	"testing"
)

// replay runs keys of one size through a policy that holds capacity of them and
// returns how many were not there.
func replay(p policy, capacity int, keys []uint64) (misses int) {
	held := make(map[uint64]*entry)
	for _, k := range keys {
		if e := held[k]; e != nil {
			p.hit(e)
			continue
		}
		misses++
		if len(held) == capacity {
			e := p.evict()
			delete(held, e.node.hash)
		}
		e := &entry{node: node{hash: k, cost: 1}}
		held[k] = e
		p.add(e)
	}
	return misses
}

// fifo is what S3-FIFO must beat.
type fifo struct{ q queue }

func (p *fifo) add(e *entry)    { p.q.push(e) }
func (p *fifo) hit(*entry)      {}
func (p *fifo) remove(e *entry) { p.q.take(e) }
func (p *fifo) overhead() int64 { return 0 }
func (p *fifo) evict() *entry {
	e := p.q.oldest
	p.q.take(e)
	return e
}

func TestOneHitWondersLeaveTheHotOnesAlone(t *testing.T) {
	const capacity, hot = 1000, 500
	var keys []uint64
	for range 4 {
		for k := range uint64(hot) {
			keys = append(keys, k)
		}
	}
	warmUp := len(keys)
	for i := range uint64(20_000) { // a scan, with the hot set asked for now and then
		keys = append(keys, 1_000_000+i)
		if i%40 == 0 {
			for k := range uint64(hot) {
				keys = append(keys, k)
			}
		}
	}
	p := newS3FIFO(capacity)
	if n := replay(p, capacity, keys[:warmUp]); n != hot {
		t.Fatalf("%d misses while warming up", n)
	}
	p = newS3FIFO(capacity)
	if n := replay(p, capacity, keys); n > 20_000+hot+hot/10 {
		t.Errorf("%d misses, want about %d: the scan pushed out the hot set", n, 20_000+hot)
	}
}

func TestS3FIFOBeatsFIFOOnZipf(t *testing.T) {
	const seed = 20261120
	r := rand.New(rand.NewPCG(seed, 0))
	z := rand.NewZipf(r, 1.01, 1, 100_000)
	keys := make([]uint64, 300_000)
	for i := range keys {
		keys[i] = z.Uint64()
	}
	s3, ff := replay(newS3FIFO(1000), 1000, keys), replay(&fifo{}, 1000, keys)
	if float64(s3) > 0.9*float64(ff) {
		t.Errorf("misses: S3-FIFO %d, FIFO %d (seed %d)", s3, ff, seed)
	}
}

func TestGhostsComeBackToMain(t *testing.T) {
	p := newS3FIFO(10)
	entries := make([]*entry, 12)
	for i := range entries {
		entries[i] = &entry{node: node{hash: uint64(i), cost: 1}}
		p.add(entries[i])
	}
	gone := p.evict()
	if gone != entries[0] || p.overhead() != ghostCost {
		t.Fatalf("evicted %d, overhead %d", gone.node.hash, p.overhead())
	}
	back := &entry{node: node{hash: 0, cost: 1}}
	p.add(back)
	if !back.node.main || p.main.count != 1 || p.small.count != 11 {
		t.Errorf("main %d, small %d", p.main.count, p.small.count)
	}
	// Its ring slot is void now and must not hide a later ghost of that hash.
	p.remove(back)
	p.ghosts.put(0, 100)
	p.ghosts.shrink(1)
	if !p.ghosts.take(0) {
		t.Error("the newer ghost went with the older slot")
	}
}

func TestGhostsAreBoundedByEntries(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := newS3FIFO(100)
	held := 0
	for range 50_000 {
		if held == 100 {
			if p.evict() == nil {
				t.Fatal("nothing to evict")
			}
			held--
		}
		p.add(&entry{node: node{hash: r.Uint64N(5000), cost: 1}})
		held++
		if n := p.ghosts.ring.len(); n > held || len(p.ghosts.at) > n {
			t.Fatalf("%d ghosts, %d hashes for %d entries", n, len(p.ghosts.at), held)
		}
	}
	for p.evict() != nil {
		held--
	}
	if held != 0 || p.overhead() != 0 || p.small.bytes != 0 || p.main.bytes != 0 {
		t.Errorf("empty: %d held, overhead %d", held, p.overhead())
	}
}

func TestOptionsValidate(t *testing.T) {
	err := Options{Budget: 5, MaxFills: -1, Name: "a b", Variants: []string{"a/b"}, Formats: map[string]string{"": "x"}}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	if n := len(err.(interface{ Unwrap() []error }).Unwrap()); n != 8 {
		t.Errorf("%d faults, want 8 at once:\n%v", n, err)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("New without an origin")
	}
}
