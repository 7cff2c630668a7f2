package feed

import (
	"context"
	"crypto/sha256"
	"encoding/base64"

	"hayloft/internal/id"
)

// Brief is what of a PhotoView changes all the time, and a name for the rest: for who
// keeps the rest elsewhere (decision 198).
type Brief struct {
	Photo id.ID
	// Version names everything else that the view has, as its viewer sees it: of one
	// photo, equal versions are equal contents.
	Version         string
	Likes, Comments uint64
	Liked           bool
}

// Split takes v apart into what changes all the time, and the rest.
func (v PhotoView) Split() (Brief, PhotoView) {
	b := Brief{Photo: v.ID, Likes: v.Likes, Comments: v.Comments, Liked: v.Liked}
	v.Likes, v.Comments, v.Liked = 0, 0, false
	b.Version = v.version()
	return b, v
}

// Join undoes Split.
func (b Brief) Join(rest PhotoView) PhotoView {
	rest.Likes, rest.Comments, rest.Liked = b.Likes, b.Comments, b.Liked
	return rest
}

// version is a digest of all of v.
func (v PhotoView) version() string {
	sum := sha256.Sum256(appendRecord(make([]byte, 0, 512), &viewRecord{v}))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// viewRecord is a PhotoView in the record encoding. It is stored nowhere.
type viewRecord struct{ PhotoView }

func (r *viewRecord) fields(c *codec) {
	c.sub(1, &photoRow{Photo: r.Photo})
	c.str(2, &r.AuthorHandle)
	c.str(3, &r.AuthorName)
	num(c, 4, &r.AuthorEpoch)
	c.bool(5, &r.Signed)
	c.bool(6, &r.Liked)
	c.id(7, &r.Avatar.Blob)
	c.fixed(8, (*uint64)(&r.Avatar.Cookie))
	c.bool(9, &r.Avatar.Signed)
	num(c, 10, &r.Avatar.Epoch)
}

// FeedPhotos returns those of photos that the viewer's feed may show, in their order.
func (f *Feed) FeedPhotos(ctx context.Context, viewer id.ID, photos []id.ID) (rows []PhotoView, err error) {
	err = f.serve(ctx, func(v *view) error {
		if _, err := v.mustAccount(viewer); err != nil {
			return err
		}
		for _, photo := range photos {
			row, err := v.photo(photo)
			if err != nil {
				return err
			}
			ok, err := visible(v, viewer, row, inFeed)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			dressed, err := v.photoView(viewer, row)
			if err != nil {
				return err
			}
			rows = append(rows, dressed)
		}
		return nil
	})
	return rows, err
}
