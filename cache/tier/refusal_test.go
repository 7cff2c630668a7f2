package tier

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"hayloft/cache"
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
		var mine []cache.Key // their home is the first upstream, and their verdicts come from the other
		for _, k := range keysOfHome(b, 0, blobs) {
			if b.chain.order(uint64(k.Blob))[0] == b.chain.ups[1] && len(bytesOf(k)) > 2*chunk {
				mine = append(mine, k)
			}
		}
		if len(mine) < 2 {
			t.Fatalf("%d keys", len(mine))
		}
		l1.setCut(true)
		for _, blob := range blobs[:16] { // the breaker opens
			if _, err := b.chain.Access(t.Context(), blob); err != nil {
				t.Fatal(err)
			}
		}
		l1.setCut(false)
		pass(3 * time.Second)
		before := b.chain.Stats()[0]
		if !before.Open {
			t.Fatalf("it was not left alone: %+v", before)
		}
		go b.get(t, mine[0], "") // tries whether it works again
		pass(time.Second)
		status(t, "while the first one comes", b.get(t, mine[1], ""), 200)
		pass(time.Minute)
		if st := b.chain.Stats()[0]; st.Fills != before.Fills+2 || st.Refused != before.Refused || st.Open {
			t.Errorf("%+v, before %+v", st, before)
		}
	})
}
