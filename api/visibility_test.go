package api

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"hayloft/feed"
	"hayloft/internal/id"
)

// How much of an author somebody is shown.
const (
	nothing    = iota // across a block
	asStranger        // what everybody sees
	asFollower
	asSelf
)

// relations are what somebody can be to an author, and how much they are shown. The
// setting up is done by the one and by the author.
var relations = []struct {
	name  string
	level int
	feeds bool // their feed has the author's photos
	cut   bool // there is or was a block, which has ended the author's follow too
	setUp func(v *visit, viewer, author string)
}{
	{name: "anonymous", level: asStranger},
	{name: "self", level: asSelf, feeds: true},
	{name: "stranger", level: asStranger},
	{name: "follower", level: asFollower, feeds: true, setUp: (*visit).follow},
	{name: "asked", level: asStranger, setUp: func(v *visit, viewer, author string) {
		v.call(v.tokens[author], "PATCH", "/api/v1/users/me", m{"is_private": true}).is(200)
		v.call(v.tokens[viewer], "POST", "/api/v1/follow/"+author, nil).is(202)
	}},
	{name: "declined", level: asStranger, setUp: func(v *visit, viewer, author string) {
		v.call(v.tokens[author], "PATCH", "/api/v1/users/me", m{"is_private": true}).is(200)
		v.call(v.tokens[viewer], "POST", "/api/v1/follow/"+author, nil).is(202)
		v.call(v.tokens[author], "POST", "/api/v1/follow-requests/"+viewer+"/decline", nil).is(204)
	}},
	{name: "left", level: asStranger, setUp: func(v *visit, viewer, author string) {
		v.follow(viewer, author)
		v.call(v.tokens[viewer], "DELETE", "/api/v1/follow/"+author, nil).is(204)
	}},
	{name: "removed", level: asStranger, setUp: func(v *visit, viewer, author string) {
		v.follow(viewer, author)
		v.call(v.tokens[author], "DELETE", "/api/v1/followers/"+viewer, nil).is(204)
	}},
	{name: "blocked", level: nothing, cut: true, setUp: func(v *visit, viewer, author string) {
		v.follow(viewer, author)
		v.call(v.tokens[author], "POST", "/api/v1/users/"+viewer+"/block", nil).is(204)
	}},
	{name: "blocker", level: nothing, cut: true, setUp: func(v *visit, viewer, author string) {
		v.follow(viewer, author)
		v.call(v.tokens[viewer], "POST", "/api/v1/users/"+author+"/block", nil).is(204)
	}},
	{name: "unblocked", level: asStranger, cut: true, setUp: func(v *visit, viewer, author string) {
		v.follow(viewer, author)
		v.call(v.tokens[author], "POST", "/api/v1/users/"+viewer+"/block", nil).is(204)
		v.call(v.tokens[author], "DELETE", "/api/v1/users/"+viewer+"/block", nil).is(204)
	}},
	{name: "muter", level: asFollower, setUp: func(v *visit, viewer, author string) {
		v.follow(viewer, author)
		v.call(v.tokens[viewer], "POST", "/api/v1/users/"+author+"/mute", nil).is(204)
	}},
}

// visit is an author with everything, a third person at whose place the author has left
// traces, and one account for each relation.
type visit struct {
	*world
	tokens  map[string]string
	author  string
	private bool
	hidden  bool               // the author is suspended or gone
	photos  map[string]id.ID   // of the author, by visibility
	blobs   map[string][]id.ID // master and rendition of each
	place   string             // where they were taken
	third   id.ID              // a photo of eve's, which the author likes and comments on
	comment id.ID              // the author's there; eve has replied
	mine    map[string]id.ID   // by relation: a photo of theirs, which the author likes and comments on
	levels  map[string]int     // by relation
	feeds   map[string]bool    // by relation
	cut     map[string]bool    // by relation
}

func (v *visit) follow(viewer, author string) {
	v.t.Helper()
	v.call(v.tokens[author], "PATCH", "/api/v1/users/me", m{"is_private": false}).is(200)
	v.call(v.tokens[viewer], "POST", "/api/v1/follow/"+author, nil).is(204)
	v.call(v.tokens[viewer], "POST", "/api/v1/users/"+author+"/listen", nil).is(204)
}

