package feed

import (
	"context"

	"hayloft/internal/id"
)

// AddComment comments on a photo that user may see. Threads are two levels
// deep: a reply to a reply gets the same Parent as that.
func (f *Feed) AddComment(ctx context.Context, user, photo id.ID, text string, parent id.ID) (Comment, error) {
	if err := f.policy.Limits.checkComment(text); err != nil {
		return Comment{}, err
	}
	comment, err := f.newID(ctx)
	if err != nil {
		return Comment{}, err
	}
	out, err := f.propose(ctx, &cmdComment{User: user, Photo: photo, Comment: comment, Text: text, Parent: parent})
	if err != nil {
		return Comment{}, err
	}
	var c Comment
	err = f.serve(ctx, func(v *view) error {
		row, err := v.comment(out.ID)
		if err != nil || row == nil { // deleted since
			return firstErr(err, ErrNotFound)
		}
		c, _, err = v.commentView(user, row)
		return err
	})
	return c, err
}

// DeleteComment removes a comment with its replies. Its author may, and the
// photo's.
func (f *Feed) DeleteComment(ctx context.Context, user, comment id.ID) error {
	_, err := f.propose(ctx, &cmdDeleteComment{User: user, Comment: comment})
	return err
}

// commentView adds the author's handle and face and whether viewer likes it; ok is
// false when the author is hidden from the viewer.
func (v *view) commentView(viewer id.ID, row *commentRow) (c Comment, ok bool, err error) {
	if ok, err := heard(v, viewer, row.Author); err != nil || !ok {
		return Comment{}, false, err
	}
	author, err := v.account(row.Author)
	if err != nil {
		return Comment{}, false, err
	}
	c = row.Comment
	c.Handle = author.Handle
	if c.Avatar, err = v.avatar(author); err != nil {
		return Comment{}, false, err
	}
	if viewer != 0 && row.Likes > 0 {
		c.Liked, err = v.has(key2(tabLike, row.ID, viewer))
	}
	return c, err == nil, err
}

// Comments lists a photo's top-level comments, newest first.
func (f *Feed) Comments(ctx context.Context, viewer, photo id.ID, p Page) (rows []Comment, next id.ID, err error) {
	err = f.serve(ctx, func(v *view) error {
		if _, err := v.mustSee(viewer, photo); err != nil {
			return err
		}
		next, err = v.pager(tabThread, photo, p, func(comment id.ID, _ []byte) (bool, error) {
			return v.takeComment(viewer, comment, &rows)
		})
		return err
	})
	return rows, next, err
}

func (v *view) takeComment(viewer, comment id.ID, rows *[]Comment) (bool, error) {
	row, err := v.comment(comment)
	if err != nil || row == nil {
		return false, firstErr(err, corrupt("listed comment %v is missing", comment))
	}
	c, ok, err := v.commentView(viewer, row)
	if ok {
		*rows = append(*rows, c)
	}
	return ok, err
}

// Replies lists the replies to a top-level comment, oldest first. A reply has
// none.
func (f *Feed) Replies(ctx context.Context, viewer, comment id.ID, p Page) (rows []Comment, next id.ID, err error) {
	err = f.serve(ctx, func(v *view) error {
		top, err := topComment(v, comment)
		if err != nil || top == nil {
			return firstErr(err, ErrNotFound)
		}
		if _, err := v.mustSee(viewer, top.Photo); err != nil {
			return err
		}
		if _, ok, err := v.commentView(viewer, top); err != nil || !ok {
			return firstErr(err, ErrNotFound)
		}
		rows, next, err = v.replyPage(viewer, comment, p)
		return err
	})
	return rows, next, err
}

func (v *view) replyPage(viewer, comment id.ID, p Page) (rows []Comment, next id.ID, err error) {
	next, err = v.climb(tabReplies, comment, p, func(reply id.ID) (bool, error) {
		return v.takeComment(viewer, reply, &rows)
	})
	return rows, next, err
}
