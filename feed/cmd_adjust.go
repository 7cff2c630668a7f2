package feed

import "hayloft/internal/id"

// adjustment is one correction: of a counter by a difference, or a key that is missing.
type adjustment struct {
	Subject    id.ID
	Counter    Counter
	More, Less uint64
	Key        []byte // of table 50 to 55
	Edge       id.ID  // its value; 0: empty
}

func (r *adjustment) fields(c *codec) {
	c.id(1, &r.Subject)
	num(c, 2, &r.Counter)
	num(c, 3, &r.More)
	num(c, 4, &r.Less)
	c.raw(5, &r.Key)
	c.id(6, &r.Edge)
}

// cmdAdjust corrects what Reconcile has found.
type cmdAdjust struct {
	Round id.ID // how many of these there were when it counted
	List  []adjustment
}

func (r *cmdAdjust) fields(c *codec) {
	c.id(1, &r.Round)
	list(c, 2, &r.List)
}

// apply makes the corrections, unless others were made since they were computed.
func (r *cmdAdjust) apply(t *tx) (outcome, error) {
	round, err := t.idAt([]byte{tabReconciled})
	if err != nil || round != r.Round {
		return outcome{}, firstErr(err, ErrConflict)
	}
	t.setID([]byte{tabReconciled}, round+1)
	fixed := 0
	for i := range r.List {
		done, err := t.adjust(&r.List[i])
		if err != nil {
			return outcome{}, err
		}
		if done {
			fixed++
		}
	}
	return outcome{Count: fixed}, nil
}

// adjust makes one correction. What is gone by now needs none.
func (t *tx) adjust(a *adjustment) (bool, error) {
	if len(a.Key) > 0 {
		return t.adjustKey(a)
	}
	switch a.Counter {
	case CountPhotos, CountForFollowers, CountForOnlyMe, CountFollowers, CountFollowing:
		row, err := t.account(a.Subject)
		if err != nil || row == nil {
			return false, err
		}
		t.putAccount(row)
		at := map[Counter]*uint64{CountPhotos: &row.Photos, CountForFollowers: &row.ForFollowers, CountForOnlyMe: &row.ForOnlyMe,
			CountFollowers: &row.Followers, CountFollowing: &row.Following}[a.Counter]
		return true, a.move(at)
	case CountPhotoLikes, CountComments:
		row, err := t.photo(a.Subject)
		if err != nil || row == nil {
			return false, err
		}
		t.putPhoto(row)
		if a.Counter == CountComments {
			return true, a.move(&row.Comments)
		}
		return true, a.move(&row.Likes)
	case CountReplies, CountCommentLikes:
		row, err := t.comment(a.Subject)
		if err != nil || row == nil {
			return false, err
		}
		t.putComment(row)
		if a.Counter == CountReplies {
			return true, a.move(&row.Replies)
		}
		return true, a.move(&row.Likes)
	}
	return false, Invalid{"counter", "is not one"}
}

// move changes a counter by the difference. Below zero it cannot have been counted
// with this state.
func (a *adjustment) move(at *uint64) error {
	if *at+a.More < a.Less {
		return ErrConflict
	}
	*at = *at + a.More - a.Less
	return nil
}

// adjustKey writes the key of an edge by its other end, if the edge is still there.
func (t *tx) adjustKey(a *adjustment) (bool, error) {
	if len(a.Key) != 17 {
		return false, Invalid{"key", "is not one"}
	}
	owner, other := id.ID(parseBE(a.Key[1:9])), id.ID(parseBE(a.Key[9:]))
	switch a.Key[0] {
	case tabOwned:
		p, err := t.photo(other)
		if err != nil || p == nil || p.Author != owner {
			return false, err
		}
		t.set(a.Key, nil)
	case tabSaid:
		c, err := t.comment(other)
		if err != nil || c == nil || c.Author != owner {
			return false, err
		}
		t.set(a.Key, nil)
	case tabAsked, tabBlockedBy, tabMutedBy, tabLiked:
		edge, err := t.idAt(key2(inverted[a.Key[0]], other, owner))
		if err != nil || edge == 0 || edge != a.Edge {
			return false, err
		}
		t.setID(a.Key, edge)
	default:
		return false, Invalid{"key", "is not one"}
	}
	return true, nil
}
