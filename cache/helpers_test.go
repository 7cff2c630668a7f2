package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/sign"
	"hayloft/internal/spread"
)

func TestMain(m *testing.M) {
	// fasthttp keeps one clock for its Date header for ever.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

var epoch0 = time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC)

var errDown = errors.New("down")

// world is everything behind a cache: origin, access and purge log, all of which
// can be told to fail or to wait.
type world struct {
	clock *clock.Fake

	mu       sync.Mutex
	cond     *sync.Cond // on every change
	size     func(Key) int
	verdicts map[id.ID]Verdict
	log      []Purge
	head     uint64
	beats    int  // heartbeats that are due
	silent   bool // the log does not answer
	gap      bool // the next call is answered with a gap
	reached  int  // calls of Purges so far
	fetches  map[Key]int
	asked    int
	age      time.Duration // of what the log and Access answer
	fetchErr error
	askErr   error
	hold     chan struct{} // Fetch waits for it when not nil
	holdAsk  chan struct{} // Access waits for it when not nil
	inFetch  int
	inAsk    int
	maxFetch int
	lent     int // objects that the cache has not released
}

func newWorld() *world {
	w := &world{
		clock:    clock.NewFake(epoch0),
		size:     func(Key) int { return 1000 },
		verdicts: make(map[id.ID]Verdict),
		fetches:  make(map[Key]int),
	}
	w.cond = sync.NewCond(&w.mu)
	return w
}

// with changes the world.
func (w *world) with(f func()) {
	w.mu.Lock()
	f()
	w.cond.Broadcast()
	w.mu.Unlock()
}

// until waits for a condition on the world.
func (w *world) until(ok func() bool) {
	w.mu.Lock()
	for !ok() {
		w.cond.Wait()
	}
	w.mu.Unlock()
}

// content is what the origin has for k: no two keys share a byte pattern.
func content(k Key, n int) []byte {
	seed := crc32.ChecksumIEEE(fmt.Append(nil, k))
	b := make([]byte, n)
	for i := range b {
		seed = seed*1664525 + 1013904223
		b[i] = byte(seed >> 24)
	}
	return b
}

func object(k Key, n int) Object {
	b := content(k, n)
	return Object{Data: b, ContentType: "image/jpeg", ETag: fmt.Sprintf("%08x", crc32.ChecksumIEEE(b))}
}

func (w *world) Fetch(ctx context.Context, k Key) (Object, error) {
	w.mu.Lock()
	w.fetches[k]++
	w.inFetch++
	w.maxFetch = max(w.maxFetch, w.inFetch)
	hold := w.hold
	w.cond.Broadcast()
	w.mu.Unlock()
	var err error
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inFetch--
	w.cond.Broadcast()
	if err == nil {
		err = w.fetchErr
	}
	if k.Cookie != cookieOf(k.Blob) {
		return Object{}, ErrNotFound
	}
	o := object(k, w.size(k))
	if err != nil { // with half of the bytes, as a broken connection leaves it
		o.Data = o.Data[:len(o.Data)/2]
		return o, err
	}
	return w.lend(o), nil
}

// lend makes every use of the bytes after their release visible. Needs mu.
func (w *world) lend(o Object) Object {
	data := o.Data
	w.lent++
	released := false
	o.Release = func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if released {
			w.lent += 1000 // noticed by open
		}
		released = true
		w.lent--
		for i := range data {
			data[i] = 0xdb
		}
	}
	return o
}

func (w *world) Access(ctx context.Context, blob id.ID) (Verdict, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	w.inAsk++
	w.cond.Broadcast()
	if hold := w.holdAsk; hold != nil {
		w.mu.Unlock()
		select {
		case <-hold:
		case <-ctx.Done():
		}
		w.mu.Lock()
	}
	w.inAsk--
	w.cond.Broadcast()
	if err := ctx.Err(); err != nil {
		return Verdict{}, err
	}
	v := w.verdicts[blob]
	v.Age = w.age
	return v, w.askErr
}

func (w *world) Purges(ctx context.Context, after uint64, limit int) ([]Purge, time.Duration, error) {
	stop := context.AfterFunc(ctx, func() { w.with(func() {}) })
	defer stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reached++
	w.cond.Broadcast()
	for ctx.Err() == nil {
		if w.gap {
			w.gap = false
			return nil, 0, &GapError{Head: w.head}
		}
		if !w.silent {
			var out []Purge
			for _, p := range w.log {
				if p.Seq > after && len(out) < limit {
					out = append(out, p)
				}
			}
			if len(out) > 0 {
				return out, w.age, nil
			}
			if w.beats > 0 {
				w.beats--
				return nil, w.age, nil
			}
		}
		w.cond.Wait()
	}
	return nil, 0, ctx.Err()
}

// purge appends to the log.
func (w *world) purge(blob id.ID) {
	w.with(func() {
		w.head += 3 // numbers need not be dense
		w.log = append(w.log, Purge{w.head, blob})
	})
}

// beat lets the log answer once with nothing, and waits until the cache has
// taken note: it then knows the log as of this moment.
func (w *world) beat(c *Cache) {
	w.mu.Lock()
	from := w.reached
	w.beats = 1
	w.cond.Broadcast()
	// The call under way is answered; the one after it was begun at this
	// clock's time, so it is the one whose answer counts as of now.
	for w.reached == from {
		w.cond.Wait()
	}
	from = w.reached
	w.beats = 1
	w.cond.Broadcast()
	for w.reached == from {
		w.cond.Wait()
	}
	w.mu.Unlock()
}

