package feed

import (
	"context"
	"fmt"

	"hayloft/internal/id"
)

// Counter names a number that a row holds and a list shows, too.
type Counter uint8

// The counters. Their values are part of the command format.
const (
	CountPhotos       Counter = iota + 1 // of an account: its published photos
	CountForFollowers                    // of these, those for followers
	CountForOnlyMe                       // of these, those for nobody else
	CountFollowers                       // of an account
	CountFollowing                       // of an account
	CountPhotoLikes                      // of a photo
	CountComments                        // of a photo: comments and replies
	CountReplies                         // of a top-level comment
	CountCommentLikes                    // of a comment
)

var counterNames = [...]string{
	CountPhotos: "photos", CountForFollowers: "photos for followers", CountForOnlyMe: "photos for oneself", CountFollowers: "followers",
	CountFollowing: "following", CountPhotoLikes: "likes", CountComments: "comments", CountReplies: "replies", CountCommentLikes: "likes",
}

func (c Counter) String() string {
	if c == 0 || int(c) >= len(counterNames) {
		return fmt.Sprintf("counter %d", uint8(c))
	}
	return counterNames[c]
}

// tally is a counter beside what its list has.
type tally struct {
	counter         Counter
	stored, counted uint64
}

// count is the number of keys with a prefix.
func (s store) count(prefix []byte) (n uint64, err error) {
	err = s.scan(prefix, after(prefix), func(_, _ []byte) error { n++; return nil })
	return n, err
}

// tallies counts what the lists of a row have. tables are the lists, in its order.
func (s store) tallies(owner id.ID, list []tally, tables ...byte) ([]tally, error) {
	for i, table := range tables {
		n, err := s.count(key1(table, owner))
		if err != nil {
			return nil, err
		}
		list[i].counted = n
	}
	return list, nil
}

func (s store) tallyAccount(a *accountRow) ([]tally, error) {
	list, err := s.tallies(a.ID, []tally{
		{counter: CountFollowers, stored: a.Followers}, {counter: CountFollowing, stored: a.Following},
	}, tabFollowedBy, tabFollow)
	if err != nil {
		return nil, err
	}
	var sum accountRow
	err = s.list(tabPosts, a.ID, 0, func(_ id.ID, v []byte) error {
		photo, _, err := parsePostValue(v)
		if err != nil {
			return err
		}
		p, err := s.photo(photo)
		if err == nil && p != nil {
			sum.count(p.Details.Visibility, 1)
		}
		return err
	})
	return append(list, tally{CountPhotos, a.Photos, sum.Photos}, tally{CountForFollowers, a.ForFollowers, sum.ForFollowers},
		tally{CountForOnlyMe, a.ForOnlyMe, sum.ForOnlyMe}), err
}

// tallyPhoto counts for a photo that is not on its way out.
func (s store) tallyPhoto(p *photoRow) ([]tally, error) {
	list, err := s.tallies(p.ID, []tally{{counter: CountPhotoLikes, stored: p.Likes}}, tabLikes)
	if err != nil {
		return nil, err
	}
	comments := uint64(0)
	err = s.list(tabThread, p.ID, 0, func(comment id.ID, _ []byte) error {
		replies, err := s.count(key1(tabReplies, comment))
		comments += 1 + replies
		return err
	})
	return append(list, tally{CountComments, p.Comments, comments}), err
}

// tallyComment counts for a comment whose thread and photo are not on their way out.
func (s store) tallyComment(c *commentRow) ([]tally, error) {
	list := []tally{{counter: CountCommentLikes, stored: c.Likes}, {counter: CountReplies, stored: c.Replies}}
	if c.Parent != 0 {
		return s.tallies(c.ID, list[:1], tabLikes)
	}
	return s.tallies(c.ID, list, tabLikes, tabReplies)
}

// Drift is a counter that is not what its list has.
type Drift struct {
	Subject id.ID // an account, a photo or a comment
	Counter Counter
	Stored  uint64
	Counted uint64
}

// Reconciliation is what Reconcile has found, and done.
type Reconciliation struct {
	Counters uint64  // looked at
	Edges    uint64  // looked at: rows that must stand in another table by their other end
	Drifts   uint64  // counters that were wrong
	Missing  uint64  // edges without their other end
	Fixed    uint64  // of both
	First    []Drift // the first hundred drifts
}

// maxFirst is how many drifts a Reconciliation names.
const maxFirst = 100

// adjustRows is how many corrections one command carries at most.
const adjustRows = 256

