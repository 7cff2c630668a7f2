package feed

import (
	"context"

	"hayloft/internal/id"
)

// Like likes a photo that user may see; again is nothing.
func (f *Feed) Like(ctx context.Context, user, photo id.ID) error {
	like, err := f.newID(ctx)
	if err != nil {
		return err
	}
	_, err = f.propose(ctx, &cmdLike{User: user, Photo: photo, Like: like})
	return err
}

// Unlike takes a like back; none to take back is nothing.
func (f *Feed) Unlike(ctx context.Context, user, photo id.ID) error {
	_, err := f.propose(ctx, &cmdUnlike{User: user, Photo: photo})
	return err
}

// Likes lists who likes a photo, newest first.
func (f *Feed) Likes(ctx context.Context, viewer, photo id.ID, p Page) (rows []UserView, next id.ID, err error) {
	err = f.serve(ctx, func(v *view) error {
		if _, err := v.mustSee(viewer, photo); err != nil {
			return err
		}
		rows, next, err = v.userPage(tabLikes, viewer, photo, p)
		return err
	})
	return rows, next, err
}