func newVisit(t *testing.T, private bool) *visit {
	v := &visit{world: newWorld(t), tokens: map[string]string{"anonymous": ""}, author: "self", private: private, photos: map[string]id.ID{},
		blobs: map[string][]id.ID{}, mine: map[string]id.ID{}, levels: map[string]int{}, feeds: map[string]bool{}, cut: map[string]bool{}}
	v.tokens["eve"], _ = v.account("eve")
	for _, r := range relations {
		if r.name != "anonymous" {
			v.tokens[r.name], _ = v.account(r.name)
		}
		v.levels[r.name], v.feeds[r.name], v.cut[r.name] = r.level, r.feeds, r.cut
	}
	author := v.tokens[v.author]
	v.acquaint()
	for _, visibility := range []string{"public", "followers", "only_me"} {
		p := v.newPhoto(author, m{"caption": v.naming(), "tags": []string{"harbour"}, "location": m{"lat": 59.9, "lng": 10.7, "name": "Oslo"}})
		v.talkAbout(p)
		v.call(author, "PATCH", "/api/v1/photos/"+p.String(), m{"visibility": visibility}).is(200)
		row, err := v.feed.PhotoRow(t.Context(), p)
		must(t, err)
		v.photos[visibility], v.blobs[visibility] = p, []id.ID{row.Master.Blob, row.Rendition.Blob}
	}
	taken := into[photoSeen](v.call(author, "GET", "/api/v1/photos/"+v.photos["public"].String(), nil, "Accept", typeJSON).is(200))
	v.place = taken.Location.PlaceID
	v.third = v.newPhoto(v.tokens["eve"], nil)
	at := "/api/v1/photos/" + v.third.String()
	v.call(author, "POST", "/api/v1/follow/eve", nil).is(204)
	v.call(author, "POST", at+"/like", nil).is(204)
	v.comment = into[commentBody](v.call(author, "POST", at+"/comments", m{"text": "x"}).is(201)).ID
	v.call(v.tokens["eve"], "POST", at+"/comments", m{"text": "x", "parent_id": v.comment}).is(201)
	v.part()
	for _, r := range relations {
		if r.setUp != nil {
			r.setUp(v, r.name, v.author)
		}
	}
	v.call(author, "PATCH", "/api/v1/users/me", m{"is_private": private}).is(200)
	return v
}

// level is how much somebody is shown of the author now.
func (v *visit) level(who string) int {
	if v.hidden {
		return nothing
	}
	return v.levels[who]
}

// sees says whether somebody may see the author's photos of a visibility.
func (v *visit) sees(who, visibility string) bool {
	switch v.level(who) {
	case asSelf:
		return true
	case asFollower:
		return visibility != "only_me"
	case asStranger:
		return visibility == "public" && !v.private
	}
	return false
}

