package feed

import (
	"reflect"
	"slices"

	"hayloft/feed/timeline"
	"hayloft/internal/id"
)

// head is the newest posts of an author, as many as somebody has asked for: each page has
// those of its reader in it, and of the authors whose posts are pulled.
type head struct {
	posts []timeline.Post // by Pos descending
	all   bool            // the author has no others
}

var postBytes = int64(reflect.TypeFor[timeline.Post]().Size())

func (h *head) memory() int64 { return entryBytes + 32 + postBytes*int64(cap(h.posts)) }

// below returns up to limit posts below before (0: the newest), without copying; known is
// false when there may be others.
func (h *head) below(before id.ID, limit int) (posts []timeline.Post, known bool) {
	posts = h.posts
	if before != 0 {
		i, _ := slices.BinarySearchFunc(posts, before, func(p timeline.Post, before id.ID) int {
			if p.Pos >= before {
				return -1
			}
			return 1
		})
		posts = posts[i:]
	}
	if len(posts) >= limit {
		return posts[:limit], true
	}
	return posts, h.all
}

// posts appends up to limit of author's posts below before (0: from the newest), as the
// snapshot of s shows them.
func (s shelf) posts(from store, dst []timeline.Post, author, before id.ID, limit int) ([]timeline.Post, error) {
	if limit <= 0 {
		return dst, nil
	}
	if s.rows != nil {
		if h := s.rows.heads.get(author, s.at); h != nil {
			if posts, known := h.below(before, limit); known {
				return append(dst, posts...), nil
			}
		}
	}
	start := len(dst)
	dst, err := from.posts(dst, author, before, limit)
	if err == nil && before == 0 && s.rows != nil {
		h := &head{posts: slices.Clone(dst[start:]), all: len(dst)-start < limit}
		s.rows.heads.put(author, s.at, h, h.memory())
	}
	return dst, err
}

// posts is that of shelf, from the store.
func (s store) posts(dst []timeline.Post, author, before id.ID, limit int) ([]timeline.Post, error) {
	err := s.list(tabPosts, author, before, func(pos id.ID, v []byte) error {
		photo, pull, err := parsePostValue(v)
		if err != nil {
			return err
		}
		dst = append(dst, timeline.Post{Pos: pos, Photo: photo, Author: author, Pull: pull})
		if limit--; limit == 0 {
			return errStop
		}
		return nil
	})
	return dst, err
}
