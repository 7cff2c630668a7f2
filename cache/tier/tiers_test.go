package tier

import (
	"bytes"
	"context"
	"hash/crc32"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// keysOfHome are variants of many blobs whose home is that upstream.
func keysOfHome(n *node, up int, blobs []id.ID) (keys []cache.Key) {
	for _, b := range blobs {
		if k := keyOf(b, "small"); n.chain.order(hashKey(k))[0] == n.chain.ups[up] {
			keys = append(keys, k)
		}
	}
	return keys
}

func someBlobs(n int) (list []id.ID) {
	for i := range n {
		list = append(list, id.ID(i+1))
	}
	return list
}

// An edge begins with what its upstreams are asked for: public objects alone, and of
// each upstream what has its home there.
func TestWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(6)
		h := newHome(blobs...)
		a, a2 := inner(t, "a", h), inner(t, "a2", h)
		h.set(6, cache.Verdict{Audience: cache.Signed, Epoch: 1})
		pass(time.Second)
		for _, b := range blobs[:5] {
			status(t, "a", a.get(t, keyOf(b, "small"), ""), 200)
			status(t, "a2", a2.get(t, keyOf(b, "small"), ""), 200)
		}
		private := keyOf(6, "small")
		status(t, "private", a.get(t, private, "?"+sign.MediaQuery(ring, private.Path(), 1, time.Now(), time.Hour)), 200)
		l1, l2 := &link{to: a.srv}, &link{to: a2.srv}
		b := outer(t, "b", Options{}, l1, l2)
		pass(time.Second)
		n, err := b.chain.Warm(t.Context(), b.Cache, 1<<20)
		if err != nil || n != 5 || b.Stats().Entries == 0 {
			t.Fatalf("%d objects, %v, %+v", n, err, b.Stats())
		}
		for i := range 2 {
			if got, want := b.chain.Stats()[i].Fills, len(keysOfHome(b, i, blobs[:5])); int(got) != want || want == 0 {
				t.Errorf("upstream %d sent %d, and is the home of %d", i, got, want)
			}
		}
		calls := l1.calls + l2.calls
		for _, blob := range blobs[:5] {
			status(t, "warm", b.get(t, keyOf(blob, "small"), ""), 200)
		}
		if asked := l1.calls + l2.calls - calls; asked != 0 {
			t.Errorf("%d questions for what was there", asked)
		}

		// One that does not answer is left out; a full cache takes no more.
		l1.setCut(true)
		c := outer(t, "c", Options{}, l1, l2)
		if n, err := c.chain.Warm(t.Context(), c.Cache, 1<<20); err != nil || n != len(keysOfHome(c, 1, blobs[:5])) {
			t.Errorf("%d objects, %v", n, err)
		}
		d := outer(t, "d", Options{}, l2)
		if n, err := d.chain.Warm(t.Context(), d.Cache, 0); err != nil || n != 0 {
			t.Errorf("%d objects, %v", n, err)
		}
		e := outer(t, "e", Options{}, l1)
		if _, err := e.chain.Warm(t.Context(), e.Cache, 1<<20); err == nil {
			t.Error("nobody answered, and no error")
		}
	})
}

// A dead upstream's keys go to the other one as guests, and come back when it does.
// Nobody waits for it meanwhile.
func TestGutter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(40)
		h := newHome(blobs...)
		a, a2 := inner(t, "a", h), inner(t, "a2", h)
		l1, l2 := &link{to: a.srv}, &link{to: a2.srv}
		b := outer(t, "b", Options{}, l1, l2)
		pass(time.Second)
		mine := keysOfHome(b, 0, blobs)
		if len(mine) < 8 || len(mine) > 32 {
			t.Fatalf("%d of 40 have their home at one of two", len(mine))
		}
		l1.setCut(true)
		pass(5 * time.Second) // its breaker opens over questions for the purge log
		for _, k := range mine[:6] {
			began := time.Now()
			status(t, "home is dead", b.get(t, k, ""), 200)
			if took := time.Since(began); took > 1200*time.Millisecond { // of a trial's time
				t.Errorf("took %v", took)
			}
		}
		if st := b.chain.Stats()[1]; st.Gutter == 0 {
			t.Errorf("no guests: %+v", st)
		}
		l1.setCut(false)
		pass(5 * time.Second)
		before := b.chain.Stats()[0].Fills
		status(t, "home is back", b.get(t, mine[7], ""), 200)
		if st := b.chain.Stats()[0]; st.Fills != before+1 || st.Open {
			t.Errorf("not asked: %+v", st)
		}
	})
}

