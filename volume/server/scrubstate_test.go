package server

import (
	"errors"
	"testing"
	"time"
)

func TestScrubStateIsWholeOrNothing(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 123, time.UTC)
	st := &scrubState{uuid: [16]byte{1, 2, 3}, begun: at, items: map[string]*scrubItem{
		diskItem:                        {at: at, read: true},
		"volumes/00000001-00000001.vol": {at: at.Add(time.Hour)},
		"shards/00000001-00000002":      {at: at.Add(time.Minute), due: true},
	}}
	b := st.encode()
	got, err := decodeScrubState(b, st.uuid)
	if err != nil || len(got.items) != 3 || !got.begun.Equal(at) {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, i := range st.items {
		if o := got.items[name]; !o.at.Equal(i.at) || o.read != i.read || o.due != i.due {
			t.Errorf("%s: %+v, want %+v", name, o, i)
		}
	}
	for i := range b {
		for _, spoiled := range [][]byte{b[:i], append(append([]byte{}, b[:i]...), append([]byte{b[i] ^ 1}, b[i+1:]...)...)} {
			if _, err := decodeScrubState(spoiled, st.uuid); !errors.Is(err, errScrubState) {
				t.Fatalf("spoiled at %d: %v", i, err)
			}
		}
	}
	if _, err := decodeScrubState(b, [16]byte{9}); !errors.Is(err, errScrubState) {
		t.Errorf("of another disk: %v", err)
	}
}

// What is read next: what somebody asked for at once, else the oldest when its share of
// the period has passed, and what is behind at once.
func TestScrubOrder(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	const every = 16 * time.Hour
	o := Options{ScrubEvery: every}
	s := &scrubber{d: &disk{s: &Server{o: o}}, state: &scrubState{begun: now.Add(-100 * time.Hour), items: map[string]*scrubItem{
		"a": {at: now.Add(-2 * time.Hour), read: true, bytes: 1 << 30},
		"b": {at: now.Add(-1 * time.Hour), read: true, bytes: 1<<30 - 2*scrubWeight},
		"c": {at: now.Add(-1 * time.Hour)},
	}}}
	next := func(want string, rest time.Duration) {
		t.Helper()
		name, got := s.next(now, nil)
		if name != want || got.Round(time.Minute) != rest {
			t.Errorf("%q after %v, want %q after %v", name, got, want, rest)
		}
	}
	next("", time.Hour) // half of 14 hours from the last read on: looked at again sooner
	s.state.items["b"].at = now.Add(-390 * time.Minute)
	s.state.items["a"].at = now.Add(-400 * time.Minute)
	next("", 30*time.Minute)
	s.state.items["b"].at = now.Add(-7*time.Hour - time.Second)
	s.state.items["a"].at = now.Add(-8 * time.Hour)
	next("a", 0)
	s.state.items["b"].at = now
	s.state.items["a"].at = now.Add(-every)
	next("a", 0) // behind
	s.state.items["a"].until = now.Add(time.Minute)
	s.state.items["b"].due = true
	next("b", 0)
	s.state.items["b"].due = false
	s.state.items["b"].at = now.Add(1000 * time.Hour) // the clock was set back
	s.state.items["c"].at = now.Add(1000 * time.Hour)
	if s.next(now, nil); s.state.items["b"].at.After(now) {
		t.Error("a time to come is believed")
	}
}
