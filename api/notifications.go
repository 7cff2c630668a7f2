package api

import (
	"context"
	"fmt"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

// What users are told.

// Telling is what the API needs of the feed for that. All changes are idempotent.
type Telling interface {
	Notifications(ctx context.Context, user id.ID, p Page) (list feed.Notifications, next id.ID, err error)
	// NotificationsAfter waits some seconds for what is newer than a seq, or until the
	// number of unseen ones is another than the caller knows.
	NotificationsAfter(ctx context.Context, user id.ID, after uint64, unseen, limit int) (feed.Notifications, error)
	NotificationsSeen(ctx context.Context, user id.ID, through uint64) error // 0: all
	NotificationsWanted(ctx context.Context, user id.ID) (map[feed.NotificationKind]bool, error)
	WantNotifications(ctx context.Context, user id.ID, change map[feed.NotificationKind]bool) error
	Listen(ctx context.Context, user, author id.ID) error // feed.ErrConflict: user does not follow author
	Unlisten(ctx context.Context, user, author id.ID) error
	Listening(ctx context.Context, user id.ID, p Page) (rows []feed.UserView, next id.ID, err error)
}

func tellingRoutes() []route {
	return []route{
		{method: "GET", pattern: v1 + "/notifications", access: signedIn, handle: (*request).notifications},
		{method: "GET", pattern: v1 + "/notifications/stream", access: signedIn, handle: (*request).notificationStream},
		{method: "POST", pattern: v1 + "/notifications/seen", access: signedIn, handle: (*request).notificationsSeen},
		{method: "GET", pattern: v1 + "/notifications/preferences", access: signedIn, handle: (*request).preferences},
		{method: "PATCH", pattern: v1 + "/notifications/preferences", access: signedIn, handle: (*request).patchPreferences},
		{method: "POST", pattern: v1 + "/users/{user}/listen", access: signedIn, handle: (*request).listen},
		{method: "DELETE", pattern: v1 + "/users/{user}/listen", access: signedIn, handle: (*request).unlisten},
		{method: "GET", pattern: v1 + "/listening", access: signedIn, handle: (*request).listening},
	}
}

// notificationBody is the notification object.
type notificationBody struct {
	ID      string       `json:"id"`  // the same as long as it is added to
	Seq     uint64       `json:"seq"` // greater whenever it is
	Kind    string       `json:"kind"`
	At      time.Time    `json:"at"`
	Count   int          `json:"count"`
	Actors  []authorBody `json:"actors"`
	Photo   *photoBody   `json:"photo,omitempty"`
	Comment *commentBody `json:"comment,omitempty"`
	Seen    bool         `json:"seen"`
}

func (r *request) notification(n feed.Notification) notificationBody {
	b := notificationBody{ID: fmt.Sprintf("%s-%s-%s", n.Kind, n.Subject, n.Day.Format(time.DateOnly)), Seq: n.Seq, Kind: n.Kind.String(),
		At: utc(n.At), Count: n.Count, Actors: make([]authorBody, 0, len(n.Actors)), Seen: n.Seen}
	for _, u := range n.Actors {
		b.Actors = append(b.Actors, authorBody{ID: u.ID, Handle: u.Handle, AvatarURL: r.avatarURL(u.Avatar)})
	}
	if n.Photo != nil {
		p := r.photo(*n.Photo)
		b.Photo = &p
	}
	if n.Comment != nil {
		c := r.comment(*n.Comment)
		b.Comment = &c
	}
	return b
}

// notificationPage is the JSON of a page of notifications.
type notificationPage struct {
	pageBody[notificationBody]
	Unread int    `json:"unread"` // of all, 99 at most
	Seq    uint64 `json:"seq"`    // where a stream goes on
}

// notifications is GET /notifications.
func (r *request) notifications() error {
	l := listing{name: "notifications", viewer: r.viewer}
	p, err := r.readPage(l)
	if err != nil {
		return err
	}
	list, next, err := r.a.opt.Feed.Notifications(r.ctx, r.viewer, p)
	if err != nil {
		return err
	}
	page := notificationPage{Unread: list.Unseen, Seq: list.Last}
	page.Items = make([]notificationBody, 0, len(list.Rows))
	for _, n := range list.Rows {
		page.Items = append(page.Items, r.notification(n))
	}
	if next != 0 {
		page.NextCursor = l.cursor(r.a.opt.Ring, next)
	}
	return r.json(200, page)
}

// notificationsSeen is POST /notifications/seen {seq?}: up to there, or all.
func (r *request) notificationsSeen() error {
	through := int64(0)
	if r.rc.Request.Header.ContentLength() != 0 {
		f, err := r.jsonBody()
		if err != nil {
			return err
		}
		if f.has("seq") {
			if through = f.integer("seq"); through < 1 {
				f.fault("seq", "must be that of a notification")
			}
		}
		if err := f.done(); err != nil {
			return err
		}
	}
	if err := r.a.opt.Feed.NotificationsSeen(r.ctx, r.viewer, uint64(through)); err != nil {
		return err
	}
	return r.noContent()
}

// preferences is GET /notifications/preferences: of each kind, whether it is wanted.
func (r *request) preferences() error {
	wanted, err := r.a.opt.Feed.NotificationsWanted(r.ctx, r.viewer)
	if err != nil {
		return err
	}
	return r.json(200, byKind(wanted))
}

// byKind is what an account wants to be told, by the names of the kinds.
func byKind(wanted map[feed.NotificationKind]bool) map[string]bool {
	out := make(map[string]bool, len(wanted))
	for k, on := range wanted {
		out[k.String()] = on
	}
	return out
}

// patchPreferences is PATCH /notifications/preferences.
func (r *request) patchPreferences() error {
	f, err := r.jsonBody()
	if err != nil {
		return err
	}
	change := make(map[feed.NotificationKind]bool)
	for _, k := range feed.NotificationKinds() {
		if f.has(k.String()) {
			change[k] = f.boolean(k.String())
		}
	}
	if err := f.done(); err != nil {
		return err
	}
	if len(change) > 0 {
		if err := r.a.opt.Feed.WantNotifications(r.ctx, r.viewer, change); err != nil {
			return err
		}
	}
	return r.preferences()
}

// listen is POST /users/{user}/listen: be told when they publish.
func (r *request) listen() error { return r.onOther(false, r.a.opt.Feed.Listen) }

// unlisten is DELETE /users/{user}/listen.
func (r *request) unlisten() error { return r.onOther(true, r.a.opt.Feed.Unlisten) }

// listening is GET /listening.
func (r *request) listening() error { return r.ownUsers("listening", r.a.opt.Feed.Listening) }
