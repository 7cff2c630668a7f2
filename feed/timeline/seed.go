package timeline

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// Seed writes timelines as builds would have made them: posts are all that occur in
// them, and each timeline is a reader with the positions of its newest posts,
// descending. It is for benchmarks, and comes before Run. The slices are the
// caller's.
func (s *Store) Seed(posts iter.Seq[Post], timelines iter.Seq2[id.ID, []id.ID]) error {
	if s.in == nil || s.w.started {
		return errors.New("timeline: only a new instance can be seeded")
	}
	b := s.in.db.NewBatch()
	full := func() error {
		if b.Len() < 4<<20 {
			return nil
		}
		err := errors.Join(b.Commit(pebble.NoSync), b.Close())
		b = s.in.db.NewBatch()
		return err
	}
	for p := range posts {
		if err := errors.Join(b.Set(key8(keyPost, uint64(p.Pos)), encodePost(p), nil), full()); err != nil {
			return err
		}
	}
	for reader, pos := range timelines {
		r := run{base: true, pos: pos}
		if len(pos) >= s.o.Cap {
			r.floor = pos[len(pos)-1]
		}
		err := errors.Join(
			b.Set(key8(keyTimeline, uint64(reader)), appendRun(nil, r), nil),
			setReader(b, reader, s.now()), full())
		if err != nil {
			return err
		}
		s.w.setSeen(reader, s.now())
	}
	return errors.Join(b.Commit(pebble.NoSync), b.Close(), s.in.db.Flush())
}

// Compact rewrites the whole instance, so that its size is that of what lives. Run
// may go on meanwhile.
func (s *Store) Compact(ctx context.Context) error {
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.closed || s.in == nil {
		return ErrClosed
	}
	err := errors.Join(s.in.db.Flush(), s.in.db.Compact(ctx, []byte{0}, []byte{0xff}, true))
	if err != nil {
		return fmt.Errorf("timeline: compact: %w", err)
	}
	return nil
}
