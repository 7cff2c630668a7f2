package server

import (
	"testing"
	"time"

	"hayloft/internal/clock"
)

// A disk that is read twice a second is one with traffic: the upkeep has its share
// of the rate, and not all of it in between.
func TestPaceHoldsTraffic(t *testing.T) {
	now := clock.NewFake(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
	s := &Server{o: Options{Clock: now, Maintenance: 1 << 20}}
	p := pace{s: s}
	took := func(n int64) (d time.Duration) {
		d = p.due(n)
		now.Advance(d)
		return d
	}
	const all = time.Second / TrafficShare
	took(1 << 20) // what was left unused is used up
	if d := took(1 << 18); d != all {
		t.Errorf("without traffic a quarter of the rate takes %v", d)
	}
	for range 10 {
		s.n.reads.Add(1)
		now.Advance(trafficLook)
		p.due(0)
		for range 3 { // within the second in which that counts
			if d := took(1 << 16); d < all*9/10-trafficLook { // what passed since the read is made good
				t.Fatalf("beside traffic a sixteenth of the rate takes %v", d)
			}
		}
	}
	now.Advance(2 * trafficHold)
	took(1 << 20)
	if d := took(1 << 18); d != all {
		t.Errorf("after the traffic a quarter of the rate takes %v", d)
	}
}
