package feed

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"hayloft/internal/id"
)

// Finding is one thing that is not as docs/feed-format.md says.
type Finding struct {
	Key  []byte // the key that shows it
	Text string // one line
}

// Check walks the whole state and reports every counter that has drifted, every
// index that disagrees with its rows, and every row that cannot be read. A feed
// without faults has no findings. It changes nothing.
func (f *Feed) Check(ctx context.Context, found func(Finding)) error {
	return f.read(ctx, func(v *view) error {
		c := checker{store: v.store, ctx: ctx, found: found}
		return c.all()
	})
}

// checker looks at each key on its own, with look-ups for what must agree.
type checker struct {
	store
	ctx   context.Context
	found func(Finding)
	key   []byte // the one looked at

	events, purges seqRange       // seen in the tables so far
	chores         map[id.ID]bool // subjects whose rows are being removed
}

func (c *checker) all() error {
	c.chores = make(map[id.ID]bool)
	err := c.scan([]byte{tabChore}, []byte{tabChore + 1}, func(_, v []byte) error {
		var row choreRow
		err := decodeRow(v, &row)
		if err == nil {
			c.chores[row.Subject] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	err = c.scan([]byte{tabMeta}, []byte{0xff}, func(k, v []byte) error {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		c.key = k
		return c.one(k, v)
	})
	if err != nil {
		return err
	}
	c.key = nil
	for _, t := range []struct {
		lastName, firstName byte
		got                 seqRange
	}{{metaEvent, metaFirstEvent, c.events}, {metaPurge, metaFirstPurge, c.purges}} {
		last, err := c.meta(t.lastName)
		if err != nil {
			return err
		}
		first, err := c.meta(t.firstName)
		if err != nil {
			return err
		}
		first = max(first, 1)
		want := seqRange{first, last}
		if first > last {
			want = seqRange{}
		}
		c.want(t.got == want, "log %d holds %v, not %v", t.lastName, t.got, want)
	}
	return nil
}

func (c *checker) want(ok bool, format string, a ...any) {
	if !ok {
		c.found(Finding{bytes.Clone(c.key), fmt.Sprintf(format, a...)})
	}
}

// keySizes are the lengths of a table's keys; 0: any.
var keySizes = map[byte]int{
	tabMeta: 2, tabAccount: 9, tabHandle: 0, tabSession: 33, tabUserSession: 17,
	tabFollow: 17, tabFollowedBy: 17, tabFollowing: 17, tabFollowers: 17, tabRequest: 17, tabRequests: 17,
	tabBlock: 17, tabBlocks: 17, tabMute: 17, tabMutes: 17, tabPhoto: 9, tabBlob: 9, tabPosts: 17, tabDeleted: 17,
	tabLike: 17, tabLikes: 17, tabComment: 9, tabThread: 17, tabReplies: 17, tabEvent: 9, tabEffect: 9,
	tabEffectByTime: 18, tabParked: 9, tabPurge: 9, tabChore: 9, tabDue: 0, tabIdempotency: 41, tabWatermark: 0,
	tabAsked: 17, tabBlockedBy: 17, tabMutedBy: 17, tabLiked: 17, tabSaid: 17, tabOwned: 17, tabSeen: 9, tabAPIKey: 33, tabUserKeys: 17, tabRetired: 0, tabReconciled: 1,
	tabChange: 9, tabChangeOf: 10, tabChangeMeta: 2,
	tabInbox: 9, tabNotification: 22, tabNotifications: 17, tabCause: 30, tabListener: 17, tabListening: 17, tabTelling: 10,
}

func (c *checker) one(k, v []byte) error {
	size, known := keySizes[k[0]]
	if !known || size != 0 && size != len(k) {
		c.want(false, "not a key of any table")
		return nil
	}
	err := c.row(k, v)
	if isDamage(err) {
		c.want(false, "%v", err)
		return nil
	}
	return err
}

// row checks one key. An error that is damage becomes a finding.
func (c *checker) row(k, v []byte) error {
	switch k[0] {
	case tabAccount:
		return c.account1(v)
	case tabHandle:
		a, err := c.account(id.ID(parseBE8(v)))
		c.want(err != nil || a != nil && a.Handle == string(k[1:]), "handle of nobody")
		return err
	case tabSession:
		return c.session1(k, v)
	case tabUserSession:
		return c.pair(append([]byte{tabSession}, v...))
	case tabFollow, tabFollowedBy, tabRequest, tabBlock, tabMute, tabLike:
		return c.edge(k, v)
	case tabFollowing, tabFollowers, tabRequests, tabBlocks, tabMutes, tabLikes:
		return c.edgeList(k, v)
	case tabPhoto:
		return c.photo1(v)
	case tabBlob:
		return c.blob1(k, v)
	case tabPosts:
		return c.post(k, v)
	case tabDeleted:
		p, err := c.photo(id.ID(parseBE8(v)))
		c.want(err != nil || p != nil && p.Status == Deleted && !p.Purging && p.Mark == ^second(k), "not a deleted photo")
		return err
	case tabComment:
		return c.comment1(v)
	case tabThread, tabReplies:
		return c.commentList(k)
	case tabAsked, tabBlockedBy, tabMutedBy, tabLiked:
		return c.same(key2(inverted[k[0]], second(k), first(k)), id.ID(parseBE8(v)))
	case tabSaid:
		row, err := c.comment(second(k))
		c.want(err != nil || row != nil && row.Author == first(k), "not a comment of theirs")
		return err
	case tabSeen:
		return c.pair(key1(tabAccount, first(k)))
	case tabAPIKey:
		row, err := load[apiKeyRow](c.store, k)
		if err != nil || row == nil {
			return err
		}
		return c.pair(keyDesc(tabUserKeys, row.User, row.ID))
	case tabUserKeys:
		return c.pair(append([]byte{tabAPIKey}, v...))
	case tabOwned:
		p, err := c.photo(second(k))
		c.want(err != nil || p != nil && p.Author == first(k), "not a photo of theirs")
		return err
	case tabInbox, tabNotification, tabNotifications, tabCause, tabListener, tabListening, tabTelling:
		return c.notificationRow(k, v)
	default:
		return c.queueRow(k, v)
	}
}

func first(k []byte) id.ID  { return id.ID(parseBE(k[1:9])) }
func second(k []byte) id.ID { return id.ID(parseBE(k[9:17])) }

// parseBE8 is parseBE, and 0 for what is not 8 bytes.
func parseBE8(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return parseBE(v)
}

// pair wants key to exist.
func (c *checker) pair(key []byte) error {
	has, err := c.has(key)
	c.want(has || err != nil, "%x is missing", key)
	return err
}

// dueAt wants the due key of a row, or none for the zero time.
func (c *checker) dueAt(kind byte, subject []byte, at time.Time) error {
	if at.IsZero() {
		return nil
	}
	return c.pair(dueKey(millis(at), kind, subject))
}

// agree wants counters to be what their lists have.
func (c *checker) agree(list []tally, err error) error {
	for _, t := range list {
		c.want(err != nil || t.stored == t.counted, "counter %v is %d, the list has %d", t.counter, t.stored, t.counted)
	}
	return err
}

func (c *checker) account1(v []byte) error {
	var a accountRow
	if err := decodeRow(v, &a); err != nil {
		return err
	}
	owner, err := c.idAt(handleKey(a.Handle))
	if err != nil {
		return err
	}
	c.want(owner == a.ID && a.ID == first(c.key), "handle %q belongs to %v", a.Handle, owner)
	return c.agree(c.tallyAccount(&a))
}

func (c *checker) session1(k, v []byte) error {
	var s sessionRow
	if err := decodeRow(v, &s); err != nil {
		return err
	}
	if err := c.pair(keyDesc(tabUserSession, s.User, s.ID)); err != nil {
		return err
	}
	return c.dueAt(dueSession, k[1:], s.ExpiresAt)
}

// listOf names the newest-first list of a relation, and listed the reverse.
var listOf = map[byte]byte{
	tabFollow: tabFollowing, tabFollowedBy: tabFollowers, tabRequest: tabRequests, tabBlock: tabBlocks,
	tabMute: tabMutes, tabLike: tabLikes,
}

var listed = map[byte]byte{
	tabFollowing: tabFollow, tabFollowers: tabFollowedBy, tabRequests: tabRequest, tabBlocks: tabBlock,
	tabMutes: tabMute, tabLikes: tabLike,
}

// inverted is the reverse of inverses.
var inverted = map[byte]byte{tabAsked: tabRequest, tabBlockedBy: tabBlock, tabMutedBy: tabMute, tabLiked: tabLike}

func (c *checker) edge(k, v []byte) error {
	from, to, edge := first(k), second(k), id.ID(parseBE8(v))
	if inverse, ok := inverses[k[0]]; ok {
		if err := c.same(key2(inverse, to, from), edge); err != nil {
			return err
		}
	}
	got, err := c.idAt(keyDesc(listOf[k[0]], from, edge))
	if err != nil {
		return err
	}
	c.want(got == to, "its list names %v", got)
	switch k[0] { // the other direction
	case tabFollow:
		return c.same(key2(tabFollowedBy, to, from), edge)
	case tabFollowedBy:
		return c.same(key2(tabFollow, to, from), edge)
	case tabLike:
		return c.subject(from)
	}
	return nil
}

// subject wants what was liked to exist, or to be on its way out.
func (c *checker) subject(v id.ID) error {
	if c.chores[v] {
		return nil
	}
	photo, err := c.has(key1(tabPhoto, v))
	if err != nil || photo {
		return err
	}
	return c.pair(key1(tabComment, v))
}

func (c *checker) same(key []byte, want id.ID) error {
	got, err := c.idAt(key)
	c.want(err != nil || got == want, "%x is %v, not %v", key, got, want)
	return err
}

func (c *checker) edgeList(k, v []byte) error {
	return c.same(key2(listed[k[0]], first(k), id.ID(parseBE8(v))), ^second(k))
}

func (c *checker) photo1(v []byte) error {
	var p photoRow
	if err := decodeRow(v, &p); err != nil {
		return err
	}
	c.want(p.ID == first(c.key), "the row says it is %v", p.ID)
	hasDue := p.Status == Reserved || p.Status == Stored || p.Status == Deleted && !p.Purging
	c.want(hasDue == !p.Due.IsZero(), "status %d with due time %v", p.Status, p.Due)
	if err := c.dueAt(duePhoto, c.key[1:], p.Due); err != nil {
		return err
	}
	if err := c.pair(key2(tabOwned, p.Author, p.ID)); err != nil {
		return err
	}
	c.want(p.Purging || (p.Status == Reserved) == (p.Master.Blob == 0), "status %d with master %v", p.Status, p.Master.Blob)
	c.want((p.Pos != 0) == (p.Rendition.Blob != 0), "position %v with rendition %v", p.Pos, p.Rendition.Blob)
	c.want((p.Status == Pending) == (p.Effect != 0), "status %d with effect %d", p.Status, p.Effect)
	if p.Effect != 0 {
		if err := c.pairOr(key1(tabEffect, p.Effect), key1(tabParked, p.Effect)); err != nil {
			return err
		}
	}
	switch {
	case p.Purging:
		c.want(c.chores[p.ID] || c.chores[p.Author], "purging without a chore")
		return nil
	case p.Status == Ready:
		if err := c.pair(keyDesc(tabPosts, p.Author, p.Pos)); err != nil {
			return err
		}
	case p.Status == Deleted:
		if err := c.same(keyDesc(tabDeleted, p.Author, p.Mark), p.ID); err != nil {
			return err
		}
	}
	for blob, as := range map[id.ID]role{p.Master.Blob: roleMaster, p.Rendition.Blob: roleRendition} {
		if blob == 0 {
			continue
		}
		b, err := c.blob(blob)
		if err != nil {
			return err
		}
		c.want(b != nil && b.Role == as && b.Photo == p.ID, "blob %v is not its own", blob)
	}
	return c.agree(c.tallyPhoto(&p))
}

func (c *checker) pairOr(a, b []byte) error {
	has, err := c.has(a)
	if err != nil || has {
		return err
	}
	return c.pair(b)
}

func (c *checker) blob1(k, v []byte) error {
	var b blobRow
	if err := decodeRow(v, &b); err != nil {
		return err
	}
	blob := first(k)
	if b.Role == roleIntent {
		c.want(!b.Due.IsZero(), "an intent without an end")
		return c.dueAt(dueIntent, k[1:], b.Due)
	}
	p, err := c.photo(b.Photo)
	if err != nil {
		return err
	}
	c.want(p != nil && !p.Purging &&
		(b.Role == roleMaster && p.Master.Blob == blob || b.Role == roleRendition && p.Rendition.Blob == blob),
		"attached to photo %v, which does not name it", b.Photo)
	return nil
}

func (c *checker) post(k, v []byte) error {
	photo, pull, err := parsePostValue(v)
	if err != nil {
		return err
	}
	p, err := c.photo(photo)
	if err != nil {
		return err
	}
	c.want(p != nil && p.Status == Ready && p.Author == first(k) && p.Pos == ^second(k) && p.Pull == pull,
		"not how photo %v is published", photo)
	return nil
}

func (c *checker) comment1(v []byte) error {
	var row commentRow
	if err := decodeRow(v, &row); err != nil {
		return err
	}
	c.want(row.ID == first(c.key), "the row says it is %v", row.ID)
	if err := c.pair(key2(tabSaid, row.Author, row.ID)); err != nil {
		return err
	}
	if row.Parent == 0 {
		if err := c.pair(keyDesc(tabThread, row.Photo, row.ID)); err != nil {
			return err
		}
		p, err := c.photo(row.Photo)
		c.want(err != nil || p != nil, "on photo %v, which is gone", row.Photo)
		if err != nil || p != nil && p.Purging {
			return err
		}
		return c.agree(c.tallyComment(&row))
	}
	if !c.chores[row.Parent] {
		if err := c.pair(key1(tabComment, row.Parent)); err != nil {
			return err
		}
		p, err := c.photo(row.Photo)
		if err != nil {
			return err
		}
		if p != nil && !p.Purging {
			if err := c.agree(c.tallyComment(&row)); err != nil {
				return err
			}
		}
	}
	return c.pair(key2(tabReplies, row.Parent, row.ID))
}

func (c *checker) commentList(k []byte) error {
	comment := second(k)
	if k[0] == tabThread {
		comment = ^comment
	}
	row, err := c.comment(comment)
	if err != nil {
		return err
	}
	owner := first(k)
	c.want(row != nil && (k[0] == tabThread && row.Parent == 0 && row.Photo == owner || row.Parent == owner),
		"lists comment %v, which lies elsewhere", comment)
	return nil
}
