package remote

import (
	"testing"

	"hayloft/feed"
)

// TestNotificationsOverTheWire: what users are told is the same over the wire, and what
// is not wanted here is not wanted there.
func TestNotificationsOverTheWire(t *testing.T) {
	w := newWorld(t)
	anna, bob := w.account("anna"), w.account("bob")
	w.must(w.c.Follow(w.ctx, bob.ID, anna.ID))
	w.must(w.c.Listen(w.ctx, bob.ID, anna.ID))
	photo := w.post(anna.ID, &feed.Details{Caption: "hello @bob"})
	w.ready(photo)
	w.must(w.c.Like(w.ctx, bob.ID, photo))
	_, err := w.c.AddComment(w.ctx, bob.ID, photo, "nice", 0)
	w.must(err)

	for _, u := range []feed.User{anna, bob} {
		got, next, err := w.c.Notifications(w.ctx, u.ID, feed.Page{Limit: 2})
		here, next2, err2 := w.feed.Notifications(w.ctx, u.ID, feed.Page{Limit: 2})
		same(w, "notifications", got, here, err, err2)
		same(w, "next", next, next2)
	}
	got, err := w.c.NotificationsAfter(w.ctx, anna.ID, 0, -1, 10)
	here, err2 := w.feed.NotificationsAfter(w.ctx, anna.ID, 0, -1, 10)
	same(w, "stream", got, here, err, err2)
	if len(got.Rows) != 3 || got.Unseen != 3 || got.Last != 3 {
		t.Errorf("anna is told %+v", got)
	}
	from, err := w.c.NotificationsAfter(w.ctx, anna.ID, feed.NotificationsFromNow, -1, 10)
	w.must(err)
	if from.Last != 3 || len(from.Rows) != 0 {
		t.Errorf("from now on: %+v", from)
	}
	w.must(w.c.NotificationsSeen(w.ctx, anna.ID, 0))
	w.must(w.c.WantNotifications(w.ctx, anna.ID, map[feed.NotificationKind]bool{feed.NotifyLike: false}))
	wanted, err := w.c.NotificationsWanted(w.ctx, anna.ID)
	here2, err2 := w.feed.NotificationsWanted(w.ctx, anna.ID)
	same(w, "wanted", wanted, here2, err, err2)
	if wanted[feed.NotifyLike] || !wanted[feed.NotifyComment] {
		t.Errorf("wanted: %v", wanted)
	}
	list, _, err := w.c.Listening(w.ctx, bob.ID, feed.Page{Limit: 5})
	if w.must(err); len(list) != 1 || list[0].ID != anna.ID {
		t.Errorf("bob listens to %+v", list)
	}
	w.must(w.c.Unlisten(w.ctx, bob.ID, anna.ID))
}
