package feed

import (
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// tx is one command at work. It reads through the batch and keeps its own
// writes aside until the command has succeeded, so that a refusal cannot leave
// half of one behind. Rows are cached: a command that touches a row twice sees
// its own change, and each row is written once.
type tx struct {
	store
	now      time.Time // from the command
	ops      []op
	metas    [metaEnd]*uint64 // read or changed; changed ones are written
	dirty    [metaEnd]bool
	accounts rowCache[accountRow]
	photos   rowCache[photoRow]
	comments rowCache[commentRow]
	inboxes  rowCache[inboxRow]
	untold   map[notificationKey]bool // removed
	woken    signals
	subjects []subject // whose entries in the list of changes move to its end
}

type op struct {
	kind       opKind
	key, value []byte // for opDeleteRange: from, to
}

type opKind uint8

const (
	opSet opKind = iota
	opDelete
	opDeleteRange
)

// signals says whom to wake once the batch is visible.
type signals struct {
	events, effects, purges, sweep, tell, changes bool

	requeued bool // an effect that is not the newest is due at once

	due     uint64  // the soonest time, in milliseconds, of what ends by itself; 0: none was set
	settled []id.ID // photos that are no longer pending
	noticed []id.ID // users whose notifications have changed
}

func (s *signals) merge(o signals) {
	s.events = s.events || o.events
	s.effects = s.effects || o.effects
	s.purges = s.purges || o.purges
	s.sweep = s.sweep || o.sweep
	s.changes = s.changes || o.changes
	s.tell = s.tell || o.tell
	s.requeued = s.requeued || o.requeued
	if o.due != 0 {
		s.ends(o.due)
	}
	s.settled = append(s.settled, o.settled...)
	s.noticed = append(s.noticed, o.noticed...)
}

// ends notes that something ends at a time, in milliseconds.
func (s *signals) ends(at uint64) {
	if s.due == 0 || at < s.due {
		s.due = at
	}
}

// rowCache holds the rows of one table that a command has looked at. order
// keeps the writes in the same order on every replica.
type rowCache[T any] struct {
	rows  map[id.ID]*cached[T]
	order []id.ID
}

type cached[T any] struct {
	row     *T
	changed bool // to be written, or removed when row is nil
}

func (c *rowCache[T]) get(key id.ID, load func(id.ID) (*T, error)) (*T, error) {
	if e, ok := c.rows[key]; ok {
		return e.row, nil
	}
	row, err := load(key)
	if err != nil {
		return nil, err
	}
	c.add(key, row).changed = false
	return row, nil
}

func (c *rowCache[T]) add(key id.ID, row *T) *cached[T] {
	if c.rows == nil {
		c.rows = make(map[id.ID]*cached[T])
	}
	e, ok := c.rows[key]
	if !ok {
		e = new(cached[T])
		c.rows[key] = e
		c.order = append(c.order, key)
	}
	e.row, e.changed = row, true
	return e
}

func (t *tx) account(user id.ID) (*accountRow, error) { return t.accounts.get(user, t.store.account) }
func (t *tx) photo(photo id.ID) (*photoRow, error)    { return t.photos.get(photo, t.store.photo) }
func (t *tx) comment(comment id.ID) (*commentRow, error) {
	return t.comments.get(comment, t.store.comment)
}

// inbox is nil when the command has removed it.
func (t *tx) inbox(user id.ID) (*inboxRow, error) { return t.inboxes.get(user, t.store.inbox) }

func (t *tx) putAccount(r *accountRow) { t.accounts.add(r.ID, r) }
func (t *tx) putPhoto(r *photoRow)     { t.photos.add(r.ID, r) }
func (t *tx) putComment(r *commentRow) { t.comments.add(r.ID, r) }
func (t *tx) dropAccount(user id.ID)   { t.accounts.add(user, nil) }

// dropPhoto removes a photo's row, and that its author has it.
func (t *tx) dropPhoto(p *photoRow) {
	t.photos.add(p.ID, nil)
	t.del(key2(tabOwned, p.Author, p.ID))
}

// dropComment removes a comment's row, and that its author has said it.
func (t *tx) dropComment(c *commentRow) {
	t.comments.add(c.ID, nil)
	t.del(key2(tabSaid, c.Author, c.ID))
}

func (t *tx) set(key, value []byte)       { t.ops = append(t.ops, op{opSet, key, value}) }
func (t *tx) setID(key []byte, v id.ID)   { t.set(key, be(nil, uint64(v))) }
func (t *tx) setRow(key []byte, r record) { t.set(key, encodeRow(r)) }
func (t *tx) del(key []byte)              { t.ops = append(t.ops, op{opDelete, key, nil}) }
func (t *tx) delRange(from, to []byte)    { t.ops = append(t.ops, op{opDeleteRange, from, to}) }
func (t *tx) setMeta(name byte, v uint64) { t.metas[name], t.dirty[name] = &v, true }
func (t *tx) next(name byte) (uint64, error) {
	v, err := t.meta(name)
	if err != nil {
		return 0, err
	}
	t.setMeta(name, v+1)
	return v + 1, nil
}

func (t *tx) meta(name byte) (uint64, error) {
	if p := t.metas[name]; p != nil {
		return *p, nil
	}
	v, err := t.store.meta(name)
	if err == nil {
		t.metas[name] = &v
	}
	return v, err
}

// flush moves the command's writes into the batch.
func (t *tx) flush(b *pebble.Batch) error {
	if err := t.flushChanges(); err != nil {
		return err
	}
	flushRows(t, tabAccount, &t.accounts)
	flushRows(t, tabPhoto, &t.photos)
	flushRows(t, tabComment, &t.comments)
	flushRows(t, tabInbox, &t.inboxes)
	for name, changed := range t.dirty {
		if changed {
			t.set(metaKey(byte(name)), be(nil, *t.metas[name]))
		}
	}
	for _, o := range t.ops {
		var err error
		switch o.kind {
		case opSet:
			err = b.Set(o.key, o.value, nil)
		case opDelete:
			err = b.Delete(o.key, nil)
		case opDeleteRange:
			err = b.DeleteRange(o.key, o.value, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func flushRows[T any, R interface {
	*T
	record
}](t *tx, table byte, c *rowCache[T]) {
	for _, key := range c.order {
		switch e := c.rows[key]; {
		case !e.changed:
		case e.row == nil:
			t.del(key1(table, key))
		default:
			t.setRow(key1(table, key), R(e.row))
		}
	}
}

// event appends to the outbox.
func (t *tx) event(e eventRow) error {
	seq, err := t.next(metaEvent)
	if err != nil {
		return err
	}
	t.setRow(key1(tabEvent, seq), &e)
	t.woken.events = true
	return nil
}

// purge appends blob to the purge log; blob 0 is nothing.
func (t *tx) purge(blob id.ID) error {
	if blob == 0 {
		return nil
	}
	seq, err := t.next(metaPurge)
	if err != nil {
		return err
	}
	t.setRow(key1(tabPurge, seq), &purgeRow{Blob: blob, At: t.now})
	t.woken.purges = true
	return nil
}

// owe adds an effect, due at once whatever a clock says.
func (t *tx) owe(e effectRow) (seq uint64, err error) {
	if seq, err = t.next(metaEffect); err != nil {
		return 0, err
	}
	e.NotBefore, e.Owed = time.Time{}, t.now
	t.putEffect(seq, &e)
	return seq, nil
}

func (t *tx) putEffect(seq uint64, e *effectRow) {
	t.setRow(key1(tabEffect, seq), e)
	t.set(effectTimeKey(e.Kind, millis(e.NotBefore), seq), nil)
	t.woken.effects = true
}

// requeue is putEffect for one that was queued before.
func (t *tx) requeue(seq uint64, e *effectRow) {
	t.putEffect(seq, e)
	t.woken.requeued = t.woken.requeued || millis(e.NotBefore) == 0
}

// settle removes an effect, parked or not. 0 is nothing.
func (t *tx) settle(seq uint64) error {
	if seq == 0 {
		return nil
	}
	e, err := t.effect(seq)
	if err != nil {
		return err
	}
	if e == nil {
		t.del(key1(tabParked, seq))
		return nil
	}
	t.unqueue(seq, e)
	return nil
}

func (t *tx) unqueue(seq uint64, e *effectRow) {
	t.del(key1(tabEffect, seq))
	t.del(effectTimeKey(e.Kind, millis(e.NotBefore), seq))
}

func (t *tx) chore(r choreRow) error {
	seq, err := t.next(metaChore)
	if err != nil {
		return err
	}
	t.setRow(key1(tabChore, seq), &r)
	t.woken.sweep = true
	return nil
}

// setDue moves the due key of subject from one time to another; the zero time
// is none.
func (t *tx) setDue(kind byte, subject []byte, from, to time.Time) {
	if !from.IsZero() {
		t.del(dueKey(millis(from), kind, subject))
	}
	if !to.IsZero() {
		t.set(dueKey(millis(to), kind, subject), nil)
		t.woken.ends(millis(to))
	}
}

// setPhotoDue keeps a photo's due time and its due key together.
func (t *tx) setPhotoDue(p *photoRow, to time.Time) {
	t.setDue(duePhoto, be(nil, uint64(p.ID)), p.Due, to)
	p.Due = to
}
