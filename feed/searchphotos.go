package feed

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"hayloft/feed/search"
	"hayloft/internal/id"
)

// Place is where photos were taken. Its name and coordinates are those of a photo that
// the viewer may see.
type Place struct {
	ID       id.ID
	Name     string
	Lat, Lng float64
}

// SearchPage is where a list goes on whose rows have no ids.
type SearchPage struct {
	After string // what the page before has returned as next; "": from the start
	Limit int    // rows wanted, 1–100
}

// from is where the index goes on.
func (p SearchPage) from() (string, error) {
	b, err := hex.DecodeString(p.After)
	if err != nil {
		return "", Invalid{"cursor", "nobody has given it out"}
	}
	return string(b), nil
}

// cursorOf is the inverse of from: plain text, whatever the index has given.
func cursorOf(next string) string { return hex.EncodeToString([]byte(next)) }

// SearchPhotos lists the photos that viewer may see whose title, caption and tags have
// all the words of text, by position descending; #word is a tag. A page may be short while
// next is not 0. An Invalid says that there are too many words.
func (f *Feed) SearchPhotos(ctx context.Context, viewer id.ID, text string, p Page) ([]PhotoView, id.ID, error) {
	q := search.ParseQuery(text)
	switch n := q.Len(); {
	case n == 0:
		return nil, 0, nil
	case n > search.MaxWords:
		return nil, 0, Invalid{"q", fmt.Sprintf("more than %d words", search.MaxWords)}
	}
	return f.foundPhotos(ctx, viewer, q, p)
}

// TagPhotos lists the photos with a tag that viewer may see, by position descending.
func (f *Feed) TagPhotos(ctx context.Context, viewer id.ID, tag string, p Page) ([]PhotoView, id.ID, error) {
	return f.foundPhotos(ctx, viewer, search.TagQuery(tag), p)
}

// PlacePhotos lists the photos of a place that viewer may see, by position descending.
func (f *Feed) PlacePhotos(ctx context.Context, viewer, place id.ID, p Page) ([]PhotoView, id.ID, error) {
	return f.foundPhotos(ctx, viewer, search.PlaceQuery(place), p)
}

// foundPhotos looks at each photo that the index proposes: whether it matches as it is
// now, and whether viewer may see it.
func (f *Feed) foundPhotos(ctx context.Context, viewer id.ID, q search.Query, p Page) (rows []PhotoView, next id.ID, err error) {
	limit := max(p.Limit, 1)
	err = f.find(ctx, func(v *view, x *search.Index) error {
		seen := 0
		next, err = x.Photos(q, p.After, func(pos, photo id.ID) (bool, error) {
			if seen++; seen%64 == 0 && ctx.Err() != nil {
				return false, ctx.Err()
			}
			row, err := v.listed(viewer, photo)
			if err != nil || row == nil || row.Pos != pos || !q.Matches(searched(row)) {
				return false, err
			}
			pv, err := v.photoView(viewer, row)
			rows = append(rows, pv)
			return len(rows) == limit, err
		})
		return err
	})
	return rows, next, err
}

// listed returns a photo if viewer may see it in a list; nil otherwise.
func (v *view) listed(viewer, photo id.ID) (*photoRow, error) {
	row, err := v.photo(photo)
	if err != nil || row == nil {
		return nil, err
	}
	ok, err := visible(v, viewer, row, listing)
	if err != nil || !ok {
		return nil, err
	}
	return row, nil
}

// SearchTags lists the tags that begin with prefix and that a photo has which viewer
// may see, in order. A page may be short while next is not "".
func (f *Feed) SearchTags(ctx context.Context, viewer id.ID, prefix string, p SearchPage) (tags []string, next string, err error) {
	prefix = strings.TrimPrefix(strings.TrimSpace(prefix), "#")
	from, err := p.from()
	if err != nil || search.Fold(prefix) == "" {
		return nil, "", err
	}
	err = f.find(ctx, func(v *view, x *search.Index) error {
		next, err = x.Tags(prefix, from, func(tag string, photo id.ID) (search.Step, error) {
			row, err := v.listed(viewer, photo)
			if err != nil || row == nil || !slices.Contains(row.Details.Tags, tag) {
				return search.Next, err
			}
			tags = append(tags, tag)
			return stepAfter(len(tags), p.Limit), nil
		})
		return err
	})
	return tags, cursorOf(next), err
}

// SearchPlaces lists the places of whose names a word, with what follows it, begins with
// prefix, and that a photo has which viewer may see, in the order of what begins so. A page
// may be short while next is not "".
func (f *Feed) SearchPlaces(ctx context.Context, viewer id.ID, prefix string, p SearchPage) (places []Place, next string, err error) {
	from, err := p.from()
	if err != nil || len(search.Words(prefix)) == 0 {
		return nil, "", err
	}
	err = f.find(ctx, func(v *view, x *search.Index) error {
		next, err = x.Places(prefix, from, func(town string, place, photo id.ID) (search.Step, error) {
			row, err := v.listed(viewer, photo)
			if err != nil || row == nil {
				return search.Next, err
			}
			at := row.Details.Location.place()
			switch {
			case at == nil || at.ID != place:
				return search.Next, nil
			case at.FirstTown(prefix) != town: // it comes under another
				return search.NextTerm, nil
			}
			places = append(places, Place{place, at.Name, at.Lat, at.Lng})
			return stepAfter(len(places), p.Limit), nil
		})
		return err
	})
	return places, cursorOf(next), err
}

func stepAfter(rows, limit int) search.Step {
	if rows >= limit {
		return search.Enough
	}
	return search.NextTerm
}
