package feed

import (
	"time"

	"hayloft/internal/id"
)

type cmdSuspend struct {
	User      id.ID
	Suspended bool
}

func (r *cmdSuspend) fields(c *codec) {
	c.id(1, &r.User)
	c.bool(2, &r.Suspended)
}

// apply hides an account or shows it again. Nothing of it is removed but its logins,
// and caches forget its photos: they may have kept that they are there, or are gone.
func (r *cmdSuspend) apply(t *tx) (outcome, error) {
	a, err := t.mustAccount(r.User)
	if err != nil || a.Gone {
		return outcome{}, firstErr(err, ErrNotFound)
	}
	if a.Suspended == r.Suspended {
		return outcome{ID: a.ID}, nil
	}
	a.Suspended = r.Suspended
	a.Epoch++
	t.putAccount(a)
	if err := t.dropSessions(a.ID, 0); err != nil {
		return outcome{}, err
	}
	return outcome{ID: a.ID}, t.chore(choreRow{Kind: chorePrivacy, Subject: a.ID})
}

type cmdDeleteAccount struct {
	User      id.ID
	Threshold uint64
	Due       time.Time // until then nobody gets the handle
}

func (r *cmdDeleteAccount) fields(c *codec) {
	c.id(1, &r.User)
	num(c, 2, &r.Threshold)
	c.time(3, &r.Due)
}

// apply hides an account for good. All that it has is left to a chore.
func (r *cmdDeleteAccount) apply(t *tx) (outcome, error) {
	a, err := t.mustAccount(r.User)
	if err != nil || a.Gone {
		return outcome{}, firstErr(err, ErrNotFound)
	}
	if err := t.dropKeys(a.ID); err != nil {
		return outcome{}, err
	}
	t.del(key1(tabSeen, a.ID))
	a.Gone = true
	a.Epoch++
	a.Name, a.Bio, a.PasswordHash = "", "", ""
	t.putAccount(a)
	t.changedAccount(a.ID)
	if err := t.dropSessions(a.ID, 0); err != nil {
		return outcome{}, err
	}
	// Caches forget its photos at once, however long it takes to remove them.
	if err := t.chore(choreRow{Kind: chorePrivacy, Subject: a.ID}); err != nil {
		return outcome{}, err
	}
	return outcome{ID: a.ID}, t.chore(choreRow{Kind: choreAccount, Subject: a.ID, Threshold: r.Threshold, Due: r.Due})
}

// clearAccount removes what a deleted account has, at most budget rows at a time, its
// row last. The counters of others move with each row. Nothing can be added meanwhile,
// so row says where to go on: what was removed would be passed over again and again.
// The handle stays with nobody for a while: who takes it is not to be taken for who
// had it.
func (t *tx) clearAccount(row *choreRow, budget *int) (bool, error) {
	a, err := t.account(row.Subject)
	if err != nil || a == nil {
		return true, err
	}
	steps := []func(*accountRow, *choreRow, *int) (bool, error){
		t.erasePhotos, t.eraseComments, t.eraseLikes, t.eraseFollows, t.eraseFollowers, t.eraseRelations, t.eraseInbox,
	}
	for ; row.Step < uint64(len(steps)); row.Step++ {
		if done, err := steps[row.Step](a, row, budget); err != nil || !done {
			return false, err
		}
		row.After = 0
	}
	t.del(handleKey(a.Handle))
	if !row.Due.IsZero() {
		t.setRow(retiredKey(a.Handle), &retiredRow{Due: row.Due})
		t.setDue(dueHandle, []byte(a.Handle), time.Time{}, row.Due)
	}
	t.dropAccount(a.ID)
	return true, nil
}

// eachOf calls do for the second part of every key (table, owner, …) above *from while
// there is budget, one row of it each, and says whether it came to the end. *from is
// the last that was done; nil: all, from the first on.
func (t *tx) eachOf(table byte, owner id.ID, from *id.ID, budget *int, do func(other id.ID) error) (done bool, err error) {
	done = true
	if from == nil {
		from = new(id.ID)
	}
	err = t.scan(key2(table, owner, *from+1), after(key1(table, owner)), func(k, _ []byte) error {
		if len(k) != 17 {
			return corrupt("key %x", k)
		}
		if *budget == 0 {
			done = false
			return errStop
		}
		other := id.ID(parseBE(k[9:]))
		if err := do(other); err != nil {
			return err
		}
		*from = other
		*budget = max(*budget-1, 0) // do may have used it up
		return nil
	})
	return done, err
}

// erasePhotos removes an account's photos in whatever state, each with its likes and
// comments before the next.
func (t *tx) erasePhotos(a *accountRow, row *choreRow, budget *int) (bool, error) {
	cleared := true
	done, err := t.eachOf(tabOwned, a.ID, &row.After, budget, func(photo id.ID) error {
		p, err := t.photo(photo)
		if err != nil || p == nil {
			t.del(key2(tabOwned, a.ID, photo))
			return err
		}
		if err := t.erasePhoto(p); err != nil {
			return err
		}
		if cleared, err = t.clearPhoto(photo, budget); err == nil && !cleared {
			return errStop
		}
		return err
	})
	return done && cleared, err
}

