package feed

import (
	"context"

	"hayloft/internal/id"
)

// Follow makes reader follow author, or ask to when the account is private:
// UserView.Viewer.Requested tells. Following already is nothing.
func (f *Feed) Follow(ctx context.Context, reader, author id.ID) error {
	_, err := f.FollowOrAsk(ctx, reader, author)
	return err
}

// FollowOrAsk is Follow, and says whether it is a request.
func (f *Feed) FollowOrAsk(ctx context.Context, reader, author id.ID) (asked bool, err error) {
	edge, err := f.newID(ctx)
	if err != nil {
		return false, err
	}
	out, err := f.propose(ctx, &cmdFollow{reader, author, edge, f.policy.CelebrityThreshold})
	return out.Asked, err
}

// Unfollow undoes Follow, a pending request too.
func (f *Feed) Unfollow(ctx context.Context, reader, author id.ID) error {
	_, err := f.propose(ctx, &cmdUnfollow{Reader: reader, Author: author, Threshold: f.policy.CelebrityThreshold})
	return err
}

// RemoveFollower is Unfollow by the author: media URLs that the reader was given
// die too.
func (f *Feed) RemoveFollower(ctx context.Context, author, reader id.ID) error {
	_, err := f.propose(ctx, &cmdUnfollow{reader, author, f.policy.CelebrityThreshold, true})
	return err
}

// ApproveFollow accepts reader's request to author.
func (f *Feed) ApproveFollow(ctx context.Context, author, reader id.ID) error {
	edge, err := f.newID(ctx)
	if err != nil {
		return err
	}
	_, err = f.propose(ctx, &cmdAcceptRequest{reader, author, edge, f.policy.CelebrityThreshold})
	return err
}

// DeclineFollow drops reader's request to author.
func (f *Feed) DeclineFollow(ctx context.Context, author, reader id.ID) error {
	_, err := f.propose(ctx, &cmdDeclineRequest{reader, author})
	return err
}

// Block hides two users from each other and ends what follows either way, and
// the media URLs that other was given of user's photos.
func (f *Feed) Block(ctx context.Context, user, other id.ID) error {
	edge, err := f.newID(ctx)
	if err != nil {
		return err
	}
	_, err = f.propose(ctx, &cmdBlock{user, other, edge, f.policy.CelebrityThreshold})
	return err
}

// Unblock undoes Block; follows do not come back.
func (f *Feed) Unblock(ctx context.Context, user, other id.ID) error {
	_, err := f.propose(ctx, &cmdUnblock{userPair{user, other}})
	return err
}

// Mute keeps other's photos out of user's feed.
func (f *Feed) Mute(ctx context.Context, user, other id.ID) error {
	edge, err := f.newID(ctx)
	if err != nil {
		return err
	}
	_, err = f.propose(ctx, &cmdMute{user, other, edge})
	return err
}

// Unmute undoes Mute.
func (f *Feed) Unmute(ctx context.Context, user, other id.ID) error {
	_, err := f.propose(ctx, &cmdUnmute{userPair{user, other}})
	return err
}

// Followers lists who follows user, newest first.
func (f *Feed) Followers(ctx context.Context, viewer, user id.ID, p Page) (rows []UserView, next id.ID, err error) {
	return f.people(ctx, tabFollowers, viewer, user, p)
}

// Following lists whom user follows, newest first.
func (f *Feed) Following(ctx context.Context, viewer, user id.ID, p Page) (rows []UserView, next id.ID, err error) {
	return f.people(ctx, tabFollowing, viewer, user, p)
}

// FollowRequests lists who asks to follow user, newest first.
func (f *Feed) FollowRequests(ctx context.Context, user id.ID, p Page) (rows []UserView, next id.ID, err error) {
	return f.people(ctx, tabRequests, user, user, p)
}

// Blocks lists whom user has blocked, newest first.
func (f *Feed) Blocks(ctx context.Context, user id.ID, p Page) (rows []UserView, next id.ID, err error) {
	return f.people(ctx, tabBlocks, user, user, p)
}

// Mutes lists whom user has muted, newest first.
func (f *Feed) Mutes(ctx context.Context, user id.ID, p Page) (rows []UserView, next id.ID, err error) {
	return f.people(ctx, tabMutes, user, user, p)
}

// people pages through one of a user's lists of users.
func (f *Feed) people(ctx context.Context, table byte, viewer, user id.ID, p Page) (rows []UserView, next id.ID, err error) {
	err = f.serve(ctx, func(v *view) error {
		a, err := v.mustAccount(user)
		if err != nil {
			return err
		}
		if ok, err := listsVisible(v, viewer, a); err != nil || !ok {
			return firstErr(err, ErrForbidden)
		}
		rows, next, err = v.userPage(table, viewer, user, p)
		return err
	})
	return rows, next, err
}

// pageScan bounds the rows that one page looks at, as a multiple of its limit:
// where much is hidden a page is short, and the caller goes on with next.
const pageScan = 4

// pager walks a newest-first list for one page. Each row is offered to take,
// which says whether it shows.
func (v *view) pager(table byte, owner id.ID, p Page, take func(row id.ID, value []byte) (bool, error)) (next id.ID, err error) {
	limit := max(p.Limit, 1)
	taken, seen := 0, 0
	last := p.After
	err = v.list(table, owner, p.After, func(row id.ID, value []byte) error {
		if taken == limit || seen == limit*pageScan {
			next = last
			return errStop
		}
		seen++
		last = row
		ok, err := take(row, value)
		if ok {
			taken++
		}
		return err
	})
	return next, err
}

// climb is pager for a table whose rows (table, owner, row) ascend.
func (v *view) climb(table byte, owner id.ID, p Page, take func(row id.ID) (bool, error)) (next id.ID, err error) {
	limit := max(p.Limit, 1)
	taken, seen := 0, 0
	last := p.After
	err = v.scan(key2(table, owner, p.After+1), after(key1(table, owner)), func(k, _ []byte) error {
		if len(k) != 17 {
			return corrupt("key %x", k)
		}
		if taken == limit || seen == limit*pageScan {
			next = last
			return errStop
		}
		seen++
		last = id.ID(parseBE(k[9:]))
		ok, err := take(last)
		if ok {
			taken++
		}
		return err
	})
	return next, err
}

// userPage is a page of a list whose values are users. Those who hide from the
// viewer are left out, and whom the viewer has blocked but in their own lists of that.
func (v *view) userPage(table byte, viewer, owner id.ID, p Page) (rows []UserView, next id.ID, err error) {
	next, err = v.pager(table, owner, p, func(_ id.ID, value []byte) (bool, error) {
		if len(value) != 8 {
			return false, corrupt("list %x: value of %d bytes", table, len(value))
		}
		a, err := v.account(id.ID(parseBE(value)))
		if err != nil || a == nil {
			return false, err
		}
		u, err := v.userView(viewer, a)
		switch {
		case err == ErrNotFound:
			return false, nil
		case err != nil:
			return false, err
		case u.Viewer.Blocked && table != tabBlocks && table != tabMutes:
			return false, nil
		}
		rows = append(rows, u)
		return true, nil
	})
	return rows, next, err
}
