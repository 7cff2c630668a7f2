package cache

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/sign"
	"hayloft/internal/spread"
)

var public = Verdict{Audience: Public}

func TestOneFetchForAThousandWaiters(t *testing.T) {
	w := newWorld()
	k := keyOf(7, "large")
	w.verdicts[7] = public
	w.hold = make(chan struct{})
	c := open(t, w, Options{})
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if _, err := fetchOne(t, w, c, k, nil); err != nil {
				t.Error(err)
			}
		})
	}
	for c.Stats().Misses+c.Stats().Collapsed < 1000 { // all are waiting now
		w.until(func() bool { return w.inFetch == 1 })
	}
	close(w.hold)
	wg.Wait()
	if n := w.fetched(k); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
	if st := c.Stats(); st.Misses != 1 || st.Collapsed != 999 || st.Fills != 1 || st.Entries != 1 {
		t.Errorf("stats %+v", st)
	}
	if from, err := fetchOne(t, w, c, k, nil); err != nil || from != byHit {
		t.Errorf("afterwards: how %d, %v", from, err)
	}
	audit(t, c)
}

func TestAccessIsAskedOnEveryFill(t *testing.T) {
	w := newWorld()
	w.verdicts[7] = public
	c := open(t, w, Options{})
	for i, v := range []string{"thumbnail", "small", "medium", "large"} {
		if _, err := fetchOne(t, w, c, keyOf(7, v), nil); err != nil {
			t.Fatal(err)
		}
		if w.asked != i+1 {
			t.Errorf("%d questions after %d fills", w.asked, i+1)
		}
	}
}

func TestFailedFillsAreNotKept(t *testing.T) {
	k := keyOf(7, "large")
	for name, c := range map[string]struct {
		broken   func(*world)
		notFound bool
	}{
		"cut short":     {func(w *world) { w.fetchErr = errDown }, false},
		"access fails":  {func(w *world) { w.askErr = errDown }, false},
		"gone":          {func(w *world) { delete(w.verdicts, 7) }, true},
		"not found":     {func(w *world) { w.fetchErr = fmt.Errorf("volume 3: %w", ErrNotFound) }, true},
		"empty":         {func(w *world) { w.size = func(Key) int { return 0 } }, false},
		"signed, no ID": {func(w *world) { w.verdicts[7] = Verdict{Audience: Signed, Epoch: 1} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.verdicts[7] = public
			cache := open(t, w, Options{})
			w.with(func() { c.broken(w) })
			_, err := fetchOne(t, w, cache, k, nil)
			if err == nil || (errors.Is(err, ErrNotFound) || errors.Is(err, errDenied)) != c.notFound {
				t.Errorf("error %v", err)
			}
			if st := cache.Stats(); st.Entries != 0 || st.Bytes != 0 {
				t.Errorf("something was kept: %+v", st)
			}
			w.with(func() { // nor is the failure kept
				w.fetchErr, w.askErr, w.verdicts[7], w.size = nil, nil, public, func(Key) int { return 1000 }
			})
			if from, err := fetchOne(t, w, cache, k, nil); err != nil || from != byFill {
				t.Errorf("after the repair: how %d, %v", from, err)
			}
		})
	}
}

func TestObjectMustFitItsKey(t *testing.T) {
	w := newWorld()
	w.verdicts[7] = public
	c := open(t, w, Options{})
	k := keyOf(7, "large")
	k.Ext = "webp" // the world only has JPEG
	if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a JPEG as .webp: %v", err)
	}
	in, _ := c.internal(keyOf(7, "large"))
	for _, etag := range []string{"", `a"b`, "a b", "a\r\nb", string(make([]byte, 200))} {
		o := object(keyOf(7, "large"), 10)
		o.ETag = etag
		if err := c.check(in, o); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("ETag %q: %v", etag, err)
		}
	}
}