// An upstream gets a quarter more fills than its share at most.
func TestBoundedLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(200)
		h := newHome(blobs...)
		h.hold = make(chan struct{})
		a, a2 := inner(t, "a", h), inner(t, "a2", h)
		b := outer(t, "b", Options{Hedge: time.Hour}, &link{to: a.srv}, &link{to: a2.srv})
		pass(time.Second)
		mine := keysOfHome(b, 0, blobs) // all of one home
		var all sync.WaitGroup
		for _, k := range mine[:40] {
			all.Go(func() { status(t, "held", b.get(t, k, ""), 200) })
		}
		synctest.Wait()
		one, other := b.chain.Stats()[0].Busy, b.chain.Stats()[1].Busy
		if one+other != 40 || one > 26 || other > 26 {
			t.Errorf("%d fills at the home of all 40, %d at the other", one, other)
		}
		close(h.hold)
		all.Wait()
	})
}

// What was damaged on its way is neither served nor kept: another upstream is asked.
func TestDamagedOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(1)
		a, a2 := inner(t, "a", h), inner(t, "a2", h)
		k := keyOf(1, "large")
		for name, spoil := range map[string]func(http.Header, []byte) []byte{
			"a flipped bit": func(_ http.Header, b []byte) []byte { b[len(b)/2] ^= 1; return b },
			"cut short":     func(_ http.Header, b []byte) []byte { return b[:len(b)-9] },
			"another's tag": func(h http.Header, b []byte) []byte { h.Set("ETag", `"00000000"`); return b },
			"another size":  func(h http.Header, b []byte) []byte { h.Set("Hayloft-Size", "4"); return b },
			"another key":   func(h http.Header, b []byte) []byte { h.Set("Hayloft-Path", keyOf(1, "small").Path()); return b },
			"another type":  func(h http.Header, b []byte) []byte { h.Set("Content-Type", "text/html"); return b },
		} {
			bad := func(h http.Header, b []byte) []byte {
				if h.Get("Hayloft-Size") == "" {
					return b
				}
				return spoil(h, bytes.Clone(b))
			}
			l1, l2 := &link{to: a.srv, spoil: bad}, &link{to: a2.srv, spoil: bad}
			b := outer(t, "b", Options{}, l1, l2)
			pass(time.Second)
			if got := b.get(t, k, ""); got != 503 && (got != 404 || name != "another type") {
				t.Errorf("%s, at both: %d", name, got)
			}
			if n := b.Stats().Entries; n != 0 {
				t.Errorf("%s: kept", name)
			}
			if name == "another type" {
				continue
			}
			good := l1
			if b.chain.order(hashKey(k))[0] == b.chain.ups[0] {
				good = l2
			}
			good.mu.Lock()
			good.spoil = nil
			good.mu.Unlock()
			status(t, name+", at one", b.get(t, k, ""), 200)
		}
	})
}

// Tiers that fill from one another in a circle are told so, and nobody waits.
func TestCircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lb, lc := &link{}, &link{}
		b := outer(t, "b", Options{}, lc)
		c := outer(t, "c", Options{}, lb)
		lb.to, lc.to = b.srv, c.srv
		pass(time.Second)
		began := time.Now()
		status(t, "a circle", b.get(t, keyOf(1, "small"), ""), 503)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// Nodes put fresh variants in; others are refused, and so is what is damaged.
func TestPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(1)
		a := inner(t, "a", h)
		pass(time.Second)
		k := keyOf(1, "small")
		b := bytesOf(k)
		obj := cache.Object{Data: b, ContentType: "image/jpeg", ETag: tagOf(crc32.Checksum(b, castagnoli))}
		l := &link{to: a.srv}
		if err := Put(t.Context(), l, k, cache.Object{Data: b, ContentType: "image/jpeg", ETag: "00000000"}); err == nil {
			t.Error("a wrong tag was taken")
		}
		a.srv.o.Push = func(context.Context) bool { return false }
		if err := Put(t.Context(), l, k, obj); err == nil {
			t.Error("a client may put in")
		}
		a.srv.o.Push = func(context.Context) bool { return true }
		if err := Put(t.Context(), l, k, obj); err != nil {
			t.Fatal(err)
		}
		status(t, "pushed", a.get(t, k, ""), 200)
		if h.fetches != 0 || a.Stats().Pushes != 1 {
			t.Errorf("%d reads of the store, %+v", h.fetches, a.Stats())
		}
	})
}