// Reconcile counts everything that rows count, in one snapshot, and with apply
// corrects what is wrong. A correction is a difference: commands that came since the
// snapshot keep counter and list together, so it stays right. Two at the same time
// would both correct: the later one is refused with ErrConflict. progress, if not nil,
// is told now and then how far it is.
func (f *Feed) Reconcile(ctx context.Context, apply bool, progress func(Reconciliation)) (out Reconciliation, err error) {
	r := reconciler{ctx: ctx, f: f, apply: apply, out: &out, progress: progress}
	err = f.serve(ctx, func(v *view) (err error) {
		r.store = v.store
		if r.round, err = v.idAt([]byte{tabReconciled}); err == nil {
			err = r.all()
		}
		return err
	})
	return out, err
}

type reconciler struct {
	store
	ctx      context.Context
	f        *Feed
	apply    bool
	round    id.ID // of corrections: how many commands of that kind there were
	out      *Reconciliation
	progress func(Reconciliation)
	fix      []adjustment
	seen     uint64
}

func (r *reconciler) all() error {
	for _, table := range []byte{tabAccount, tabPhoto, tabComment, tabRequest, tabBlock, tabMute, tabLike} {
		err := r.scan([]byte{table}, []byte{table + 1}, func(k, v []byte) error {
			if r.seen++; r.seen%4096 == 0 {
				if r.progress != nil {
					r.progress(*r.out)
				}
				if err := r.ctx.Err(); err != nil {
					return err
				}
			}
			return r.row(k, v)
		})
		if err != nil {
			return err
		}
	}
	return r.send()
}

func (r *reconciler) row(k, v []byte) error {
	switch k[0] {
	case tabAccount:
		var a accountRow
		if err := decodeRow(v, &a); err != nil {
			return err
		}
		list, err := r.tallyAccount(&a)
		return r.compare(a.ID, list, err)
	case tabPhoto:
		var p photoRow
		if err := decodeRow(v, &p); err != nil {
			return err
		}
		if err := r.inverse(key2(tabOwned, p.Author, p.ID), 0); err != nil || p.Purging {
			return err
		}
		list, err := r.tallyPhoto(&p)
		return r.compare(p.ID, list, err)
	case tabComment:
		return r.comment1(v)
	default: // edges
		if len(k) != 17 || len(v) != 8 {
			return corrupt("edge %x with a value of %d bytes", k, len(v))
		}
		return r.inverse(key2(inverses[k[0]], id.ID(parseBE(k[9:])), id.ID(parseBE(k[1:9]))), id.ID(parseBE(v)))
	}
}

// comment1 counts for a comment, unless a chore is about to remove it.
func (r *reconciler) comment1(v []byte) error {
	var c commentRow
	if err := decodeRow(v, &c); err != nil {
		return err
	}
	if err := r.inverse(key2(tabSaid, c.Author, c.ID), 0); err != nil {
		return err
	}
	top, err := topComment(r, c.ID)
	if err != nil || top == nil {
		return err
	}
	p, err := r.photo(c.Photo)
	if err != nil || p == nil || p.Purging {
		return err
	}
	list, err := r.tallyComment(&c)
	return r.compare(c.ID, list, err)
}

// compare notes what is wrong with a row's counters, if they could be counted.
func (r *reconciler) compare(subject id.ID, list []tally, err error) error {
	if err != nil {
		return err
	}
	for _, t := range list {
		r.out.Counters++
		if t.stored == t.counted {
			continue
		}
		r.out.Drifts++
		if len(r.out.First) < maxFirst {
			r.out.First = append(r.out.First, Drift{subject, t.counter, t.stored, t.counted})
		}
		a := adjustment{Subject: subject, Counter: t.counter}
		if t.counted > t.stored {
			a.More = t.counted - t.stored
		} else {
			a.Less = t.stored - t.counted
		}
		if err := r.correct(a); err != nil {
			return err
		}
	}
	return nil
}

// inverse notes when an edge, or what somebody has made, lacks its key by the other
// end. Directories from before these tables are so.
func (r *reconciler) inverse(key []byte, edge id.ID) error {
	r.out.Edges++
	has, err := r.has(key)
	if err != nil || has {
		return err
	}
	r.out.Missing++
	return r.correct(adjustment{Key: key, Edge: edge})
}

func (r *reconciler) correct(a adjustment) error {
	if !r.apply {
		return nil
	}
	if r.fix = append(r.fix, a); len(r.fix) < adjustRows {
		return nil
	}
	return r.send()
}

// send has the corrections so far made.
func (r *reconciler) send() error {
	if len(r.fix) == 0 {
		return nil
	}
	out, err := r.f.propose(r.ctx, &cmdAdjust{Round: r.round, List: r.fix})
	r.out.Fixed += uint64(out.Count)
	r.round++
	r.fix = nil
	return err
}
