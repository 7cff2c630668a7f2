package feed

import (
	"context"
	"time"

	"hayloft/internal/id"
)

// What an account can take with it: what it has, said and liked, as its owner may see it.

// Remark is a comment of an account's own, for its owner.
type Remark struct {
	ID        id.ID
	Photo     id.ID
	Text      string
	Parent    id.ID // of a reply; 0 when Seen is false
	CreatedAt time.Time
	Seen      bool   // its author may see it where it stands
	At        string // handle of the photo's author; empty when Seen is false
}

// Liking is something that an account likes and may see.
type Liking struct {
	Photo   id.ID
	Comment id.ID  // 0: it is the photo
	Author  string // handle of who made it
	LikedAt time.Time
}

// Owned lists all photos of which owner has the master, oldest first: those on their way,
// failed ones, and deleted ones that can be restored are among them. ErrNotFound: owner
// has no account by now, or is suspended.
func (f *Feed) Owned(ctx context.Context, owner id.ID, p Page) (rows []PhotoView, next id.ID, err error) {
	now := f.now()
	err = f.export(ctx, owner, func(v *view) error {
		next, err = v.climb(tabOwned, owner, p, func(photo id.ID) (bool, error) {
			row, err := v.photo(photo)
			if err != nil {
				return false, err
			}
			ok, err := visible(v, owner, row, inExport)
			if err != nil || !ok || row.Status == Deleted && !row.Due.After(now) {
				return false, err
			}
			pv, err := v.photoView(owner, row)
			rows = append(rows, pv)
			return true, err
		})
		return err
	})
	return rows, next, err
}

// Said lists the comments of an account, oldest first, by the errors of Owned. Their words
// are their author's; where they stand is told only when the author may see it.
func (f *Feed) Said(ctx context.Context, user id.ID, p Page) (rows []Remark, next id.ID, err error) {
	err = f.export(ctx, user, func(v *view) error {
		next, err = v.climb(tabSaid, user, p, func(comment id.ID) (bool, error) {
			row, err := v.comment(comment)
			if err != nil || row == nil {
				return false, firstErr(err, corrupt("comment %v of %v is missing", comment, user))
			}
			r := Remark{ID: row.ID, Photo: row.Photo, Text: row.Text, CreatedAt: row.CreatedAt}
			seen, err := hear(v, user, comment)
			if err == nil && seen != nil {
				r.Seen, r.Parent = true, row.Parent
				r.At, err = v.author(row.Photo)
			}
			rows = append(rows, r)
			return true, err
		})
		return err
	})
	return rows, next, err
}

// Liked lists what an account likes and may see, by the errors of Owned, in no
// particular order.
func (f *Feed) Liked(ctx context.Context, user id.ID, p Page) (rows []Liking, next id.ID, err error) {
	err = f.export(ctx, user, func(v *view) error {
		next, err = v.climb(tabLiked, user, p, func(subject id.ID) (bool, error) {
			l, ok, err := v.liking(user, subject)
			if ok {
				rows = append(rows, l)
			}
			return ok, err
		})
		return err
	})
	return rows, next, err
}

// liking is what user likes; ok is false when user may not see it.
func (v *view) liking(user, subject id.ID) (l Liking, ok bool, err error) {
	like, err := v.idAt(key2(tabLike, subject, user))
	if err != nil || like == 0 {
		return l, false, firstErr(err, corrupt("the like of %v by %v is missing", subject, user))
	}
	l.LikedAt = like.Millis().Time()
	photo, err := v.photo(subject)
	if err != nil {
		return l, false, err
	}
	if photo != nil {
		if ok, err = visible(v, user, photo, permalink); err == nil && ok {
			l.Photo = subject
			l.Author, err = v.handle(photo.Author)
		}
		return l, ok && err == nil, err
	}
	comment, err := hear(v, user, subject)
	if err != nil || comment == nil {
		return l, false, err
	}
	l.Photo, l.Comment = comment.Photo, subject
	l.Author, err = v.handle(comment.Author)
	return l, err == nil, err
}

// export reads for the owner of an account that is there.
func (f *Feed) export(ctx context.Context, owner id.ID, read func(*view) error) error {
	return f.serve(ctx, func(v *view) error {
		if _, err := v.mustAccount(owner); err != nil {
			return err
		}
		return read(v)
	})
}

// author is the handle of a photo's author.
func (v *view) author(photo id.ID) (string, error) {
	p, err := v.photo(photo)
	if err != nil || p == nil {
		return "", err
	}
	return v.handle(p.Author)
}

func (v *view) handle(user id.ID) (string, error) {
	a, err := v.account(user)
	if err != nil || a == nil {
		return "", err
	}
	return a.Handle, nil
}
