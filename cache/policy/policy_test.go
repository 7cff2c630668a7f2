package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// play asks a cache for objects of one size, named by letters; "-x" removes x. It
// returns the letters that were given up, in order.
func play(t *testing.T, name string, capacity int, script string) string {
	t.Helper()
	const unit = 1 << 20 // beside it ghosts weigh nothing
	p := New(name, int64(capacity)*unit)
	held := map[uint64]*Node{}
	var out strings.Builder
	for _, word := range strings.Fields(script) {
		k := uint64(word[len(word)-1])
		n := held[k]
		switch {
		case word[0] == '-':
			p.Remove(n)
			delete(held, k)
		case n != nil:
			p.Hit(n)
		default:
			if len(held) == capacity {
				n = p.Evict()
				out.WriteByte(byte(n.Hash))
				delete(held, n.Hash)
			}
			n = &Node{Hash: k, Cost: unit}
			held[k] = n
			p.Add(n)
		}
	}
	for n := p.Evict(); n != nil; n = p.Evict() {
		if held[n.Hash] != n {
			t.Errorf("%c is given up, which is not there", rune(n.Hash))
		}
		delete(held, n.Hash)
		out.WriteByte(byte(n.Hash))
	}
	if len(held) > 0 {
		t.Errorf("%d are lost", len(held))
	}
	return out.String()
}

// TestPublishedOrder plays cases made by hand from the papers.
func TestPublishedOrder(t *testing.T) {
	for _, c := range []struct {
		policy, what string
		capacity     int
		script, want string
	}{
		{"fifo", "hits change nothing", 3, "a b c a a d b e", "abcde"},
		{"fifo", "removal leaves the order", 3, "a b c -b d e", "acde"},
		{"lru", "a hit makes young", 3, "a b c a d b e", "bcadbe"},
		{"lru", "removal leaves the order", 3, "a b c a -b d e", "cade"},
		// Four queues of one each. b goes up to the top over three hits; d, hit
		// once, is pushed down again by c.
		{"s4lru", "each hit is one queue", 4, "a b b b b c e", "aceb"},
		{"s4lru", "what has no room above goes down", 4, "a b a b c d e", "acdeb"},
		{"s4lru", "a scan passes below", 4, "a a a b b c d e f", "cdefba"},
		// Hits save a and b once; the hand has come round, and a is next.
		{"sieve", "what was hit stays where it is", 3, "a b c a b d", "cabd"},
		{"sieve", "the hand goes on from where it stood", 4, "a b c d a b d e f", "ceabdf"},
		{"sieve", "removal under the hand", 4, "a b c d a e -c f g", "bdefga"},
		// Small has one place of ten.
		{"s3fifo", "one-hit wonders leave in order", 10, "a b c d e f g h i j k l", "abcdefghijkl"},
		{"s3fifo", "one hit in small is not enough", 10, "a a b c d e f g h i j k", "abcdefghijk"},
		{"s3fifo", "two are: a goes on to main", 10, "a a a b c d e f g h i j k", "bcdefghijka"},
		{"s3fifo", "a ghost comes back into main", 10, "a b c d e f g h i j k a l m", "abcdefghijklma"},
		{"s3fifo", "main goes round while it is hit", 10, "a a a b b b c d e f g h i j k a l", "cdefghijklba"},
	} {
		if got := play(t, c.policy, c.capacity, c.script); got != c.want {
			t.Errorf("%s: %s: %q gave up %s, want %s", c.policy, c.what, c.script, got, c.want)
		}
	}
}

// TestAnyOrder lets random operations loose on each policy and compares with a
// set: nothing is lost, given up twice or made up, and the budget is kept.
func TestAnyOrder(t *testing.T) {
	for _, name := range Names() {
		seed := rand.Uint64()
		if err := anyOrder(name, seed); err != nil {
			t.Errorf("anyOrder(%q, %d): %v", name, seed, err)
		}
	}
}

func anyOrder(name string, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 0))
	const budget = 1 << 20
	p := New(name, budget)
	held := map[*Node]bool{}
	byKey := map[uint64]*Node{}
	var used int64
	gone := func(n *Node) error {
		if !held[n] {
			return fmt.Errorf("key %d is given up, which is not there", n.Hash)
		}
		delete(held, n)
		delete(byKey, n.Hash)
		used -= n.Cost
		return nil
	}
	for range 30_000 {
		k := uint64(r.ExpFloat64() * 300)
		n := byKey[k]
		switch {
		case n != nil && r.IntN(20) == 0:
			p.Remove(n)
			if err := gone(n); err != nil {
				return err
			}
		case n != nil:
			p.Hit(n)
		default:
			cost := 1 + r.Int64N(20_000)
			for used+p.Overhead()+cost > budget {
				n := p.Evict()
				if n == nil {
					return fmt.Errorf("nothing to give up with %d bytes held", used)
				}
				if err := gone(n); err != nil {
					return err
				}
			}
			n = &Node{Hash: k, Cost: cost}
			held[n], byKey[k] = true, n
			used += cost
			p.Add(n)
		}
		if used+p.Overhead() > budget {
			return fmt.Errorf("%d bytes and %d of ghosts are more than %d", used, p.Overhead(), budget)
		}
	}
	n := 0
	for node := range p.All() {
		if !held[node] {
			return fmt.Errorf("All has %d, which is not there", node.Hash)
		}
		n++
	}
	if n != len(held) || n == 0 {
		return fmt.Errorf("All has %d of %d", n, len(held))
	}
	for n := p.Evict(); n != nil; n = p.Evict() {
		if err := gone(n); err != nil {
			return err
		}
	}
	if len(held) > 0 || used != 0 || p.Overhead() != 0 {
		return fmt.Errorf("%d are lost, %d bytes, %d of ghosts", len(held), used, p.Overhead())
	}
	return nil
}

