package api

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"hayloft/feed"
	"hayloft/internal/id"
)

// Search is what the API needs of search. A node whose index is not ready answers
// feed.ErrUnavailable.
type Search interface {
	SearchPhotos(ctx context.Context, viewer id.ID, text string, p Page) (rows []feed.PhotoView, next id.ID, err error)
	SearchUsers(ctx context.Context, viewer id.ID, text string, p feed.SearchPage) (rows []feed.UserView, next string, err error)
	SearchTags(ctx context.Context, viewer id.ID, prefix string, p feed.SearchPage) (tags []string, next string, err error)
	SearchPlaces(ctx context.Context, viewer id.ID, prefix string, p feed.SearchPage) (places []feed.Place, next string, err error)
	TagPhotos(ctx context.Context, viewer id.ID, tag string, p Page) (rows []feed.PhotoView, next id.ID, err error)
	PlacePhotos(ctx context.Context, viewer, place id.ID, p Page) (rows []feed.PhotoView, next id.ID, err error)
}

func searchRoutes() []route {
	return []route{
		{method: "GET", pattern: v1 + "/search", access: optional, handle: (*request).search},
		{method: "GET", pattern: v1 + "/tags/{tag}/photos", access: optional, handle: (*request).tagPhotos},
		{method: "GET", pattern: v1 + "/places/{id}/photos", access: optional, handle: (*request).placePhotos},
	}
}

const maxQuery = 200 // characters

// searchBody is the answer of a search. What was not asked for is empty.
type searchBody struct {
	Photos     []photoBody `json:"photos"`
	Users      []userBody  `json:"users"`
	Tags       []tagBody   `json:"tags"`
	Places     []placeBody `json:"places"`
	NextCursor string      `json:"next_cursor,omitempty"`
}

type tagBody struct {
	Tag string `json:"tag"`
}

type placeBody struct {
	ID   id.ID   `json:"id"`
	Name string  `json:"name"`
	Lat  float64 `json:"lat"`
	Lng  float64 `json:"lng"`
}

// finders fill one part of an answer each, and return the cursor of the next page.
var finders = map[string]func(*request, *searchBody, string, map[string]string) (string, error){
	"photos": (*request).findPhotos, "users": (*request).findUsers, "tags": (*request).findTags, "places": (*request).findPlaces,
}

// search is GET /search?q&type&limit&cursor.
func (r *request) search() error {
	args, err := r.query("q", "type", "limit", "cursor")
	if err != nil {
		return err
	}
	q, kind := strings.TrimSpace(args["q"]), args["type"]
	_, goesOn := args["cursor"]
	switch {
	case q == "" || !utf8.ValidString(q):
		return pMalformed.because("q is missing or not UTF-8")
	case utf8.RuneCountInString(q) > maxQuery:
		return pInvalid.because("q is longer than %d characters", maxQuery)
	case kind != "" && finders[kind] == nil:
		return pMalformed.because("type is none of photos, users, tags, places")
	case kind == "" && goesOn:
		return pMalformed.because("a cursor goes with a type")
	}
	body := searchBody{Photos: []photoBody{}, Users: []userBody{}, Tags: []tagBody{}, Places: []placeBody{}}
	for name, find := range finders {
		if kind != "" && kind != name {
			continue
		}
		next, err := find(r, &body, q, args)
		if err != nil {
			return err
		}
		if kind != "" {
			body.NextCursor = next
		}
	}
	return r.json(200, body)
}

// found names the list that a search of one type walks: a cursor is good for one
// query alone.
func (r *request) found(kind, q string) listing {
	return listing{name: "search " + kind + " " + q, viewer: r.viewer}
}

func (r *request) findPhotos(body *searchBody, q string, args map[string]string) (string, error) {
	l := r.found("photos", q)
	p, err := r.pageOf(l, args)
	if err != nil {
		return "", err
	}
	rows, next, err := r.a.opt.Feed.SearchPhotos(r.ctx, r.viewer, q, p)
	for _, row := range rows {
		body.Photos = append(body.Photos, r.photo(row))
	}
	if err != nil || next == 0 {
		return "", err
	}
	return l.cursor(r.a.opt.Ring, next), nil
}

func (r *request) findUsers(body *searchBody, q string, args map[string]string) (string, error) {
	return findText(r, "users", q, args, r.a.opt.Feed.SearchUsers, func(u feed.UserView) { body.Users = append(body.Users, r.user(u)) })
}

func (r *request) findTags(body *searchBody, q string, args map[string]string) (string, error) {
	return findText(r, "tags", q, args, r.a.opt.Feed.SearchTags, func(tag string) { body.Tags = append(body.Tags, tagBody{tag}) })
}

func (r *request) findPlaces(body *searchBody, q string, args map[string]string) (string, error) {
	return findText(r, "places", q, args, r.a.opt.Feed.SearchPlaces, func(p feed.Place) {
		body.Places = append(body.Places, placeBody{p.ID, p.Name, p.Lat, p.Lng})
	})
}

// findText is a page of a list whose cursor is a text.
func findText[T any](r *request, kind, q string, args map[string]string,
	rows func(context.Context, id.ID, string, feed.SearchPage) ([]T, string, error), show func(T)) (string, error) {
	l := r.found(kind, q)
	limit, err := limitOf(args)
	if err != nil {
		return "", err
	}
	p := feed.SearchPage{Limit: limit}
	if text, ok := args["cursor"]; ok {
		if p.After, ok = l.openText(r.a.opt.Ring, text); !ok {
			return "", pBadCursor.because("")
		}
	}
	got, next, err := rows(r.ctx, r.viewer, q, p)
	for _, row := range got {
		show(row)
	}
	if err != nil || next == "" {
		return "", err
	}
	return l.textCursor(r.a.opt.Ring, next), nil
}

// tagPhotos is GET /tags/{tag}/photos. A tag that nothing has is an empty list.
func (r *request) tagPhotos() error {
	tag := strings.ToLower(r.values[0])
	if utf8.RuneCountInString(tag) > maxTag {
		return pNotFound.because("")
	}
	return r.sendPhotos(listing{name: "tag " + tag}, func(p Page) ([]feed.PhotoView, id.ID, error) {
		return r.a.opt.Feed.TagPhotos(r.ctx, r.viewer, tag, p)
	})
}

// placePhotos is GET /places/{id}/photos. A place where nothing was taken is an empty
// list: there are no others.
func (r *request) placePhotos() error {
	place, err := r.pathID(0)
	if err != nil {
		return err
	}
	return r.sendPhotos(listing{name: "place", subject: place}, func(p Page) ([]feed.PhotoView, id.ID, error) {
		return r.a.opt.Feed.PlacePhotos(r.ctx, r.viewer, place, p)
	})
}

// placeID is the id of a location's place, "" when it has none.
func placeID(l *feed.Location) string {
	if v := l.Place(); v != 0 {
		return fmt.Sprint(v)
	}
	return ""
}
