package feed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"hayloft/feed/search"
	"hayloft/internal/id"
)

const (
	typoFrom     = 5    // letters from which on one may be wrong
	usersExamine = 2048 // rows that one page looks at
)

// SearchUsers lists accounts: first those whose handle begins with text, then those
// whose handle does so with one typo, from five letters on, then those who have all words of
// text, or words that begin so, in their name. With an @ before it text is a handle
// alone. Accounts that are hidden from viewer, or that viewer has blocked, are left out. A
// page may be short while next is not "".
func (f *Feed) SearchUsers(ctx context.Context, viewer id.ID, text string, p SearchPage) (rows []UserView, next string, err error) {
	from, err := p.from()
	if err != nil {
		return nil, "", err
	}
	handle, only := strings.CutPrefix(strings.ToLower(strings.TrimSpace(text)), "@")
	err = f.find(ctx, func(v *view, x *search.Index) error {
		s := userSearch{v: v, x: x, viewer: viewer, handle: handle, limit: max(p.Limit, 1)}
		if !only {
			s.words = search.Words(text)
		}
		err := s.page(from)
		rows, next = s.rows, cursorOf(s.next)
		return err
	})
	return rows, next, err
}

// userSearch makes one page.
type userSearch struct {
	v      *view
	x      *search.Index
	viewer id.ID
	handle string
	words  []string // of names; none: only handles are asked for
	limit  int

	typos    []span
	rows     []UserView
	examined int
	next     string // a phase, then what was looked at last in it
}

// The phases of a page, by the first letter of its cursor.
const (
	byHandle = "h"
	byTypo   = "t"
	byName   = "w"
)

// span is what handles are looked at: those that begin with a text, or it alone.
type span struct {
	text string
	only bool
}

func (s span) has(handle string) bool {
	return handle == s.text || !s.only && strings.HasPrefix(handle, s.text)
}

func (s *userSearch) page(from string) error {
	phase, after := byHandle, ""
	if from != "" {
		phase, after = from[:1], from[1:]
	}
	var err error
	if s.typos, err = s.v.typos(s.handle); err != nil {
		return err
	}
	for _, step := range []struct {
		phase string
		do    func(after string) error
	}{
		{byHandle, func(after string) error { return s.handles(byHandle, []span{{s.handle, false}}, after) }},
		{byTypo, func(after string) error { return s.handles(byTypo, s.typos, after) }},
		{byName, s.names},
	} {
		if step.phase < phase {
			continue
		}
		if step.phase > phase {
			after = ""
		}
		if err := step.do(after); err != nil || s.next != "" {
			return err
		}
	}
	return nil
}

// isHandle says whether text is, or begins, a handle.
func isHandle(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune(handleLetters, r) })
}

const handleLetters = ".0123456789_abcdefghijklmnopqrstuvwxyz" // ascending

// handles takes the accounts in spans, which are disjoint and ascend.
func (s *userSearch) handles(phase string, spans []span, from string) error {
	for _, sp := range spans {
		if !isHandle(sp.text) {
			continue
		}
		first := handleKey(sp.text)
		if from >= sp.text {
			first = append(handleKey(from), 0)
		}
		end := after(handleKey(sp.text))
		if bytes.Compare(first, end) >= 0 {
			continue // an earlier page was behind it
		}
		err := s.v.scan(first, end, func(k, user []byte) error {
			handle := string(k[1:])
			if !sp.has(handle) {
				return errStop
			}
			if s.full() {
				return errStop
			}
			s.examined++
			if phase == byHandle || !strings.HasPrefix(handle, s.handle) {
				if err := s.take(id.ID(parseBE8(user))); err != nil {
					return err
				}
			}
			if s.full() {
				s.next = phase + handle
			}
			return nil
		})
		if err != nil || s.next != "" {
			return err
		}
	}
	return nil
}

func (s *userSearch) full() bool { return len(s.rows) == s.limit || s.examined >= usersExamine }

