package server_test

import (
	"testing"
	"time"

	"hayloft/volume/server"
)

// What a release finds damaged is made again at once.
func TestDamageFoundByReleaseIsRepaired(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 6, 40_000)
	h.encodeAll()
	for _, f := range h.shardFiles("/disk1") {
		h.flip(f, 8192+20_000)
	}
	h.clock.Advance(61 * time.Minute)
	began := h.clock.Now()
	h.until("the repair", func() bool {
		h.clock.Advance(time.Second)
		return h.saw(server.EventRepaired)+h.saw(server.EventRebuilt) >= 6
	})
	if took := h.clock.Now().Sub(began); took > 30*time.Minute {
		t.Errorf("the repair came after %v", took)
	}
	h.checkAll(all)
}
