package feed

import (
	"encoding/binary"
	"fmt"
	"time"

	"hayloft/internal/id"
)

// The tables of notifications (docs/feed-format.md, section 3).
const (
	tabInbox         = 0x60
	tabNotification  = 0x61
	tabNotifications = 0x62
	tabCause         = 0x63
	tabListener      = 0x64
	tabListening     = 0x65
	tabTelling       = 0x66
)

// NotificationKind is what a notification is about.
type NotificationKind uint8

// The kinds of notifications. Preferences name them.
const (
	NotifyFollow  NotificationKind = iota + 1 // somebody follows the recipient
	NotifyRequest                             // somebody asks to
	NotifyLike                                // a photo or a comment of theirs was liked
	NotifyComment                             // a photo of theirs was commented on, or a comment replied to
	NotifyMention                             // they are named with a photo, or in a comment
	NotifyPost                                // somebody they asked to hear from has published
	notificationEnd
)

var notificationNames = [notificationEnd]string{
	NotifyFollow: "follow", NotifyRequest: "request", NotifyLike: "like", NotifyComment: "comment",
	NotifyMention: "mention", NotifyPost: "post",
}

// String returns the name that stands for the kind outside.
func (k NotificationKind) String() string {
	if k > 0 && k < notificationEnd {
		return notificationNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// NotificationKinds lists every kind.
func NotificationKinds() []NotificationKind {
	return []NotificationKind{NotifyFollow, NotifyRequest, NotifyLike, NotifyComment, NotifyMention, NotifyPost}
}

// Notification is what a user is told: one for each kind, subject and day.
type Notification struct {
	Kind    NotificationKind
	Subject id.ID     // the photo or comment; of NotifyPost the author; of NotifyFollow and NotifyRequest the recipient
	Day     time.Time // midnight UTC
	Seq     uint64    // of the newest thing in it; ascends for each recipient
	At      time.Time // of the newest thing in it
	Count   int       // how many people, of NotifyPost how many photos; notificationCount at most
	Actors  []UserView
	Photo   *PhotoView // the subject, or the newest one; nil where there is none
	Comment *Comment   // the subject, or the newest one; nil where there is none
	Seen    bool
}

const (
	notificationCount    = 100 // a notification counts to here: that many or more
	notificationActors   = 3   // are named
	notificationExamined = 400 // rows of a notification that a read looks at
	// notificationsKept is how many a recipient has: when there are notificationsSlack
	// more, the oldest go. Part of the format.
	notificationsKept  = 500
	notificationsSlack = 50
)

// notificationKey names a notification.
type notificationKey struct {
	To      id.ID
	Kind    NotificationKind
	Subject id.ID
	Day     uint32 // since 1970
}

// dayOf is the day of what has cause as its id.
func dayOf(cause id.ID) uint32 { return uint32(cause.Millis().Time().Unix() / 86400) }

func (k notificationKey) date() time.Time { return time.Unix(int64(k.Day)*86400, 0).UTC() }

// tail is the key without its recipient: the value in the recipient's list.
func (k notificationKey) tail(dst []byte) []byte {
	dst = be(append(dst, byte(k.Kind)), uint64(k.Subject))
	return binary.BigEndian.AppendUint32(dst, k.Day)
}

func (k notificationKey) key(table byte) []byte {
	return k.tail(be(append(make([]byte, 0, 30), table), uint64(k.To)))
}

// causeKey is the key of one thing that the notification tells; newest first.
func (k notificationKey) causeKey(cause id.ID) []byte { return be(k.key(tabCause), uint64(^cause)) }

func parseNotificationTail(to id.ID, v []byte) (notificationKey, error) {
	if len(v) != 13 || v[0] == 0 || v[0] >= byte(notificationEnd) {
		return notificationKey{}, corrupt("notification %x", v)
	}
	return notificationKey{To: to, Kind: NotificationKind(v[0]), Subject: id.ID(parseBE(v[1:9])), Day: binary.BigEndian.Uint32(v[9:])}, nil
}

// cause is one thing that a notification tells.
type cause struct {
	id    id.ID  // of the edge, like or comment; the position of a photo
	actor id.ID  // of NotifyPost the photo
	seq   uint64 // the recipient's
}

func causeValue(actor id.ID, seq uint64) []byte {
	return be(be(make([]byte, 0, 16), uint64(actor)), seq)
}

func parseCause(k, v []byte) (cause, error) {
	if len(k) != 30 || len(v) != 16 {
		return cause{}, corrupt("cause %x: value of %d bytes", k, len(v))
	}
	return cause{id: ^id.ID(parseBE(k[22:])), actor: id.ID(parseBE(v)), seq: parseBE(v[8:])}, nil
}

// inboxRow is how far a recipient's notifications have come.
type inboxRow struct {
	Last    uint64 // seq given out last
	Seen    uint64 // up to which the recipient has seen them
	Entries uint64 // notifications there are
	Off     uint64 // kinds that are not wanted: bit 1<<kind
}

func (r *inboxRow) fields(c *codec) {
	num(c, 1, &r.Last)
	num(c, 2, &r.Seen)
	num(c, 3, &r.Entries)
	num(c, 4, &r.Off)
}

func (r *inboxRow) wants(k NotificationKind) bool { return r.Off&(1<<k) == 0 }

func (s store) inbox(user id.ID) (*inboxRow, error) {
	row, err := load[inboxRow](s, key1(tabInbox, user))
	if err == nil && row == nil {
		row = new(inboxRow)
	}
	return row, err
}

// heralds says whether recipient is told what actor does: they hear them, and have not
// muted them.
func heralds(s state, recipient, actor id.ID) (bool, error) {
	if ok, err := heard(s, recipient, actor); err != nil || !ok {
		return false, err
	}
	muted, err := s.has(key2(tabMute, recipient, actor))
	return !muted, err
}
