package search

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// errStale is why an index is thrown away that has seen more than there is.
var errStale = errors.New("search: the index does not follow from the feed")

// Run processes changes until ctx ends, when it returns ctx's error, or until the source
// fails. It may be called again after that; never twice at once.
func (s *Store) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("search: Run is running")
	}
	defer s.running.Store(false)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		changed := s.o.Source.Changed()
		worked, err := s.step()
		if err != nil {
			return fmt.Errorf("search: %w", err)
		}
		if worked {
			continue
		}
		select {
		case <-changed:
		case <-s.poked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// step does one piece of work and reports whether there was any.
func (s *Store) step() (worked bool, err error) {
	if why := s.home.Lost(); why != nil {
		return true, s.reset(why)
	}
	worked, err = s.work()
	var mine *indexError
	switch {
	case errors.Is(err, ErrHomeless):
		return false, nil // it waits for a directory
	case errors.As(err, &mine), errors.Is(err, errStale):
		return true, s.reset(err)
	}
	return worked, err
}

// indexError marks what the instance returned, as against the source.
type indexError struct{ error }

// Unwrap returns what it marks.
func (e *indexError) Unwrap() error { return e.error }

func ofIndex(err error) error {
	if err == nil {
		return nil
	}
	return &indexError{err}
}

func (s *Store) reset(why error) error {
	s.home.Reset(why)
	s.askMu.Lock()
	s.asked, s.under = append(s.asked, s.under...), nil
	s.askMu.Unlock()
	return s.load()
}

func (s *Store) work() (worked bool, err error) {
	snap, err := s.o.Source.Snapshot()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	last, whole, err := snap.LastChange()
	if err != nil {
		return false, err
	}
	st := s.state
	if last < max(st.cursor, st.built) {
		return false, errStale
	}
	s.askMu.Lock()
	asked := len(s.asked) > 0 && st.building == 0
	if asked {
		s.under, s.asked = append(s.under, s.asked...), nil
	}
	s.askMu.Unlock()
	switch {
	case asked:
		return true, s.begin()
	case st.building != 0 && st.built < last:
		return true, s.process(snap, st.building, st.built, func(seq uint64) { st.built = seq }, &st)
	case st.building != 0 && whole:
		return true, s.swap()
	case st.cursor < last:
		return true, s.process(snap, st.gen, st.cursor, func(seq uint64) { st.cursor = seq }, &st)
	case !st.complete && whole:
		st.complete = true
		if err := s.commit(nil, st); err != nil {
			return false, err
		}
		_, err := s.home.Flush()
		return true, ofIndex(err)
	}
	return false, nil
}

// begin starts an empty generation.
func (s *Store) begin() error {
	st := s.state
	st.building, st.built = 3-st.gen, 0
	return s.commit(func(b *pebble.Batch) error { return dropGeneration(b, st.building) }, st)
}

// swap puts the generation that was built in the place of the other.
func (s *Store) swap() error {
	old := s.state.gen
	st := state{gen: s.state.building, cursor: s.state.built, complete: true}
	if err := s.commit(func(b *pebble.Batch) error { return dropGeneration(b, old) }, st); err != nil {
		return err
	}
	s.counters.rebuilds.Add(1)
	for _, done := range s.under {
		close(done)
	}
	s.under = nil
	_, err := s.home.Flush()
	return ofIndex(err)
}

func dropGeneration(b *pebble.Batch, gen byte) error {
	return b.DeleteRange([]byte{gen}, []byte{gen + 1}, nil)
}

// commit writes what fill puts into a batch, together with the state.
func (s *Store) commit(fill func(*pebble.Batch) error, st state) error {
	b, err := s.home.Batch()
	if err != nil {
		return err
	}
	if fill != nil {
		if err := fill(b); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	if err := errors.Join(b.Set(keyState, st.encode(), nil), s.home.Commit(b)); err != nil {
		return ofIndex(err)
	}
	s.state = st
	s.counters.cursor.Store(st.cursor)
	return nil
}

// process takes the next changes into a generation.
func (s *Store) process(snap Snapshot, gen byte, after uint64, moved func(uint64), st *state) error {
	changes, err := snap.Changes(after, s.o.tune.changes)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return fmt.Errorf("no change after %d", after)
	}
	moved(changes[len(changes)-1].Seq)
	err = s.commit(func(b *pebble.Batch) error {
		return s.home.View(func(db *pebble.DB) error {
			for _, c := range changes {
				if err := apply(b, db, snap, gen, c); err != nil {
					return err
				}
			}
			return nil
		})
	}, *st)
	if err == nil {
		s.counters.processed.Add(uint64(len(changes)))
	}
	return err
}

// apply brings the rows of one subject to what it is now.
func apply(b *pebble.Batch, r pebble.Reader, snap Snapshot, gen byte, c Change) error {
	var terms []string
	row, rank := byte(rowPhoto), uint64(^c.Pos)
	subject := c.Pos
	switch c.Kind {
	case PhotoChanged:
		p, err := snap.Photo(c.ID)
		if err != nil {
			return err
		}
		if p != nil && p.Pos == c.Pos {
			terms = p.terms()
		}
	case AccountChanged:
		name, err := snap.Name(c.ID)
		if err != nil {
			return err
		}
		terms, row, rank, subject = nameTerms(name), rowAccount, uint64(c.ID), c.ID
	default:
		return fmt.Errorf("change %d of unknown kind %d", c.Seq, c.Kind)
	}
	key := rowKey(gen, row, subject)
	before, err := termsAt(r, key, row)
	if err != nil {
		return ofIndex(err)
	}
	return ofIndex(put(b, gen, key, c.ID, row, rank, before, terms))
}

func put(b *pebble.Batch, gen byte, key []byte, of id.ID, row byte, rank uint64, before, terms []string) error {
	buf := []byte{gen, rowPosting}
	for _, t := range before {
		if _, stays := slices.BinarySearch(terms, t); !stays {
			if err := b.Delete(posting(buf, t, rank), nil); err != nil {
				return err
			}
		}
	}
	for _, t := range terms {
		if _, was := slices.BinarySearch(before, t); !was {
			if err := b.Set(posting(buf, t, rank), nil, nil); err != nil {
				return err
			}
		}
	}
	if len(terms) == 0 {
		return b.Delete(key, nil)
	}
	photo := of
	if row == rowAccount {
		photo = 0
	}
	return b.Set(key, encodeTerms(photo, terms), nil)
}

// termsAt returns the terms of a row; none when it is missing.
func termsAt(r pebble.Reader, key []byte, row byte) (terms []string, err error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := bytes.Clone(v)
	if err := closer.Close(); err != nil {
		return nil, err
	}
	if row == rowPhoto {
		if _, b, err = decodePhoto(b); err != nil {
			return nil, err
		}
	}
	return decodeTerms(b)
}
