package feed

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"hayloft/internal/id"
)

// Limits bound what people write; lengths are in characters. The zero value of
// each field means its default. They are checked before a command is made, so a
// change does not alter what an old log does when it is replayed.
type Limits struct {
	Handle  int // default 32
	Name    int // 64
	Bio     int // 150
	Title   int // 100
	Caption int // 2,200; the alternative text too
	Comment int // 2,200
	Tags    int // 30
	Tag     int // 64
	People  int // 20
	Place   int // 100
}

func (l Limits) withDefaults() Limits {
	orElse(&l.Handle, 32)
	orElse(&l.Name, 64)
	orElse(&l.Bio, 150)
	orElse(&l.Title, 100)
	orElse(&l.Caption, 2200)
	orElse(&l.Comment, 2200)
	orElse(&l.Tags, 30)
	orElse(&l.Tag, 64)
	orElse(&l.People, 20)
	orElse(&l.Place, 100)
	return l
}

var handleForm = regexp.MustCompile(`^[a-z0-9_](\.?[a-z0-9_])*$`)

// reserved handles are words of URLs, or would pass for staff.
var reserved = []string{
	"about", "account", "accounts", "admin", "administrator", "anonymous", "api", "assets", "blocks", "comments", "everyone",
	"explore", "export", "exports", "feed", "follow", "followers", "following", "hayloft", "healthz", "help", "instance", "like",
	"login", "logout", "me", "media", "metrics", "moderator", "mutes", "notifications", "null", "official", "photos", "places",
	"privacy", "readyz", "register", "root", "search", "security", "sessions", "settings", "signup", "static", "support", "system",
	"tags", "terms", "undefined", "upload", "users",
}

// CheckHandle says whether a handle may be given to an account.
func (l Limits) CheckHandle(handle string) error {
	l = l.withDefaults()
	switch {
	case handle == "" || len(handle) > l.Handle:
		return Invalid{"handle", fmt.Sprintf("must have 1 to %d characters", l.Handle)}
	case !handleForm.MatchString(handle):
		return Invalid{"handle", "may hold a-z, 0-9, _ and single dots inside"}
	case slices.Contains(reserved, handle):
		return Invalid{"handle", "is reserved"}
	}
	if _, err := id.Parse(handle); err == nil {
		return Invalid{"handle", "looks like an id"}
	}
	return nil
}

// checkText refuses text that is too long, not UTF-8, or has characters that
// do not belong into it. Line breaks are for texts of several lines.
func checkText(field, s string, limit int, lines bool) error {
	if !utf8.ValidString(s) {
		return Invalid{field, "is not valid UTF-8"}
	}
	if utf8.RuneCountInString(s) > limit {
		return Invalid{field, fmt.Sprintf("is longer than %d characters", limit)}
	}
	for _, r := range s {
		if lines && (r == '\n' || r == '\r' || r == '\t') {
			continue
		}
		if unicode.IsControl(r) {
			return Invalid{field, "holds control characters"}
		}
	}
	return nil
}

func (l *Limits) checkProfile(name, bio *string) error {
	if name != nil {
		if err := checkText("name", *name, l.Name, false); err != nil {
			return err
		}
	}
	if bio != nil {
		return checkText("bio", *bio, l.Bio, true)
	}
	return nil
}

func (l *Limits) checkComment(text string) error {
	if strings.TrimSpace(text) == "" {
		return Invalid{"text", "is empty"}
	}
	return checkText("text", text, l.Comment, true)
}

// checkDetails checks what an author says about a photo and returns it in the
// form that is stored: tags in lower case and once each, people once each.
func (l *Limits) checkDetails(d Details) (Details, error) {
	for _, t := range []struct {
		field, text string
		limit       int
		lines       bool
	}{{"title", d.Title, l.Title, false}, {"caption", d.Caption, l.Caption, true}, {"alt", d.Alt, l.Caption, true}} {
		if err := checkText(t.field, t.text, t.limit, t.lines); err != nil {
			return d, err
		}
	}
	var err error
	if d.Tags, err = l.checkTags(d.Tags); err != nil {
		return d, err
	}
	if d.People, err = l.checkPeople(d.People); err != nil {
		return d, err
	}
	if d.Location, err = l.checkLocation(d.Location); err != nil {
		return d, err
	}
	return d, checkVisibility(d.Visibility)
}

func (l *Limits) checkTags(tags []string) ([]string, error) {
	var out []string
	for _, tag := range tags {
		if err := checkText("tags", tag, l.Tag, false); err != nil {
			return nil, err
		}
		tag = strings.ToLower(strings.TrimPrefix(tag, "#"))
		if tag == "" || strings.ContainsFunc(tag, func(r rune) bool { return unicode.IsSpace(r) || r == '#' || r == '/' }) {
			return nil, Invalid{"tags", "a tag is one word"}
		}
		if !slices.Contains(out, tag) {
			out = append(out, tag)
		}
	}
	if len(out) > l.Tags {
		return nil, Invalid{"tags", fmt.Sprintf("more than %d", l.Tags)}
	}
	return out, nil
}

func (l *Limits) checkPeople(people []id.ID) ([]id.ID, error) {
	var out []id.ID
	for _, p := range people {
		if p == 0 {
			return nil, Invalid{"people", "not an id"}
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	if len(out) > l.People {
		return nil, Invalid{"people", fmt.Sprintf("more than %d", l.People)}
	}
	return out, nil
}

func (l *Limits) checkLocation(loc *Location) (*Location, error) {
	if loc == nil {
		return nil, nil
	}
	if !(math.Abs(loc.Lat) <= 90) || !(math.Abs(loc.Lng) <= 180) { // false for NaN
		return nil, Invalid{"location", "latitude within 90, longitude within 180 degrees"}
	}
	c := *loc
	return &c, checkText("location", c.Name, l.Place, false)
}

func checkVisibility(v Visibility) error {
	if v > OnlyMe {
		return Invalid{"visibility", "unknown"}
	}
	return nil
}
