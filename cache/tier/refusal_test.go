package tier

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// strange is a tier that knows nothing of some calls.
type strange struct {
	to    http.Handler
	knows func(path string) bool
}

func (s strange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.knows(r.URL.Path) {
		s.to.ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

// That an upstream does not know the question for a verdict says nothing of the photo.
func TestUnknownCallIsNoVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := inner(t, "a", newHome(1))
		b := outer(t, "b", Options{}, &link{to: strange{a.srv, func(p string) bool { return p != pathVerdict }}})
		pass(time.Second)
		status(t, "no verdict to be had", b.get(t, keyOf(1, "small"), ""), 503)
	})
}

// An upstream that is back has its keys as soon as it answers one of them, however long
// the object takes to come.
func TestTrialEndsWithAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(300)
		h := newHome(blobs...)
		a, a2 := inner(t, "a", h), inner(t, "a2", h)
		l1, l2 := &link{to: &trickle{a.srv, 4 * time.Second}}, &link{to: a2.srv}
		b := outer(t, "b", Options{}, l1, l2)
		pass(time.Second)
		l1.setCut(true)
		mine := leftAlone(t, b, blobs)
		l1.setCut(false)
		pass(3 * time.Second)
		before := b.chain.Stats()[0]
		go b.get(t, mine[0], "") // tries whether it works again
		pass(time.Second)
		status(t, "while the first one comes", b.get(t, mine[1], ""), 200)
		pass(time.Minute)
		if st := b.chain.Stats()[0]; st.Fills != before.Fills+2 || st.Refused != before.Refused || st.Open {
			t.Errorf("%+v, before %+v", st, before)
		}
	})
}

// leftAlone has b leave its first upstream alone, and returns keys of which the home is
// that one and the verdict comes from the second.
func leftAlone(t *testing.T, b *node, blobs []id.ID) (mine []cache.Key) {
	t.Helper()
	for _, k := range keysOfHome(b, 0, blobs) {
		if b.chain.order(uint64(k.Blob))[0] == b.chain.ups[1] && len(bytesOf(k)) > 2*chunk {
			mine = append(mine, k)
		}
	}
	for _, blob := range blobs[:16] {
		if _, err := b.chain.Access(t.Context(), blob); err != nil {
			t.Fatal(err)
		}
	}
	if st := b.chain.Stats()[0]; !st.Open || len(mine) < 8 {
		t.Fatalf("%d keys, and it was not left alone: %+v", len(mine), st)
	}
	return mine
}

// An upstream that says nothing costs those who try it half a second, and not everybody.
func TestTrialWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(300)
		h := newHome(blobs...)
		l1, l2 := &link{to: inner(t, "a", h).srv}, &link{to: inner(t, "a2", h).srv}
		b := outer(t, "b", Options{}, l1, l2)
		pass(time.Second)
		l1.setCut(true)
		mine := leftAlone(t, b, blobs)
		pass(3 * time.Second)
		late := 0
		for _, k := range mine[:8] {
			began := time.Now()
			status(t, "home says nothing", b.get(t, k, ""), 200)
			if time.Since(began) >= 500*time.Millisecond {
				late++
			}
		}
		if late != 1 {
			t.Errorf("%d of 8 waited for it", late)
		}
	})
}

// A tier that has no keys yet does not know that there are none: with none, each private
// URL would be "not found".
func TestNoKeysAreNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, a2 := inner(t, "a", newHome()), inner(t, "a2", newHome())
		a.srv.o.Keys = func() []sign.Key { return nil }
		b := outer(t, "b", Options{}, &link{to: a.srv}, &link{to: a2.srv})
		if keys, err := b.chain.Keys(t.Context()); err != nil || len(keys) != 1 {
			t.Errorf("from one that has none and one that has: %d, %v", len(keys), err)
		}
		c := outer(t, "c", Options{}, &link{to: a.srv})
		if keys, err := c.chain.Keys(t.Context()); err == nil {
			t.Errorf("from one that has none: %d", len(keys))
		}
	})
}

// Whose neighbour is down does its work, too: the bound of an upstream's load is a share
// of those that can be asked.
func TestBoundWithoutTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(300)
		h := newHome(blobs...)
		l1, l2 := &link{to: inner(t, "a", h).srv}, &link{to: inner(t, "a2", h).srv}
		b := outer(t, "b", Options{}, l1, l2)
		pass(time.Second)
		l1.setCut(true)
		leftAlone(t, b, blobs)
		h.mu.Lock()
		h.hold = make(chan struct{})
		h.mu.Unlock()
		var all sync.WaitGroup
		for _, blob := range blobs[100:140] {
			all.Go(func() { status(t, "one of two is left", b.get(t, keyOf(blob, "small"), ""), 200) })
		}
		synctest.Wait()
		if st := b.chain.Stats()[1]; st.Busy != 40 {
			t.Errorf("40 fills, of which the one that is left has %d: %+v", st.Busy, st)
		}
		close(h.hold)
		all.Wait()
	})
}

// An upstream that works and has nothing to say, as one whose store is away, does not keep
// the others below their share either.
func TestBoundBesideOneThatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(40)
		h, away := newHome(blobs...), newHome(blobs...)
		away.down = true
		a2 := inner(t, "a2", h)
		b := outer(t, "b", Options{}, &link{to: inner(t, "a", away).srv}, &link{to: a2.srv})
		pass(time.Second)
		h.hold = make(chan struct{})
		var all sync.WaitGroup
		for _, blob := range blobs {
			all.Go(func() { status(t, "one of two refuses", b.get(t, keyOf(blob, "small"), ""), 200) })
		}
		synctest.Wait()
		close(h.hold)
		all.Wait()
	})
}
