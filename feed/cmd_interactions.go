package feed

import (
	"hayloft/internal/id"
)

// mustSee returns the photo if user may see it on its page.
func (t *tx) mustSee(user, photo id.ID) (*photoRow, error) {
	p, err := t.photo(photo)
	if err != nil {
		return nil, err
	}
	ok, err := visible(t, user, p, permalink)
	if err != nil || !ok {
		return nil, firstErr(err, ErrNotFound)
	}
	return p, nil
}

type cmdLike struct{ User, Photo, Like id.ID }

func (r *cmdLike) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Photo)
	c.id(3, &r.Like)
}

func (r *cmdLike) apply(t *tx) (outcome, error) {
	if _, err := t.active(r.User); err != nil {
		return outcome{}, err
	}
	p, err := t.mustSee(r.User, r.Photo)
	if err != nil {
		return outcome{}, err
	}
	liked, err := t.has(key2(tabLike, r.Photo, r.User))
	if err != nil || liked {
		return outcome{}, err
	}
	t.putEdge(tabLike, tabLikes, r.Photo, r.User, r.Like)
	p.Likes++
	t.putPhoto(p)
	return outcome{}, t.tell(notificationKey{To: p.Author, Kind: NotifyLike, Subject: p.ID}, r.Like, r.User)
}

type cmdUnlike struct{ User, Photo id.ID }

func (r *cmdUnlike) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Photo)
}

// apply takes a like back. It does not ask for visibility: whoever was blocked
// since may still withdraw, but learns nothing about a photo hidden from them.
func (r *cmdUnlike) apply(t *tx) (outcome, error) {
	p, err := t.photo(r.Photo)
	if err != nil {
		return outcome{}, err
	}
	like, err := t.idAt(key2(tabLike, r.Photo, r.User))
	if err != nil {
		return outcome{}, err
	}
	if like == 0 || p == nil || p.Status == Deleted {
		_, err := t.mustSee(r.User, r.Photo)
		return outcome{}, err
	}
	if p.Likes == 0 {
		return outcome{}, corrupt("like counter of %v is below its list", p.ID)
	}
	t.dropEdge(tabLike, tabLikes, r.Photo, r.User, like)
	p.Likes--
	t.putPhoto(p)
	return outcome{}, t.untell(notificationKey{To: p.Author, Kind: NotifyLike, Subject: p.ID}, like)
}

type cmdComment struct {
	User, Photo, Comment id.ID
	Text                 string
	Parent               id.ID
}

func (r *cmdComment) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Photo)
	c.id(3, &r.Comment)
	c.str(4, &r.Text)
	c.id(5, &r.Parent)
}

func (r *cmdComment) apply(t *tx) (outcome, error) {
	if _, err := t.active(r.User); err != nil {
		return outcome{}, err
	}
	p, err := t.mustSee(r.User, r.Photo)
	if err != nil {
		return outcome{}, err
	}
	if used, err := t.comment(r.Comment); err != nil || used != nil {
		return outcome{}, firstErr(err, ErrConflict)
	}
	row := &commentRow{Comment{
		ID: r.Comment, Photo: r.Photo, Author: r.User, Text: r.Text, CreatedAt: t.now,
	}}
	var top *commentRow
	if r.Parent == 0 {
		t.set(keyDesc(tabThread, r.Photo, r.Comment), nil)
	} else {
		if top, err = topComment(t, r.Parent); err != nil {
			return outcome{}, err
		}
		if top == nil || top.Photo != r.Photo {
			return outcome{}, ErrNotFound
		}
		if ok, err := heard(t, r.User, top.Author); err != nil || !ok {
			return outcome{}, firstErr(err, ErrNotFound)
		}
		row.Parent = top.ID
		top.Replies++
		t.putComment(top)
		t.set(key2(tabReplies, top.ID, r.Comment), nil)
	}
	p.Comments++
	t.putPhoto(p)
	t.putComment(row)
	t.set(key2(tabSaid, row.Author, row.ID), nil)
	return outcome{ID: r.Comment}, t.tellComment(p, top, row)
}

// comments is what topComment reads.
type comments interface {
	comment(id.ID) (*commentRow, error)
}

// topComment returns the top-level comment of a thread: comment itself, or the
// one it replies to. nil when either is gone, since a reply dies with its
// thread though its row is removed later.
func topComment(s comments, comment id.ID) (*commentRow, error) {
	row, err := s.comment(comment)
	if err != nil || row == nil || row.Parent == 0 {
		return row, err
	}
	return s.comment(row.Parent)
}

type cmdDeleteComment struct{ User, Comment id.ID }

func (r *cmdDeleteComment) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Comment)
}

func (r *cmdDeleteComment) apply(t *tx) (outcome, error) {
	row, err := t.comment(r.Comment)
	if err != nil {
		return outcome{}, err
	}
	top, err := topComment(t, r.Comment)
	if err != nil {
		return outcome{}, err
	}
	if row == nil || top == nil {
		return outcome{}, ErrNotFound
	}
	p, err := t.photo(row.Photo)
	if err != nil {
		return outcome{}, err
	}
	if p == nil || p.Status == Deleted {
		return outcome{}, ErrNotFound
	}
	if r.User != row.Author && r.User != p.Author {
		if ok, err := visible(t, r.User, p, permalink); err != nil || !ok {
			return outcome{}, firstErr(err, ErrNotFound)
		}
		return outcome{}, ErrForbidden
	}
	return outcome{}, t.takeComment(row, top, p)
}

// takeComment removes a comment, with its replies when it is a top-level one, and
// their number from its photo's counter. top is the thread's first comment.
func (t *tx) takeComment(row, top *commentRow, p *photoRow) error {
	gone := uint64(1)
	if row.Parent != 0 {
		if top.Replies == 0 {
			return corrupt("reply counter of %v is below its list", top.ID)
		}
		top.Replies--
		t.putComment(top)
		t.del(key2(tabReplies, top.ID, row.ID))
	} else {
		gone += row.Replies
		t.del(keyDesc(tabThread, row.Photo, row.ID))
	}
	if row.Replies > 0 || row.Likes > 0 {
		if err := t.chore(choreRow{Kind: choreReplies, Subject: row.ID}); err != nil {
			return err
		}
	}
	if p.Comments < gone {
		return corrupt("comment counter of %v is below its threads", p.ID)
	}
	p.Comments -= gone
	t.putPhoto(p)
	t.dropComment(row)
	if row.Parent == 0 {
		top = nil
	}
	return t.untellComment(p, top, row)
}
