package feed

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/internal/id"
)

// circle is everybody to whom its owner stands in a relation that decides what they
// see. All lists ascend.
type circle struct {
	follows, blocks, blockedBy, mutes []id.ID
}

func (c *circle) memory() int64 {
	return entryBytes + 128 + 8*int64(cap(c.follows)+cap(c.blocks)+cap(c.blockedBy)+cap(c.mutes))
}

// has answers whether key is there, of a circle of owner; known is false when the key
// is none of its relations.
func (c *circle) has(owner id.ID, key []byte) (there, known bool) {
	if c == nil || len(key) != 17 {
		return false, false
	}
	from, to := id.ID(parseBE(key[1:])), id.ID(parseBE(key[9:]))
	var list []id.ID
	switch {
	case key[0] == tabFollow && from == owner:
		list = c.follows
	case key[0] == tabMute && from == owner:
		list = c.mutes
	case key[0] == tabBlock && from == owner:
		list = c.blocks
	case key[0] == tabBlock && to == owner:
		list, to = c.blockedBy, from
	default:
		return false, false
	}
	_, there = slices.BinarySearch(list, to)
	return there, true
}

// circle returns that of owner, as the snapshot of s shows it. It is shared: nobody
// changes it.
func (s shelf) circle(from store, owner id.ID) (*circle, error) {
	if s.rows != nil {
		if c := s.rows.circles.get(owner, s.at); c != nil {
			return c, nil
		}
	}
	c, err := from.circle(owner)
	if err == nil && s.rows != nil {
		s.rows.circles.put(owner, s.at, c, c.memory())
	}
	return c, err
}

// circle reads all relations with one iterator, in the order of their tables.
func (s store) circle(owner id.ID) (c *circle, err error) {
	c = new(circle)
	tables := []struct {
		table byte
		to    *[]id.ID
	}{{tabFollow, &c.follows}, {tabBlock, &c.blocks}, {tabMute, &c.mutes}, {tabBlockedBy, &c.blockedBy}}
	it, err := s.r.NewIter(&pebble.IterOptions{LowerBound: key1(tabFollow, owner), UpperBound: after(key1(tabBlockedBy, owner))})
	if err != nil {
		return nil, fmt.Errorf("feed: scan: %w", err)
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}()
	for _, t := range tables {
		prefix := key1(t.table, owner)
		for ok := it.SeekGE(prefix); ok && len(it.Key()) >= 9 && string(it.Key()[:9]) == string(prefix); ok = it.Next() {
			if len(it.Key()) != 17 {
				return nil, corrupt("key %x", it.Key())
			}
			*t.to = append(*t.to, id.ID(parseBE(it.Key()[9:])))
		}
		if err := it.Error(); err != nil {
			return nil, fmt.Errorf("feed: scan: %w", err)
		}
		*t.to = slices.Clip(*t.to)
	}
	return c, nil
}
