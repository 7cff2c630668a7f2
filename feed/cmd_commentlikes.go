package feed

import "hayloft/internal/id"

// mustHear returns a comment that user may see, with its photo.
func (t *tx) mustHear(user, comment id.ID) (*commentRow, error) {
	row, err := hear(t, user, comment)
	if err == nil && row == nil {
		err = ErrNotFound
	}
	return row, err
}

type cmdLikeComment struct{ User, Comment, Like id.ID }

func (r *cmdLikeComment) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Comment)
	c.id(3, &r.Like)
}

func (r *cmdLikeComment) apply(t *tx) (outcome, error) {
	if _, err := t.active(r.User); err != nil {
		return outcome{}, err
	}
	row, err := t.mustHear(r.User, r.Comment)
	if err != nil {
		return outcome{}, err
	}
	liked, err := t.has(key2(tabLike, r.Comment, r.User))
	if err != nil || liked {
		return outcome{}, err
	}
	t.putEdge(tabLike, tabLikes, r.Comment, r.User, r.Like)
	row.Likes++
	t.putComment(row)
	return outcome{}, t.tell(notificationKey{To: row.Author, Kind: NotifyLike, Subject: row.ID}, r.Like, r.User)
}

type cmdUnlikeComment struct{ User, Comment id.ID }

func (r *cmdUnlikeComment) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Comment)
}

// apply takes a like back by the rules of cmdUnlike.
func (r *cmdUnlikeComment) apply(t *tx) (outcome, error) {
	like, err := t.idAt(key2(tabLike, r.Comment, r.User))
	if err != nil {
		return outcome{}, err
	}
	var p *photoRow
	top, err := topComment(t, r.Comment)
	if err == nil && top != nil {
		p, err = t.photo(top.Photo)
	}
	if err != nil {
		return outcome{}, err
	}
	if like == 0 || p == nil || p.Status == Deleted {
		_, err := t.mustHear(r.User, r.Comment)
		return outcome{}, err
	}
	t.dropEdge(tabLike, tabLikes, r.Comment, r.User, like)
	row, err := t.comment(r.Comment)
	if err == nil && row != nil {
		err = t.untell(notificationKey{To: row.Author, Kind: NotifyLike, Subject: row.ID}, like)
	}
	if err != nil {
		return outcome{}, err
	}
	return outcome{}, t.unlike(r.Comment)
}
