package feed

import (
	"context"
	"errors"

	"hayloft/feed/timeline"
	"hayloft/internal/id"
)

// source gives the timelines the committed state they derive from.
type source struct{ f *Feed }

var _ timeline.Source = source{}

// Snapshot implements timeline.Source. When the group has stopped every method
// of the snapshot fails.
func (s source) Snapshot() timeline.Snapshot {
	shelf := s.f.machine.rows.shelf()
	snap, err := s.f.snapshot()
	if err != nil {
		return brokenSnapshot{unavailable(err)}
	}
	return sourceSnapshot{store{snap}, shelf}
}

var errGone = errors.New("feed: the waiter gave up")

// Wait implements timeline.Source.
func (s source) Wait(done <-chan struct{}, seq uint64) error {
	w := &s.f.machine.watch
	for {
		changed := w.on(&w.events)
		var last uint64
		err := s.f.read(context.Background(), func(v *view) (err error) {
			last, err = v.meta(metaEvent)
			return err
		})
		if err != nil || last > seq {
			return err
		}
		select {
		case <-changed:
		case <-done:
			return errGone
		}
	}
}

type sourceSnapshot struct {
	store
	shelf shelf
}

// Close implements timeline.Snapshot.
func (s sourceSnapshot) Close() error { return s.r.Close() }

// LastSeq implements timeline.Snapshot.
func (s sourceSnapshot) LastSeq() (uint64, error) { return s.meta(metaEvent) }

// Events implements timeline.Snapshot.
func (s sourceSnapshot) Events(after uint64, limit int) (events []timeline.Event, first uint64, err error) {
	if first, err = s.meta(metaFirstEvent); err != nil {
		return nil, 0, err
	}
	first = max(first, 1)
	from := key1(tabEvent, max(after+1, first))
	err = s.scan(from, []byte{tabEvent + 1}, func(k, v []byte) error {
		if len(events) >= limit {
			return errStop
		}
		var e eventRow
		if err := decodeRow(v, &e); err != nil {
			return err
		}
		events = append(events, timeline.Event{
			Seq: parseBE(k[1:]), Kind: timeline.EventKind(e.Kind), Reader: e.Reader, Again: e.Again,
			Post: timeline.Post{Pos: e.Pos, Photo: e.Photo, Author: e.Author, Pull: e.Pull},
		})
		return nil
	})
	return events, first, err
}

// Followers implements timeline.Snapshot.
func (s sourceSnapshot) Followers(dst []id.ID, author, after id.ID, limit int) ([]id.ID, error) {
	return s.neighbours(dst, tabFollowedBy, author, after, limit)
}

// Followees implements timeline.Snapshot.
func (s sourceSnapshot) Followees(reader id.ID) ([]id.ID, error) {
	c, err := s.shelf.circle(s.store, reader)
	if err != nil {
		return nil, err
	}
	return c.follows, nil
}

// neighbours appends up to limit ids with a key (table, of, id),
// above start, ascending.
func (s sourceSnapshot) neighbours(dst []id.ID, table byte, of, start id.ID, limit int) ([]id.ID, error) {
	if limit == 0 || start == ^id.ID(0) {
		return dst, nil
	}
	err := s.scan(key2(table, of, start+1), after(key1(table, of)), func(k, _ []byte) error {
		if len(k) != 17 {
			return corrupt("key %x", k)
		}
		dst = append(dst, id.ID(parseBE(k[9:])))
		if limit--; limit == 0 {
			return errStop
		}
		return nil
	})
	return dst, err
}

// Follows implements timeline.Snapshot.
func (s sourceSnapshot) Follows(reader, author id.ID) (bool, error) {
	return s.has(key2(tabFollow, reader, author))
}

// Posts implements timeline.Snapshot.
func (s sourceSnapshot) Posts(dst []timeline.Post, author, before id.ID, limit int) ([]timeline.Post, error) {
	return s.shelf.posts(s.store, dst, author, before, limit)
}

// HasPull implements timeline.Snapshot.
func (s sourceSnapshot) HasPull(author id.ID) (bool, error) {
	if a := s.shelf.account(author); a != nil {
		return a.PullPosts, nil
	}
	a, err := s.account(author)
	return a != nil && a.PullPosts, err
}

// brokenSnapshot fails.
type brokenSnapshot struct{ err error }

func (b brokenSnapshot) Events(uint64, int) ([]timeline.Event, uint64, error) { return nil, 0, b.err }
func (b brokenSnapshot) LastSeq() (uint64, error)                             { return 0, b.err }
func (b brokenSnapshot) Followers(dst []id.ID, _, _ id.ID, _ int) ([]id.ID, error) {
	return dst, b.err
}
func (b brokenSnapshot) Followees(id.ID) ([]id.ID, error) { return nil, b.err }
func (b brokenSnapshot) Follows(_, _ id.ID) (bool, error) { return false, b.err }
func (b brokenSnapshot) HasPull(id.ID) (bool, error)      { return false, b.err }
func (b brokenSnapshot) Close() error                     { return nil }
func (b brokenSnapshot) Posts(dst []timeline.Post, _, _ id.ID, _ int) ([]timeline.Post, error) {
	return dst, b.err
}
