package remote

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"hayloft/feed"
	"hayloft/internal/id"
)

// Pages of the feed, put together from two sources: what a node with the role feed says
// of them (briefs), each time, and the rest of each photo, from a cache by its version.

// Hydrator is a cache of values that never change under their keys. Hydrate returns the
// values of keys that it has, or that load gives it.
type Hydrator interface {
	Hydrate(ctx context.Context, keys []string, load func(ctx context.Context, keys []string) (map[string][]byte, error)) (map[string][]byte, error)
}

// CacheWith has pages hydrated by h. It is called before the client is used.
func (c *Client) CacheWith(h Hydrator) { c.pages = h }

// pageMethods are the methods of a feed that this file calls.
func pageMethods(f *feed.Feed) map[string]any {
	return map[string]any{
		"FeedPage": f.FeedPage,
		"FeedBriefs": func(ctx context.Context, viewer id.ID, p feed.Page) ([]feed.Brief, id.ID, error) {
			rows, next, err := f.FeedPage(ctx, viewer, p)
			briefs := make([]feed.Brief, len(rows))
			for i, row := range rows {
				briefs[i], _ = row.Split()
			}
			return briefs, next, err
		},
		"FeedViews": func(ctx context.Context, viewer id.ID, photos []id.ID) ([]whole, error) {
			rows, err := f.FeedPhotos(ctx, viewer, photos)
			out := make([]whole, len(rows))
			for i, row := range rows {
				brief, rest := row.Split()
				b, jerr := json.Marshal(rest)
				if err == nil {
					err = jerr
				}
				out[i] = whole{brief, b}
			}
			return out, err
		},
	}
}

// whole is a photo with its brief. Rest is cached as the node has written it: the one
// that asks may be of another version, and leave out what it does not know.
type whole struct {
	Brief feed.Brief
	Rest  json.RawMessage // of a feed.PhotoView
}

// FeedPage is that of feed.Feed.
func (c *Client) FeedPage(ctx context.Context, viewer id.ID, p feed.Page) ([]feed.PhotoView, id.ID, error) {
	if c.pages == nil {
		return c.wholePage(ctx, viewer, p)
	}
	briefs, next, err := two[[]feed.Brief, id.ID](ctx, c, "FeedBriefs", true, viewer, p)
	if err != nil {
		if strings.Contains(err.Error(), errMethod.Error()) { // a node of the version before
			return c.wholePage(ctx, viewer, p)
		}
		return nil, 0, err
	}
	rows, err := c.hydrate(ctx, viewer, briefs)
	switch {
	case errors.Is(err, errUnreadable): // put there by another version of this program
		return c.wholePage(ctx, viewer, p)
	case err != nil:
		return nil, 0, err
	}
	return rows, next, nil
}

func (c *Client) wholePage(ctx context.Context, viewer id.ID, p feed.Page) ([]feed.PhotoView, id.ID, error) {
	return two[[]feed.PhotoView, id.ID](ctx, c, "FeedPage", true, viewer, p)
}

var errUnreadable = errors.New("feed/remote: what the cache has cannot be read")

// pageKey is the key of the rest of a photo. The number is that of the encoding.
func pageKey(b feed.Brief) string { return "1/" + b.Photo.String() + "/" + b.Version }

// hydrate puts the photos of briefs together.
func (c *Client) hydrate(ctx context.Context, viewer id.ID, briefs []feed.Brief) ([]feed.PhotoView, error) {
	keys := make([]string, len(briefs))
	asked := make(map[string]feed.Brief, len(briefs))
	for i, b := range briefs {
		keys[i] = pageKey(b)
		asked[keys[i]] = b
	}
	newer := map[id.ID]whole{} // those that changed since they were briefed
	got, err := c.pages.Hydrate(ctx, keys, func(ctx context.Context, keys []string) (map[string][]byte, error) {
		photos := make([]id.ID, len(keys))
		for i, k := range keys {
			photos[i] = asked[k].Photo
		}
		list, err := one[[]whole](ctx, c, "FeedViews", true, viewer, photos)
		out := make(map[string][]byte, len(list))
		for _, w := range list {
			if k := pageKey(w.Brief); asked[k].Photo != 0 {
				out[k] = w.Rest
			} else {
				newer[w.Brief.Photo] = w
			}
		}
		return out, err
	})
	if err != nil {
		return nil, err
	}
	var rows []feed.PhotoView
	for i, b := range briefs {
		rest, ok := got[keys[i]]
		if !ok {
			w, ok := newer[b.Photo]
			if !ok {
				continue // it may not be shown any more
			}
			b, rest = w.Brief, w.Rest
		}
		var v feed.PhotoView
		if err := json.Unmarshal(rest, &v); err != nil || v.ID != b.Photo {
			return nil, errUnreadable
		}
		rows = append(rows, b.Join(v))
	}
	return rows, nil
}