func TestPurgeBeatsTheFillUnderWay(t *testing.T) {
	w := newWorld()
	k := keyOf(7, "large")
	w.verdicts[7] = public
	w.hold = make(chan struct{})
	c := open(t, w, Options{})
	result := make(chan error, 1)
	go func() {
		_, err := fetchOne(t, w, c, k, nil)
		result <- err
	}()
	w.until(func() bool { return w.inFetch == 1 })
	w.with(func() { delete(w.verdicts, 7) })
	w.purge(7)
	// The fetch is still held: the purge alone must free the waiter.
	if err := <-result; !errors.Is(err, ErrNotFound) {
		t.Errorf("the waiter got %v", err)
	}
	w.until(func() bool { return w.inFetch == 0 }) // its context ended
	c.Close()
	if st := c.Stats(); st.Entries != 0 || st.FillsPurged != 1 {
		t.Errorf("stats %+v", st)
	}
}

// The origin has answered, but the purge comes before the bytes are published.
func TestPurgeBetweenFetchAndInsert(t *testing.T) {
	w := newWorld()
	w.verdicts[7] = public
	p := newPool()
	c := open(t, w, Options{alloc: p, shards: 1})
	k, _ := c.internal(keyOf(7, "large"))
	s := c.shards[0]
	s.mu.Lock()
	f := &flight{key: k, ctx: t.Context(), stop: func(error) {}, done: make(chan struct{}), waiters: 1, verdict: public}
	s.flights[k] = f
	s.mu.Unlock()
	e := c.newEntry(s, k, object(keyOf(7, "large"), 1000))
	w.purge(7)
	w.settle(c)
	c.land(s, f, e)
	if f.err != errPurged || f.entry != nil {
		t.Errorf("published: %v %v", f.entry, f.err)
	}
	if p.held() != 0 || c.Stats().Bytes != 0 {
		t.Errorf("%d bytes held, %d counted", p.held(), c.Stats().Bytes)
	}
	audit(t, c)
}

// A purge that says nothing about rights (an edit, say) costs one more fetch.
func TestPurgeOfSomethingStillPublicRefills(t *testing.T) {
	w := newWorld()
	k := keyOf(7, "large")
	w.verdicts[7] = public
	w.hold = make(chan struct{})
	c := open(t, w, Options{})
	result := make(chan error, 1)
	go func() {
		_, err := fetchOne(t, w, c, k, nil)
		result <- err
	}()
	w.until(func() bool { return w.inFetch == 1 })
	w.purge(7)
	w.until(func() bool { return w.fetches[k] == 2 })
	close(w.hold)
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestUnsignedRequestsReadNothingPrivate(t *testing.T) {
	w := newWorld()
	k := keyOf(7, "large")
	w.verdicts[7] = Verdict{Audience: Signed, Epoch: 3}
	c := open(t, w, Options{})
	for name, g := range map[string]*sign.MediaGrant{"unsigned": nil, "other epoch": {Epoch: 2}} {
		if _, err := fetchOne(t, w, c, k, g); !errors.Is(err, errDenied) {
			t.Errorf("%s, cold: %v", name, err)
		}
	}
	if n := w.fetched(k); n != 0 {
		t.Errorf("%d fetches for nobody", n)
	}
	if _, err := fetchOne(t, w, c, k, &sign.MediaGrant{Epoch: 3}); err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]*sign.MediaGrant{"unsigned": nil, "other epoch": {Epoch: 2}, "epoch 0": {}} {
		if _, err := fetchOne(t, w, c, k, g); !errors.Is(err, errDenied) {
			t.Errorf("%s, warm: %v", name, err)
		}
	}
}

// One fill serves all who may have it, and nobody else.
func TestMixedWaitersOnOneFill(t *testing.T) {
	w := newWorld()
	k := keyOf(7, "large")
	w.verdicts[7] = Verdict{Audience: Signed, Epoch: 3}
	w.holdAsk, w.hold = make(chan struct{}), make(chan struct{})
	c := open(t, w, Options{})
	var wg sync.WaitGroup
	ask := func(g *sign.MediaGrant, want error) {
		wg.Go(func() {
			if _, err := fetchOne(t, w, c, k, g); !errors.Is(err, want) {
				t.Errorf("grant %v: %v, want %v", g, err, want)
			}
		})
	}
	ask(nil, errDenied)
	w.until(func() bool { return w.inAsk == 1 })
	ask(&sign.MediaGrant{Epoch: 3}, nil)
	for c.Stats().Collapsed < 1 {
		w.until(func() bool { return true })
	}
	close(w.holdAsk)
	w.until(func() bool { return w.inFetch == 1 })
	ask(nil, errDenied)
	ask(&sign.MediaGrant{Epoch: 2}, errDenied)
	for c.Stats().Collapsed < 3 {
		w.until(func() bool { return true })
	}
	close(w.hold)
	wg.Wait()
	if n := w.fetched(k); n != 1 {
		t.Errorf("%d fetches", n)
	}
	audit(t, c)
	if e := c.shardOf(7).blobs[7]; e == nil || e.refs.Load() != 1 {
		t.Error("a waiter that was refused left its pin behind")
	}
}

