package feed

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// listeners are n users who asked to hear from author, each with some notifications.
func (h *house) listeners(author id.ID, n, notifications int) (list []id.ID) {
	h.t.Helper()
	for range n {
		u := h.user(fmt.Sprintf("u%d", uint64(h.mint())))
		h.must(h.feed.Follow(h.t.Context(), u, author))
		h.must(h.feed.Listen(h.t.Context(), u, author))
		b := h.group.db.NewIndexedBatch()
		t := &tx{store: store{b}, now: h.clock.Now()}
		for range notifications {
			photo := h.mint()
			h.must(t.enterInbox(notificationKey{To: u, Kind: NotifyLike, Subject: photo}, photo, author))
		}
		h.must(t.flush(b))
		h.must(b.Commit(pebble.NoSync))
		list = append(list, u)
	}
	return list
}

// A post is told to all who listen in several commands, none of them large, though a
// power cut comes in between: each hears of it once. Full inboxes lose their oldest.
func TestManyListenersTakeSeveralCommands(t *testing.T) {
	h := newHouse(t, nil)
	anna := h.user("anna")
	full := h.listeners(anna, 4, notificationsKept+notificationsSlack)
	all := append(full, h.listeners(anna, 2*tellChunk, 1)...)
	h.post(anna, Details{})
	// tell runs a step and counts its commands.
	tell := func(step func() error) (commands int) {
		t.Helper()
		from := len(h.group.log)
		h.must(step())
		for _, cmd := range h.group.log[from:] {
			_, body, err := decodeCommand(cmd)
			h.must(err)
			if tell, ok := body.(*cmdTell); ok {
				if commands++; tell.Limit > tellChunk {
					t.Errorf("a command tells %d", tell.Limit)
				}
			}
		}
		return commands
	}
	rng := rand.New(rand.NewPCG(8, 8))
	told := 0
	tell(func() error {
		out, err := h.feed.propose(t.Context(), &cmdTell{Limit: h.feed.tellRows})
		told = out.Count
		return err
	})
	if told != tellChunk {
		t.Fatalf("%d told by the first command", told)
	}
	h.close()
	h.group.crash(t, rng)
	h.open()
	if n := tell(func() error { return h.feed.tellAll(t.Context()) }); n != 2 {
		t.Errorf("%d commands more for %d listeners", n, len(all)-told)
	}
	for i, u := range all {
		got, _, err := h.feed.Notifications(t.Context(), u, Page{Limit: 2})
		if h.must(err); len(got.Rows) == 0 || got.Rows[0].Kind != NotifyPost || got.Rows[0].Count != 1 {
			t.Errorf("listener %d is told %+v", i, got.Rows)
		}
		box, err := store{h.group.db}.inbox(u)
		if h.must(err); i < len(full) && box.Entries != notificationsKept || i >= len(full) && box.Entries != 2 {
			t.Errorf("listener %d has %d notifications", i, box.Entries)
		}
	}
	h.check()
}

// One command that tells many, while their inboxes have room and when each is to lose
// its oldest.
func BenchmarkTell(b *testing.B) {
	for _, have := range []int{10, notificationsKept + notificationsSlack} {
		for _, limit := range []int{16, 32, 64, 256} {
			b.Run(fmt.Sprintf("%d notifications/%d listeners", have, limit), func(b *testing.B) {
				var took time.Duration
				for range b.N {
					h := newHouse(b, nil)
					anna := h.user("anna")
					h.listeners(anna, limit, have)
					h.post(anna, Details{})
					begun := time.Now()
					_, err := h.feed.propose(b.Context(), &cmdTell{Limit: limit})
					took += time.Since(begun)
					h.must(err)
					h.close()
				}
				b.ReportMetric(float64(took.Microseconds())/float64(b.N)/1000, "ms/command")
				b.ReportMetric(float64(took.Microseconds())/float64(b.N)/float64(limit), "µs/listener")
			})
		}
	}
}