// seen are the photos that somebody may see.
func (v *visit) seen(who string) (out []id.ID) {
	for visibility, p := range v.photos {
		if v.sees(who, visibility) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// found is what there is at a path for somebody; nil: 404.
func (v *visit) found(who, path string) []byte {
	v.t.Helper()
	a := v.call(v.tokens[who], "GET", "/api/v1"+path, nil, "Accept", typeJSON)
	if a.status != 200 && a.status != 302 && a.status != 404 {
		v.t.Fatalf("%s for %s: %d %s", path, who, a.status, a.body)
	}
	if a.status == 404 {
		return nil
	}
	return append([]byte(" "), a.body...)
}

// has wants a path to be there for somebody, or not.
func (v *visit) has(who, path string, want bool) {
	v.t.Helper()
	if got := v.found(who, path) != nil; got != want {
		v.t.Errorf("private %v, hidden %v: %s has %s: %v, want %v", v.private, v.hidden, who, path, got, want)
	}
}

// shows wants a list to have exactly some rows, by their ids.
func (v *visit) shows(who, path string, want []id.ID) {
	v.t.Helper()
	var got []id.ID
	for _, row := range into[pageBody[struct {
		ID    id.ID `json:"id"`
		Photo id.ID `json:"photo_id"`
	}]](v.call(v.tokens[who], "GET", "/api/v1"+path, nil).is(200)).Items {
		if row.ID == 0 {
			row.ID = row.Photo
		}
		got = append(got, row.ID)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		v.t.Errorf("private %v, hidden %v: %s at %s: %v, want %v", v.private, v.hidden, who, path, got, want)
	}
}

// check goes through every read path as somebody.
func (v *visit) check(who string, author id.ID) {
	v.t.Helper()
	level := v.level(who)
	lists := level == asSelf || level == asFollower || level == asStranger && !v.private
	for visibility, photo := range v.photos {
		at, ok := "/photos/"+photo.String(), v.sees(who, visibility)
		for _, path := range []string{at, at + "/small", at + "/large", at + "/original", at + "/likes", at + "/comments"} {
			v.has(who, path, ok)
		}
		if who != "anonymous" {
			v.has(who, at+"/master", level == asSelf)
		}
	}
	if blocker := who == "blocker" && !v.hidden; blocker || level > nothing {
		v.has(who, "/users/"+v.author, true)
		u := v.user(v.tokens[who], v.author)
		if want := uint64(len(v.seen(who))); u.PhotoCount != want {
			v.t.Errorf("%s counts %d photos, want %d", who, u.PhotoCount, want)
		}
		v.shows(who, "/users/"+author.String()+"/photos", v.seen(who))
	} else {
		v.has(who, "/users/"+v.author, false)
		v.has(who, "/users/"+author.String()+"/photos", false)
	}
	v.has(who, "/users/"+v.author+"/followers", lists)
	v.has(who, "/users/"+v.author+"/following", lists)

	// What the author has done at eve's place.
	var traces []id.ID
	if level > nothing {
		traces = []id.ID{author}
	}
	at := "/photos/" + v.third.String()
	v.shows(who, "/users/eve/followers", traces)
	v.shows(who, at+"/likes", traces)
	comments := []id.ID(nil)
	if level > nothing {
		comments = []id.ID{v.comment}
	}
	v.shows(who, at+"/comments", comments)
	v.has(who, "/comments/"+v.comment.String()+"/replies", level > nothing)
	v.checkSearch(who, author)
	if who != "anonymous" && (who != v.author || !v.hidden) {
		v.checkFeed(who)
		v.checkTold(who)
		v.checkExport(who)
	}
}

// checkSearch wants the index to show what profiles do, and no more.
func (v *visit) checkSearch(who string, author id.ID) {
	v.t.Helper()
	v.shows(who, "/tags/harbour/photos", v.seen(who))
	v.shows(who, "/places/"+v.place+"/photos", v.seen(who))
	var photos []id.ID
	for _, p := range v.search(v.tokens[who], "q=harbour&type=photos").Photos {
		photos = append(photos, p.PhotoID)
	}
	slices.Sort(photos)
	if want := v.seen(who); !slices.Equal(photos, want) {
		v.t.Errorf("private %v, hidden %v: %s finds %v, want %v", v.private, v.hidden, who, photos, want)
	}
	users := v.search(v.tokens[who], "q="+v.author+"&type=users").Users
	found := slices.ContainsFunc(users, func(u userBody) bool { return u.ID == author })
	if want := v.level(who) > nothing; found != want {
		v.t.Errorf("private %v, hidden %v: %s finds the author: %v, want %v", v.private, v.hidden, who, found, want)
	}
}

func (v *visit) checkFeed(who string) {
	v.t.Helper()
	var want []id.ID
	if v.feeds[who] {
		want = v.seen(who)
	}
	if who == v.author { // follows eve and some of the others
		want = append(want, v.third)
		for other, photo := range v.mine {
			if !v.cut[other] {
				want = append(want, photo)
			}
		}
	} else {
		want = append(want, v.mine[who])
	}
	slices.Sort(want)
	v.shows(who, "/feed", want)
	if n := into[newBody](v.call(v.tokens[who], "GET", "/api/v1/feed/new", nil).is(200)).Count; n != len(want) {
		v.t.Errorf("%s has %d new photos, want %d", who, n, len(want))
	}
}

// checkExport wants an archive to say of others' photos what their pages do, and no more.
func (v *visit) checkExport(who string) {
	v.t.Helper()
	a := v.archive(v.tokens[who])
	if who == v.author {
		if got := idsOf(a.photos(), nil); !slices.Equal(got, slices.Sorted(maps.Values(v.photos))) {
			v.t.Errorf("private %v: the author's archive has %v", v.private, got)
		}
		return
	}
	ofAuthor := func(p id.ID) bool { return slices.Contains(slices.Collect(maps.Values(v.photos)), p) }
	want := v.seen(who)
	if got := idsOf(a.likes(), ofAuthor); !slices.Equal(got, want) {
		v.t.Errorf("private %v, hidden %v: likes of %s: %v, want %v", v.private, v.hidden, who, got, want)
	}
	if got := idsOf(a.comments(), ofAuthor); !slices.Equal(got, want) {
		v.t.Errorf("private %v, hidden %v: comments of %s at %v, want %v", v.private, v.hidden, who, got, want)
	}
}

// checkMedia wants bytes to be served as the photo's audience says, or to nobody.
func (v *visit) checkMedia() {
	v.t.Helper()
	for visibility, blobs := range v.blobs {
		want := feed.AccessPublic
		switch {
		case v.hidden:
			want = feed.AccessGone
		case v.private || visibility != "public":
			want = feed.AccessSigned
		}
		for _, blob := range blobs {
			got, err := v.feed.Access(v.t.Context(), blob)
			must(v.t, err)
			if got.Access != want {
				v.t.Errorf("private %v, hidden %v: bytes of a %s photo: %v, want %v", v.private, v.hidden, visibility, got.Access, want)
			}
		}
	}
}

// Every read path, notifications and their stream among them, for everybody that one can
// be to an author, of things for every audience, while the author is public or private, suspended, back, and gone.
func TestVisibilityMatrix(t *testing.T) {
	for _, private := range []bool{false, true} {
		v := newVisit(t, private)
		author := v.user(v.tokens[v.author], "me").ID
		everybody := slices.Sorted(maps.Keys(v.levels))
		round := func(hidden bool) {
			v.hidden = hidden
			for _, who := range everybody {
				if hidden && who == v.author {
					continue // signed out
				}
				v.check(who, author)
			}
			v.checkMedia()
		}
		round(false)
		must(t, v.feed.Suspend(t.Context(), author, true))
		v.call(v.tokens[v.author], "GET", "/api/v1/users/me", nil).fails(pUnauthorized)
		round(true)
		must(t, v.feed.Suspend(t.Context(), author, false))
		v.tokens[v.author] = into[signedInBody](v.call("", "POST", "/api/v1/sessions", m{"handle": v.author, "password": "pass of " + v.author}).is(201)).Token
		round(false)
		v.call(v.tokens[v.author], "DELETE", "/api/v1/users/me", nil).is(204)
		round(true)
		eventually(t, "the sweeper is done", func() bool {
			p, err := v.feed.Photo(t.Context(), 0, v.third)
			must(t, err)
			return p.Likes == 0 && p.Comments == 0
		})
		round(true)
		if r, err := v.feed.Reconcile(t.Context(), false, nil); err != nil || r.Drifts+r.Missing != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// A signed URL is given only to who may see the photo, and a public one has no
// signature.
func TestSignedOnlyWhereNeeded(t *testing.T) {
	v := newVisit(t, false)
	for visibility, photo := range v.photos {
		p := into[photoSeen](v.call(v.tokens[v.author], "GET", "/api/v1/photos/"+photo.String(), nil, "Accept", typeJSON).is(200))
		if got := strings.Contains(p.URLs["small"], "?"); got != (visibility != "public") {
			t.Errorf("%s: signed %v", visibility, got)
		}
	}
}
