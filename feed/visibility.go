package feed

import "hayloft/internal/id"

// state is what visibility depends on. A command asks it of its batch, a read
// of its snapshot.
type state interface {
	account(id.ID) (*accountRow, error)
	photo(id.ID) (*photoRow, error)
	has(key []byte) (bool, error)
}

// surface is where a photo is about to be shown.
type surface uint8

const (
	permalink surface = iota // the photo's own page, its likes and comments; its author sees it before it is ready
	listing                  // a profile, later tags, places and search
	inFeed                   // the viewer's feed
	inExport                 // what an account takes with it: its author's alone, from Pending on, deleted ones too
)

// visible is the one answer to "may viewer (0: anybody) see this photo here?".
// Every read path and every command that acts on a photo asks it. p may be nil.
func visible(s state, viewer id.ID, p *photoRow, where surface) (bool, error) {
	switch {
	case p == nil || p.Purging:
		return false, nil
	case where == inExport && (viewer != p.Author || viewer == 0):
		return false, nil
	case p.Status == Ready || p.Status == Deleted && where == inExport:
	case p.Status == Pending || p.Status == Failed:
		if where != permalink && where != inExport || viewer != p.Author || viewer == 0 {
			return false, nil
		}
	default: // reserved, stored, deleted
		return false, nil
	}
	own := viewer == p.Author && viewer != 0
	if p.Details.Visibility == OnlyMe && !own {
		return false, nil
	}
	author, err := s.account(p.Author)
	if err != nil || author == nil || author.hidden() {
		return false, err
	}
	if own {
		return true, nil
	}
	follows := false
	if viewer != 0 {
		if blocked, err := blockedEitherWay(s, viewer, p.Author); err != nil || blocked {
			return false, err
		}
		if follows, err = s.has(key2(tabFollow, viewer, p.Author)); err != nil {
			return false, err
		}
	}
	if (p.Details.Visibility == Followers || author.IsPrivate) && !follows {
		return false, nil
	}
	if where == inFeed {
		if !follows {
			return false, nil
		}
		muted, err := s.has(key2(tabMute, viewer, p.Author))
		return !muted, err
	}
	return true, nil
}

// heard says whether viewer is shown what author says: not across a block, and
// nothing of those who are hidden from everybody.
func heard(s state, viewer, author id.ID) (bool, error) {
	a, err := s.account(author)
	if err != nil || a == nil || a.hidden() {
		return false, err
	}
	if viewer == 0 || viewer == author {
		return true, nil
	}
	blocked, err := blockedEitherWay(s, viewer, author)
	return !blocked, err
}

// hear returns a comment that viewer may see: they see the photo, and hear its author
// and the one whose thread it is in. nil: they may not, or it is gone.
func hear(s thread, viewer, comment id.ID) (*commentRow, error) {
	row, err := s.comment(comment)
	if err != nil || row == nil {
		return nil, err
	}
	top, err := topComment(s, comment)
	if err != nil || top == nil {
		return nil, err
	}
	p, err := s.photo(row.Photo)
	if err != nil {
		return nil, err
	}
	ok, err := visible(s, viewer, p, permalink)
	for _, author := range []id.ID{top.Author, row.Author} {
		if err != nil || !ok {
			return nil, err
		}
		ok, err = heard(s, viewer, author)
	}
	if err != nil || !ok {
		return nil, err
	}
	return row, nil
}

// thread is a state with comments.
type thread interface {
	state
	comments
}

// blockedEitherWay says whether one of two users has blocked the other.
func blockedEitherWay(s state, a, b id.ID) (bool, error) {
	blocked, err := s.has(key2(tabBlock, a, b))
	if err != nil || blocked {
		return blocked, err
	}
	return s.has(key2(tabBlock, b, a))
}

func (t *tx) blockedEitherWay(a, b id.ID) (bool, error) { return blockedEitherWay(t, a, b) }

// listsVisible says whether viewer may see whom a user follows and by whom they
// are followed: not across a block, and a private account's only to followers.
func listsVisible(s state, viewer id.ID, user *accountRow) (bool, error) {
	if viewer == user.ID {
		return true, nil
	}
	if viewer != 0 {
		if blocked, err := blockedEitherWay(s, viewer, user.ID); err != nil || blocked {
			return false, err
		}
	}
	if !user.IsPrivate {
		return true, nil
	}
	if viewer == 0 {
		return false, nil
	}
	return s.has(key2(tabFollow, viewer, user.ID))
}

// verdict says how the blobs of a photo may be served.
func verdict(s state, p *photoRow) (Verdict, error) {
	if p == nil || p.Status != Ready || p.Purging {
		return Verdict{}, nil
	}
	author, err := s.account(p.Author)
	if err != nil || author == nil || author.hidden() {
		return Verdict{}, err
	}
	if signed(author, p) {
		return Verdict{Access: AccessSigned, Epoch: mediaEpoch(author, p)}, nil
	}
	return Verdict{Access: AccessPublic}, nil
}

// mediaEpoch is what media URLs of p are signed over. Both parts only rise, so
// the sum tells every state of the photo's audience from every earlier one.
func mediaEpoch(author *accountRow, p *photoRow) uint32 { return author.Epoch + p.Epoch }

// signed says whether media URLs of p need a signature.
func signed(author *accountRow, p *photoRow) bool {
	return author.IsPrivate || p.Details.Visibility != Public
}
