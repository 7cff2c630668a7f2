package tier

import (
	"testing"
	"testing/synctest"
	"time"

	"hayloft/cache"
)

// An upstream that answers and hears nothing itself is not the one to follow while
// another one hears: the tier stays in service.
func TestFollowsWhoHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(1, 2)
		a := inner(t, "a", h)
		l1, l2 := &link{to: a.srv}, &link{to: a.srv}
		b1, b2 := outer(t, "b1", Options{}, l1), outer(t, "b2", Options{}, l2)
		c := outer(t, "c", Options{}, &link{to: b1.srv}, &link{to: b2.srv})
		pass(time.Second)
		for i, cut := range []*link{l1, l2, l1} {
			cut.setCut(true)
			pass(10 * time.Second)
			if err := c.chain.Ready(); err != nil {
				t.Errorf("cut %d: not ready: %v", i, err)
			}
			if ago := time.Since(c.Stats().PurgeHeard); ago > 2*time.Second {
				t.Errorf("cut %d: heard %v ago", i, ago)
			}
			cut.setCut(false)
			pass(5 * time.Second)
		}
		l1.setCut(true)
		l2.setCut(true)
		pass(10 * time.Second)
		if c.chain.Ready() == nil {
			t.Error("ready, and nobody hears anything")
		}
	})
}

// A tier that is behind in the purge log and hears nothing of it says so at once: who
// asks it for a verdict asks another one, and has lost no time.
func TestCutOffTierDoesNotLetWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := someBlobs(20)
		h := newHome(blobs...)
		a := inner(t, "a", h)
		l1, l2 := &link{to: a.srv}, &link{to: a.srv}
		b1, b2 := outer(t, "b1", Options{}, l1), outer(t, "b2", Options{}, l2)
		c := outer(t, "c", Options{}, &link{to: b1.srv}, &link{to: b2.srv})
		pass(time.Second)
		l1.setCut(true)
		h.set(1, cache.Verdict{})
		pass(10 * time.Second)
		for _, blob := range blobs[1:] {
			began := time.Now()
			v, err := c.chain.Access(t.Context(), blob)
			if took := time.Since(began); err != nil || v.Audience != cache.Public || took > 50*time.Millisecond {
				t.Errorf("blob %v: %+v, %v, after %v", blob, v, err, took)
			}
		}
	})
}

// A tier behind one that is cut off is no longer ready three seconds after the cut, as
// one that is cut off itself.
func TestNotReadyAfterThreeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := inner(t, "a", newHome())
		l, near := &link{to: a.srv}, &link{}
		b := outer(t, "b", Options{}, l)
		near.to = b.srv
		c := outer(t, "c", Options{}, near)
		for name, cut := range map[string]*link{"behind it": l, "before it": near} {
			pass(5 * time.Second)
			if err := c.chain.Ready(); err != nil {
				t.Fatal(err)
			}
			cut.setCut(true)
			pass(3100 * time.Millisecond)
			if c.chain.Ready() == nil {
				t.Errorf("ready three seconds after a cut %s", name)
			}
			cut.setCut(false)
		}
	})
}
