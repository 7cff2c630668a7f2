package timeline

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// delivery is one batch being filled.
type delivery struct {
	b       *pebble.Batch
	state       // to be written with it
	n       int // entries written
	skipped int // followers passed over
}

// events processes what lies beyond the cursor, until a batch is full. A post
// with more followers than one chunk becomes an open fan-out, so that the
// posts behind it do not wait for it.
func (w *writer) events() (worked bool, err error) {
	snap := w.s.snapshot()
	defer closeInto(&err, snap)
	t := w.s.o.tune
	events, err := following(snap, w.cursor, t.events)
	if err != nil || len(events) == 0 {
		return false, err
	}
	d := delivery{b: w.db.NewBatch(), state: state{w.cursor, slices.Clone(w.open)}}
	for _, e := range events {
		if d.n+d.skipped >= t.chunk {
			break
		}
		if len(d.open) >= t.openFanouts && e.Kind == Published && !e.Post.Pull {
			if large, err := w.large(snap, e.Post.Author); err != nil {
				return false, errors.Join(err, d.b.Close())
			} else if large {
				break // fanoutChunk makes room
			}
		}
		w.s.changes(e)
		if err := w.event(&d, snap, e); err != nil {
			return false, errors.Join(err, d.b.Close())
		}
		d.cursor = e.Seq
	}
	if d.cursor == w.cursor {
		return false, d.b.Close()
	}
	return true, w.deliver(&d)
}

// following returns the events after seq, or errStale when they do not follow.
func following(snap Snapshot, seq uint64, limit int) ([]Event, error) {
	last, err := snap.LastSeq()
	if err != nil {
		return nil, err
	}
	if last < seq {
		return nil, fmt.Errorf("%w: cursor %d, newest event %d", errStale, seq, last)
	}
	if last == seq {
		return nil, nil
	}
	events, first, err := snap.Events(seq, limit)
	if err != nil {
		return nil, err
	}
	if first > seq+1 {
		return nil, fmt.Errorf("%w: cursor %d, oldest event %d", errStale, seq, first)
	}
	for i, e := range events {
		if e.Seq != seq+1+uint64(i) {
			return nil, fmt.Errorf("source: event %d where %d is due", e.Seq, seq+1+uint64(i))
		}
	}
	return events, nil
}

// deliver commits d.
func (w *writer) deliver(d *delivery) error {
	events := d.cursor - w.cursor
	return w.commit(d.b, d.state, func() {
		w.unflushed += d.n
		c := &w.s.counters
		c.deliveries.Add(uint64(d.n))
		c.skipped.Add(uint64(d.skipped))
		c.events.Add(events)
	})
}

// changes tells of an event what pages remember. It comes before the cursor moves.
func (s *Store) changes(e Event) {
	if e.Kind == Published && e.Post.Pull {
		s.pullers.published(e.Post.Author)
	}
	s.segments.event(e)
}

func (w *writer) event(d *delivery, snap Snapshot, e Event) error {
	switch e.Kind {
	case Published:
		if e.Post.Pull {
			return nil
		}
		return w.published(d, snap, e)
	case Followed:
		return w.followed(d, snap, e.Reader, e.Post.Author)
	case Unfollowed:
		return nil // visibility hides the entries; trimming removes them
	}
	return fmt.Errorf("source: event %d of unknown kind %d", e.Seq, e.Kind)
}

func (w *writer) published(d *delivery, snap Snapshot, e Event) error {
	if err := d.b.Set(key8(keyPost, uint64(e.Post.Pos)), encodePost(e.Post), nil); err != nil {
		return err
	}
	f := fanout{Post: e.Post}
	more, err := w.chunk(d, snap, &f)
	if more {
		d.open = append(d.open, f)
	}
	return err
}

// large says whether a post of author's becomes a fan-out.
func (w *writer) large(snap Snapshot, author id.ID) (_ bool, err error) {
	limit := w.s.o.tune.chunk
	w.followers, err = snap.Followers(w.followers[:0], author, 0, limit)
	return len(w.followers) == limit, err
}

// chunk delivers f's post to the next readers and moves f.After. more says
// that some may be left.
//
// The followers are those of snap, which holds the post. Whoever follows later
// has a Followed event of their own, and its backfill brings the post.
func (w *writer) chunk(d *delivery, snap Snapshot, f *fanout) (more bool, err error) {
	limit := w.s.o.tune.chunk
	w.followers, err = snap.Followers(w.followers[:0], f.Post.Author, f.After, limit)
	if err != nil {
		return false, err
	}
	for _, r := range w.followers {
		if _, built := w.s.readers[r]; !built {
			d.skipped++
			continue
		}
		op := d.b.MergeDeferred(9, 9)
		setKey8(op.Key, keyTimeline, uint64(r))
		putPush(op.Value, f.Post.Pos)
		if err := op.Finish(); err != nil {
			return false, err
		}
		d.n++
	}
	if len(w.followers) < limit {
		return false, nil
	}
	f.After = w.followers[limit-1]
	return true, nil
}

// fanoutChunk takes the next open fan-out one chunk further.
func (w *writer) fanoutChunk() (worked bool, err error) {
	if len(w.open) == 0 {
		return false, nil
	}
	snap := w.s.snapshot()
	defer closeInto(&err, snap)
	f := w.open[0]
	d := delivery{b: w.db.NewBatch(), state: state{w.cursor, slices.Clone(w.open[1:])}}
	more, err := w.chunk(&d, snap, &f)
	if err != nil {
		return false, errors.Join(err, d.b.Close())
	}
	if more {
		d.open = append(d.open, f) // the others first
	}
	return true, w.deliver(&d)
}

// followed backfills: it delivers author's posts at or above the reader's
// floor. One more than are kept, so that trimming raises the floor when there
// are too many of them.
func (w *writer) followed(d *delivery, snap Snapshot, reader, author id.ID) error {
	if _, built := w.s.readers[reader]; !built {
		return nil
	}
	t, err := readTimeline(w.db, reader)
	if err != nil {
		return err
	}
	r := run{floor: t.floor}
	st := stream{author: author, fetch: w.s.o.tune.fetch}
	examined := 0
	for len(r.pos) <= w.s.o.Cap {
		p, ok, err := st.next(snap)
		if err != nil {
			return err
		}
		if !ok || p.Pos < t.floor {
			break
		}
		if examined++; examined > w.s.o.tune.examine {
			// Too many pull posts in between: complete down to the last one.
			r.floor = p.Pos + 1
			break
		}
		if p.Pull {
			continue
		}
		if err := w.putPost(d.b, p); err != nil {
			return err
		}
		r.pos = append(r.pos, p.Pos)
	}
	d.n += len(r.pos)
	return d.b.Merge(key8(keyTimeline, uint64(reader)), appendRun(nil, r), nil)
}

// putPost writes the row of a post if it is not there.
func (w *writer) putPost(b *pebble.Batch, p Post) error {
	key := key8(keyPost, uint64(p.Pos))
	_, closer, err := w.db.Get(key)
	if err == nil {
		return closer.Close()
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	return b.Set(key, encodePost(p), nil)
}