// take adds an account unless it is hidden from the viewer.
func (s *userSearch) take(user id.ID) error {
	a, err := s.v.account(user)
	if err != nil || a == nil {
		return err
	}
	u, err := s.v.userView(s.viewer, a)
	if err == ErrNotFound || u.Viewer.Blocked {
		return nil
	}
	s.rows = append(s.rows, u)
	return err
}

// names takes the accounts whose names have words that begin with all those asked for.
func (s *userSearch) names(from string) error {
	if len(s.words) == 0 {
		return nil
	}
	lead := slices.MaxFunc(s.words, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
	next, err := s.x.Names(lead, from, func(word string, user id.ID) (search.Step, error) {
		if s.full() {
			return search.Later, nil
		}
		s.examined++
		a, err := s.v.account(user)
		if err != nil || a == nil {
			return search.Next, err
		}
		words := search.Words(a.Name)
		if search.FirstWord(words, lead) != word || s.byHandle(a.Handle) || !all(words, s.words) {
			return search.Next, nil
		}
		return search.Next, s.take(user)
	})
	if next != "" {
		s.next = byName + next
	}
	return err
}

// byHandle says whether an account was found by its handle already.
func (s *userSearch) byHandle(handle string) bool {
	return s.handle != "" && strings.HasPrefix(handle, s.handle) ||
		slices.ContainsFunc(s.typos, func(sp span) bool { return sp.has(handle) })
}

// all says whether each of prefixes begins one of words.
func all(words, prefixes []string) bool {
	for _, p := range prefixes {
		if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, p) }) {
			return false
		}
	}
	return true
}

// typos are the beginnings of handles that are one typo away from text: a letter
// wrong, missing, too many, or two neighbours swapped. Where the last letters differ the
// handle ends there, else everything with the same beginning would be found. The spans
// are disjoint and ascend; each has a handle. Nothing is written for this: a walk over the
// table of handles tells which letters follow a beginning.
func (s store) typos(text string) ([]span, error) {
	if len(text) < typoFrom || !isHandle(text) {
		return nil, nil
	}
	w, err := s.handleWalk()
	if err != nil {
		return nil, err
	}
	var spans []span
	add := func(p string) {
		sp := span{p, p[len(p)-1] != text[len(text)-1]}
		if p == text || strings.HasPrefix(p, text) {
			return // found without a typo
		}
		if h := w.from(p); sp.has(h) {
			spans = append(spans, sp)
		}
	}
	for i := range len(text) {
		before, rest := text[:i], text[i+1:]
		add(before + rest)
		if rest != "" {
			add(before + rest[:1] + text[i:i+1] + rest[1:])
		}
		for h := w.from(before); h != "" && strings.HasPrefix(h, before); {
			if len(h) == i { // before itself is a handle
				h = w.from(h + handleLetters[:1])
				continue
			}
			c := h[i : i+1]
			add(before + c + rest)
			add(before + c + text[i:])
			h = w.from(before + string(c[0]+1))
		}
	}
	return disjoint(spans), w.close()
}

// disjoint sorts spans and leaves out what others hold.
func disjoint(spans []span) (out []span) {
	slices.SortFunc(spans, func(a, b span) int {
		if a.text == b.text && a.only != b.only {
			if b.only {
				return -1
			}
			return 1
		}
		return strings.Compare(a.text, b.text)
	})
	var wide *span // the last that was kept and is a beginning
	for _, sp := range spans {
		if wide != nil && wide.has(sp.text) || len(out) > 0 && out[len(out)-1] == sp {
			continue
		}
		out = append(out, sp)
		if !sp.only {
			wide = &sp
		}
	}
	return out
}

// handleWalk looks handles up in their order.
type handleWalk struct{ it *pebble.Iterator }

func (s store) handleWalk() (handleWalk, error) {
	it, err := s.r.NewIter(&pebble.IterOptions{LowerBound: []byte{tabHandle}, UpperBound: []byte{tabHandle + 1}})
	return handleWalk{it}, err
}

// from is the first handle at or after a text; "": there is none.
func (w handleWalk) from(text string) string {
	if !w.it.SeekGE(handleKey(text)) {
		return ""
	}
	return string(w.it.Key()[1:])
}

func (w handleWalk) close() error { return errors.Join(w.it.Error(), w.it.Close()) }
