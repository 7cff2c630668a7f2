package feed

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// store reads typed rows from a batch, a snapshot or the instance. A missing
// row is nil without an error; a row that does not decode is an error that no
// caller can mend.
type store struct{ r pebble.Reader }

// get returns a copy of the value; nil when the key is missing. A present
// empty value is not nil.
func (s store) get(key []byte) ([]byte, error) {
	v, closer, err := s.r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("feed: read %x: %w", key, err)
	}
	out := append(make([]byte, 0, len(v)), v...)
	return out, closer.Close()
}

func (s store) has(key []byte) (bool, error) {
	_, closer, err := s.r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("feed: read %x: %w", key, err)
	}
	return true, closer.Close()
}

// idAt returns the id stored at key; 0 when the key is missing.
func (s store) idAt(key []byte) (id.ID, error) {
	v, err := s.get(key)
	if err != nil || v == nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, corrupt("key %x: value of %d bytes", key, len(v))
	}
	return id.ID(parseBE(v)), nil
}

func (s store) meta(name byte) (uint64, error) {
	v, err := s.idAt(metaKey(name))
	return uint64(v), err
}

// load decodes the row at key.
func load[T any, R interface {
	*T
	record
}](s store, key []byte) (*T, error) {
	v, closer, err := s.r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("feed: read %x: %w", key, err)
	}
	row := new(T)
	err = decodeRow(v, R(row)) // copies whatever it keeps
	if cerr := closer.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("feed: row %x: %w", key, err)
	}
	return row, nil
}

func (s store) account(user id.ID) (*accountRow, error) {
	r, err := load[accountRow](s, key1(tabAccount, user))
	if r != nil && r.ID != user {
		return nil, misplaced(tabAccount, user, r.ID)
	}
	return r, err
}

func (s store) photo(photo id.ID) (*photoRow, error) {
	r, err := load[photoRow](s, key1(tabPhoto, photo))
	if r != nil && r.ID != photo {
		return nil, misplaced(tabPhoto, photo, r.ID)
	}
	return r, err
}

func (s store) comment(comment id.ID) (*commentRow, error) {
	r, err := load[commentRow](s, key1(tabComment, comment))
	if r != nil && r.ID != comment {
		return nil, misplaced(tabComment, comment, r.ID)
	}
	return r, err
}

// misplaced is the error of a row that says it is another's: never serve
// somebody else's photo.
func misplaced(table byte, key, row id.ID) error {
	return corrupt("table %x: the row of %v says it is %v", table, key, row)
}

func (s store) blob(blob id.ID) (*blobRow, error) {
	return load[blobRow](s, key1(tabBlob, blob))
}

func (s store) effect(seq uint64) (*effectRow, error) {
	return load[effectRow](s, key1(tabEffect, seq))
}

// errStop ends a scan early without an error.
var errStop = errors.New("stop")

// scan calls f for the keys in [from, to) in order until f returns an error.
// errStop ends it quietly. Key and value are only valid during the call.
func (s store) scan(from, to []byte, f func(key, value []byte) error) error {
	return s.walk(from, to, (*pebble.Iterator).First, (*pebble.Iterator).Next, f)
}

// scanBack is scan from the last key to the first.
func (s store) scanBack(from, to []byte, f func(key, value []byte) error) error {
	return s.walk(from, to, (*pebble.Iterator).Last, (*pebble.Iterator).Prev, f)
}

func (s store) walk(from, to []byte, first, next func(*pebble.Iterator) bool, f func(key, value []byte) error) (err error) {
	it, err := s.r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("feed: scan: %w", err)
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}()
	for ok := first(it); ok; ok = next(it) {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := f(it.Key(), v); err != nil {
			if err == errStop {
				return nil
			}
			return err
		}
	}
	return it.Error()
}

// listFrom is the first key of a newest-first list (table, owner, ^row) that
// comes after row `after`; 0 starts at the newest.
func listFrom(table byte, owner, after id.ID) []byte {
	if after == 0 {
		return key1(table, owner)
	}
	return key2(table, owner, ^after+1) // the row itself has key ^after
}

// list walks a newest-first list, handing out the row's own id and its value.
func (s store) list(table byte, owner, start id.ID, f func(row id.ID, value []byte) error) error {
	return s.scan(listFrom(table, owner, start), after(key1(table, owner)), func(k, v []byte) error {
		if len(k) != 17 {
			return corrupt("key %x", k)
		}
		return f(^id.ID(parseBE(k[9:])), v)
	})
}
