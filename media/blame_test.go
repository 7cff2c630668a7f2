package media_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hayloft/media"
)

// A photo of which two children die by its own doing is refused for good,
// whatever the way of dying; the next photo's child is not the poorer for it.
func TestPoolBlamesThePhotoAfterTwoChildren(t *testing.T) {
	for _, x := range []struct {
		mode string
		o    media.PoolOptions
		says string // in the event: one of these words
	}{
		{"abort", media.PoolOptions{}, "signal: aborted"},
		{"spend", media.PoolOptions{JobCPU: time.Second}, "killed"},
		{"close", media.PoolOptions{}, "EOF"},
		{"spin", media.PoolOptions{JobCPU: time.Second}, "out of CPU time"},
		{"bomb", media.PoolOptions{MemoryBytes: 256 << 20}, "memory|address space"}, // the latter under the race detector
		{"liar", media.PoolOptions{}, "protocol"},
		{"orphan", media.PoolOptions{}, "grandchild"},
	} {
		t.Run(x.mode, func(t *testing.T) {
			t.Parallel()
			p, ev := newPool(t, x.o, x.mode)
			_, err := p.Make(t.Context(), photo())
			var verdict media.Rejected
			if !errors.As(err, &verdict) || verdict.Type != media.RejectUndecodable {
				t.Fatalf("%v", err)
			}
			struck := ev.of(media.EventStruck)
			if len(struck) != 2 || p.Stats().Struck != 2 || p.Stats().Refused != 1 {
				t.Fatalf("%d children struck, %+v", len(struck), p.Stats())
			}
			for _, e := range struck {
				text := fmt.Sprint(e.Err, e.Ended, e.Stderr)
				if !slices.ContainsFunc(strings.Split(x.says, "|"), func(word string) bool { return strings.Contains(text, word) }) {
					t.Errorf("the event does not say %q: %s", x.says, text)
				}
				if x.mode == "orphan" {
					pid, err := strconv.Atoi(strings.Fields(e.Stderr)[1])
					if err != nil {
						t.Fatal(err)
					}
					waitGone(t, pid)
				}
			}
		})
	}
}

// What may have come from outside proves nothing against the photo, however
// often it happens.
func TestPoolExcusesThePhoto(t *testing.T) {
	for _, x := range []struct {
		mode     []string
		o        media.PoolOptions
		want     error
		children int
	}{
		{[]string{"die"}, media.PoolOptions{}, media.ErrKilled, 2},
		{[]string{"term"}, media.PoolOptions{}, media.ErrKilled, 2},
		{[]string{"crash-once", t.TempDir() + "/crashed"}, media.PoolOptions{}, media.ErrKilled, 2},
		{[]string{"hang"}, media.PoolOptions{JobTimeout: 200 * time.Millisecond}, media.ErrHung, 1},
	} {
		t.Run(x.mode[0], func(t *testing.T) {
			t.Parallel()
			p, ev := newPool(t, x.o, x.mode...)
			for n := range 2 {
				_, err := p.Make(t.Context(), photo())
				var verdict media.Rejected
				if !errors.Is(err, x.want) || errors.As(err, &verdict) {
					t.Errorf("call %d: %v, want %v", n, err, x.want)
				}
			}
			s := p.Stats()
			if len(ev.of(media.EventStruck)) != 2*x.children || s.Refused != 0 || s.Failures != 2 {
				t.Errorf("%+v, %d events", s, len(ev.of(media.EventStruck)))
			}
		})
	}
}

// One death is an accident: the photo is made by the next child.
func TestPoolForgivesOneDeath(t *testing.T) {
	p, ev := newPool(t, media.PoolOptions{}, "die-once", t.TempDir()+"/died")
	for range 3 {
		if _, err := p.Make(t.Context(), photo()); err != nil {
			t.Fatal(err)
		}
	}
	if s := p.Stats(); s.Made != 3 || s.Struck != 1 || s.Started != 2 || len(ev.of(media.EventStruck)) != 1 {
		t.Errorf("%+v", s)
	}
}
