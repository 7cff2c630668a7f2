package api

import (
	"strings"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/internal/sign"
	"hayloft/media"
)

// photoBody is the photo object.
type photoBody struct {
	PhotoID      id.ID             `json:"photo_id"`
	Author       authorBody        `json:"author"`
	Title        string            `json:"title"`
	Caption      string            `json:"caption"`
	Alt          string            `json:"alt"`
	Tags         []string          `json:"tags"`
	People       []id.ID           `json:"people"`
	Location     *locationBody     `json:"location"`
	Visibility   string            `json:"visibility"`
	Status       string            `json:"status"`
	Failure      *failureBody      `json:"failure,omitempty"`
	URLs         map[string]string `json:"urls"`
	Media        []mediaBody       `json:"media"`
	LikeCount    uint64            `json:"like_count"`
	CommentCount uint64            `json:"comment_count"`
	Liked        bool              `json:"liked"`
	Saved        bool              `json:"saved"`
	CreatedAt    time.Time         `json:"created_at"`
	PublishedAt  *time.Time        `json:"published_at"` // null until ready
}

type locationBody struct {
	Lat  float64 `json:"lat"`
	Lng  float64 `json:"lng"`
	Name string  `json:"name"`
	// PlaceID leads to other photos of the same place; absent without a name.
	PlaceID string `json:"place_id,omitempty"`
}

type failureBody struct {
	Type  string `json:"type"`
	Title string `json:"title"`
}

// mediaBody is one image of a photo. Width and height are the original's.
type mediaBody struct {
	Width       int                    `json:"width"`
	Height      int                    `json:"height"`
	Placeholder string                 `json:"placeholder"` // BlurHash
	Colour      string                 `json:"colour"`      // dominant, #rrggbb
	URLs        map[string]variantBody `json:"urls"`
}

type variantBody struct {
	URL     string            `json:"url"`
	Width   int               `json:"width"`
	Height  int               `json:"height"`
	Formats map[string]string `json:"formats"` // URL by format
}

var visibilityNames = map[feed.Visibility]string{
	feed.Public: "public", feed.Followers: "followers", feed.OnlyMe: "only_me",
}

// statusName never shows how far an upload got before it was finalized.
func statusName(s feed.Status) string {
	switch s {
	case feed.Ready:
		return "ready"
	case feed.Failed:
		return "failed"
	case feed.Deleted:
		return "deleted"
	}
	return "pending"
}

// orEmpty makes a list one that JSON shows as [].
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func (r *request) photo(p feed.PhotoView) photoBody {
	d := p.Details
	b := photoBody{
		PhotoID: p.ID, Author: authorBody{p.Author, p.AuthorHandle, r.avatarURL(p.Avatar)},
		Title: d.Title, Caption: d.Caption, Alt: d.Alt, Tags: orEmpty(d.Tags), People: orEmpty(d.People),
		Visibility: visibilityNames[d.Visibility], Status: statusName(p.Status),
		URLs: map[string]string{}, Media: []mediaBody{},
		LikeCount: p.Likes, CommentCount: p.Comments, Liked: p.Liked, CreatedAt: utc(p.CreatedAt),
	}
	if d.Location != nil {
		b.Location = &locationBody{d.Location.Lat, d.Location.Lng, d.Location.Name, placeID(d.Location)}
	}
	if p.Failure != nil {
		b.Failure = &failureBody{problemBase + p.Failure.Type, p.Failure.Title}
	}
	if p.Status == feed.Ready {
		at := utc(p.PublishedAt)
		b.PublishedAt = &at
		b.Media = []mediaBody{r.mediaOf(p)}
		for name, v := range b.Media[0].URLs {
			b.URLs[name] = v.URL
		}
	}
	return b
}

// mediaOf lists a ready photo's images: the made variants out of the group's
// blob, the original out of the master's.
func (r *request) mediaOf(p feed.PhotoView) mediaBody {
	m := mediaBody{Width: p.Master.Width, Height: p.Master.Height, Placeholder: p.Rendition.Placeholder, Colour: p.Rendition.Colour,
		URLs: make(map[string]variantBody)}
	show := func(name string, w, h int, contentType string) {
		url := r.mediaURL(p, name)
		format := strings.TrimPrefix(contentType, "image/")
		m.URLs[name] = variantBody{URL: url, Width: w, Height: h, Formats: map[string]string{format: url}}
	}
	for _, v := range p.Rendition.Variants {
		show(media.Variant(v.Alt).String(), v.Width, v.Height, media.TypeJPEG)
	}
	show(media.Original.String(), p.Master.Width, p.Master.Height, p.Master.ContentType)
	return m
}

// mediaURL returns the absolute URL of a variant of a ready photo, signed when
// the photo is not public.
func (r *request) mediaURL(p feed.PhotoView, variant string) string {
	blob, cookie, ext := p.Rendition.Blob, p.Rendition.Cookie, media.Ext(media.TypeJPEG)
	if variant == media.Original.String() {
		blob, cookie, ext = p.Master.Blob, p.Master.Cookie, media.Ext(p.Master.ContentType)
	}
	return r.mediaPath(variant, blob, cookie, ext, p.Signed, p.AuthorEpoch)
}

// mediaPath returns the absolute URL of bytes, signed over epoch when they are to be.
func (r *request) mediaPath(variant string, blob id.ID, cookie id.Cookie, ext string, signed bool, epoch uint32) string {
	path := "/media/" + variant + "/" + blob.String() + "-" + cookie.String() + "." + ext
	url := r.a.opt.MediaURL + path
	if signed {
		url += "?" + sign.MediaQuery(r.a.opt.MediaRing, path, epoch, r.a.opt.Clock.Now(), r.a.opt.Limits.MediaTTL)
	}
	return url
}

// avatarURL returns the absolute URL of a face: a thumbnail. nil: there is none.
func (r *request) avatarURL(a feed.Avatar) *string {
	if a.Blob == 0 {
		return nil
	}
	url := r.mediaPath(media.Thumbnail.String(), a.Blob, a.Cookie, media.Ext(media.TypeJPEG), a.Signed, a.Epoch)
	return &url
}

// photoURL is the stable URL of a photo.
func (r *request) photoURL(photo id.ID) string {
	return r.a.opt.PublicURL + "/api/v1/photos/" + photo.String()
}
