package feed

import "hayloft/internal/id"

// notificationRow checks the tables of notifications.
func (c *checker) notificationRow(k, v []byte) error {
	switch k[0] {
	case tabInbox:
		return c.inbox1(k, v)
	case tabNotification:
		key, err := parseNotificationTail(first(k), k[9:])
		if err != nil {
			return err
		}
		got, err := c.get(keyDesc(tabNotifications, key.To, id.ID(parseBE8(v))))
		c.want(err != nil || string(got) == string(k[9:]), "its list names %x", got)
		return err
	case tabNotifications:
		key, err := parseNotificationTail(first(k), v)
		if err != nil {
			return err
		}
		return c.same(key.key(tabNotification), ^second(k))
	case tabCause:
		told, err := parseCause(k, v)
		if err != nil {
			return err
		}
		key, err := parseNotificationTail(first(k), k[9:22])
		if err != nil {
			return err
		}
		at, err := c.idAt(key.key(tabNotification))
		c.want(err != nil || told.seq != 0 && told.seq <= uint64(at), "told as %d, its notification is at %d", told.seq, at)
		return err
	case tabListener:
		if err := c.pair(key2(tabFollow, second(k), first(k))); err != nil {
			return err
		}
		got, err := c.idAt(keyDesc(tabListening, second(k), id.ID(parseBE8(v))))
		c.want(err != nil || got == first(k), "the listener's list names %v", got)
		return err
	case tabListening:
		return c.same(key2(tabListener, id.ID(parseBE8(v)), first(k)), ^second(k))
	default:
		return decodeRow(v, new(tellingRow))
	}
}

// inbox1 wants an inbox to count what is in it, and to be ahead of it.
func (c *checker) inbox1(k, v []byte) error {
	var box inboxRow
	if err := decodeRow(v, &box); err != nil {
		return err
	}
	entries, err := c.count(key1(tabNotification, first(k)))
	if err != nil {
		return err
	}
	c.want(entries == box.Entries, "counter entries is %d, there are %d", box.Entries, entries)
	c.want(box.Seen <= box.Last, "seen up to %d of %d", box.Seen, box.Last)
	return c.list(tabNotifications, first(k), 0, func(seq id.ID, _ []byte) error {
		c.want(uint64(seq) <= box.Last, "lists %d, the last is %d", seq, box.Last)
		return errStop
	})
}
