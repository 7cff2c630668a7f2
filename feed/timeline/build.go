package timeline

import (
	"errors"

	"hayloft/internal/id"
)

// build writes the reader's timeline anew: the newest posts in push mode of
// all followees, and the floor down to which that is all of them.
func (w *writer) build(reader id.ID) (err error) {
	snap := w.s.snapshot()
	defer closeInto(&err, snap)
	followees, err := snap.Followees(reader)
	if err != nil {
		return err
	}
	if len(followees) > w.s.o.MaxFollowees {
		return nil // pulls everything
	}
	r, posts, err := w.newest(snap, followees)
	if err != nil {
		return err
	}
	b, now := w.db.NewBatch(), w.s.now()
	defer closeInto(&err, b)
	for _, p := range posts {
		if err := w.putPost(b, p); err != nil {
			return err
		}
	}
	err = errors.Join(
		b.Set(key8(keyTimeline, uint64(reader)), appendRun(nil, r), nil),
		setReader(b, reader, now))
	if err != nil {
		return err
	}
	return w.commitOnly(b, func() {
		w.setSeen(reader, now)
		w.s.counters.builds.Add(1)
	})
}

// newest collects up to Cap posts in push mode, newest first.
func (w *writer) newest(snap Snapshot, followees []id.ID) (run, []Post, error) {
	r := run{base: true}
	posts := w.posts[:0]
	defer func() { w.posts = posts[:0] }()
	m := mergeStreams{snap: snap}
	for _, f := range followees {
		if err := m.add(&stream{author: f, fetch: w.s.o.tune.fetch}); err != nil {
			return run{}, nil, err
		}
	}
	bound := w.s.o.Cap + w.s.o.tune.examine // pull posts may lie in between
	for examined := 0; ; examined++ {
		p, ok, err := m.next()
		if err != nil {
			return run{}, nil, err
		}
		if !ok {
			return r, posts, nil // the whole history: floor 0
		}
		if len(posts) == w.s.o.Cap || examined == bound {
			r.floor = p.Pos + 1 // complete down to what came before p
			return r, posts, nil
		}
		if !p.Pull {
			posts = append(posts, p)
			r.pos = append(r.pos, p.Pos)
		}
	}
}
