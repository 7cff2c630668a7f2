package tier

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Any number of tiers may ask for one photo at a time: that they are many makes no
// circle of them.
func TestCrowdOfEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(1)
		a := inner(t, "a", h)
		shield := outer(t, "shield", Options{}, &link{to: a.srv, delay: 20 * time.Millisecond})
		var edges []*node
		for i := range 40 {
			edges = append(edges, outer(t, fmt.Sprintf("edge-%d", i), Options{}, &link{to: shield.srv}))
		}
		pass(time.Second)
		k := keyOf(1, "small")
		var all sync.WaitGroup
		for _, e := range edges {
			all.Go(func() { status(t, "one of many", e.get(t, k, ""), 200) })
		}
		all.Wait()
		if st := shield.chain.Stats()[0]; st.Failures != 0 || h.fetches != 1 {
			t.Errorf("%d reads of the store, %+v", h.fetches, st)
		}
	})
}

// However many ask, a question that names them is one that a server reads.
func TestViaHasRoomInAHeader(t *testing.T) {
	var p Path
	for i := range 5000 {
		defer p.enter(1, []string{fmt.Sprintf("an-edge-with-a-name-as-long-as-names-of-hosts-are-%013d", i)})()
	}
	if n := len(viaField(p.of(1))); n == 0 || n > 60<<10 {
		t.Errorf("%d bytes", n)
	}
}
