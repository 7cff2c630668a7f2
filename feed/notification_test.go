package feed

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"hayloft/internal/id"
)

// What an @ names is part of the format.
func TestHandlesIn(t *testing.T) {
	for text, want := range map[string][]string{
		"":                            nil,
		"@anna":                       {"anna"},
		"hello @Anna, and @bob.":      {"anna", "bob"},
		"@a.b. @a..b":                 {"a.b", "a"},
		"mail anna@example.com":       nil,
		".@anna _@anna (@anna)":       {"anna"},
		"@ @@anna @.anna":             {"anna"},
		"@anna@bob":                   {"anna"},
		"é@anna":                      {"anna"},
		"@anna @anna @ANNA":           {"anna"},
		"@annaé":                      {"anna"},
		"@" + fmt.Sprintf("%033d", 1): nil,
		"@" + fmt.Sprintf("%032d", 1): {fmt.Sprintf("%032d", 1)},
	} {
		if got := handlesIn(text); !slices.Equal(got, want) {
			t.Errorf("%q names %q, want %q", text, got, want)
		}
	}
	many := ""
	for i := range 50 {
		many += fmt.Sprintf("@u%d ", i)
	}
	if got := handlesIn(many); len(got) != maxMentions || got[19] != "u19" {
		t.Errorf("%q", got)
	}
}

// An inbox keeps its newest notifications, and counts no further than it says.
func TestNotificationsAreBounded(t *testing.T) {
	h := newHouse(t, nil)
	anna, bob := h.user("anna"), h.user("bob")
	var last id.ID
	for range notificationsKept + notificationsSlack + 20 {
		last = h.post(anna, Details{})
		h.must(h.feed.Like(t.Context(), bob, last))
	}
	got, _, err := h.feed.Notifications(t.Context(), anna, Page{Limit: 1})
	if h.must(err); got.Unseen != maxUnseen || got.Rows[0].Subject != last {
		t.Errorf("%d unseen, newest %v", got.Unseen, got.Rows[0].Subject)
	}
	var rows uint64
	h.must(store{h.group.db}.list(tabNotifications, anna, 0, func(id.ID, []byte) error { rows++; return nil }))
	if box, err := (store{h.group.db}).inbox(anna); err != nil || rows != box.Entries || rows < notificationsKept || rows > notificationsKept+notificationsSlack {
		t.Errorf("%d rows, %+v, %v", rows, box, err)
	}
	for i := range notificationCount + 5 {
		h.must(h.feed.Like(t.Context(), h.user(fmt.Sprintf("u%d", i)), last))
	}
	got, _, err = h.feed.Notifications(t.Context(), anna, Page{Limit: 1})
	if h.must(err); got.Rows[0].Count != notificationCount || len(got.Rows[0].Actors) != notificationActors {
		t.Errorf("counts %d, names %d", got.Rows[0].Count, len(got.Rows[0].Actors))
	}
	h.check()
	h.must(h.feed.DeletePhoto(t.Context(), anna, last, true))
	h.must(second2(h.sweepNow()))
	h.check()
	h.must(store{h.group.db}.scan([]byte{tabCause}, []byte{tabCause + 1}, func(k, _ []byte) error {
		if c := id.ID(parseBE(k[10:18])); c == last {
			t.Fatalf("%x tells of a photo that is gone", k)
		}
		return nil
	}))
}

// Many listeners are told in steps that a crash may come between, each once; who has
// few of them does not wait for who has many.
func TestTellingGoesOnAfterACrash(t *testing.T) {
	h := newHouse(t, nil)
	anna, bob := h.user("anna"), h.user("bob")
	var listeners []id.ID
	for i := range 40 {
		u := h.user(fmt.Sprintf("u%d", i))
		listeners = append(listeners, u)
		h.must(h.feed.Follow(t.Context(), u, anna))
		h.must(h.feed.Listen(t.Context(), u, anna))
	}
	h.must(h.feed.Follow(t.Context(), listeners[0], bob))
	h.must(h.feed.Listen(t.Context(), listeners[0], bob))
	h.post(anna, Details{})
	step := func() int {
		t.Helper()
		out, err := h.feed.propose(t.Context(), &cmdTell{Limit: 16})
		h.must(err)
		return out.Count
	}
	if n := step(); n != 16 {
		t.Fatalf("told %d first", n)
	}
	h.post(bob, Details{})
	if n := step(); n != 1 {
		t.Fatalf("%d were told while one waits that was never begun", n)
	}
	h.close()
	h.group.crash(t, rand.New(rand.NewPCG(1, 1)))
	h.open()
	h.run() // the leader goes on where it was
	defer h.halt()
	for _, u := range listeners {
		for {
			got, err := h.feed.NotificationsAfter(t.Context(), u, 0, 0, 10)
			if h.must(err); len(got.Rows) == 0 {
				continue
			}
			if n := len(got.Rows); n != 1 && (u != listeners[0] || n != 2) || got.Rows[0].Kind != NotifyPost || got.Rows[0].Count != 1 {
				t.Errorf("%v is told %+v", u, got.Rows)
			}
			break
		}
	}
	h.check()
}
