package feed

import (
	"slices"

	"hayloft/internal/id"
)

// tell tells to of what actor has done, unless that is themselves, or somebody they
// do not want to hear of. k.Day is set here.
func (t *tx) tell(k notificationKey, cause, actor id.ID) error {
	if k.To == actor {
		return nil
	}
	if to, err := t.account(k.To); err != nil || to == nil || to.Gone {
		return err
	}
	if ok, err := heralds(t, k.To, actor); err != nil || !ok {
		return err
	}
	return t.enterInbox(k, cause, actor)
}

// enterInbox is tell for who is known to want it; actor is what the row says.
func (t *tx) enterInbox(k notificationKey, cause, actor id.ID) error {
	k.Day = dayOf(cause)
	box, err := t.inbox(k.To)
	if err != nil {
		return err
	}
	at, err := t.idAt(k.key(tabNotification))
	if err != nil {
		return err
	}
	box.Last++
	if at != 0 {
		t.del(keyDesc(tabNotifications, k.To, at))
	} else if box.Entries++; box.Entries > notificationsKept+notificationsSlack {
		if err := t.trimNotifications(k.To, box); err != nil {
			return err
		}
	}
	t.setID(k.key(tabNotification), id.ID(box.Last))
	t.set(keyDesc(tabNotifications, k.To, id.ID(box.Last)), k.tail(nil))
	t.set(k.causeKey(cause), causeValue(actor, box.Last))
	t.inboxes.add(k.To, box)
	t.woken.noticed = append(t.woken.noticed, k.To)
	return nil
}

// trimNotifications drops the oldest notifications of an inbox that is about to have too
// many: box counts the one being made, which the list does not have yet.
func (t *tx) trimNotifications(to id.ID, box *inboxRow) error {
	prefix := key1(tabNotifications, to)
	return t.scanBack(prefix, after(prefix), func(key, v []byte) error {
		if box.Entries <= notificationsKept {
			return errStop
		}
		if len(key) != 17 {
			return corrupt("key %x", key)
		}
		k, err := parseNotificationTail(to, v)
		if err == nil {
			t.dropNotification(k, ^id.ID(parseBE(key[9:])), box)
		}
		return err
	})
}

// dropNotification removes a notification of box whose place in the list is seq. Again
// in the same command is nothing.
func (t *tx) dropNotification(k notificationKey, seq id.ID, box *inboxRow) {
	if t.untold[k] {
		return
	}
	if t.untold == nil {
		t.untold = make(map[notificationKey]bool)
	}
	t.untold[k] = true
	box.Entries--
	t.inboxes.add(k.To, box)
	t.del(k.key(tabNotification))
	t.del(keyDesc(tabNotifications, k.To, seq))
	causes := k.key(tabCause)
	t.delRange(causes, after(causes))
}

// untell takes back what tell has told. k.Day is set here.
func (t *tx) untell(k notificationKey, cause id.ID) error {
	k.Day = dayOf(cause)
	key := k.causeKey(cause)
	told, err := t.has(key)
	if err != nil || !told {
		return err
	}
	t.woken.noticed = append(t.woken.noticed, k.To)
	more := false
	causes := k.key(tabCause)
	err = t.scan(causes, after(causes), func(other, _ []byte) error {
		if more = !slices.Equal(other, key); more {
			return errStop
		}
		return nil
	})
	if err != nil {
		return err
	}
	if more {
		t.del(key)
		return nil
	}
	at, err := t.idAt(k.key(tabNotification))
	if err != nil {
		return err
	}
	box, err := t.inbox(k.To)
	if err != nil || box == nil {
		return err
	}
	if at == 0 {
		return corrupt("notification %x is in no list", k.key(tabNotification))
	}
	t.dropNotification(k, at, box)
	return nil
}

// eraseInbox removes all that an account was told.
func (t *tx) eraseInbox(a *accountRow, _ *choreRow, _ *int) (bool, error) {
	for _, table := range []byte{tabNotification, tabNotifications, tabCause} {
		prefix := key1(table, a.ID)
		t.delRange(prefix, after(prefix))
	}
	t.inboxes.add(a.ID, nil)
	return true, nil
}

