package client

import (
	"context"
	"iter"
	"net/url"
	"strconv"
)

// What a search looks for.
const (
	SearchEverything = "" // the first page of each
	SearchPhotos     = "photos"
	SearchUsers      = "users"
	SearchTags       = "tags"
	SearchPlaces     = "places"
)

// Found is what a search has found. What was not looked for is empty.
type Found struct {
	Photos     []Photo `json:"photos"`
	Users      []User  `json:"users"`
	Tags       []Tag   `json:"tags"`
	Places     []Place `json:"places"`
	NextCursor string  `json:"next_cursor,omitempty"` // of a search for one type
}

// Tag is a tag that photos have.
type Tag struct {
	Tag string `json:"tag"`
}

// Place is where photos were taken: a name, and the degree that it lies in. Lat and Lng
// are degrees.
type Place struct {
	ID   string  `json:"id"`
	Name string  `json:"name"`
	Lat  float64 `json:"lat"`
	Lng  float64 `json:"lng"`
}

// Search looks for what has all words of text. kind is one of the Search constants; a
// cursor goes with all but SearchEverything.
func (c *Client) Search(ctx context.Context, text, kind string, p PageOptions) (Found, error) {
	k := get("/search")
	k.query = url.Values{"q": {text}}
	if kind != "" {
		k.query.Set("type", kind)
	}
	if p.Limit != 0 {
		k.query.Set("limit", strconv.Itoa(p.Limit))
	}
	if p.Cursor != "" {
		k.query.Set("cursor", p.Cursor)
	}
	var out Found
	err := c.do(ctx, k, &out)
	return out, err
}

// FoundPhotos walks all photos that have all words of text, newest first, limit rows (1
// to 100; 0: the server's default) at a time. It stops at the first error, which it
// yields.
func (c *Client) FoundPhotos(ctx context.Context, text string, limit int) iter.Seq2[Page[Photo], error] {
	return pages(limit, func(p PageOptions) (Page[Photo], error) {
		f, err := c.Search(ctx, text, SearchPhotos, p)
		return Page[Photo]{Items: f.Photos, NextCursor: f.NextCursor}, err
	})
}

// TagPhotos returns one page of the photos with a tag, newest first.
func (c *Client) TagPhotos(ctx context.Context, tag string, p PageOptions) (Page[Photo], error) {
	return named[Photo](ctx, c, "/tags/", tag, "/photos", p)
}

// PlacePhotos returns one page of the photos that were taken at a place, newest first.
func (c *Client) PlacePhotos(ctx context.Context, place string, p PageOptions) (Page[Photo], error) {
	return named[Photo](ctx, c, "/places/", place, "/photos", p)
}