func TestFillsAreBounded(t *testing.T) {
	w := newWorld()
	w.hold = make(chan struct{})
	c := open(t, w, Options{MaxFills: 3, MaxQueue: 5})
	var wg sync.WaitGroup
	for blob := id.ID(1); blob <= 8; blob++ { // 3 under way and 5 waiting
		w.with(func() { w.verdicts[blob] = public })
		wg.Go(func() {
			if _, err := fetchOne(t, w, c, keyOf(blob, "small"), nil); err != nil {
				t.Error(err)
			}
		})
		if blob == 3 {
			w.until(func() bool { return w.inFetch == 3 })
		}
	}
	for c.Stats().Misses < 8 {
		w.until(func() bool { return true })
	}
	if _, err := fetchOne(t, w, c, keyOf(9, "small"), nil); !errors.Is(err, errBusy) {
		t.Errorf("the ninth: %v", err)
	}
	close(w.hold)
	wg.Wait()
	if w.maxFetch != 3 {
		t.Errorf("%d fetches at once", w.maxFetch)
	}
	if st := c.Stats(); st.FillsRefused != 1 || st.Fills != 8 {
		t.Errorf("stats %+v", st)
	}
}

func TestFillDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.verdicts[7] = public
		w.hold = make(chan struct{}) // never opened
		c := open(t, w, Options{FillTimeout: 3 * time.Second})
		begin := time.Now()
		_, err := fetchOne(t, w, c, keyOf(7, "small"), nil)
		if err == nil || errors.Is(err, ErrNotFound) || time.Since(begin) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		c.Close()
	})
}

