package feed

import (
	"hayloft/feed/timeline"
	"hayloft/internal/id"
)

// putEdge writes the tables of one relation: (from, to) → edge, the list
// (from, ^edge) → to, and (to, from) → edge if the relation has an inverse.
func (t *tx) putEdge(table, listTable byte, from, to, edge id.ID) {
	t.setID(key2(table, from, to), edge)
	t.setID(keyDesc(listTable, from, edge), to)
	if inverse, ok := inverses[table]; ok {
		t.setID(key2(inverse, to, from), edge)
	}
}

func (t *tx) dropEdge(table, listTable byte, from, to, edge id.ID) {
	t.del(key2(table, from, to))
	t.del(keyDesc(listTable, from, edge))
	if inverse, ok := inverses[table]; ok {
		t.del(key2(inverse, to, from))
	}
}

// both loads the two accounts of a relation; they must be there for others and differ.
func (t *tx) both(a, b id.ID) (first, second *accountRow, err error) {
	if a == b {
		return nil, nil, Invalid{"user", "that is yourself"}
	}
	if first, err = t.active(a); err != nil {
		return nil, nil, err
	}
	second, err = t.active(b)
	return first, second, err
}

// addFollow makes reader a follower of author.
func (t *tx) addFollow(reader, author *accountRow, edge id.ID, threshold uint64) error {
	t.putEdge(tabFollow, tabFollowing, reader.ID, author.ID, edge)
	t.putEdge(tabFollowedBy, tabFollowers, author.ID, reader.ID, edge)
	reader.Following++
	author.Followers++
	author.weigh(threshold)
	t.putAccount(reader)
	t.putAccount(author)
	return t.event(eventRow{Kind: uint8(timeline.Followed), Author: author.ID, Reader: reader.ID})
}

// dropFollow undoes it; not following is nothing.
func (t *tx) dropFollow(reader, author *accountRow, threshold uint64) error {
	edge, err := t.idAt(key2(tabFollow, reader.ID, author.ID))
	if err != nil || edge == 0 {
		return err
	}
	if reader.Following == 0 || author.Followers == 0 {
		return corrupt("counters of %v and %v are below their edges", reader.ID, author.ID)
	}
	t.dropEdge(tabFollow, tabFollowing, reader.ID, author.ID, edge)
	t.dropEdge(tabFollowedBy, tabFollowers, author.ID, reader.ID, edge)
	if err := t.untell(notificationKey{To: author.ID, Kind: NotifyFollow, Subject: author.ID}, edge); err != nil {
		return err
	}
	if err := t.unlisten(reader.ID, author.ID); err != nil {
		return err
	}
	reader.Following--
	author.Followers--
	author.weigh(threshold)
	t.putAccount(reader)
	t.putAccount(author)
	return t.event(eventRow{Kind: uint8(timeline.Unfollowed), Author: author.ID, Reader: reader.ID})
}

// dropRequest removes reader's request to author and says whether there was one.
func (t *tx) dropRequest(reader, author id.ID) (bool, error) {
	edge, err := t.idAt(key2(tabRequest, author, reader))
	if err != nil || edge == 0 {
		return false, err
	}
	t.dropEdge(tabRequest, tabRequests, author, reader, edge)
	return true, t.untell(notificationKey{To: author, Kind: NotifyRequest, Subject: author}, edge)
}

type cmdFollow struct {
	Reader, Author, Edge id.ID
	Threshold            uint64
}

func (r *cmdFollow) fields(c *codec) {
	c.id(1, &r.Reader)
	c.id(2, &r.Author)
	c.id(3, &r.Edge)
	num(c, 4, &r.Threshold)
}

func (r *cmdFollow) apply(t *tx) (outcome, error) {
	reader, author, err := t.both(r.Reader, r.Author)
	if err != nil {
		return outcome{}, err
	}
	// Whoever blocked the reader does not exist for them; whom the reader
	// blocked must be unblocked first.
	if blocked, err := t.blockedEitherWay(r.Reader, r.Author); err != nil || blocked {
		return outcome{}, firstErr(err, ErrNotFound)
	}
	follows, err := t.has(key2(tabFollow, r.Reader, r.Author))
	if err != nil || follows {
		return outcome{}, err
	}
	if !author.IsPrivate {
		if _, err := t.dropRequest(r.Reader, r.Author); err != nil {
			return outcome{}, err
		}
		if err := t.tell(notificationKey{To: r.Author, Kind: NotifyFollow, Subject: r.Author}, r.Edge, r.Reader); err != nil {
			return outcome{}, err
		}
		return outcome{}, t.addFollow(reader, author, r.Edge, r.Threshold)
	}
	requested, err := t.has(key2(tabRequest, r.Author, r.Reader))
	if err == nil && !requested {
		t.putEdge(tabRequest, tabRequests, r.Author, r.Reader, r.Edge)
		err = t.tell(notificationKey{To: r.Author, Kind: NotifyRequest, Subject: r.Author}, r.Edge, r.Reader)
	}
	return outcome{Asked: true}, err
}