// commentNotifications calls do for each user who is told of a comment: the photo's author,
// who began the thread, and who is named in it. top is nil for a comment that begins
// one.
func (t *tx) commentNotifications(p *photoRow, top, row *commentRow, do func(notificationKey) error) error {
	told := []id.ID{p.Author}
	if top != nil && top.Author != p.Author {
		told = append(told, top.Author)
	}
	for _, to := range told {
		if err := do(notificationKey{To: to, Kind: NotifyComment, Subject: p.ID}); err != nil {
			return err
		}
	}
	named, err := t.namedIn(row.Text)
	for _, to := range named {
		if err != nil {
			break
		}
		if !slices.Contains(told, to) {
			err = do(notificationKey{To: to, Kind: NotifyMention, Subject: p.ID})
		}
	}
	return err
}

// tellComment tells of a new comment.
func (t *tx) tellComment(p *photoRow, top, row *commentRow) error {
	return t.commentNotifications(p, top, row, func(k notificationKey) error {
		if ok, err := visible(t, k.To, p, permalink); err != nil || !ok {
			return err
		}
		return t.tell(k, row.ID, row.Author)
	})
}

// untellComment takes back what tellComment has told.
func (t *tx) untellComment(p *photoRow, top, row *commentRow) error {
	return t.commentNotifications(p, top, row, func(k notificationKey) error { return t.untell(k, row.ID) })
}

// tellPublished tells of a photo that has become ready: those who are named with it at
// once, and those who asked to hear from its author in steps of cmdTell.
func (t *tx) tellPublished(p *photoRow) error {
	if err := t.tellNamed(p, nil); err != nil {
		return err
	}
	prefix := key1(tabListener, p.Author)
	return t.scan(prefix, after(prefix), func(_, _ []byte) error {
		t.setRow(tellingKey(tellFirst, p.Pos), &tellingRow{Photo: p.ID, Author: p.Author})
		t.woken.tell = true
		return errStop
	})
}

// tellNamed tells those who are named with a ready photo, but for those who were before.
func (t *tx) tellNamed(p *photoRow, before []id.ID) error {
	named, err := t.namedWith(&p.Details)
	for _, to := range named {
		if err != nil {
			break
		}
		if slices.Contains(before, to) {
			continue
		}
		var ok bool
		if ok, err = visible(t, to, p, permalink); err == nil && ok {
			err = t.tell(notificationKey{To: to, Kind: NotifyMention, Subject: p.ID}, p.Pos, p.Author)
		}
	}
	return err
}

// The two priorities of tellingKey: what was never begun goes before what is large.
const (
	tellFirst = iota
	tellOn
)

func tellingKey(priority byte, pos id.ID) []byte {
	return be([]byte{tabTelling, priority}, uint64(pos))
}

// tellingRow is a photo that listeners are still told of.
type tellingRow struct {
	Photo, Author id.ID
	After         id.ID // the listener told last
}

func (r *tellingRow) fields(c *codec) {
	c.id(1, &r.Photo)
	c.id(2, &r.Author)
	c.id(3, &r.After)
}

// cmdTell tells the next listeners of the photo that is first in the queue.
type cmdTell struct{ Limit int }

func (r *cmdTell) fields(c *codec) { num(c, 1, &r.Limit) }

func (r *cmdTell) apply(t *tx) (outcome, error) {
	var key []byte
	var row tellingRow
	err := t.scan([]byte{tabTelling}, []byte{tabTelling + 1}, func(k, v []byte) error {
		key = slices.Clone(k)
		return firstErr(decodeRow(v, &row), errStop)
	})
	if err != nil || key == nil {
		return outcome{}, err
	}
	if len(key) != 10 {
		return outcome{}, corrupt("telling key %x", key)
	}
	pos := id.ID(parseBE(key[2:]))
	p, err := t.photo(row.Photo)
	if err != nil {
		return outcome{}, err
	}
	told, more := 0, false
	if p != nil && !p.Purging { // a photo that is deleted may be restored; meanwhile nobody is shown it
		if told, more, err = t.tellListeners(&row, pos, max(r.Limit, 1)); err != nil {
			return outcome{}, err
		}
	}
	t.del(key)
	if more {
		t.setRow(tellingKey(tellOn, pos), &row)
		t.woken.tell = true
	}
	return outcome{Count: told}, nil
}

// tellListeners tells up to limit of them, and says whether there are more.
func (t *tx) tellListeners(row *tellingRow, pos id.ID, limit int) (told int, more bool, err error) {
	from := key2(tabListener, row.Author, row.After+1)
	err = t.scan(from, after(key1(tabListener, row.Author)), func(k, _ []byte) error {
		if len(k) != 17 {
			return corrupt("key %x", k)
		}
		if more = told == limit; more {
			return errStop
		}
		told++
		row.After = id.ID(parseBE(k[9:]))
		if ok, err := heralds(t, row.After, row.Author); err != nil || !ok {
			return err
		}
		return t.enterInbox(notificationKey{To: row.After, Kind: NotifyPost, Subject: row.Author}, pos, row.Photo)
	})
	return told, more, err
}

