package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFake(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("x", 3600))
	f := NewFake(begin)
	if now := f.Now(); !now.Equal(begin) || now.Location() != time.UTC {
		t.Fatalf("shows %v", now)
	}
	if got := <-f.After(0); !got.Equal(begin) {
		t.Fatalf("After(0) delivered %v", got)
	}
	if got := <-f.After(-time.Second); !got.Equal(begin) {
		t.Fatalf("After(-1s) delivered %v", got)
	}
	first, second := f.After(time.Second), f.After(2*time.Second)
	f.Set(begin.Add(time.Hour)) // a step wakes nobody
	if f.Waiters() != 2 || !f.Now().Equal(begin.Add(time.Hour)) {
		t.Fatalf("%d waiters at %v", f.Waiters(), f.Now())
	}
	f.Set(begin.Add(-time.Hour))
	if f.Elapsed() != 0 {
		t.Fatalf("%v elapsed: a step is not time that passes", f.Elapsed())
	}
	f.Advance(time.Second)
	if f.Elapsed() != time.Second {
		t.Fatalf("%v elapsed", f.Elapsed())
	}
	if got := <-first; !got.Equal(begin.Add(-time.Hour + time.Second)) {
		t.Fatalf("the first woke at %v", got)
	}
	if f.Waiters() != 1 {
		t.Fatalf("%d waiters", f.Waiters())
	}
	select {
	case <-second:
		t.Fatal("the second woke early")
	default:
	}
	f.Advance(time.Hour) // far beyond: it still wakes once
	<-second
	if f.Waiters() != 0 {
		t.Fatalf("%d waiters", f.Waiters())
	}
}

func TestReal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Clock = Real{}
		before := c.Now()
		if before.Location() != time.UTC {
			t.Fatalf("not UTC: %v", before)
		}
		<-c.After(time.Minute)
		if d := c.Now().Sub(before); d != time.Minute {
			t.Fatalf("a minute took %v", d)
		}
	})
}

func TestShifted(t *testing.T) {
	f := NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	s := Shifted{f, -time.Hour}
	due := s.After(time.Second)
	f.Advance(time.Second)
	if got := s.Now(); !got.Equal(time.Date(2026, 3, 1, 11, 0, 1, 0, time.UTC)) || s.Elapsed() != time.Second {
		t.Errorf("it shows %v after %v", got, s.Elapsed())
	}
	select {
	case <-due:
	default:
		t.Error("After waits for another time than the clock under it")
	}
}
