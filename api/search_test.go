package api

import (
	"bytes"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// posted is a ready photo with words.
func (w *world) posted(token string, details m) id.ID {
	w.t.Helper()
	p := w.post(token, picture(16, 16, 1), details)
	w.makeReady(p)
	return p
}

func (w *world) search(token, query string) searchSeen {
	w.t.Helper()
	return into[searchSeen](w.call(token, "GET", "/api/v1/search?"+query, nil).is(200))
}

func TestSearch(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("adalovelace")
	bob, _ := w.account("bob")
	paris := m{"lat": 48.85, "lng": 2.35, "name": "Paris, France"}
	one := w.posted(ada, m{"title": "Café at night", "tags": []string{"night", "Café"}, "location": paris})
	two := w.posted(ada, m{"caption": "a cafe by day", "visibility": "followers"})
	w.posted(ada, m{"caption": "cafe, only me", "visibility": "only_me"})

	all := w.search("", "q=cafe")
	if len(all.Photos) != 1 || all.Photos[0].PhotoID != one || len(all.Tags) != 1 || all.Tags[0].Tag != "café" || len(all.Users) != 0 || all.NextCursor != "" {
		t.Errorf("a guest finds %+v", all)
	}
	if mine := w.search(ada, "q=cafe&type=photos"); len(mine.Photos) != 3 || len(mine.Tags) != 0 {
		t.Errorf("the author finds %d photos", len(mine.Photos))
	}
	w.call(bob, "POST", "/api/v1/follow/adalovelace", nil).is(204)
	if got := w.search(bob, "q=CAFÉ&type=photos"); len(got.Photos) != 2 || got.Photos[0].PhotoID != two {
		t.Errorf("a follower finds %+v", got.Photos)
	}
	if got := w.search(bob, "q=adlaovel&type=users"); len(got.Users) != 1 || got.Users[0].ID != adaID || !got.Users[0].Viewer.Follows {
		t.Errorf("with a typo: %+v", got.Users)
	}
	places := w.search("", "q=fran&type=places").Places
	if len(places) != 1 || places[0].Name != "Paris, France" || places[0].Lat != 48.85 {
		t.Fatalf("places %+v", places)
	}
	if loc := w.search("", "q=night&type=photos").Photos[0].Location; loc.PlaceID != places[0].ID.String() {
		t.Errorf("the photo's place is %q", loc.PlaceID)
	}
	for _, path := range []string{"/api/v1/places/" + places[0].ID.String() + "/photos", "/api/v1/tags/caf%C3%A9/photos", "/api/v1/tags/NIGHT/photos"} {
		if got := into[pageBody[photoSeen]](w.call("", "GET", path, nil).is(200)); len(got.Items) != 1 || got.Items[0].PhotoID != one {
			t.Errorf("%s: %+v", path, got)
		}
	}

	w.call(ada, "DELETE", "/api/v1/photos/"+one.String(), nil).is(204)
	if got := w.search(ada, "q=night"); len(got.Photos)+len(got.Tags)+len(got.Places) != 0 {
		t.Errorf("after a delete: %+v", got)
	}
	w.call(ada, "POST", "/api/v1/users/bob/block", nil).is(204)
	if got := w.search(bob, "q=ada"); len(got.Users) != 0 {
		t.Errorf("who is blocked finds %+v", got.Users)
	}
	if got := w.search(ada, "q=bob"); len(got.Users) != 0 {
		t.Errorf("who blocks finds %+v", got.Users)
	}
}

// A cursor goes on where the page ended, for its own query, type and viewer alone.
func TestSearchCursors(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	var photos []id.ID
	for _, tags := range [][]string{{"sun"}, {"sunny"}, {"sunset"}, {"sun"}, {"sun"}} {
		photos = append(photos, w.posted(ada, m{"title": "sun", "tags": tags}))
	}
	slices.Reverse(photos)
	var found []id.ID
	var tags []string
	for _, kind := range []string{"photos", "tags"} {
		query := "q=sun&limit=2&type=" + kind
		for cursor := ""; ; {
			got := w.search("", query+cursor)
			for _, p := range got.Photos {
				found = append(found, p.PhotoID)
			}
			for _, tag := range got.Tags {
				tags = append(tags, tag.Tag)
			}
			if got.NextCursor == "" {
				break
			}
			cursor = "&cursor=" + url.QueryEscape(got.NextCursor)
			for name, other := range map[string]string{
				"another query": strings.Replace(query, "q=sun", "q=sunny", 1) + cursor, "another type": "q=sun&type=places" + cursor,
				"no type": "q=sun" + cursor, "tampered": query + cursor + "A", "no base64": query + "&cursor=*",
			} {
				if a := w.call("", "GET", "/api/v1/search?"+other, nil); a.status != 400 {
					t.Errorf("a cursor of %s with %s: %d", kind, name, a.status)
				}
			}
			w.call(ada, "GET", "/api/v1/search?"+query+cursor, nil).fails(pBadCursor)
		}
	}
	if !slices.Equal(found, photos) || !slices.Equal(tags, []string{"sun", "sunny", "sunset"}) {
		t.Errorf("found %v and %q, want %v", found, tags, photos)
	}
}

// A page may end at a tag or a handle that is hidden from the viewer, and the cursor
// must not tell it.
func TestSearchCursorsTellNothing(t *testing.T) {
	ring, err := sign.NewRing(sign.Key{Version: 1, Secret: [32]byte{1}})
	must(t, err)
	l := listing{name: "search tags s", viewer: 7}
	for _, secret := range []string{"surpriseparty", hex.EncodeToString([]byte("surpriseparty"))} {
		cursor := l.textCursor(ring, secret)
		b, err := b64url.DecodeString(cursor)
		must(t, err)
		if strings.Contains(cursor, secret) || bytes.Contains(b, []byte(secret)) {
			t.Errorf("the cursor says %q", b)
		}
		if got, ok := l.openText(ring, cursor); !ok || got != secret {
			t.Errorf("it opens as %q, %v", got, ok)
		}
	}
}

func TestSearchRefuses(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	words := strings.Repeat("a+b+c+d+e+f+", 2) + "g+h+i+j+k+l+m+n+o+p+r"
	for query, want := range map[string]*problemKind{
		"": pMalformed, "q=": pMalformed, "q=+": pMalformed, "q=%ff": pMalformed, "q=x&type=faces": pMalformed, "q=x&limit=0": pMalformed, "q=x&q=y": pMalformed,
		"q=" + strings.Repeat("x", 201): pInvalid, "q=" + words + "&type=photos": pInvalid,
	} {
		w.call("", "GET", "/api/v1/search?"+query, nil).fails(want)
	}
	if got := w.search("", "q=%F0%9F%8C%85"); len(got.Photos)+len(got.Users)+len(got.Tags)+len(got.Places) != 0 {
		t.Errorf("a picture finds %+v", got)
	}
	w.call("", "GET", "/api/v1/places/031GSQ4000806/photos", nil).fails(pNotFound)
	w.call("", "GET", "/api/v1/tags/"+strings.Repeat("x", 65)+"/photos", nil).fails(pNotFound)
	// What an answer says of a place may come back in a body.
	loc := m{"lat": 1, "lng": 2, "name": "here", "place_id": "0000000000001"}
	p := w.posted(ada, m{"title": "x", "location": loc})
	if got := into[photoSeen](w.call(ada, "GET", "/api/v1/photos/"+p.String(), nil, "Accept", typeJSON).is(200)); got.Location.PlaceID == "0000000000001" {
		t.Error("a body has said which place it is")
	}
}