// TestReplay says that a replay keeps its budget and what the photo cache would.
func TestReplay(t *testing.T) {
	for _, name := range Names() {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		c := NewReplay(name, 1<<20)
		c.Get(1, 1<<19)
		if c.Get(1, 1<<19) || c.Used() != 0 {
			t.Errorf("%s: half the room is kept", name)
		}
		hits := 0
		for range 20_000 {
			k := uint64(r.ExpFloat64() * 100)
			there := c.held[k] != nil
			if hit := c.Get(k, int64(1000+k)); hit != there || c.held[k] == nil || c.held[k].Hash != k {
				t.Fatalf("%s, seed %d: asked for %d: %v, it was there: %v", name, seed, k, hit, there)
			} else if hit {
				hits++
			}
			if r.IntN(50) == 0 {
				c.Remove(k)
				if c.held[k] != nil {
					t.Fatalf("%s: %d was removed", name, k)
				}
			}
			if c.Used() > 1<<20 {
				t.Fatalf("%s, seed %d: %d bytes", name, seed, c.Used())
			}
		}
		if hits == 0 {
			t.Errorf("%s: no hits", name)
		}
	}
}

func TestNames(t *testing.T) {
	if len(Names()) != len(policies) || Check(Default) != nil {
		t.Errorf("%d names, %d policies", len(Names()), len(policies))
	}
	for _, n := range Names() {
		if Check(n) != nil || policies[n] == nil {
			t.Errorf("%s is none", n)
		}
	}
	if err := Check("arc"); err == nil || !strings.Contains(err.Error(), "fifo, lru, s4lru, sieve, s3fifo") {
		t.Errorf("arc: %v", err)
	}
}

// misses runs keys of one size through a policy that holds capacity of them.
func misses(name string, capacity int, keys []uint64) (n int) {
	const unit = 1 << 30
	c := NewReplay(name, int64(capacity)*unit+unit/2) // the half is for ghosts
	for _, k := range keys {
		if !c.Get(k, unit) {
			n++
		}
	}
	return n
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
	if n := misses("s3fifo", capacity, keys[:warmUp]); n != hot {
		t.Fatalf("%d misses while warming up", n)
	}
	if n := misses("s3fifo", capacity, keys); n > 20_000+hot+hot/10 {
		t.Errorf("%d misses, want about %d: the scan pushed out the hot set", n, 20_000+hot)
	}
}

func TestBetterThanFIFOOnZipf(t *testing.T) {
	const seed = 20261120
	r := rand.New(rand.NewPCG(seed, 0))
	z := rand.NewZipf(r, 1.01, 1, 100_000)
	keys := make([]uint64, 300_000)
	for i := range keys {
		keys[i] = z.Uint64()
	}
	ff := misses("fifo", 1000, keys)
	for name, most := range map[string]float64{"lru": 0.97, "s4lru": 0.9, "sieve": 0.9, "s3fifo": 0.9} {
		if n := misses(name, 1000, keys); float64(n) > most*float64(ff) {
			t.Errorf("misses: %s %d, FIFO %d (seed %d)", name, n, ff, seed)
		}
	}
}

func TestGhostsComeBackToMain(t *testing.T) {
	p := newS3FIFO(10)
	nodes := make([]*Node, 12)
	for i := range nodes {
		nodes[i] = &Node{Hash: uint64(i), Cost: 1}
		p.Add(nodes[i])
	}
	gone := p.Evict()
	if gone != nodes[0] || p.Overhead() != ghostCost {
		t.Fatalf("evicted %d, overhead %d", gone.Hash, p.Overhead())
	}
	back := &Node{Hash: 0, Cost: 1}
	p.Add(back)
	if back.part != inMain || p.main.count != 1 || p.small.count != 11 {
		t.Errorf("main %d, small %d", p.main.count, p.small.count)
	}
	// Its ring slot is void now and must not hide a later ghost of that hash.
	p.Remove(back)
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
			if p.Evict() == nil {
				t.Fatal("nothing to evict")
			}
			held--
		}
		p.Add(&Node{Hash: r.Uint64N(5000), Cost: 1})
		held++
		if n := p.ghosts.ring.len(); n > held || len(p.ghosts.at) > n {
			t.Fatalf("%d ghosts, %d hashes for %d entries", n, len(p.ghosts.at), held)
		}
	}
	for p.Evict() != nil {
		held--
	}
	if held != 0 || p.Overhead() != 0 || p.small.bytes != 0 || p.main.bytes != 0 {
		t.Errorf("empty: %d held, overhead %d", held, p.Overhead())
	}
}

// BenchmarkAccess is the cost of one access of a Zipf trace, look-up included.
func BenchmarkAccess(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 7))
	z := rand.NewZipf(r, 1.05, 10, 1_000_000)
	keys := make([]uint64, 1<<20)
	for i := range keys {
		keys[i] = z.Uint64()
	}
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			c := NewReplay(name, 100_000<<20)
			for _, k := range keys {
				c.Get(k, 1<<20)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c.Get(keys[i&(len(keys)-1)], 1<<20)
				i++
			}
		})
	}
}
