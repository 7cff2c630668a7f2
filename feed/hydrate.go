package feed

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/feed/timeline"
	"hayloft/internal/id"
)

// FeedPage lists the photos of those the viewer follows and the viewer's own,
// by position descending. A page may be short, even empty, while next is not 0.
func (f *Feed) FeedPage(ctx context.Context, viewer id.ID, p Page) (rows []PhotoView, next id.ID, err error) {
	err = f.serve(ctx, func(v *view) error {
		if _, err := v.mustAccount(viewer); err != nil {
			return err
		}
		h := hydrator{v: v, viewer: viewer}
		_, next, err = f.timeline.Page(ctx, viewer, p.After, max(p.Limit, 1), h.judge)
		rows = h.rows
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return rows, next, nil
}

// hydrator dresses the candidates for a page of the feed: all rows that a batch of
// them needs are read in one pass over the state.
type hydrator struct {
	v      *view
	viewer id.ID
	rows   []PhotoView
}

// judge is the timeline's question, whom to show.
func (h *hydrator) judge(posts []timeline.Post, show []bool) error {
	if err := h.fetch(posts); err != nil {
		return err
	}
	for i, post := range posts {
		row, err := h.v.photo(post.Photo)
		if err != nil {
			return err
		}
		if row == nil || row.Pos != post.Pos {
			continue
		}
		ok, err := visible(h.v, h.viewer, row, inFeed)
		if err != nil {
			return err
		}
		if show[i] = ok; !ok {
			continue
		}
		dressed, err := h.v.photoView(h.viewer, row)
		if err != nil {
			return err
		}
		if h.rows == nil {
			h.rows = make([]PhotoView, 0, len(posts)) // mostly the page
		}
		h.rows = append(h.rows, dressed)
	}
	return nil
}

// fetch reads what visible and photoView will ask for, of which most is kept.
func (h *hydrator) fetch(posts []timeline.Post) (err error) {
	v := h.v
	if v.viewer, v.circle = h.viewer, nil; h.viewer != 0 {
		if v.circle, err = v.shelf.circle(v.store, h.viewer); err != nil {
			return err
		}
	}
	v.ahead = fetched{photos: make(map[id.ID]*photoRow, len(posts))}
	var authors, photos []id.ID // those that are not
	for _, p := range posts {
		if row := v.shelf.photo(p.Photo); row != nil {
			v.ahead.photos[p.Photo] = row
		} else {
			photos = append(photos, p.Photo)
		}
		if _, known := v.accounts[p.Author]; known || slices.Contains(authors, p.Author) {
			continue
		}
		if a := v.shelf.account(p.Author); a != nil {
			v.know(p.Author, a)
		} else {
			authors = append(authors, p.Author)
		}
	}
	slices.Sort(authors)
	slices.Sort(photos)
	var k fetchKeys
	for _, a := range authors {
		k.add(tabAccount, a)
	}
	for _, p := range photos {
		k.add(tabPhoto, p)
	}
	if err := v.fetch(k.keys); err != nil {
		return err
	}
	return h.fetchLikes(posts)
}

// fetchLikes reads what the viewer likes of photos that somebody does.
func (h *hydrator) fetchLikes(posts []timeline.Post) error {
	var liked []id.ID
	for _, p := range posts {
		if row := h.v.ahead.photos[p.Photo]; row != nil && row.Likes > 0 {
			liked = append(liked, p.Photo)
		}
	}
	slices.Sort(liked)
	var k fetchKeys
	for _, p := range liked {
		k.add(tabLike, p, h.viewer)
	}
	return h.v.fetch(k.keys)
}

// fetchKeys collects keys in ascending order, their bytes in one piece.
type fetchKeys struct {
	keys []fetchKey
	buf  []byte
}

func (k *fetchKeys) add(table byte, ids ...id.ID) {
	start := len(k.buf)
	k.buf = append(k.buf, table)
	for _, v := range ids {
		k.buf = binary.BigEndian.AppendUint64(k.buf, uint64(v))
	}
	k.keys = append(k.keys, k.buf[start:len(k.buf):len(k.buf)])
}

// fetchKey is a key that is to be read with others.
type fetchKey []byte

// fetched is what was read ahead for a view: rows, and whether keys are there.
type fetched struct {
	photos map[id.ID]*photoRow
	keys   []fetchKey // ascending
	there  []bool     // by keys
}

// has says whether key is there; known is false when it was not read.
func (f *fetched) has(key []byte) (there, known bool) {
	i, known := slices.BinarySearchFunc(f.keys, key, func(a fetchKey, b []byte) int { return bytes.Compare(a, b) })
	return known && f.there[i], known
}

// fetch reads keys, which ascend, with one iterator. Rows are added to what was
// fetched before; whether other keys are there takes its place.
func (v *view) fetch(keys []fetchKey) (err error) {
	f := &v.ahead
	f.keys, f.there = keys, make([]bool, len(keys))
	if len(keys) == 0 {
		return nil
	}
	it, err := v.r.NewIter(&pebble.IterOptions{LowerBound: keys[0], UpperBound: after(keys[len(keys)-1])})
	if err != nil {
		return fmt.Errorf("feed: read: %w", err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("feed: read: %w", cerr)
		}
	}()
	for i, k := range keys {
		f.there[i] = it.SeekPrefixGE(k) && bytes.Equal(it.Key(), k)
		if err := it.Error(); err != nil {
			return fmt.Errorf("feed: read %x: %w", k, err)
		}
		if err := v.keep(k, f.there[i], it); err != nil {
			return err
		}
	}
	return nil
}

// keep decodes a row that was read ahead; one that is missing is known to be.
func (v *view) keep(k fetchKey, there bool, it *pebble.Iterator) error {
	switch k[0] {
	case tabPhoto:
		p, err := rowAt[photoRow](k, there, it)
		if p != nil && p.ID != id.ID(parseBE(k[1:])) {
			err = misplaced(tabPhoto, id.ID(parseBE(k[1:])), p.ID)
		}
		if err != nil {
			return err
		}
		v.ahead.photos[id.ID(parseBE(k[1:]))] = p
		v.shelf.keepPhoto(p)
		return nil
	case tabAccount:
		a, err := rowAt[accountRow](k, there, it)
		if a != nil && a.ID != id.ID(parseBE(k[1:])) {
			err = misplaced(tabAccount, id.ID(parseBE(k[1:])), a.ID)
		}
		if err != nil {
			return err
		}
		v.know(id.ID(parseBE(k[1:])), a)
		v.shelf.keepAccount(a)
		return nil
	}
	return nil
}

// rowAt decodes the row that it stands on.
func rowAt[T any, R interface {
	*T
	record
}](k fetchKey, there bool, it *pebble.Iterator) (*T, error) {
	if !there {
		return nil, nil
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, fmt.Errorf("feed: read %x: %w", k, err)
	}
	row := new(T)
	if err := decodeRow(value, R(row)); err != nil {
		return nil, fmt.Errorf("feed: row %x: %w", k, err)
	}
	return row, nil
}

// photo is that of store, for rows that may be kept or have been read ahead.
func (v *view) photo(photo id.ID) (*photoRow, error) {
	if p, ok := v.ahead.photos[photo]; ok {
		return p, nil
	}
	if p := v.shelf.photo(photo); p != nil {
		return p, nil
	}
	p, err := v.store.photo(photo)
	if err == nil {
		v.shelf.keepPhoto(p)
	}
	return p, err
}

// has is that of store, for keys of the viewer's circle, and those that may have been
// read ahead.
func (v *view) has(key []byte) (bool, error) {
	if there, known := v.circle.has(v.viewer, key); known {
		return there, nil
	}
	if there, known := v.ahead.has(key); known {
		return there, nil
	}
	return v.store.has(key)
}