func TestCloseFreesWaiters(t *testing.T) {
	w := newWorld()
	w.verdicts[7] = public
	w.hold = make(chan struct{})
	c := open(t, w, Options{})
	result := make(chan error, 1)
	go func() {
		_, err := fetchOne(t, w, c, keyOf(7, "small"), nil)
		result <- err
	}()
	w.until(func() bool { return w.inFetch == 1 })
	c.Close()
	if err := <-result; err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("waiter: %v", err)
	}
	if _, err := fetchOne(t, w, c, keyOf(8, "small"), nil); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestTooLargeIsServedAndNotKept(t *testing.T) {
	w := newWorld()
	w.verdicts[7] = public
	w.size = func(Key) int { return 600 << 10 } // more than a quarter of the shard
	c := open(t, w, Options{Budget: 1 << 20})
	in, _ := c.internal(keyOf(7, "original"))
	e, _, err := c.get(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if st := c.Stats(); st.Entries != 0 || st.LooseBytes != 600<<10+entryCost || st.TotalBytes != st.LooseBytes || st.Unkept != 1 || st.Bytes != 0 {
		t.Errorf("stats %+v", st)
	}
	e.unpin()
	if st := c.Stats(); st.LooseBytes != 0 {
		t.Errorf("%d loose bytes after the last reader", st.LooseBytes)
	}
}

// Slow readers hold what has left the cache; it counts until they let go, and
// does not push out everything else.
func TestPinnedBytesStayInTheBudget(t *testing.T) {
	eachMemory(t, pinBytes)
}

func pinBytes(t *testing.T, p memory) {
	w := newWorld()
	w.size = func(Key) int { return 20 << 10 }
	c := open(t, w, Options{Budget: 1 << 20, alloc: p, shards: 1})
	var pinned []*entry
	for blob := id.ID(1); blob <= 200; blob++ {
		w.with(func() { w.verdicts[blob] = public })
		in, _ := c.internal(keyOf(blob, "small"))
		e, _, err := c.get(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		pinned = append(pinned, e)
		if loose := c.Stats().LooseBytes; p.held() > 1<<20+loose {
			t.Fatalf("%d bytes held, %d of them loose", p.held(), loose)
		}
	}
	audit(t, c)
	if st := c.Stats(); st.LeavingBytes == 0 || st.LeavingBytes > 1<<19 || st.Unkept == 0 {
		t.Errorf("stats %+v", st)
	}
	for i, e := range pinned {
		if string(e.data) != string(content(keyOf(id.ID(i+1), "small"), 20<<10)) {
			t.Fatalf("entry %d changed while it was pinned", i)
		}
		e.unpin()
	}
	if st := c.Stats(); st.LeavingBytes != 0 || st.LooseBytes != 0 {
		t.Errorf("stats %+v", st)
	}
	audit(t, c)
}

func TestPush(t *testing.T) {
	w := newWorld()
	c := open(t, w, Options{Budget: 1 << 20})
	k := keyOf(7, "thumbnail")
	c.Push(k, object(k, 1000))
	if st := c.Stats(); st.Pushes != 1 || st.Entries != 1 {
		t.Errorf("stats %+v", st)
	}
	w.beat(c) // knowing the log says nothing about what was never asked
	if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("before it is public: %v", err)
	}
	w.verdicts[7] = public
	c.Push(k, object(k, 1000))
	if from, err := fetchOne(t, w, c, k, nil); err != nil || from != byRevalidation {
		t.Errorf("how %d, %v", from, err)
	}
	if from, err := fetchOne(t, w, c, k, nil); err != nil || from != byHit {
		t.Errorf("how %d, %v", from, err)
	}
	if n := w.fetched(k); n != 0 {
		t.Errorf("%d fetches of what was pushed in", n)
	}
	big := keyOf(8, "original")
	c.Push(big, object(big, 600<<10))
	c.Push(Key{Variant: "nonsense", Blob: 7, Cookie: 1, Ext: "jpg"}, object(k, 10))
	c.Push(k, Object{Data: []byte("x"), ContentType: "text/html", ETag: "x"})
	c.Push(k, object(k, 1000)) // is there
	if st := c.Stats(); st.Pushes != 2 || st.Entries != 1 || st.LooseBytes != 0 {
		t.Errorf("stats %+v", st)
	}
	audit(t, c)
}

// Race stress: readers compare every byte while memory is evicted, purged,
// poisoned and given out again under them.
func TestStressPinEvictPurge(t *testing.T) {
	eachMemory(t, stress)
}

func stress(t *testing.T, p memory) {
	w := newWorld()
	w.size = func(k Key) int { return 4096 * (1 + int(k.Blob)%4) }
	for blob := id.ID(1); blob <= 64; blob++ {
		w.verdicts[blob] = public
	}
	c := open(t, w, Options{Budget: 1 << 20, alloc: p, shards: 2})
	stop := make(chan struct{})
	var purger, wg sync.WaitGroup
	purger.Go(func() {
		for i := uint64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			c.shardOf(id.ID(1 + i%64)).purge(id.ID(1 + i%64))
			if i%50 == 0 {
				c.shards[i/50%2].purgeAll()
			}
			c.Push(keyOf(id.ID(1+i%64), "small"), object(keyOf(id.ID(1+i%64), "small"), w.size(keyOf(id.ID(1+i%64), "small"))))
		}
	})
	var served, stale atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			x := uint64(g)
			for range 800 {
				x = spread.Mix(x + 1)
				variant := []string{"small", "large"}[x>>20&1]
				switch _, err := fetchOne(t, w, c, keyOf(id.ID(1+x%64), variant), nil); {
				case err == nil:
					served.Add(1)
				case errors.Is(err, errStale): // purged four times in a row
					stale.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	purger.Wait()
	if served.Load() < 10*stale.Load() || served.Load() == 0 {
		t.Errorf("%d served, %d gave up", served.Load(), stale.Load())
	}
	c.Close() // a fill that a purge has overtaken may still have room booked
	audit(t, c)
	for _, s := range c.shards {
		s.purgeAll()
	}
	if p.held() != 0 || len(p.faults()) > 0 {
		t.Errorf("%d bytes leaked; %v", p.held(), p.faults())
	}
	if st := c.Stats(); st.Bytes != st.GhostBytes || st.LeavingBytes != 0 {
		t.Errorf("stats %+v", st)
	}
}
