package remote

import (
	"context"

	"hayloft/feed"
	"hayloft/internal/id"
)

// Search, by the contracts of feed.Feed: the node that is asked answers from its own
// index.

// searchMethods are the methods of a feed that this file calls.
func searchMethods(f *feed.Feed) map[string]any {
	return map[string]any{
		"SearchPhotos": f.SearchPhotos,
		"SearchUsers":  f.SearchUsers,
		"SearchTags":   f.SearchTags,
		"SearchPlaces": f.SearchPlaces,
		"TagPhotos":    f.TagPhotos,
		"PlacePhotos":  f.PlacePhotos,
	}
}

// SearchPhotos is that of feed.Feed.
func (c *Client) SearchPhotos(ctx context.Context, viewer id.ID, text string, p feed.Page) ([]feed.PhotoView, id.ID, error) {
	return two[[]feed.PhotoView, id.ID](ctx, c, "SearchPhotos", true, viewer, text, p)
}

// SearchUsers is that of feed.Feed.
func (c *Client) SearchUsers(ctx context.Context, viewer id.ID, text string, p feed.SearchPage) ([]feed.UserView, string, error) {
	return two[[]feed.UserView, string](ctx, c, "SearchUsers", true, viewer, text, p)
}

// SearchTags is that of feed.Feed.
func (c *Client) SearchTags(ctx context.Context, viewer id.ID, prefix string, p feed.SearchPage) ([]string, string, error) {
	return two[[]string, string](ctx, c, "SearchTags", true, viewer, prefix, p)
}

// SearchPlaces is that of feed.Feed.
func (c *Client) SearchPlaces(ctx context.Context, viewer id.ID, prefix string, p feed.SearchPage) ([]feed.Place, string, error) {
	return two[[]feed.Place, string](ctx, c, "SearchPlaces", true, viewer, prefix, p)
}

// TagPhotos is that of feed.Feed.
func (c *Client) TagPhotos(ctx context.Context, viewer id.ID, tag string, p feed.Page) ([]feed.PhotoView, id.ID, error) {
	return two[[]feed.PhotoView, id.ID](ctx, c, "TagPhotos", true, viewer, tag, p)
}

// PlacePhotos is that of feed.Feed.
func (c *Client) PlacePhotos(ctx context.Context, viewer, place id.ID, p feed.Page) ([]feed.PhotoView, id.ID, error) {
	return two[[]feed.PhotoView, id.ID](ctx, c, "PlacePhotos", true, viewer, place, p)
}
