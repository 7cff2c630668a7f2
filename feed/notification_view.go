package feed

import (
	"slices"

	"hayloft/internal/id"
)

// notificationReader shows one recipient their notifications, out of one view.
type notificationReader struct {
	*view
	to     id.ID
	box    *inboxRow
	actors map[id.ID]bool // whom the recipient is told of
	photos map[id.ID]bool // and comments: which of them the recipient may see
}

func (v *view) notificationsOf(user id.ID) (*notificationReader, error) {
	if _, err := v.mustAccount(user); err != nil {
		return nil, err
	}
	box, err := v.inbox(user)
	return &notificationReader{view: v, to: user, box: box, actors: map[id.ID]bool{}, photos: map[id.ID]bool{}}, err
}

func (r *notificationReader) heralds(actor id.ID) (bool, error) {
	if ok, known := r.actors[actor]; known {
		return ok, nil
	}
	ok, err := heralds(r.view, r.to, actor)
	r.actors[actor] = ok
	return ok, err
}

func (r *notificationReader) sees(photo id.ID) (bool, error) {
	if ok, known := r.photos[photo]; known {
		return ok, nil
	}
	p, err := r.photo(photo)
	if err != nil {
		return false, err
	}
	ok, err := visible(r.view, r.to, p, permalink)
	if p == nil { // what is liked may be a comment
		var row *commentRow
		row, err = hear(r.view, r.to, photo)
		ok = row != nil
	}
	r.photos[photo] = ok
	return ok, err
}

// told is what the recipient is shown of a notification.
type told struct {
	notificationKey
	seq    uint64 // of the newest cause that is shown
	newest cause  // by id
	people []id.ID
	count  int
}

// look reads a notification. What is not shown has a count of 0: kinds that are not wanted,
// subjects that are gone or hidden, things taken back, and what hidden people did. With
// beyond, it stops at the first cause that has a greater seq.
func (r *notificationReader) look(k notificationKey, beyond *uint64) (told, error) {
	out := told{notificationKey: k}
	if !r.box.wants(k.Kind) {
		return out, nil
	}
	if k.Kind == NotifyLike || k.Kind == NotifyComment || k.Kind == NotifyMention {
		if ok, err := r.sees(k.Subject); err != nil || !ok {
			return out, err
		}
	}
	seen := map[id.ID]bool{}
	examined := 0
	prefix := k.key(tabCause)
	err := r.scan(prefix, after(prefix), func(key, value []byte) error {
		if examined++; examined > notificationExamined || out.count == notificationCount {
			return errStop
		}
		c, err := parseCause(key, value)
		if err != nil {
			return err
		}
		if ok, err := r.shows(k, c); err != nil || !ok {
			return err
		}
		if out.count == 0 {
			out.newest = c
		}
		out.seq = max(out.seq, c.seq)
		if !seen[c.actor] {
			seen[c.actor] = true
			out.count++
			if len(out.people) < notificationActors {
				out.people = append(out.people, c.actor)
			}
		}
		if beyond != nil && c.seq > *beyond {
			return errStop
		}
		return nil
	})
	return out, err
}

// shows says whether what a notification tells is still so, and may be shown.
func (r *notificationReader) shows(k notificationKey, c cause) (bool, error) {
	actor := c.actor
	if k.Kind == NotifyPost {
		actor = k.Subject
	}
	if ok, err := r.heralds(actor); err != nil || !ok {
		return false, err
	}
	switch k.Kind {
	case NotifyFollow:
		return r.is(key2(tabFollow, c.actor, r.to), c.id)
	case NotifyRequest:
		return r.is(key2(tabRequest, r.to, c.actor), c.id)
	case NotifyLike:
		return r.is(key2(tabLike, k.Subject, c.actor), c.id)
	case NotifyComment:
		row, err := hear(r.view, r.to, c.id)
		return row != nil && row.Photo == k.Subject, err
	case NotifyMention:
		return r.names(k, c)
	default:
		p, err := r.photo(c.actor)
		if err != nil || p == nil || p.Pos != c.id || p.Author != k.Subject {
			return false, err
		}
		if listens, err := r.has(key2(tabListener, p.Author, r.to)); err != nil || !listens {
			return false, err
		}
		return visible(r.view, r.to, p, inFeed)
	}
}

func (r *notificationReader) is(key []byte, want id.ID) (bool, error) {
	got, err := r.idAt(key)
	return got == want, err
}

// names says whether a photo or a comment still names the recipient.
func (r *notificationReader) names(k notificationKey, c cause) (bool, error) {
	p, err := r.photo(k.Subject)
	if err != nil || p == nil {
		return false, err
	}
	if c.id == p.Pos {
		named, err := r.namedWith(&p.Details)
		return slices.Contains(named, r.to), err
	}
	row, err := hear(r.view, r.to, c.id)
	return row != nil && row.Photo == k.Subject, err
}

// show makes a notification of what is told.
func (r *notificationReader) show(t told) (Notification, error) {
	n := Notification{Kind: t.Kind, Subject: t.Subject, Day: t.date(), Seq: t.seq, At: t.newest.id.Millis().Time(),
		Count: t.count, Seen: t.seq <= r.box.Seen}
	people, photo := t.people, id.ID(0)
	switch t.Kind {
	case NotifyPost:
		people, photo = []id.ID{t.Subject}, t.newest.actor
	case NotifyLike, NotifyComment, NotifyMention:
		photo = t.Subject
	}
	for _, actor := range people {
		a, err := r.account(actor)
		if err != nil || a == nil {
			return n, firstErr(err, corrupt("actor %v is gone", actor))
		}
		u, err := r.userView(r.to, a)
		if err != nil {
			return n, err
		}
		n.Actors = append(n.Actors, u)
	}
	if photo != 0 {
		return n, r.showPhoto(t, photo, &n)
	}
	return n, nil
}

// showPhoto adds what a notification is about: a photo, or a comment and its photo.
func (r *notificationReader) showPhoto(t told, photo id.ID, n *Notification) error {
	p, err := r.photo(photo)
	if err != nil {
		return err
	}
	said := t.newest.id
	switch {
	case p == nil && t.Kind == NotifyLike:
		said = t.Subject
	case p == nil:
		return corrupt("photo %v is gone", photo)
	case t.Kind != NotifyComment && (t.Kind != NotifyMention || said == p.Pos):
		said = 0
	}
	if said != 0 {
		row, err := r.comment(said)
		if err != nil || row == nil {
			return firstErr(err, corrupt("comment %v is gone", said))
		}
		c, _, err := r.commentView(r.to, row)
		if err != nil {
			return err
		}
		n.Comment = &c
		if p, err = r.photo(row.Photo); err != nil || p == nil {
			return firstErr(err, corrupt("photo %v is gone", row.Photo))
		}
	}
	pv, err := r.photoView(r.to, p)
	n.Photo = &pv
	return err
}

// unseen counts the notifications with something that the recipient has not seen, up to
// maxUnseen.
func (r *notificationReader) unseen() (n int, err error) {
	err = r.list(tabNotifications, r.to, 0, func(seq id.ID, v []byte) error {
		if uint64(seq) <= r.box.Seen || n == maxUnseen {
			return errStop
		}
		k, err := parseNotificationTail(r.to, v)
		if err != nil {
			return err
		}
		t, err := r.look(k, &r.box.Seen)
		if err == nil && t.count > 0 && t.seq > r.box.Seen {
			n++
		}
		return err
	})
	return n, err
}
