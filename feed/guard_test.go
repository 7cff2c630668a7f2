package feed

import (
	"context"
	"runtime"
	"testing"
	"time"
)

const month = 31 * 24 * time.Hour

// A clock that is a month ahead for a while destroys nothing; one that stays
// there is believed after an hour of running time.
func TestGuardDoubtsJumps(t *testing.T) {
	var g guard
	wall := testStart
	run := func(n int) {
		for range n {
			wall = wall.Add(guardTick)
			g.tick(wall)
		}
	}
	want := func(what string, want time.Time) {
		t.Helper()
		if got := g.believed(wall); got.Sub(want).Abs() > time.Minute {
			t.Errorf("%s: believes %v at %v, want %v", what, got, wall, want)
		}
	}
	g.start(wall, wall.Add(-time.Hour))
	want("at first", wall)
	run(100)
	want("after a while", wall)
	wall = wall.Add(4 * time.Minute)
	want("after a small step", wall)
	run(3)
	right := wall
	wall = wall.Add(month)
	want("after a jump", right)
	run(30)
	want("half an hour later", right.Add(30*time.Minute))
	wall = wall.Add(-month)
	want("back", wall)
	run(100)
	want("back for long", wall)

	right = wall
	wall = wall.Add(month)
	run(59)
	want("a jump for nearly an hour", right.Add(59*time.Minute))
	wall = wall.Add(time.Hour) // starts over
	run(59)
	want("another", right.Add(118*time.Minute))
	run(2)
	want("stable for an hour", wall)
	wall = wall.Add(-2 * month)
	want("stepped back", wall)
	wall = wall.Add(time.Hour)
	want("and partly ahead again", wall.Add(-time.Hour))

	for _, tc := range []struct {
		absent time.Duration
		doubt  bool
	}{{time.Hour, false}, {-month, false}, {guardAbsent, false}, {guardAbsent + time.Second, true}, {month, true}} {
		g, wall = guard{}, testStart
		swept := wall.Add(-tc.absent)
		g.start(wall, swept)
		if tc.doubt {
			want("after a long absence", swept)
			run(61)
		}
		want("trusted", wall)
	}
	g = guard{}
	g.start(wall, time.Time{})
	want("a new state", wall)
}

// The trash outlives a clock that shows the month after next for one sweep, and
// a process that starts with such a clock.
func TestClockGlitchDoesNotEmptyTheTrash(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	lost := h.post(anna, Details{})
	trash := h.post(anna, Details{})
	h.must(h.feed.DeletePhoto(ctx, anna, trash, false))
	h.must(second2(h.feed.sweepOnce(ctx)))
	later := func(d time.Duration) { h.clock.Set(h.clock.Now().Add(d)) }
	kept := func(what string) {
		t.Helper()
		later(month)
		h.must(second2(h.feed.sweepOnce(ctx)))
		// Chores are not held up.
		h.must(h.feed.DeletePhoto(ctx, anna, lost, true))
		h.must(second2(h.feed.sweepOnce(ctx)))
		if has, err := (store{h.group.db}).has(key1(tabPhoto, lost)); err != nil || has {
			t.Errorf("%s: a chore waits (%v)", what, err)
		}
		later(-month)
		list, _, err := h.feed.DeletedPhotos(ctx, anna, Page{Limit: 5})
		if err != nil || len(list) != 1 || list[0].ID != trash {
			t.Fatalf("%s: the trash holds %v, %v", what, list, err)
		}
		if s, err := h.feed.Sessions(ctx, anna); err != nil || len(s) != 1 {
			t.Errorf("%s: sessions %v, %v", what, s, err)
		}
		h.check()
	}
	kept("while it runs")
	lost = h.post(anna, Details{})
	h.close()
	h.group.close(t)
	h.group.open(t)
	h.open()
	kept("at its start")

	later(month) // and there it stays
	h.must(second2(h.feed.sweepOnce(ctx)))
	ended, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- h.feed.keepTime(ended) }()
	minutes := 0
	for has := true; has && minutes < 100; minutes++ {
		for h.clock.Waiters() != 1 { // until the last tick is counted
			runtime.Gosched()
		}
		h.must(second2(h.feed.sweepOnce(ctx)))
		var err error
		has, err = store{h.group.db}.has(key1(tabPhoto, trash))
		h.must(err)
		if has {
			h.clock.Advance(time.Minute)
		}
	}
	if minutes-1 != 60 {
		t.Errorf("believed after %d minutes", minutes-1)
	}
	cancel()
	h.wants(<-done, context.Canceled)
	h.check()
}
