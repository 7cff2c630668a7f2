package heap

import (
	"context"
	"runtime"
	"runtime/metrics"
	"slices"
	"testing"
	"time"

	"hayloft/internal/clock"
)

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		alive uint64
		want  int
	}{{0, most}, {1 << 20, most}, {32 << 20, 400}, {64 << 20, 200}, {Garbage, 100}, {1 << 40, 100}} {
		if got := percent(c.alive, Garbage); got != c.want {
			t.Errorf("%d bytes alive: %d %%, want %d", c.alive, got, c.want)
		}
	}
}

func TestMachine(t *testing.T) {
	if n := Machine(); n < 64<<20 {
		t.Errorf("%d bytes of memory", n)
	}
	for _, c := range []struct {
		total int64
		group string
		want  int64
	}{{100, "max\n", 100}, {100, "50\n", 50}, {100, "9223372036854771712\n", 100}, {100, "", 100}, {0, "50", 50}, {100, "0", 100}} {
		if got := least(c.total, c.group); got != c.want {
			t.Errorf("%d, group %q: %d, want %d", c.total, c.group, got, c.want)
		}
	}
}

func TestGroups(t *testing.T) {
	for text, want := range map[string][]string{
		"0::/\n": {"/"}, "": nil, "3:memory:/old\n": nil,
		"1:name=x:/a\n0::/system.slice/hayloft.service\n": {"/system.slice/hayloft.service", "/system.slice", "/"},
	} {
		if got := groups(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

var sink [][]byte

// TestPace checks that a small heap is collected less often, that one that has grown is not, and
// that all is as before in the end.
func TestPace(t *testing.T) {
	t.Setenv("GOGC", "")
	now := func() int {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return int(s[0].Value.Uint64())
	}
	before := now()
	c := clock.NewFake(time.Unix(0, 0))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	runtime.GC()
	go func() { defer close(done); Pace(ctx, c) }()
	until := func(what string, ok func(int) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(now()); c.Advance(look) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d %%", what, now())
			}
			runtime.Gosched()
		}
	}
	until("a small heap", func(p int) bool { return p > 300 })
	for range 4 {
		sink = append(sink, make([]byte, Garbage/4))
	}
	runtime.GC()
	until("a large heap", func(p int) bool { return p < 120 })
	sink = nil
	cancel()
	<-done
	if now() != before {
		t.Errorf("left at %d %%, it was %d", now(), before)
	}
}
