package feed

import "hayloft/internal/id"

type chore struct {
	seq uint64
	row choreRow
}

// doChores works on the oldest chores, handling at most budget rows, and
// returns what is left of it. A chore that is not finished stays where it is.
func (t *tx) doChores(budget int) (int, error) {
	list, err := t.someChores(budget)
	for _, c := range list {
		if err != nil || budget == 0 {
			break
		}
		var done bool
		if done, err = t.doChore(c.seq, &c.row, &budget); err == nil && done {
			t.del(key1(tabChore, c.seq))
			budget = max(budget-1, 0)
		}
	}
	return budget, err
}

// someChores returns what one command works on: first what caches are to forget, for
// people wait for that; then the rest. An account is cleared by itself: two that knew
// each other, in one command, would each take the same edge from the other.
func (t *tx) someChores(limit int) ([]chore, error) {
	var forget, rest []chore
	alone := false
	err := t.scan([]byte{tabChore}, []byte{tabChore + 1}, func(k, v []byte) error {
		if len(forget)+len(rest) >= limit {
			return errStop
		}
		c := chore{seq: parseBE(k[1:])}
		if err := decodeRow(v, &c.row); err != nil {
			return err
		}
		switch {
		case c.row.Kind == chorePrivacy || c.row.Kind == choreAudience:
			forget = append(forget, c)
		case alone:
		case c.row.Kind == choreAccount:
			if alone = true; len(rest) == 0 {
				rest = append(rest, c)
			}
		default:
			rest = append(rest, c)
		}
		return nil
	})
	return append(forget, rest...), err
}

func (t *tx) doChore(seq uint64, row *choreRow, budget *int) (done bool, err error) {
	switch row.Kind {
	case chorePhoto:
		return t.clearPhoto(row.Subject, budget)
	case choreReplies:
		return t.clearReplies(row.Subject, budget)
	case chorePrivacy, choreAudience:
		if done, err = t.purgePosts(row, budget); err == nil && !done {
			t.setRow(key1(tabChore, seq), row)
		}
		return done, err
	case choreAccount:
		if done, err = t.clearAccount(row, budget); err == nil && !done {
			t.setRow(key1(tabChore, seq), row)
		}
		return done, err
	default:
		return false, corrupt("chore kind %d", row.Kind)
	}
}

// clearPhoto removes likes, comments and at last the row of a purged photo.
func (t *tx) clearPhoto(photo id.ID, budget *int) (bool, error) {
	if done, err := t.clearLikes(photo, budget); err != nil || !done {
		return false, err
	}
	done := true
	err := t.list(tabThread, photo, 0, func(comment id.ID, _ []byte) error {
		if *budget == 0 {
			done = false
			return errStop
		}
		cleared, err := t.clearReplies(comment, budget)
		if err != nil {
			return err
		}
		if !cleared || *budget == 0 {
			done = false
			return errStop
		}
		*budget--
		t.del(keyDesc(tabThread, photo, comment))
		return t.clearComment(comment)
	})
	if err != nil || !done {
		return false, err
	}
	if err := t.clearNotifications(photo); err != nil {
		return false, err
	}
	p, err := t.photo(photo)
	if err == nil && p != nil {
		t.dropPhoto(p)
	}
	return true, err
}

// clearComment removes the row of a comment; a missing one is nothing.
func (t *tx) clearComment(comment id.ID) error {
	row, err := t.comment(comment)
	if err == nil && row != nil {
		t.dropComment(row)
	}
	return err
}

// clearLikes removes the likes of a subject.
func (t *tx) clearLikes(subject id.ID, budget *int) (bool, error) {
	done := true
	err := t.list(tabLikes, subject, 0, func(like id.ID, v []byte) error {
		if *budget == 0 {
			done = false
			return errStop
		}
		if len(v) != 8 {
			return corrupt("like %v: value of %d bytes", like, len(v))
		}
		*budget--
		t.dropEdge(tabLike, tabLikes, subject, id.ID(parseBE(v)), like)
		return nil
	})
	return done, err
}

// clearReplies removes the replies and likes of a comment, not the comment.
func (t *tx) clearReplies(comment id.ID, budget *int) (bool, error) {
	if done, err := t.clearLikes(comment, budget); err != nil || !done {
		return false, err
	}
	done := true
	prefix := key1(tabReplies, comment)
	err := t.scan(prefix, after(prefix), func(k, _ []byte) error {
		if *budget == 0 {
			done = false
			return errStop
		}
		if len(k) != 17 {
			return corrupt("reply key %x", k)
		}
		reply := id.ID(parseBE(k[9:]))
		cleared, err := t.clearLikes(reply, budget)
		if err != nil {
			return err
		}
		if !cleared || *budget == 0 {
			done = false
			return errStop
		}
		*budget--
		t.del(key2(tabReplies, comment, reply))
		return t.clearComment(reply)
	})
	return done, err
}

// purgePosts writes purge entries for the posts of an account, newest first:
// for all, or for those whose URLs are signed.
func (t *tx) purgePosts(row *choreRow, budget *int) (bool, error) {
	author, err := t.account(row.Subject)
	if err != nil || author == nil { // deleted meanwhile, with purge entries for each post
		return true, err
	}
	done := true
	err = t.list(tabPosts, row.Subject, row.After, func(pos id.ID, v []byte) error {
		if *budget == 0 {
			done = false
			return errStop
		}
		photo, _, err := parsePostValue(v)
		if err != nil {
			return err
		}
		p, err := t.photo(photo)
		if err != nil || p == nil {
			return firstErr(err, corrupt("post %v of %v has no photo", pos, row.Subject))
		}
		*budget--
		row.After = pos
		if row.Kind == choreAudience && !signed(author, p) {
			return nil
		}
		return t.purgePhotoBlobs(p)
	})
	return done, err
}
