package remote

import (
	"context"

	"hayloft/feed"
	"hayloft/internal/id"
)

// What users are told, by the contracts of feed.Feed.

// notificationMethods are the methods of a feed that this file calls.
func notificationMethods(f *feed.Feed) map[string]any {
	return map[string]any{
		"Notifications":       f.Notifications,
		"NotificationsAfter":  f.NotificationsAfter,
		"NotificationsSeen":   f.NotificationsSeen,
		"NotificationsWanted": f.NotificationsWanted,
		"WantNotifications":   f.WantNotifications,
		"Listen":              f.Listen,
		"Unlisten":            f.Unlisten,
		"Listening":           f.Listening,
	}
}

// Notifications is that of feed.Feed.
func (c *Client) Notifications(ctx context.Context, user id.ID, p feed.Page) (feed.Notifications, id.ID, error) {
	return two[feed.Notifications, id.ID](ctx, c, "Notifications", true, user, p)
}

// NotificationsAfter is that of feed.Feed.
func (c *Client) NotificationsAfter(ctx context.Context, user id.ID, after uint64, unseen, limit int) (feed.Notifications, error) {
	return one[feed.Notifications](ctx, c, "NotificationsAfter", true, user, after, unseen, limit)
}

// NotificationsSeen is that of feed.Feed.
func (c *Client) NotificationsSeen(ctx context.Context, user id.ID, through uint64) error {
	return c.call(ctx, "NotificationsSeen", true, []any{user, through})
}

// NotificationsWanted is that of feed.Feed.
func (c *Client) NotificationsWanted(ctx context.Context, user id.ID) (map[feed.NotificationKind]bool, error) {
	return one[map[feed.NotificationKind]bool](ctx, c, "NotificationsWanted", true, user)
}

// WantNotifications is that of feed.Feed.
func (c *Client) WantNotifications(ctx context.Context, user id.ID, change map[feed.NotificationKind]bool) error {
	return c.call(ctx, "WantNotifications", true, []any{user, change})
}

// Listen is that of feed.Feed.
func (c *Client) Listen(ctx context.Context, user, author id.ID) error {
	return c.call(ctx, "Listen", true, []any{user, author})
}

// Unlisten is that of feed.Feed.
func (c *Client) Unlisten(ctx context.Context, user, author id.ID) error {
	return c.call(ctx, "Unlisten", true, []any{user, author})
}

// Listening is that of feed.Feed.
func (c *Client) Listening(ctx context.Context, user id.ID, p feed.Page) ([]feed.UserView, id.ID, error) {
	return two[[]feed.UserView, id.ID](ctx, c, "Listening", true, user, p)
}