type cmdUnfollow struct {
	Reader, Author id.ID
	Threshold      uint64
	Removed        bool // by the author
}

func (r *cmdUnfollow) fields(c *codec) {
	c.id(1, &r.Reader)
	c.id(2, &r.Author)
	num(c, 3, &r.Threshold)
	c.bool(4, &r.Removed)
}

func (r *cmdUnfollow) apply(t *tx) (outcome, error) {
	reader, author, err := t.both(r.Reader, r.Author)
	if err != nil {
		return outcome{}, err
	}
	if _, err := t.dropRequest(r.Reader, r.Author); err != nil {
		return outcome{}, err
	}
	if r.Removed {
		follows, err := t.has(key2(tabFollow, r.Reader, r.Author))
		if err != nil || !follows {
			return outcome{}, err
		}
		if err := t.shrink(author); err != nil {
			return outcome{}, err
		}
	}
	return outcome{}, t.dropFollow(reader, author, r.Threshold)
}

// shrink has every media URL signed for author's photos so far die: the epoch
// goes up, and caches forget the verdicts that name the old one.
func (t *tx) shrink(author *accountRow) error {
	author.Epoch++
	t.putAccount(author)
	return t.chore(choreRow{Kind: choreAudience, Subject: author.ID})
}

type cmdAcceptRequest struct {
	Reader, Author, Edge id.ID
	Threshold            uint64
}

func (r *cmdAcceptRequest) fields(c *codec) {
	c.id(1, &r.Reader)
	c.id(2, &r.Author)
	c.id(3, &r.Edge)
	num(c, 4, &r.Threshold)
}

func (r *cmdAcceptRequest) apply(t *tx) (outcome, error) {
	reader, author, err := t.both(r.Reader, r.Author)
	if err != nil {
		return outcome{}, err
	}
	requested, err := t.dropRequest(r.Reader, r.Author)
	if err != nil || !requested {
		return outcome{}, firstErr(err, ErrNotFound)
	}
	return outcome{}, t.addFollow(reader, author, r.Edge, r.Threshold)
}

type cmdDeclineRequest struct{ Reader, Author id.ID }

func (r *cmdDeclineRequest) fields(c *codec) {
	c.id(1, &r.Reader)
	c.id(2, &r.Author)
}

func (r *cmdDeclineRequest) apply(t *tx) (outcome, error) {
	requested, err := t.dropRequest(r.Reader, r.Author)
	if err != nil || !requested {
		return outcome{}, firstErr(err, ErrNotFound)
	}
	return outcome{}, nil
}

type cmdBlock struct {
	User, Other, Edge id.ID
	Threshold         uint64
}

func (r *cmdBlock) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Other)
	c.id(3, &r.Edge)
	num(c, 4, &r.Threshold)
}

func (r *cmdBlock) apply(t *tx) (outcome, error) {
	user, other, err := t.both(r.User, r.Other)
	if err != nil {
		return outcome{}, err
	}
	blocked, err := t.has(key2(tabBlock, r.User, r.Other))
	if err != nil || blocked {
		return outcome{}, err
	}
	for _, pair := range [][2]*accountRow{{user, other}, {other, user}} {
		if _, err := t.dropRequest(pair[0].ID, pair[1].ID); err != nil {
			return outcome{}, err
		}
		if err := t.dropFollow(pair[0], pair[1], r.Threshold); err != nil {
			return outcome{}, err
		}
	}
	t.putEdge(tabBlock, tabBlocks, r.User, r.Other, r.Edge)
	// Even if they did not follow: they may have until a moment ago.
	return outcome{}, t.shrink(user)
}

// userPair is the body of commands on one relation that only ends it.
type userPair struct{ User, Other id.ID }

func (r *userPair) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Other)
}

func (r *userPair) drop(t *tx, table, listTable byte) (outcome, error) {
	edge, err := t.idAt(key2(table, r.User, r.Other))
	if err == nil && edge != 0 {
		t.dropEdge(table, listTable, r.User, r.Other, edge)
	}
	return outcome{}, err
}

type cmdUnblock struct{ userPair }

func (r *cmdUnblock) apply(t *tx) (outcome, error) { return r.drop(t, tabBlock, tabBlocks) }

type cmdUnmute struct{ userPair }

func (r *cmdUnmute) apply(t *tx) (outcome, error) { return r.drop(t, tabMute, tabMutes) }

type cmdMute struct{ User, Other, Edge id.ID }

func (r *cmdMute) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Other)
	c.id(3, &r.Edge)
}

func (r *cmdMute) apply(t *tx) (outcome, error) {
	if _, _, err := t.both(r.User, r.Other); err != nil {
		return outcome{}, err
	}
	muted, err := t.has(key2(tabMute, r.User, r.Other))
	if err == nil && !muted {
		t.putEdge(tabMute, tabMutes, r.User, r.Other, r.Edge)
	}
	return outcome{}, err
}
