package api

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"hayloft/feed"
)

const (
	maxTitle   = 100  // characters
	maxCaption = 2200 // characters
	maxAlt     = 2200 // characters
	maxTags    = 30
	maxTag     = 64 // characters
	maxPeople  = 20
	maxPlace   = 100 // characters
)

// details reads and checks what an author says about a photo; absent members
// are zero. It ends the reading of f.
func (r *request) details(f *fields) (feed.Details, error) {
	var d feed.Details
	for _, t := range []struct {
		name  string
		limit int
		lines bool
		to    *string
	}{{"title", maxTitle, false, &d.Title}, {"caption", maxCaption, true, &d.Caption}, {"alt", maxAlt, true, &d.Alt}} {
		if s := f.text(t.name, t.limit, t.lines); s != nil {
			*t.to = *s
		}
	}
	d.Tags = f.tags()
	for i, text := range f.texts("people", maxPeople) {
		if p := f.parseID("people/"+itoa(i), text); !slices.Contains(d.People, p) {
			d.People = append(d.People, p)
		}
	}
	d.Location = f.location()
	if v := f.raw("visibility"); v != nil {
		d.Visibility = f.visibility(*v)
	}
	if f.malformed == nil {
		if err := r.checkPeople(f, d.People); err != nil {
			return d, err
		}
	}
	return d, f.done()
}

// tags reads tags: letters, digits and _, a leading # dropped, in lower case,
// each once.
func (f *fields) tags() []string {
	var tags []string
	for i, t := range f.texts("tags", maxTags) {
		t = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(t), "#"))
		if t == "" || utf8.RuneCountInString(t) > maxTag ||
			strings.ContainsFunc(t, func(c rune) bool {
				return c != '_' && !unicode.IsLetter(c) && !unicode.IsMark(c) && !unicode.IsDigit(c)
			}) {
			f.fault("tags/"+itoa(i), "must be 1 to %d letters, digits or _", maxTag)
		}
		if !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	return tags
}

// location reads {lat, lng, name?} in degrees.
func (f *fields) location() *feed.Location {
	v := f.members["location"]
	if v == nil {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		f.wrong("location", "an object with lat and lng")
		return nil
	}
	in := &fields{members: m}
	loc := &feed.Location{Lat: in.degrees("lat", 90), Lng: in.degrees("lng", 180)}
	if name := in.text("name", maxPlace, false); name != nil {
		loc.Name = *name
	}
	if in.malformed != nil && f.malformed == nil {
		f.malformed = pMalformed.because("%s", "in /location: "+in.malformed.detail)
	}
	for _, ft := range in.faults {
		f.faults = append(f.faults, fault{Pointer: "/location" + ft.Pointer, Detail: ft.Detail})
	}
	return loc
}

func (f *fields) degrees(name string, bound float64) float64 {
	n, ok := f.members[name].(json.Number)
	v, err := n.Float64()
	if !ok || err != nil {
		f.wrong(name, "a number")
	} else if math.Abs(v) > bound {
		f.fault(name, "is not from -%v to %v", bound, bound)
	}
	return v
}

func (f *fields) visibility(text string) feed.Visibility {
	for v, name := range visibilityNames {
		if name == text {
			return v
		}
	}
	f.fault("visibility", "is none of public, followers, only_me")
	return feed.OnlyMe
}

// detailsPrint is a text that two Details share only when they are equal.
func detailsPrint(d feed.Details) string {
	b, err := json.Marshal(d)
	if err != nil { // the values came out of JSON
		panic(err)
	}
	return string(b)
}
