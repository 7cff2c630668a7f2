package feed

import (
	"slices"
	"strings"

	"hayloft/internal/id"
)

// maxMentions is how many handles of a text count. Part of the format.
const maxMentions = 20

// handlesIn returns the handles that a text names: after an @ that does not follow a
// letter, digit, _ or dot, as many of a-z, 0-9, _ and single dots inside as there are,
// at most 32. Letters may be upper case. Part of the format.
func handlesIn(text string) (handles []string) {
	for i := 0; i < len(text) && len(handles) < maxMentions; i++ {
		if text[i] != '@' || i > 0 && (handleByte(text[i-1]) || text[i-1] == '.') {
			continue
		}
		end := i + 1
		for end < len(text) && (handleByte(text[end]) || text[end] == '.' && end > i+1 && text[end-1] != '.') {
			end++
		}
		handle := strings.ToLower(strings.TrimSuffix(text[i+1:end], "."))
		if handle != "" && len(handle) <= 32 && !slices.Contains(handles, handle) {
			handles = append(handles, handle)
		}
		i = end - 1
	}
	return handles
}

func handleByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_'
}

// namedIn returns the users whose handles a text names.
func (s store) namedIn(text string) (users []id.ID, err error) {
	for _, handle := range handlesIn(text) {
		u, err := s.idAt(handleKey(handle))
		if err != nil {
			return nil, err
		}
		if u != 0 && !slices.Contains(users, u) {
			users = append(users, u)
		}
	}
	return users, nil
}

// namedWith returns the users named with a photo: in its caption, or as people on it.
func (s store) namedWith(d *Details) ([]id.ID, error) {
	users, err := s.namedIn(d.Caption)
	for _, u := range d.People {
		if !slices.Contains(users, u) {
			users = append(users, u)
		}
	}
	return users, err
}
