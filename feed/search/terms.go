package search

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"hayloft/internal/id"
)

// A term is what a photo or an account is found by: a field byte, then text. The fields
// are those of docs/search-format.md.
const (
	fieldWord  = 'w' // a word of title, caption or tags
	fieldTag   = 't' // folded tag, 00, tag
	fieldPlace = 'p' // the place's id as text
	fieldTown  = 'n' // the name of a place from one of its words on, 00, the place's id as text
	fieldName  = 'u' // a word of an account's name
)

const maxTowns = 8 // words of a place's name that it is found by

// Photo is what search knows of a photo.
type Photo struct {
	ID, Pos        id.ID
	Title, Caption string
	Tags           []string
	Place          *Place // nil: none with a name
}

// Place is where photos were taken: a name, and the degree that it lies in. Two photos
// are of the same place when both are the same.
type Place struct {
	ID       id.ID
	Name     string // as the author wrote it
	Lat, Lng float64
}

// PlaceOf returns the place of a name and coordinates; nil without a name.
func PlaceOf(name string, lat, lng float64) *Place {
	words := placeWords(name)
	if len(words) == 0 {
		return nil
	}
	cell := [2]int64{int64(math.Floor(lat)), int64(math.Floor(lng))}
	if cell[1] == 180 {
		cell[1] = -180
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "place\x00%d\x00%d\x00%s", cell[0], cell[1], strings.Join(words, " ")))
	v := id.ID(binary.BigEndian.Uint64(sum[:]))
	return &Place{ID: max(v, 1), Name: name, Lat: lat, Lng: lng}
}

// placeWords are the words of a place's name with nothing taken apart, so that a name
// is read from one of its words on.
func placeWords(name string) []string {
	return strings.FieldsFunc(Fold(name), func(r rune) bool { return !isWordRune(r) })
}

// placePrefix is what a person wrote of a place's name, as towns begin with it.
func placePrefix(text string) string { return strings.Join(placeWords(text), " ") }

// towns are the ways in which a place's name is found: from each of its words on.
func (p *Place) towns() []string {
	words := placeWords(p.Name)
	var out []string
	for i := range min(len(words), maxTowns) {
		out = append(out, strings.Join(words[i:], " "))
	}
	return out
}

func wordTerm(word string) string { return string(fieldWord) + word }
func nameTerm(word string) string { return string(fieldName) + word }
func placeTerm(v id.ID) string    { return string(fieldPlace) + v.String() }
func tagTerm(tag string) string   { return string(fieldTag) + Fold(tag) + "\x00" + tag }
func townTerm(town string, v id.ID) string {
	return string(fieldTown) + town + "\x00" + v.String()
}

// each calls f for whatever the photo is found by; some come more than once.
func (p *Photo) each(f func(field byte, text string)) {
	words := func(text string) {
		for _, w := range Words(text) {
			f(fieldWord, w)
		}
	}
	words(p.Title)
	words(p.Caption)
	for _, tag := range p.Tags {
		words(tag)
		f(fieldTag, tagTerm(tag)[1:])
	}
	if p.Place != nil {
		f(fieldPlace, p.Place.ID.String())
		for _, t := range p.Place.towns() {
			f(fieldTown, townTerm(t, p.Place.ID)[1:])
		}
	}
}

// terms are what the photo is found by, each once, ascending.
func (p *Photo) terms() []string {
	var out []string
	p.each(func(field byte, text string) { out = append(out, string(field)+text) })
	return unique(out)
}

// nameTerms are what an account is found by, but for its handle.
func nameTerms(name string) []string {
	var out []string
	for _, w := range Words(name) {
		out = append(out, nameTerm(w))
	}
	return unique(out)
}

// MaxWords bounds the words of a query, so that its work is bounded.
const MaxWords = 16

// Query is what a photo must have: all of its terms.
type Query struct{ terms []string }

// Len is the number of different words and tags in q.
func (q Query) Len() int { return len(q.terms) }

// ParseQuery reads what a person wrote: words, and tags with a # before them.
func ParseQuery(text string) (q Query) {
	for _, part := range strings.Fields(text) {
		if tag, is := strings.CutPrefix(part, "#"); is && tag != "" {
			q.terms = append(q.terms, tagTerm(strings.ToLower(tag)))
			continue
		}
		for _, w := range queryWords(part) {
			q.terms = append(q.terms, wordTerm(w))
		}
	}
	q.terms = unique(q.terms)
	return q
}

// TagQuery asks for the photos with a tag.
func TagQuery(tag string) Query { return Query{[]string{tagTerm(strings.ToLower(tag))}} }

// PlaceQuery asks for the photos of a place.
func PlaceQuery(place id.ID) Query { return Query{[]string{placeTerm(place)}} }

// Matches says whether a photo has all that is asked for.
func (q Query) Matches(p *Photo) bool {
	has, missing := make([]bool, len(q.terms)), len(q.terms)
	p.each(func(field byte, text string) {
		for i, t := range q.terms {
			if !has[i] && t[0] == field && t[1:] == text {
				has[i] = true
				missing--
			}
		}
	})
	return missing == 0
}

// FirstTown is the least of the ways in which a place's name begins with prefix: the
// one under which a list shows it.
func (p *Place) FirstTown(prefix string) string {
	return least(p.towns(), placePrefix(prefix))
}

// FirstWord is the least of words that begins with prefix: the one under which a list
// shows an account.
func FirstWord(words []string, prefix string) string { return least(words, prefix) }

func least(list []string, prefix string) (first string) {
	for _, s := range list {
		if strings.HasPrefix(s, prefix) && (first == "" || s < first) {
			first = s
		}
	}
	return first
}
