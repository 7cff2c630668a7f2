package api

import (
	"slices"
	"strings"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/internal/sign"
	"hayloft/media"
)

// photoBody is the photo object, as the viewer of a request sees it. It is written straight
// into the answer: pages are made of it (docs/decisions/228).
type photoBody struct {
	r *request
	p *feed.PhotoView
}

// photo is the photo object of p, which stays the caller's.
func (r *request) photo(p feed.PhotoView) photoBody { return photoBody{r, &p} }

// MarshalJSON implements json.Marshaler.
func (b photoBody) MarshalJSON() ([]byte, error) {
	var o object
	b.write(&o)
	return o.b, nil
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

// write appends the object.
func (b photoBody) write(o *object) {
	p, d := b.p, &b.p.Details
	o.open('{')
	o.id("photo_id", p.ID)
	o.name("author").open('{')
	o.id("id", p.Author)
	o.text("handle", p.AuthorHandle)
	o.textOrNull("avatar_url", b.r.avatarURL(p.Avatar))
	o.close('}')
	o.text("title", d.Title)
	o.text("caption", d.Caption)
	o.text("alt", d.Alt)
	o.name("tags").open('[')
	for _, tag := range d.Tags {
		o.item().quote(tag)
	}
	o.close(']')
	o.name("people").open('[')
	for _, user := range d.People {
		o.item().quoteID(user)
	}
	o.close(']')
	b.writeLocation(o)
	o.text("visibility", visibilityNames[d.Visibility])
	o.text("status", statusName(p.Status))
	if f := p.Failure; f != nil {
		o.name("failure").open('{')
		o.text("type", problemBase+f.Type)
		o.text("title", f.Title)
		o.close('}')
	}
	b.writeMedia(o)
	o.number("like_count", p.Likes)
	o.number("comment_count", p.Comments)
	o.bool("liked", p.Liked)
	o.bool("saved", false)
	o.time("created_at", p.CreatedAt)
	if p.Status == feed.Ready {
		o.time("published_at", p.PublishedAt)
	} else {
		o.name("published_at").null()
	}
	o.close('}')
}

// writeLocation appends where the photo was taken. place_id leads to other photos of the
// same place; it is absent without a name.
func (b photoBody) writeLocation(o *object) {
	l := b.p.Details.Location
	if l == nil {
		o.name("location").null()
		return
	}
	o.name("location").open('{')
	o.float("lat", l.Lat)
	o.float("lng", l.Lng)
	o.text("name", l.Name)
	if place := placeID(l); place != "" {
		o.text("place_id", place)
	}
	o.close('}')
}

// encoding is one file of a photo that can be fetched.
type encoding struct {
	name, url, format string
	width, height     int
}

// images lists those of a ready photo by name: the made variants out of the group's blob,
// the original out of the master's.
func (b photoBody) images(dst []encoding) []encoding {
	p := b.p
	add := func(name string, w, h int, contentType string) {
		dst = append(dst, encoding{name, b.r.mediaURL(p, name), strings.TrimPrefix(contentType, "image/"), w, h})
	}
	for _, v := range p.Rendition.Variants {
		add(media.Variant(v.Alt).String(), v.Width, v.Height, media.TypeJPEG)
	}
	add(media.Original.String(), p.Master.Width, p.Master.Height, p.Master.ContentType)
	slices.SortFunc(dst, func(a, b encoding) int { return strings.Compare(a.name, b.name) })
	return dst
}

// writeMedia appends urls, the URL of each image, and media, more about each image of the
// photo: so far it is one. Width and height there are the original's, and formats holds
// a URL by format.
func (b photoBody) writeMedia(o *object) {
	var room [8]encoding
	var all []encoding
	if b.p.Status == feed.Ready {
		all = b.images(room[:0])
	}
	o.name("urls").open('{')
	for _, i := range all {
		o.text(i.name, i.url)
	}
	o.close('}')
	o.name("media").open('[')
	if len(all) > 0 {
		o.item().open('{')
		o.integer("width", b.p.Master.Width)
		o.integer("height", b.p.Master.Height)
		o.text("placeholder", b.p.Rendition.Placeholder) // BlurHash
		o.text("colour", b.p.Rendition.Colour)           // dominant, #rrggbb
		o.name("urls").open('{')
		for _, i := range all {
			o.name(i.name).open('{')
			o.text("url", i.url)
			o.integer("width", i.width)
			o.integer("height", i.height)
			o.name("formats").open('{')
			o.text(i.format, i.url)
			o.close('}')
			o.close('}')
		}
		o.close('}')
		o.close('}')
	}
	o.close(']')
}

// mediaURL returns the absolute URL of a variant of a ready photo, signed when
// the photo is not public.
func (r *request) mediaURL(p *feed.PhotoView, variant string) string {
	blob, cookie, ext := p.Rendition.Blob, p.Rendition.Cookie, media.Ext(media.TypeJPEG)
	if variant == media.Original.String() {
		blob, cookie, ext = p.Master.Blob, p.Master.Cookie, media.Ext(p.Master.ContentType)
	}
	return r.mediaPath(variant, blob, cookie, ext, p.Signed, p.AuthorEpoch)
}

// mediaPath returns the absolute URL of bytes, signed over epoch when they are to be.
func (r *request) mediaPath(variant string, blob id.ID, cookie id.Cookie, ext string, signed bool, epoch uint32) string {
	var room [160]byte
	b := append(append(room[:0], r.a.opt.MediaURL...), "/media/"...)
	b = append(append(b, variant...), '/')
	b = append(blob.Append(b), '-')
	b = append(append(id.ID(cookie).Append(b), '.'), ext...)
	if signed {
		path := string(b[len(r.a.opt.MediaURL):])
		b = append(append(b, '?'), sign.MediaQuery(r.a.opt.MediaRing, path, epoch, r.a.opt.Clock.Now(), r.a.opt.Limits.MediaTTL)...)
	}
	return string(b)
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
