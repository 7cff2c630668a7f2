package timeline

import (
	"fmt"

	"hayloft/internal/id"
)

// sourceError marks what the source or visible returned, so that damage over there is
// never taken for damage to the instance.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return fmt.Sprintf("timeline: source: %v", e.err) }
func (e *sourceError) Unwrap() error { return e.err }

func fromSource(err error) error {
	if err == nil {
		return nil
	}
	return &sourceError{err}
}

// guarded is a Snapshot whose errors are marked.
type guarded struct{ Snapshot }

func (s *Store) snapshot() Snapshot { return guarded{s.o.Source.Snapshot()} }

func (g guarded) Events(after uint64, limit int) ([]Event, uint64, error) {
	events, first, err := g.Snapshot.Events(after, limit)
	return events, first, fromSource(err)
}

func (g guarded) LastSeq() (uint64, error) {
	seq, err := g.Snapshot.LastSeq()
	return seq, fromSource(err)
}

func (g guarded) Followers(dst []id.ID, author, after id.ID, limit int) ([]id.ID, error) {
	readers, err := g.Snapshot.Followers(dst, author, after, limit)
	return readers, fromSource(err)
}

func (g guarded) Followees(reader id.ID) ([]id.ID, error) {
	authors, err := g.Snapshot.Followees(reader)
	return authors, fromSource(err)
}

func (g guarded) Posts(dst []Post, author, before id.ID, limit int) ([]Post, error) {
	posts, err := g.Snapshot.Posts(dst, author, before, limit)
	return posts, fromSource(err)
}

func (g guarded) HasPull(author id.ID) (bool, error) {
	has, err := g.Snapshot.HasPull(author)
	return has, fromSource(err)
}

func (g guarded) Close() error { return fromSource(g.Snapshot.Close()) }
