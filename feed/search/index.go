package search

import (
	"bytes"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// Index is the index at one moment, with what it has not seen yet once Join was called.
// It is used inside a View by one goroutine.
type Index struct {
	r      pebble.Reader
	state  state
	tune   tuning
	extra  [][]byte        // postings of what was joined, ascending
	photos map[id.ID]id.ID // position → photo, of the same
}

// View calls f with the index as it is. f must take its snapshot of the feed after
// that, and Join it: so a change is either in the index or among those joined.
func (s *Store) View(f func(*Index) error) error {
	return s.home.View(func(db *pebble.DB) (err error) {
		snap := db.NewSnapshot()
		defer func() { err = errors.Join(err, snap.Close()) }()
		st, err := readState(snap)
		if err != nil {
			return err
		}
		return f(&Index{r: snap, state: st, tune: s.o.tune, photos: map[id.ID]id.ID{}})
	})
}

// Join adds what the index has not seen. ErrBuilding: that is too much, because the
// index has never been complete.
func (x *Index) Join(snap Snapshot) error {
	_, whole, err := snap.LastChange()
	if err != nil {
		return err
	}
	changes, err := snap.Changes(x.state.cursor, x.tune.pending+1)
	if err != nil {
		return err
	}
	if !x.state.complete && (!whole || len(changes) > x.tune.pending) {
		return ErrBuilding
	}
	for _, c := range changes {
		if c.Kind == AccountChanged {
			name, err := snap.Name(c.ID)
			if err != nil {
				return err
			}
			x.add(nameTerms(name), uint64(c.ID))
			continue
		}
		p, err := snap.Photo(c.ID)
		if err != nil {
			return err
		}
		if p != nil && p.Pos == c.Pos {
			x.add(p.terms(), uint64(^p.Pos))
			x.photos[p.Pos] = p.ID
		}
	}
	slices.SortFunc(x.extra, bytes.Compare)
	return nil
}

func (x *Index) add(terms []string, rank uint64) {
	for _, t := range terms {
		x.extra = append(x.extra, posting(nil, t, rank))
	}
}

// postings walks the postings of the index and those joined, in order.
type postings struct {
	it    *pebble.Iterator
	valid bool // it stands on a key
	extra [][]byte
	next  int // of extra
	gen   byte
	buf   []byte
}

func (x *Index) postings() (*postings, error) {
	it, err := x.r.NewIter(&pebble.IterOptions{
		LowerBound: []byte{x.state.gen, rowPosting}, UpperBound: []byte{x.state.gen, rowPosting + 1},
	})
	return &postings{it: it, extra: x.extra, gen: x.state.gen}, err
}

// seek moves to the first posting at or after p and returns it; nil: there is none.
func (w *postings) seek(p []byte) []byte {
	w.buf = append(append(w.buf[:0], w.gen, rowPosting), p...)
	w.valid = w.it.SeekGE(w.buf)
	w.next, _ = slices.BinarySearchFunc(w.extra, p, bytes.Compare)
	return w.key()
}

// key is where it stands.
func (w *postings) key() []byte {
	var a []byte
	if w.valid {
		a = w.it.Key()[2:]
	}
	if w.next == len(w.extra) || a != nil && bytes.Compare(a, w.extra[w.next]) <= 0 {
		return a
	}
	return w.extra[w.next]
}

// advance moves behind where it stands.
func (w *postings) advance() []byte {
	at := w.key()
	if at == nil {
		return nil
	}
	if w.next < len(w.extra) && bytes.Equal(w.extra[w.next], at) {
		both := w.valid && bytes.Equal(w.it.Key()[2:], at)
		w.next++
		if !both {
			return w.key()
		}
	}
	w.valid = w.it.Next()
	return w.key()
}

func (w *postings) close() error { return w.it.Close() }

// photoAt returns the photo at a position; 0: the index holds none.
func (x *Index) photoAt(pos id.ID) (id.ID, error) {
	if photo, ok := x.photos[pos]; ok {
		return photo, nil
	}
	v, closer, err := x.r.Get(rowKey(x.state.gen, rowPhoto, pos))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	photo, _, err := decodePhoto(v)
	return photo, errors.Join(err, closer.Close())
}

// Photos calls f for the photos that may have all that q asks for, below a position (0:
// from the newest), newest first, until f says that it has enough. next is where to go on;
// 0: there are no more. The work of one call is bounded: next may come with few photos.
func (x *Index) Photos(q Query, before id.ID, f func(pos, photo id.ID) (enough bool, err error)) (next id.ID, err error) {
	lists := make([]*postings, len(q.terms))
	defer func() {
		for _, l := range lists {
			if l != nil {
				err = errors.Join(err, l.close())
			}
		}
	}()
	for i := range lists {
		if lists[i], err = x.postings(); err != nil {
			lists[i] = nil
			return 0, err
		}
	}
	rank := uint64(0)
	if before != 0 {
		rank = ^uint64(before) + 1
	}
	budget := 4 * x.tune.examine // of moves
	for examined := 0; ; {
		at, all, moves := meet(lists, q.terms, rank, budget)
		if budget -= moves; !all {
			if budget > 0 {
				return 0, errorOf(lists)
			}
			return ^id.ID(at) + 1, errorOf(lists) // at itself was not looked at
		}
		pos := ^id.ID(at)
		photo, err := x.photoAt(pos)
		if err != nil {
			return 0, err
		}
		if photo != 0 {
			enough, err := f(pos, photo)
			if err != nil {
				return 0, err
			}
			if enough {
				return pos, nil
			}
		}
		if examined++; examined >= x.tune.examine || at == ^uint64(0) {
			return pos, nil
		}
		rank = at + 1
	}
}

// meet finds the first rank at or after rank that all lists have. Without one it
// returns how far it came: to the end, or as far as budget allowed.
func meet(lists []*postings, terms []string, rank uint64, budget int) (at uint64, all bool, moves int) {
	for agreed, i := 0, 0; agreed < len(lists); i = (i + 1) % len(lists) {
		if moves >= budget {
			return rank, false, moves
		}
		moves++
		key := lists[i].seek(posting(nil, terms[i], rank))
		term, found, ok := splitPosting(key)
		if !ok || string(term) != terms[i] {
			return 0, false, moves
		}
		if found != rank {
			rank, agreed = found, 0
		}
		agreed++
	}
	return rank, true, moves
}

func errorOf(lists []*postings) error {
	var errs []error
	for _, l := range lists {
		errs = append(errs, l.it.Error())
	}
	return errors.Join(errs...)
}

// Step says how a walk over terms goes on.
type Step uint8

// The steps.
const (
	Next     Step = iota // to the next posting
	NextTerm             // to the next term
	Enough               // not at all; the walk that follows begins with the next term
	Later                // not at all; the walk that follows begins with this posting
)

// walk calls f for the postings with terms that begin with prefix, from a place on that
// an earlier walk has returned ("" : from the first). next is where to go on; "": there
// are no more.
func (x *Index) walk(prefix, from string, f func(term string, rank uint64) (Step, error)) (next string, err error) {
	w, err := x.postings()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	key := w.seek([]byte(max(prefix, from)))
	for examined := 0; bytes.HasPrefix(key, []byte(prefix)); examined++ {
		if examined == x.tune.examine {
			return string(key), w.it.Error()
		}
		term, rank, ok := splitPosting(key)
		if !ok {
			return "", errCorrupt
		}
		step, err := f(string(term), rank)
		if err != nil {
			return "", err
		}
		behind := string(term) + "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff"
		switch step {
		case Next:
			key = w.advance()
		case NextTerm:
			key = w.seek([]byte(behind))
		case Enough:
			return behind, w.it.Error()
		case Later:
			return string(key), w.it.Error()
		}
	}
	return "", w.it.Error()
}

// photosOf is walk for terms of photos.
func (x *Index) photosOf(prefix, from string, f func(term string, photo id.ID) (Step, error)) (next string, err error) {
	return x.walk(prefix, from, func(term string, rank uint64) (Step, error) {
		photo, err := x.photoAt(^id.ID(rank))
		if err != nil || photo == 0 {
			return Next, err
		}
		return f(term, photo)
	})
}

// Tags calls f with the tags that begin with prefix, folded, each with the photos that
// may have it, newest first. f says for each photo how to go on. from and next are as
// those of walk.
func (x *Index) Tags(prefix, from string, f func(tag string, photo id.ID) (Step, error)) (next string, err error) {
	return x.photosOf(string(fieldTag)+Fold(prefix), from, func(term string, photo id.ID) (Step, error) {
		_, tag, _ := bytes.Cut([]byte(term), []byte{0})
		return f(string(tag), photo)
	})
}

// Places calls f with the places of whose names a word, with what follows it, begins
// with prefix; town is that part. A place comes once for each such part.
func (x *Index) Places(prefix, from string, f func(town string, place id.ID, photo id.ID) (Step, error)) (next string, err error) {
	return x.photosOf(string(fieldTown)+placePrefix(prefix), from, func(term string, photo id.ID) (Step, error) {
		town, text, _ := bytes.Cut([]byte(term[1:]), []byte{0})
		place, err := id.Parse(string(text))
		if err != nil {
			return Next, errCorrupt
		}
		return f(string(town), place, photo)
	})
}

// Names calls f with the accounts that may have a word in their names that begins with
// prefix. An account comes once for each such word.
func (x *Index) Names(prefix, from string, f func(word string, user id.ID) (Step, error)) (next string, err error) {
	return x.walk(nameTerm(prefix), from, func(term string, rank uint64) (Step, error) {
		return f(term[1:], id.ID(rank))
	})
}

// Dump calls f with every row of the generation that answers, without the generation:
// two indexes of the same state are equal. It is for tests and tools.
func (x *Index) Dump(f func(key, value []byte) error) (err error) {
	it, err := x.r.NewIter(&pebble.IterOptions{LowerBound: []byte{x.state.gen}, UpperBound: []byte{x.state.gen + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if err := f(it.Key()[1:], it.Value()); err != nil {
			return err
		}
	}
	return it.Error()
}
