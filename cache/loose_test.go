package cache

import (
	"errors"
	"sync"
	"testing"

	"hayloft/internal/id"
)

// An object of bigSize finds no room in a shard of 1 MiB.
const bigSize = 600 << 10

// bigWorld has public blobs 1 to n, whose originals are not kept and whose small
// variants are.
func bigWorld(n id.ID) *world {
	w := newWorld()
	for blob := id.ID(1); blob <= n; blob++ {
		w.verdicts[blob] = public
	}
	w.size = func(k Key) int {
		if k.Variant == "original" {
			return bigSize
		}
		return 1000
	}
	return w
}

// pin gets k and keeps reading it.
func pin(t *testing.T, c *Cache, k Key) *entry {
	t.Helper()
	in, _ := c.internal(k)
	e, _, err := c.get(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Any number of slow readers of one object cost one copy, and one fetch.
func TestReadersShareWhatIsNotKept(t *testing.T) {
	w := bigWorld(1)
	c := open(t, w, Options{Budget: 1 << 20})
	k := keyOf(1, "original")
	var readers []*entry
	for range 60 {
		readers = append(readers, pin(t, c, k))
	}
	if st := c.Stats(); w.fetched(k) != 1 || st.LooseBytes != bigSize+entryCost || st.Entries != 0 {
		t.Errorf("%d fetches, %+v", w.fetched(k), st)
	}
	audit(t, c)
	for _, e := range readers {
		e.unpin()
	}
	if st := c.Stats(); st.LooseBytes != 0 || len(c.shardOf(1).blobs) != 0 {
		t.Errorf("after the last reader: %+v", st)
	}
	pin(t, c, k).unpin()
	if w.fetched(k) != 2 {
		t.Error("it was kept although nobody read it")
	}
}

// A purge and a new verdict reach what is read but not kept, as they reach what
// is kept.
func TestPurgeReachesWhatIsNotKept(t *testing.T) {
	w := bigWorld(1)
	c := open(t, w, Options{Budget: 1 << 20})
	k := keyOf(1, "original")
	slow := pin(t, c, k)
	w.with(func() { w.verdicts[1] = Verdict{Audience: Signed, Epoch: 3} })
	w.purge(1)
	w.settle(c)
	if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, errDenied) {
		t.Errorf("private now: %v", err)
	}
	w.with(func() { w.verdicts[1] = public })
	w.purge(1)
	w.settle(c)
	second := pin(t, c, k)
	if second == slow || c.Stats().LooseBytes != 2*(bigSize+entryCost) {
		t.Errorf("a reader was given the copy from before the purge; %+v", c.Stats())
	}
	slow.unpin() // takes nothing away from the second
	if pinned := pin(t, c, k); pinned != second {
		t.Error("the second copy is lost")
	} else {
		pinned.unpin()
	}
	audit(t, c)

	// Without a word from the log the verdict has an age.
	w.with(func() { w.silent = true; delete(w.verdicts, 1) })
	w.clock.Advance(c.opts.PurgeSilence)
	if _, err := fetchOne(t, w, c, k, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted, and the log is silent: %v", err)
	}
	second.unpin()
	if st := c.Stats(); st.LooseBytes != 0 {
		t.Errorf("%d loose bytes", st.LooseBytes)
	}
	audit(t, c)
}

// What slow readers hold outside the budget is bounded, and small objects find
// room beside large ones.
func TestWhatIsNotKeptIsBounded(t *testing.T) {
	w := bigWorld(10)
	var failed sync.Map
	site := serve(t, w, Options{Budget: 1 << 20, MaxLoose: 4 << 20, Events: func(e Event) { failed.Store(e.Kind, e.Err) }})
	c := site.c
	var readers []*entry
	for blob := id.ID(1); blob <= 5; blob++ { // three quarters of 4 MiB
		readers = append(readers, pin(t, c, keyOf(blob, "original")))
	}
	if _, err := fetchOne(t, w, c, keyOf(6, "original"), nil); !errors.Is(err, errCrowded) {
		t.Errorf("the sixth: %v", err)
	}
	if st := c.Stats(); st.LooseRefused != 1 || st.FillErrors != 0 || st.LooseBytes != 5*(bigSize+entryCost) {
		t.Errorf("%+v", st)
	}
	failed.Range(func(kind, err any) bool {
		t.Errorf("event %v: %v", kind, err)
		return true
	})
	s := c.shardOf(7)
	s.mu.Lock()
	s.used += s.budget // no room for anything
	s.mu.Unlock()
	small := pin(t, c, keyOf(7, "small"))
	if small.loose == nil {
		t.Error("the small one was kept")
	}
	small.unpin()
	s.mu.Lock()
	s.used -= s.budget
	s.mu.Unlock()

	resp := site.do(t, "GET", keyOf(6, "original").Path())
	if resp.status != 503 || resp.header.Get("Retry-After") == "" {
		t.Errorf("%d %v", resp.status, resp.header)
	}
	readers[0].unpin()
	if _, err := fetchOne(t, w, c, keyOf(6, "original"), nil); err != nil {
		t.Errorf("when one has ended: %v", err)
	}
	for _, e := range readers[1:] {
		e.unpin()
	}
	audit(t, c)
}

// An object larger than all room for what is not kept can be served, alone.
func TestTheLargestIsServedAlone(t *testing.T) {
	w := bigWorld(2)
	c := open(t, w, Options{Budget: 1 << 20, MaxLoose: bigSize / 2})
	e := pin(t, c, keyOf(1, "original"))
	if _, err := fetchOne(t, w, c, keyOf(2, "original"), nil); !errors.Is(err, errCrowded) {
		t.Errorf("beside another: %v", err)
	}
	e.unpin()
	if _, err := fetchOne(t, w, c, keyOf(2, "original"), nil); err != nil {
		t.Error(err)
	}
}

// With the default budget the largest photo that is accepted is kept.
func TestDefaultShardsKeepTheLargestOriginal(t *testing.T) {
	c := open(t, newWorld(), Options{})
	for i, s := range c.shards {
		if _, ok := s.reserve(32 << 20); !ok {
			t.Errorf("shard %d of %d has no room for 32 MiB", i, len(c.shards))
		}
	}
	if c.opts.MaxLoose != 64<<20 {
		t.Errorf("MaxLoose is %d", c.opts.MaxLoose)
	}
}

// Few uploads are in memory for fills at once, and they leave the other variants
// places and room in the queue.
func TestLargeFillsAreBounded(t *testing.T) {
	w := bigWorld(20)
	w.hold = make(chan struct{})
	c := open(t, w, Options{MaxFills: 4, MaxLargeFills: 2, MaxQueue: 8})
	var wg sync.WaitGroup
	get := func(k Key) {
		wg.Go(func() {
			if _, err := fetchOne(t, w, c, k, nil); err != nil {
				t.Error(err)
			}
		})
	}
	for blob := id.ID(1); blob <= 6; blob++ { // 2 under way, 4 waiting
		get(keyOf(blob, "original"))
		if blob == 2 {
			w.until(func() bool { return w.inFetch == 2 })
		}
	}
	for c.Stats().Misses < 6 {
		w.until(func() bool { return true })
	}
	if _, err := fetchOne(t, w, c, keyOf(7, "original"), nil); !errors.Is(err, errBusy) {
		t.Errorf("the seventh: %v", err)
	}
	get(keyOf(8, "small"))
	get(keyOf(9, "small"))
	w.until(func() bool { return w.inFetch == 4 })
	large := 0
	for blob := id.ID(1); blob <= 6; blob++ {
		large += w.fetched(keyOf(blob, "original"))
	}
	if large != 2 {
		t.Errorf("%d large fetches at once", large)
	}
	close(w.hold)
	wg.Wait()
	audit(t, c)
}