// erasePhoto takes a photo out of every list and gives its bytes up.
func (t *tx) erasePhoto(p *photoRow) error {
	if p.Purging {
		return nil
	}
	switch p.Status {
	case Ready:
		if err := t.withdraw(p); err != nil {
			return err
		}
	case Pending:
		if err := t.settle(p.Effect); err != nil {
			return err
		}
		p.Effect = 0
		t.woken.settled = append(t.woken.settled, p.ID)
	case Deleted:
		t.del(keyDesc(tabDeleted, p.Author, p.Mark))
		p.Mark = 0
	}
	p.Status, p.Purging = Deleted, true
	t.setPhotoDue(p, time.Time{})
	for _, blob := range []id.ID{p.Master.Blob, p.Rendition.Blob} {
		if err := t.release(p.ID, blob); err != nil {
			return err
		}
	}
	t.putPhoto(p)
	return nil
}

// eraseComments removes what an account has said, as it could itself.
func (t *tx) eraseComments(a *accountRow, row *choreRow, budget *int) (bool, error) {
	cleared := true
	done, err := t.eachOf(tabSaid, a.ID, &row.After, budget, func(comment id.ID) error {
		row, err := t.comment(comment)
		if err != nil || row == nil {
			t.del(key2(tabSaid, a.ID, comment))
			return err
		}
		top, err := topComment(t, comment)
		if err != nil {
			return err
		}
		p, err := t.photo(row.Photo)
		if err != nil {
			return err
		}
		if top != nil && p != nil && !p.Purging {
			return t.takeComment(row, top, p)
		}
		// Its thread or its photo is on its way out: it counts no more.
		if cleared, err = t.clearReplies(comment, budget); err != nil || !cleared {
			return firstErr(err, errStop)
		}
		if row.Parent == 0 {
			t.del(keyDesc(tabThread, row.Photo, row.ID))
		} else {
			t.del(key2(tabReplies, row.Parent, row.ID))
		}
		t.dropComment(row)
		return nil
	})
	return done && cleared, err
}

// eraseLikes takes back what an account likes.
func (t *tx) eraseLikes(a *accountRow, row *choreRow, budget *int) (bool, error) {
	return t.eachOf(tabLiked, a.ID, &row.After, budget, func(subject id.ID) error {
		like, err := t.idAt(key2(tabLike, subject, a.ID))
		if err != nil {
			return err
		}
		t.dropEdge(tabLike, tabLikes, subject, a.ID, like)
		return t.unlike(subject)
	})
}

// unlike takes one like from the counter of a photo or a comment; one that is gone
// has none.
func (t *tx) unlike(subject id.ID) error {
	p, err := t.photo(subject)
	if err != nil {
		return err
	}
	if p != nil {
		if p.Likes == 0 {
			return corrupt("like counter of %v is below its list", subject)
		}
		p.Likes--
		t.putPhoto(p)
		return nil
	}
	c, err := t.comment(subject)
	if err != nil || c == nil {
		return err
	}
	if c.Likes == 0 {
		return corrupt("like counter of %v is below its list", subject)
	}
	c.Likes--
	t.putComment(c)
	return nil
}

// eraseFollows ends the follows of an account.
func (t *tx) eraseFollows(a *accountRow, row *choreRow, budget *int) (bool, error) {
	return t.eachOf(tabFollow, a.ID, &row.After, budget, func(author id.ID) error { return t.endFollow(a.ID, author, row.Threshold) })
}

// eraseFollowers ends what others follow of it.
func (t *tx) eraseFollowers(a *accountRow, row *choreRow, budget *int) (bool, error) {
	return t.eachOf(tabFollowedBy, a.ID, &row.After, budget, func(reader id.ID) error { return t.endFollow(reader, a.ID, row.Threshold) })
}

// endFollow ends a follow of two accounts whose rows must be there.
func (t *tx) endFollow(reader, author id.ID, threshold uint64) error {
	r, err := t.account(reader)
	if err != nil {
		return err
	}
	to, err := t.account(author)
	if err != nil || r == nil || to == nil {
		return firstErr(err, corrupt("%v follows %v, and one of them is no account", reader, author))
	}
	return t.dropFollow(r, to, threshold)
}

// eraseRelations ends what else an account is to others, and they to it.
func (t *tx) eraseRelations(a *accountRow, _ *choreRow, budget *int) (bool, error) {
	for _, r := range []struct{ table, list byte }{
		{tabRequest, tabRequests}, {tabBlock, tabBlocks}, {tabMute, tabMutes},
	} {
		drop := func(from, to id.ID) error {
			edge, err := t.idAt(key2(r.table, from, to))
			if err == nil {
				t.dropEdge(r.table, r.list, from, to, edge)
			}
			return err
		}
		done, err := t.eachOf(r.table, a.ID, nil, budget, func(to id.ID) error { return drop(a.ID, to) })
		if err != nil || !done {
			return false, err
		}
		done, err = t.eachOf(inverses[r.table], a.ID, nil, budget, func(from id.ID) error { return drop(from, a.ID) })
		if err != nil || !done {
			return false, err
		}
	}
	return true, nil
}
