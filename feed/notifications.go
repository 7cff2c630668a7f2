package feed

import (
	"cmp"
	"context"
	"slices"
	"time"

	"hayloft/internal/id"
)

const (
	maxUnseen = 99 // unread notifications are counted to here
	// notificationWait is how long NotificationsAfter waits before it says that there is nothing.
	notificationWait = 8 * time.Second
	// tellChunk is how many listeners one command tells: few enough that what others
	// propose does not wait long, even where each inbox is full and loses its oldest.
	tellChunk = 32
)

// NotificationsFromNow, as a place to go on after, is behind all that there is.
const NotificationsFromNow = ^uint64(0)

// Notifications is some of a user's notifications.
type Notifications struct {
	Rows   []Notification
	Unseen int    // of all notifications, 99 at most
	Last   uint64 // where NotificationsAfter goes on to be told of what is newer than Rows
}

// Notifications lists what user is told, what happened last first. next is for Page.After.
func (f *Feed) Notifications(ctx context.Context, user id.ID, p Page) (out Notifications, next id.ID, err error) {
	err = f.serve(ctx, func(v *view) error {
		r, err := v.notificationsOf(user)
		if err != nil {
			return err
		}
		out.Last = r.box.Last
		if out.Unseen, err = r.unseen(); err != nil {
			return err
		}
		next, err = v.pager(tabNotifications, user, p, func(_ id.ID, value []byte) (bool, error) {
			k, err := parseNotificationTail(user, value)
			if err != nil {
				return false, err
			}
			t, err := r.look(k, nil)
			if err != nil || t.count == 0 {
				return false, err
			}
			n, err := r.show(t)
			out.Rows = append(out.Rows, n)
			return true, err
		})
		return err
	})
	return out, next, err
}

// NotificationsAfter returns up to limit notifications with Seq > after, ascending. It waits for
// one, or until the number of unseen ones is not what the caller knows (-1: nothing),
// and returns none after notificationWait as a sign of life. Last is where to go on.
func (f *Feed) NotificationsAfter(ctx context.Context, user id.ID, after uint64, unseen, limit int) (out Notifications, err error) {
	w := &f.machine.watch
	var beat <-chan time.Time
	for over := false; ; {
		changed, done := w.onInbox(user)
		out, err = f.notificationsNow(ctx, user, after, limit)
		if err != nil || over || len(out.Rows) > 0 || out.Unseen != unseen {
			done()
			return out, err
		}
		if beat == nil {
			beat = f.clock.After(notificationWait)
		}
		select {
		case <-changed:
		case <-beat:
			over = true
		case <-ctx.Done():
			err = ctx.Err()
		}
		done()
		if err != nil {
			return Notifications{}, err
		}
	}
}

func (f *Feed) notificationsNow(ctx context.Context, user id.ID, after uint64, limit int) (out Notifications, err error) {
	err = f.serve(ctx, func(v *view) error {
		r, err := v.notificationsOf(user)
		if err != nil {
			return err
		}
		if out.Unseen, err = r.unseen(); err != nil {
			return err
		}
		if out.Last = after; after == NotificationsFromNow {
			out.Last = r.box.Last
			return nil
		}
		newer, err := r.newer(after)
		if err != nil {
			return err
		}
		for _, t := range newer[:min(len(newer), max(limit, 1))] {
			n, err := r.show(t)
			if err != nil {
				return err
			}
			out.Rows = append(out.Rows, n)
			out.Last = t.seq
		}
		return nil
	})
	return out, err
}

// newer is what is told with a seq greater than after, ascending.
func (r *notificationReader) newer(after uint64) (out []told, err error) {
	err = r.list(tabNotifications, r.to, 0, func(seq id.ID, v []byte) error {
		if uint64(seq) <= after {
			return errStop
		}
		k, err := parseNotificationTail(r.to, v)
		if err != nil {
			return err
		}
		t, err := r.look(k, nil)
		if err == nil && t.count > 0 && t.seq > after {
			out = append(out, t)
		}
		return err
	})
	slices.SortFunc(out, func(a, b told) int { return cmp.Compare(a.seq, b.seq) })
	return out, err
}

// NotificationsSeen marks a user's notifications up to a Seq as seen; 0: all there are. The mark
// moves forward only.
func (f *Feed) NotificationsSeen(ctx context.Context, user id.ID, through uint64) error {
	_, err := f.propose(ctx, &cmdNotificationsSeen{User: user, Through: through})
	return err
}

// NotificationsWanted says of each kind whether user wants to be told.
func (f *Feed) NotificationsWanted(ctx context.Context, user id.ID) (map[NotificationKind]bool, error) {
	wanted := make(map[NotificationKind]bool)
	err := f.serve(ctx, func(v *view) error {
		r, err := v.notificationsOf(user)
		if err != nil {
			return err
		}
		for _, k := range NotificationKinds() {
			wanted[k] = r.box.wants(k)
		}
		return nil
	})
	return wanted, err
}

// WantNotifications changes what NotificationsWanted says of the kinds in change. What is not
// wanted is not shown, and comes back when it is wanted again.
func (f *Feed) WantNotifications(ctx context.Context, user id.ID, change map[NotificationKind]bool) error {
	cmd := &cmdNotificationsWanted{User: user}
	for k, on := range change {
		switch {
		case k == 0 || k >= notificationEnd:
			return Invalid{"kind", "is no kind of notification"}
		case on:
			cmd.On |= 1 << k
		default:
			cmd.Off |= 1 << k
		}
	}
	_, err := f.propose(ctx, cmd)
	return err
}

// Listen asks that user be told when author publishes. Only followers may: else it is
// ErrConflict. It ends with the follow.
func (f *Feed) Listen(ctx context.Context, user, author id.ID) error {
	edge, err := f.newID(ctx)
	if err != nil {
		return err
	}
	_, err = f.propose(ctx, &cmdListen{User: user, Author: author, Edge: edge})
	return err
}

// Unlisten undoes Listen.
func (f *Feed) Unlisten(ctx context.Context, user, author id.ID) error {
	_, err := f.propose(ctx, &cmdListen{User: user, Author: author, Off: true})
	return err
}

// Listening lists those whom user asked to hear from, newest first.
func (f *Feed) Listening(ctx context.Context, user id.ID, p Page) (rows []UserView, next id.ID, err error) {
	return f.people(ctx, tabListening, user, user, p)
}

// tell tells listeners of new photos, in bounded steps, while this node leads.
func (f *Feed) tell(ctx context.Context) error {
	w := &f.machine.watch
	for {
		if err := f.lead(ctx); err != nil {
			return err
		}
		changed := w.on(&w.tell)
		wait := sweepLook
		if err := f.tellAll(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			f.notify(Notice{Kind: SweepFailed, Err: err})
			wait = sweepRetry
		}
		select {
		case <-changed:
		case <-f.clock.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tellAll works until there is nobody to tell.
func (f *Feed) tellAll(ctx context.Context) error {
	for {
		more := false
		err := f.read(ctx, func(v *view) error {
			return v.scan([]byte{tabTelling}, []byte{tabTelling + 1}, func(_, _ []byte) error {
				more = true
				return errStop
			})
		})
		if err != nil || !more {
			return err
		}
		if _, err := f.propose(ctx, &cmdTell{Limit: f.tellRows}); err != nil {
			return err
		}
	}
}