// cmdListen asks to be told, or no longer, when author publishes.
type cmdListen struct {
	User, Author, Edge id.ID
	Off                bool
}

func (r *cmdListen) fields(c *codec) {
	c.id(1, &r.User)
	c.id(2, &r.Author)
	c.id(3, &r.Edge)
	c.bool(4, &r.Off)
}

func (r *cmdListen) apply(t *tx) (outcome, error) {
	if r.Off {
		return outcome{}, t.unlisten(r.User, r.Author)
	}
	if _, _, err := t.both(r.User, r.Author); err != nil {
		return outcome{}, err
	}
	if blocked, err := t.blockedEitherWay(r.User, r.Author); err != nil || blocked {
		return outcome{}, firstErr(err, ErrNotFound)
	}
	follows, err := t.has(key2(tabFollow, r.User, r.Author))
	if err != nil || !follows {
		return outcome{}, firstErr(err, ErrConflict)
	}
	listens, err := t.has(key2(tabListener, r.Author, r.User))
	if err == nil && !listens {
		t.setID(key2(tabListener, r.Author, r.User), r.Edge)
		t.setID(keyDesc(tabListening, r.User, r.Edge), r.Author)
	}
	return outcome{}, err
}

// unlisten ends what cmdListen has begun; nothing is nothing.
func (t *tx) unlisten(user, author id.ID) error {
	edge, err := t.idAt(key2(tabListener, author, user))
	if err == nil && edge != 0 {
		t.del(key2(tabListener, author, user))
		t.del(keyDesc(tabListening, user, edge))
	}
	return err
}

// cmdNotificationsSeen moves the mark up to which a user has seen their notifications.
type cmdNotificationsSeen struct {
	User    id.ID
	Through uint64 // 0: all
}

func (r *cmdNotificationsSeen) fields(c *codec) {
	c.id(1, &r.User)
	num(c, 2, &r.Through)
}

func (r *cmdNotificationsSeen) apply(t *tx) (outcome, error) {
	box, err := t.inbox(r.User)
	if err != nil {
		return outcome{}, err
	}
	through := min(r.Through, box.Last)
	if r.Through == 0 {
		through = box.Last
	}
	if through > box.Seen {
		box.Seen = through
		t.inboxes.add(r.User, box)
		t.woken.noticed = append(t.woken.noticed, r.User)
	}
	return outcome{}, nil
}

// cmdNotificationsWanted says which kinds of notifications a user wants.
type cmdNotificationsWanted struct {
	User    id.ID
	On, Off uint64 // bit 1<<kind
}

func (r *cmdNotificationsWanted) fields(c *codec) {
	c.id(1, &r.User)
	num(c, 2, &r.On)
	num(c, 3, &r.Off)
}

func (r *cmdNotificationsWanted) apply(t *tx) (outcome, error) {
	if _, err := t.mustAccount(r.User); err != nil {
		return outcome{}, err
	}
	box, err := t.inbox(r.User)
	if err != nil {
		return outcome{}, err
	}
	if off := (box.Off | r.Off) &^ r.On; off != box.Off {
		box.Off = off
		t.inboxes.add(r.User, box)
		t.woken.noticed = append(t.woken.noticed, r.User)
	}
	return outcome{}, nil
}

// clearNotifications removes what the author of a purged photo was told of it. What others
// were told is hidden, and goes as theirs pile up.
func (t *tx) clearNotifications(photo id.ID) error {
	p, err := t.photo(photo)
	if err != nil || p == nil {
		return err
	}
	box, err := t.inbox(p.Author)
	if err != nil || box == nil {
		return err
	}
	for _, kind := range []NotificationKind{NotifyLike, NotifyComment} {
		prefix := notificationKey{To: p.Author, Kind: kind, Subject: photo}.key(tabNotification)[:18]
		err := t.scan(prefix, after(prefix), func(k, v []byte) error {
			if len(k) != 22 || len(v) != 8 {
				return corrupt("notification %x", k)
			}
			key, err := parseNotificationTail(p.Author, k[9:])
			if err != nil {
				return err
			}
			t.dropNotification(key, id.ID(parseBE(v)), box)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
