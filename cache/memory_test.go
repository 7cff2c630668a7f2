package cache

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

// crowd is an origin of photos of many sizes, which everybody may see. Their mean
// drifts over the photos' numbers, as sizes in the world do.
type crowd struct{ drift float64 }

func (crowd) sizeOf(k Key, drift float64) int {
	r := rand.New(rand.NewPCG(uint64(k.Blob), 3))
	return max(200, min(2<<20, int(13e3*math.Exp(1.3*r.NormFloat64()+math.Sin(float64(k.Blob)*drift)))))
}

func (w crowd) Fetch(_ context.Context, k Key) (Object, error) {
	b := make([]byte, w.sizeOf(k, w.drift))
	b[0], b[len(b)-1] = byte(k.Blob), byte(k.Blob)
	return Object{Data: b, ContentType: "image/jpeg", ETag: "x"}, nil
}

func (crowd) Access(context.Context, id.ID) (Verdict, error) {
	return Verdict{Audience: Public}, nil
}

func (crowd) Purges(ctx context.Context, _ uint64, _ int) ([]Purge, time.Duration, error) {
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

// resident returns how much memory the kernel counts for this process, in bytes.
func resident(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Fscan(strings.NewReader(string(b)), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestProcessStaysInTheBudget: over a trace of photos that are born and grow old,
// with sizes that drift, what the process takes is the budget and a tenth at most,
// whatever it took before.
func TestProcessStaysInTheBudget(t *testing.T) {
	const budget = 256 << 20
	requests := testenv.Times("HAYLOFT_CACHE_REQUESTS", testenv.Rounds(150_000))
	w := crowd{drift: 20 * math.Pi / float64(requests)}
	debug.FreeOSMemory()
	before := resident(t)
	c, err := New(Options{Origin: w, Access: w, Purges: w, Clock: clock.NewFake(epoch0), Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./cache -run TestProcessStaysInTheBudget -seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	peak, full := int64(0), false
	for i := range requests {
		born := 1 + i/5 // the newest photo
		age := int(math.Pow(float64(born), rng.Float64()))
		k, _ := c.internal(keyOf(id.ID(max(1, born-age+1)), "large"))
		e, _, err := c.get(k, nil)
		if err != nil {
			t.Fatal(err)
		}
		if at := len(e.data) - 1; e.data[0] != byte(k.blob) || e.data[at] != byte(k.blob) {
			t.Fatalf("photo %d has wrong bytes", k.blob)
		}
		e.unpin()
		if i%512 == 0 {
			peak = max(peak, resident(t)-before)
			full = full || c.Stats().Bytes > budget*98/100
		}
	}
	st := c.Stats()
	if !full && testenv.Rounds(100) == 100 {
		t.Errorf("the cache was never full: %+v", st)
	}
	testenv.Tell(t, "budget %d MiB: the process took %.1f MiB (%.3f of it), %d requests, %d fills, %d evictions",
		budget>>20, float64(peak)/(1<<20), float64(peak)/budget, requests, st.Fills, st.Evictions)
	if peak > budget*11/10 && testenv.Rounds(100) == 100 { // the race detector has memory of its own
		t.Errorf("the process took %d bytes for a budget of %d", peak, int64(budget))
	}
}

// TestHitAllocatesAndCopiesNothing: what a hit hands out is the memory that the
// object lies in.
func TestHitAllocatesAndCopiesNothing(t *testing.T) {
	w := newWorld()
	w.size = func(Key) int { return 100_000 }
	w.verdicts[7] = public
	c := open(t, w, Options{Budget: 4 << 20})
	if _, err := fetchOne(t, w, c, keyOf(7, "large"), nil); err != nil {
		t.Fatal(err)
	}
	k, _ := c.internal(keyOf(7, "large"))
	var first *byte
	if n := testing.AllocsPerRun(1000, func() {
		e, from, err := c.get(k, nil)
		if err != nil || from != byHit || first != nil && first != &e.data[0] {
			t.Fatalf("%v, %v", from, err)
		}
		first = &e.data[0]
		if _, _, ok := e.shard.alloc.File(e.data); !ok {
			t.Fatal("the bytes lie in no memory file")
		}
		e.unpin()
	}); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
	target, head := []byte(keyOf(7, "large").Path()), make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(1000, func() {
		fields, p, ok := c.Hit(head, target)
		if !ok || len(fields) == 0 || &p.Bytes()[0] != first {
			t.Fatal("no hit")
		}
		p.Done(len(p.Bytes()))
	}); n != 0 {
		t.Errorf("a hit with its header allocates %v times", n)
	}
	if st := c.Stats(); st.Hits != 2002 || st.BytesServed != 1001*100_000 {
		t.Errorf("stats %+v", st)
	}
}