// settle waits until the cache has applied the whole log.
func (w *world) settle(c *Cache) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if n := len(w.log); n == 0 || c.log.seq.Load() >= w.log[n-1].Seq {
			return
		}
		w.cond.Wait() // Purges is called again after each batch, and says so
	}
}

func (w *world) fetched(k Key) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fetches[k]
}

func cookieOf(blob id.ID) id.Cookie { return id.Cookie(spread.Mix(uint64(blob)) | 1) }

func keyOf(blob id.ID, variant string) Key {
	return Key{Variant: variant, Blob: blob, Cookie: cookieOf(blob), Ext: "jpg"}
}

func testRing(t testing.TB) *sign.Ring {
	t.Helper()
	r, err := sign.NewRing(sign.Key{Version: 1, Secret: [32]byte{7}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t testing.TB, w *world, o Options) *Cache {
	t.Helper()
	if o.Origin == nil {
		o.Origin = w
	}
	o.Access, o.Purges, o.Clock = w, w, w.clock
	if o.Ring == nil {
		o.Ring = testRing(t)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.lent != 0 {
			t.Errorf("%d objects were not released, or twice", w.lent)
		}
	})
	return c
}

// fetchOne gets k, compares every byte and lets go of it.
func fetchOne(t testing.TB, w *world, c *Cache, k Key, grant *sign.MediaGrant) (how, error) {
	t.Helper()
	in, ok := c.internal(k)
	if !ok {
		t.Fatalf("%+v is no key", k)
	}
	e, from, err := c.get(in, grant)
	if err != nil {
		return from, err
	}
	defer e.unpin()
	if want := content(k, w.size(k)); !bytes.Equal(e.data, want) {
		t.Errorf("%+v: wrong bytes (%d, want %d)", k, len(e.data), len(want))
	}
	return from, nil
}

// pool is an allocator that shows misuse: freed blocks are overwritten and given
// out again at once, and a block must be freed once.
type pool struct {
	mu   sync.Mutex
	free map[int][][]byte
	out  map[*byte]bool
	sum  int64
	bad  []string
}

func newPool() *pool { return &pool{free: make(map[int][][]byte), out: make(map[*byte]bool)} }

func (p *pool) Cost(n int) int64 { return int64(n) }

func (p *pool) Alloc(n int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b []byte
	if l := p.free[n]; len(l) > 0 {
		b, p.free[n] = l[len(l)-1], l[:len(l)-1]
	} else {
		b = make([]byte, n)
	}
	p.out[&b[0]] = true
	p.sum += int64(n)
	return b
}

func (p *pool) Free(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.out[&b[0]] {
		p.bad = append(p.bad, "a block was freed twice")
		return
	}
	delete(p.out, &b[0])
	for i := range b {
		b[i] = 0xDD
	}
	p.sum -= int64(len(b))
	p.free[len(b)] = append(p.free[len(b)], b)
}

func (p *pool) File([]byte) (int, int64, bool) { return 0, 0, false }

func (p *pool) held() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sum
}

func (p *pool) faults() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bad
}

// memory is an allocator that shows misuse.
type memory interface {
	allocator
	held() int64      // bytes in blocks
	faults() []string // what was done wrong
}

// poisoned is the product's memory, overwritten when it is freed. It panics when a
// block is freed twice.
type poisoned struct{ arena }

func (p poisoned) held() int64    { return p.Held() }
func (poisoned) faults() []string { return nil }

func newPoisoned(t testing.TB) memory {
	t.Helper()
	a, err := newArena(Options{Budget: 64 << 20, MaxLoose: 64 << 20}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return poisoned{a}
}

// eachMemory runs f on a pool of blocks of any size and on the product's memory.
func eachMemory(t *testing.T, f func(t *testing.T, m memory)) {
	t.Run("pool", func(t *testing.T) { f(t, newPool()) })
	t.Run("arena", func(t *testing.T) { f(t, newPoisoned(t)) })
}

// audit checks that maps, queues and sums of every shard agree.
func audit(t testing.TB, c *Cache) {
	t.Helper()
	var loose int64
	for i, s := range c.shards {
		s.mu.Lock()
		seen := make(map[*entry]bool)
		var used int64
		for blob, first := range s.blobs {
			for e := first; e != nil; e = e.sibling {
				if id.ID(e.key.blob) != blob || seen[e] {
					t.Errorf("shard %d: entry %+v in the chain of %v", i, e.key, blob)
				}
				if !e.linked {
					t.Errorf("shard %d: entry %+v does not know that it is in the map", i, e.key)
				}
				if e.loose != nil {
					loose += e.node.Cost
					if e.refs.Load() <= 0 {
						t.Errorf("shard %d: loose entry %+v is read by nobody", i, e.key)
					}
					continue
				}
				seen[e] = true
				used += e.node.Cost
			}
		}
		queued := 0
		for n := range s.policy.All() {
			if e := entryOf(n); !seen[e] {
				t.Errorf("shard %d: the policy has an entry that is not in the map", i)
			}
			queued++
		}
		if used != s.used || len(seen) != queued || int64(queued) != s.entries {
			t.Errorf("shard %d: used %d (sum %d), map %d, queues %d, entries %d", i, s.used, used, len(seen), queued, s.entries)
		}
		if total := s.used + s.policy.Overhead() + s.leaving.Load(); total > s.budget {
			t.Errorf("shard %d: %d bytes of %d", i, total, s.budget)
		}
		s.mu.Unlock()
	}
	if sum := c.loose.Load(); loose > sum {
		t.Errorf("%d loose bytes in the maps, %d counted", loose, sum)
	}
}
