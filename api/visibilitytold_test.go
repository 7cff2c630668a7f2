package api

import (
	"fmt"
	"slices"
	"strings"

	"hayloft/internal/id"
)

// The part of the matrix that is about notifications. Before anybody becomes what they are
// to the author, all of them and the author do everything to each other that is told of.
// What is shown of it later is what the relation allows.

// others are those with an account who are not the author.
func (v *visit) others() (out []string) {
	for _, r := range relations {
		if r.name != "anonymous" && r.name != v.author {
			out = append(out, r.name)
		}
	}
	return out
}

// naming is a text that names all the others.
func (v *visit) naming() string { return "@" + strings.Join(v.others(), " @") }

// acquaint has the author do everything to the others that they are told of, and all but
// the stranger listen to the author.
func (v *visit) acquaint() {
	v.t.Helper()
	author := v.tokens[v.author]
	for _, who := range v.others() {
		v.mine[who] = v.newPhoto(v.tokens[who], nil)
		at := "/api/v1/photos/" + v.mine[who].String()
		v.call(author, "POST", "/api/v1/follow/"+who, nil).is(204)
		v.call(author, "POST", at+"/like", nil).is(204)
		v.call(author, "POST", at+"/comments", m{"text": "x"}).is(201)
		if who != "stranger" {
			v.follow(who, v.author)
		}
	}
}

// talkAbout has all the others like a photo of the author's and comment on it, when those
// who listen have been told of it.
func (v *visit) talkAbout(photo id.ID) {
	v.t.Helper()
	at := "/api/v1/photos/" + photo.String()
	for _, who := range v.others() {
		v.call(v.tokens[who], "POST", at+"/like", nil).is(204)
		v.call(v.tokens[who], "POST", at+"/comments", m{"text": "x"}).is(201)
		if who == "stranger" {
			continue
		}
		eventually(v.t, who+" is told of a photo", func() bool {
			return slices.ContainsFunc(v.told().list(v.tokens[who]).Items, func(n notificationSeen) bool {
				return n.Kind == "post" && n.Photo.PhotoID == photo
			})
		})
	}
}

// part has nobody follow the author any more.
func (v *visit) part() {
	v.t.Helper()
	for _, who := range v.others() {
		v.call(v.tokens[who], "DELETE", "/api/v1/follow/"+v.author, nil).is(204)
	}
}

func (v *visit) told() *told { return &told{world: v.world} }

// line is a notification in short.
func line(kind string, photo id.ID, count int) string {
	return fmt.Sprintf("%s of %v by %d", kind, photo, count)
}

func lineOf(n notificationSeen) string {
	var photo id.ID
	if n.Photo != nil {
		photo = n.Photo.PhotoID
	}
	return line(n.Kind, photo, n.Count)
}

// tells is what somebody is told, sorted.
func (v *visit) tells(who string) (want []string) {
	defer func() { slices.Sort(want) }()
	if who == v.author {
		return v.tellsAuthor()
	}
	if v.level(who) == nothing || who == "muter" {
		return nil
	}
	want = append(want, line("like", v.mine[who], 1), line("comment", v.mine[who], 1))
	if !v.cut[who] {
		want = append(want, line("follow", 0, 1))
	}
	seen := v.seen(who)
	for _, photo := range seen {
		want = append(want, line("mention", photo, 1))
	}
	if v.feeds[who] && len(seen) > 0 {
		want = append(want, line("post", slices.Max(seen), len(seen)))
	}
	return want
}

// tellsAuthor is what the author is told by all whom they hear, and by eve.
func (v *visit) tellsAuthor() []string {
	heard, follow := 0, 0
	for _, who := range v.others() {
		if v.level(who) > nothing {
			heard++
		}
		if v.level(who) == asFollower {
			follow++
		}
	}
	want := []string{line("comment", v.third, 1), line("follow", 0, follow), line("request", 0, 1)}
	for _, photo := range v.photos {
		want = append(want, line("like", photo, heard), line("comment", photo, heard))
	}
	return want
}

// checkTold wants the list, the number of what is unread, and a stream to tell somebody what
// they are to be told.
func (v *visit) checkTold(who string) {
	v.t.Helper()
	check := func(where string, unread int, rows []string) {
		v.t.Helper()
		want := v.tells(who)
		if slices.Sort(rows); !slices.Equal(rows, want) || unread != len(want) {
			v.t.Errorf("private %v, hidden %v: %s by the %s: %d unread,\n%q, want\n%q", v.private, v.hidden, who, where, unread, rows, want)
		}
	}
	list := v.told().list(v.tokens[who])
	var rows []string
	for _, n := range list.Items {
		rows = append(rows, lineOf(n))
		v.checkActors(who, n)
	}
	check("list", list.Unread, rows)

	// Whatever the stream has to say comes before the newest, in which eve names them.
	row, err := v.feed.PhotoRow(v.t.Context(), v.third)
	must(v.t, err)
	last, err := v.feed.AddComment(v.t.Context(), row.Author, v.third, "@"+who, 0)
	must(v.t, err)
	s := v.told().stream(v.tokens[who], "?after=0")
	unread := v.told().list(v.tokens[who]).Unread
	rows = nil
	for n := s.notification(); n.Comment == nil || n.Comment.ID != last.ID; n = s.notification() {
		rows = append(rows, lineOf(n))
		v.checkActors(who, n)
	}
	s.unread(unread)
	s.close()
	check("stream", unread-1, rows)
	must(v.t, v.feed.DeleteComment(v.t.Context(), row.Author, last.ID))
}

// checkActors wants nobody to be named whom the recipient does not hear.
func (v *visit) checkActors(who string, n notificationSeen) {
	v.t.Helper()
	for _, a := range n.Actors {
		if a.Handle == v.author && (v.level(who) == nothing || who == "muter") || who == v.author && v.levels[a.Handle] == nothing && a.Handle != "eve" {
			v.t.Errorf("%s is told of %s: %+v", who, a.Handle, n)
		}
	}
}
