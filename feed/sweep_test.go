package feed

import (
	"context"
	"testing"
	"time"
)

// What ends only after the sweeper's next look does not wake it; what ends sooner does.
func TestWhatEndsSoonWakesTheSweeper(t *testing.T) {
	h := newHouse(t, nil)
	ctx, w := context.Background(), &h.feed.machine.watch
	anna := h.user("anna")
	wait, err := h.feed.sweepOnce(ctx)
	h.must(err)
	sessions := byte(0)
	begin := func(ends time.Duration) bool {
		t.Helper()
		changed := w.on(&w.sweep)
		sessions++
		_, err := h.feed.CreateSession(ctx, anna, NewSession{TokenHash: [32]byte{sessions}, ExpiresAt: h.clock.Now().Add(ends)})
		h.must(err)
		select {
		case <-changed:
			return true
		default:
			return false
		}
	}
	if begin(wait + time.Second) {
		t.Error("the sweeper was woken for what ends after its next look")
	}
	if !begin(wait - time.Second) {
		t.Error("the sweeper was not woken for what ends before its next look")
	}
	// While it looks it is not known yet what it will have seen.
	w.planSweep(^uint64(0))
	if !begin(wait + time.Hour) {
		t.Error("the sweeper was not woken while it looks")
	}
}

// The queue of fresh effects is looked at from where it begins, and one that is taken back
// is found although its number is an old one.
func TestQueueIsLookedAtFromItsStart(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	find := func(what string, want uint64) {
		t.Helper()
		e, _, err := h.feed.findEffect(ctx, EffectTranscode, "n1")
		if err != nil || (e != nil) != (want != 0) || e != nil && e.Seq != want {
			t.Errorf("%s: found %+v (%v), want %d", what, e, err, want)
		}
		if e != nil {
			h.feed.leases.release(e.Seq, "n1")
		}
	}
	start := func() uint64 { return h.feed.leases.freshFrom(EffectTranscode, h.feed.machine.requeued.Load()) }
	h.upload(anna, Details{})
	h.upload(anna, Details{})
	all := h.queued()
	one, two := all[0], all[1]
	find("the first", one.Seq)
	if start() != one.Seq {
		t.Errorf("the queue is looked at from %d, not %d", start(), one.Seq)
	}
	h.feed.leases.take(one.Seq, "n2", 0, 0)
	find("the first that nobody has", two.Seq)
	if start() != one.Seq {
		t.Errorf("what somebody has is passed over: the queue is looked at from %d", start())
	}
	h.feed.leases.release(one.Seq, "n2")
	_, err := h.feed.propose(ctx, &cmdEffectFailed{Seq: one.Seq, Attempt: 1, Park: true, Reason: "x"})
	h.must(err)
	h.must(h.ready(two.Photo))
	find("nothing", 0)
	if start() <= two.Seq {
		t.Errorf("what is done is passed over again, from %d", start())
	}
	h.must(h.feed.RetryEffect(ctx, one.Seq))
	find("one that is taken back", one.Seq)
	h.must(h.ready(one.Photo))
	find("nothing again", 0)
	h.upload(anna, Details{})
	find("a new one", h.queued()[0].Seq)
}
