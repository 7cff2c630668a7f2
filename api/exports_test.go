package api

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

// taken is an archive as its owner unpacks it.
type taken struct {
	t     *testing.T
	files map[string][]byte
	dates map[string]time.Time
}

// export asks for an archive and returns it with its link.
func (w *world) export(token string) exportBody {
	w.t.Helper()
	made := w.call(token, "POST", "/api/v1/exports", nil).is(202)
	e := into[exportBody](made)
	if made.header.Get("Location") != "/api/v1/exports/"+e.ID || e.Status != "ready" {
		w.t.Errorf("Location %q of %+v", made.header.Get("Location"), e)
	}
	return e
}

// archive asks for an archive and unpacks it.
func (w *world) archive(token string) taken {
	w.t.Helper()
	return unpack(w.t, w.call("", "GET", w.export(token).DownloadURL, nil).is(200).body)
}

func unpack(t *testing.T, b []byte) taken {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	must(t, err)
	a := taken{t, map[string][]byte{}, map[string]time.Time{}}
	for _, f := range z.File {
		a.dates[f.Name] = f.Modified
		r, err := f.Open()
		must(t, err)
		if a.files[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		must(t, r.Close())
	}
	return a
}

func rows[T any](a taken, name string) (out []T) {
	a.t.Helper()
	if err := json.Unmarshal(a.files[name], &out); err != nil {
		a.t.Fatalf("%s: %v in %q", name, err, a.files[name])
	}
	return out
}

type photoID struct {
	Photo id.ID `json:"photo_id"`
}

func (a taken) photos() []photoID   { return rows[photoID](a, "photos.json") }
func (a taken) likes() []photoID    { return rows[photoID](a, "likes.json") }
func (a taken) comments() []photoID { return rows[photoID](a, "comments.json") }

// idsOf are the photos of rows that which is true of (nil: all), ascending, each once.
func idsOf(rows []photoID, which func(id.ID) bool) (out []id.ID) {
	for _, r := range rows {
		if r.Photo != 0 && (which == nil || which(r.Photo)) {
			out = append(out, r.Photo)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (a taken) handles(name string) (out []string) {
	for _, p := range rows[archivedPerson](a, name) {
		out = append(out, p.Handle)
	}
	slices.Sort(out)
	return out
}

// An archive has everything of its owner's: each original byte for byte, also of photos
// that are for nobody else, deleted or failed; their words, whom they follow and all that.
func TestExport(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	ben, _ := w.account("ben")
	_, _ = w.account("eve")
	originals := map[id.ID][]byte{}
	add := func(data []byte, details m) id.ID {
		p := w.post(ada, data, details)
		originals[p] = data
		return p
	}
	large := add(largePicture(3<<20+5), m{"title": "A <large> one", "tags": []string{"harbour"}, "location": m{"lat": 59.9, "lng": 10.7, "name": "Oslo"}})
	secret := add(picture(64, 48, 2), m{"visibility": "only_me"})
	deleted := add(picture(64, 48, 3), nil)
	failed := add(picture(64, 48, 4), nil)
	w.makeReady(large)
	w.makeReady(secret)
	w.makeReady(deleted)
	must(t, w.feed.MarkFailed(t.Context(), failed, feed.Failure{Type: "x", Title: "x"}))
	w.call(ada, "DELETE", "/api/v1/photos/"+deleted.String(), nil).is(204)
	bens := w.newPhoto(ben, nil)
	at := "/api/v1/photos/" + bens.String()
	w.call(ada, "POST", at+"/like", nil).is(204)
	theirs := into[commentBody](w.call(ben, "POST", at+"/comments", m{"text": "ben's words"}).is(201)).ID
	w.call(ada, "POST", at+"/comments", m{"text": "ada's words", "parent_id": theirs}).is(201)
	w.call(ada, "POST", "/api/v1/comments/"+theirs.String()+"/like", nil).is(204)
	w.call(ada, "POST", "/api/v1/follow/ben", nil).is(204)
	w.call(ben, "POST", "/api/v1/follow/ada", nil).is(204)
	w.call(ada, "POST", "/api/v1/users/ben/listen", nil).is(204)
	w.call(ada, "POST", "/api/v1/users/ben/mute", nil).is(204)
	w.call(ada, "POST", "/api/v1/users/eve/block", nil).is(204)
	w.call(ada, "PATCH", "/api/v1/users/me", m{"name": "Ada", "bio": "photos"}).is(200)
	w.call(ada, "PATCH", "/api/v1/notifications/preferences", m{"like": false}).is(200)

	a := w.archive(ada)
	for _, p := range rows[archivedPhoto](a, "photos.json") {
		data, known := originals[p.ID]
		sum := sha256.Sum256(data)
		if got := a.files[p.File]; !known || !bytes.Equal(got, data) || p.SHA256 != hex.EncodeToString(sum[:]) || p.Size != int64(len(data)) {
			t.Errorf("photo %v: %d bytes of %d, %+v", p.ID, len(got), len(data), p)
		}
		if at := a.dates[p.File]; at.Sub(p.CreatedAt).Abs() > 2*time.Second {
			t.Errorf("photo %v is of %v and not %v", p.ID, at, p.CreatedAt)
		}
		delete(originals, p.ID)
		want := map[id.ID]string{large: "ready", secret: "ready", deleted: "deleted", failed: "failed"}[p.ID]
		if p.Status != want || (p.DeletedAt != nil) != (p.ID == deleted) || p.ID == secret && p.Visibility != "only_me" {
			t.Errorf("photo %v: %+v, want %s", p.ID, p, want)
		}
		if p.ID == large && (p.Title != "A <large> one" || p.Location == nil || p.Location.Name != "Oslo" || !slices.Equal(p.Tags, []string{"harbour"})) {
			t.Errorf("%+v", p)
		}
	}
	if len(originals) != 0 {
		t.Errorf("%d photos are not in it", len(originals))
	}
	var me archivedAccount
	must(t, json.Unmarshal(a.files["account.json"], &me))
	if me.Format != archiveFormat || me.ID != adaID || me.Name != "Ada" || me.Bio != "photos" || me.Notifications["like"] || !me.Notifications["comment"] {
		t.Errorf("%+v", me)
	}
	said := rows[archivedRemark](a, "comments.json")
	if len(said) != 1 || said[0].Text != "ada's words" || said[0].Photo != bens || said[0].PhotoAuthor != "ben" || said[0].Parent != theirs {
		t.Errorf("%+v", said)
	}
	likes := rows[archivedLiking](a, "likes.json")
	if len(likes) != 2 || likes[0].Photo != bens || likes[1].Photo != bens || likes[0].Comment+likes[1].Comment != theirs || likes[0].Author != "ben" || !likes[0].LikedAt.Equal(epoch) {
		t.Errorf("%+v", likes)
	}
	for name, want := range map[string][]string{"following.json": {"ben"}, "followers.json": {"ben"}, "listening.json": {"ben"}, "muted.json": {"ben"}, "blocked.json": {"eve"}, "follow_requests.json": nil} {
		if got := a.handles(name); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if _, there := a.files["missing.json"]; there || strings.Contains(string(a.files["comments.json"]), "ben's words") {
		t.Error("something is missing, or somebody else's")
	}
	if len(w.eventsOf(EventExport)) != 1 || len(w.eventsOf(EventArchive)) != 1 {
		t.Error("nobody was told that an archive was asked for, and taken")
	}
	eventually(t, "the room is given back", func() bool { n, _ := w.api.masters.held(); return n == 0 })
}

// Lists are read a page at a time.
func TestExportOfMuch(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	photo := w.newPhoto(ada, nil)
	for range archiveRows + 1 {
		w.call(ada, "POST", "/api/v1/photos/"+photo.String()+"/comments", m{"text": "x"}).is(201)
	}
	if n := len(w.archive(ada).comments()); n != archiveRows+1 {
		t.Errorf("%d comments, want %d", n, archiveRows+1)
	}
}

// An export is its owner's, its link anybody's who has it, and both come to an end.
func TestExportIsItsOwners(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	ben, _ := w.account("ben")
	e := w.export(ada)
	at := "/api/v1/exports/" + e.ID
	w.call("", "POST", "/api/v1/exports", nil).fails(pUnauthorized)
	w.call("", "GET", at, nil).fails(pUnauthorized)
	w.call(ben, "GET", at, nil).fails(pNotFound)
	key := into[keyBody](w.call(ada, "POST", "/api/v1/api-keys", m{"name": "k", "scopes": []string{"read", "write"}}).is(201)).Key
	w.call(key, "GET", at, nil).is(403)
	for _, other := range []string{"x", e.ID + "A", e.ID[:len(e.ID)-2] + "AA", ben} {
		w.call(ada, "GET", "/api/v1/exports/"+other, nil).fails(pNotFound)
	}
	if again := into[exportBody](w.call(ada, "GET", at, nil).is(200)); again != e {
		t.Errorf("%+v, then %+v", e, again)
	}
	head := w.call("", "HEAD", e.DownloadURL, nil).is(200)
	if head.header.Get("Content-Type") != "application/zip" || !strings.Contains(head.header.Get("Content-Disposition"), `filename="ada-2026-06-01.zip"`) || head.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", head.header)
	}
	link, query, _ := strings.Cut(e.DownloadURL, "?")
	for _, bad := range []string{link, link + "?" + query + "0", link + "?" + strings.Replace(query, "e=", "e=1", 1),
		strings.Replace(e.DownloadURL, e.ID, w.export(ben).ID, 1)} {
		w.call(ada, "GET", bad, nil).fails(pNotFound)
	}

	must(t, w.feed.Suspend(t.Context(), adaID, true))
	w.call("", "GET", e.DownloadURL, nil).fails(pNotFound)
	must(t, w.feed.Suspend(t.Context(), adaID, false))
	ada = into[signedInBody](w.call("", "POST", "/api/v1/sessions", m{"handle": "ada", "password": "pass of ada"}).is(201)).Token
	w.call("", "GET", e.DownloadURL, nil).is(200)

	w.clock.Advance(2 * time.Hour)
	w.call("", "GET", e.DownloadURL, nil).fails(pNotFound)
	fresh := into[exportBody](w.call(ada, "GET", at, nil).is(200))
	w.call("", "GET", fresh.DownloadURL, nil).is(200)
	w.clock.Advance(exportLife - 2*time.Hour)
	w.call(ada, "GET", at, nil).fails(pNotFound)
	w.call("", "GET", fresh.DownloadURL, nil).fails(pNotFound)
	last := w.export(ada)
	w.call(ada, "DELETE", "/api/v1/users/me", nil).is(204)
	w.call("", "GET", last.DownloadURL, nil).fails(pNotFound)
}

// get fetches a link as far as it comes.
func (w *world) get(url string) (status int, body []byte, err error) {
	w.t.Helper()
	resp, err := w.http.Get(url)
	must(w.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// failing has reads of masters ask when, with the number of the read and its size, from now on.
func (w *world) failing(when func(read int64, bytes int64) error) {
	var reads atomic.Int64
	look := func(_, n int64) error { return when(reads.Add(1), n) }
	w.blobs.onRead.Store(&look)
}

// hurry has the clock run until the test ends: who waits does not wait for long.
func (w *world) hurry() {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		eventually(w.t, "the test ends", func() bool {
			w.clock.Advance(100 * time.Millisecond)
			select {
			case <-over:
				return true
			default:
				return false
			}
		})
	}()
	w.t.Cleanup(func() { close(over); <-ended })
}

// An original that is damaged, or that its disk does not give, is named and left out; one
// that comes a little later is waited for. One that cannot be read when its entry has begun
// ends the archive where it is: it cannot be taken for a whole one.
func TestExportOfOriginalsThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	photos := []id.ID{w.post(ada, picture(64, 48, 1), nil), w.post(ada, largePicture(2<<20), nil), w.post(ada, picture(64, 48, 3), nil)}
	e := w.export(ada)
	w.hurry()
	errDisk := errors.New("test: a bad sector")
	once := func(at int64, err error) func(int64, int64) error {
		return func(read, _ int64) error {
			if read == at {
				return err
			}
			return nil
		}
	}
	for name, tt := range map[string]struct {
		when func(int64, int64) error
		lost string // reason
	}{
		"its second piece is damaged": {once(3, errDisk), "damaged or lost"},
		"the store is away":           {once(3, ErrUnavailable), ""},
		"it is away in the middle":    {once(6, ErrUnavailable), ""},
		"its disk is away": {func(_, n int64) error {
			if n == pieceBytes {
				return ErrUnavailable
			}
			return nil
		}, "not available now"},
	} {
		before := len(w.eventsOf(EventFault))
		w.failing(tt.when)
		status, body, err := w.get(e.DownloadURL)
		must(t, err)
		a := unpack(t, body)
		n := len(slices.DeleteFunc(slices.Collect(maps.Keys(a.files)), func(f string) bool { return !strings.HasPrefix(f, "originals/") }))
		if tt.lost == "" {
			if status != 200 || n != 3 || a.files["missing.json"] != nil {
				t.Errorf("%s: %d, %d originals, %s", name, status, n, a.files["missing.json"])
			}
			continue
		}
		lost := rows[missingPhoto](a, "missing.json")
		if status != 200 || n != 2 || len(lost) != 1 || lost[0].ID != photos[1] || lost[0].Reason != tt.lost || a.files[lost[0].File] != nil || len(a.photos()) != 3 {
			t.Errorf("%s: %d, %d originals, %+v", name, status, n, lost)
		}
		if len(w.eventsOf(EventFault)) != before+1 {
			t.Errorf("%s: %d faults are told of", name, len(w.eventsOf(EventFault))-before)
		}
	}
	w.failing(once(6, errDisk)) // the first is read once, the second twice
	w.cutOff(e.DownloadURL, "it was whole a moment ago")
	w.blobs.onRead.Store(nil)
	w.takesAgain(e.DownloadURL)
}

// cutOff wants an archive to end early.
func (w *world) cutOff(link, why string) {
	w.t.Helper()
	status, body, err := w.get(link)
	if status != 200 || err == nil {
		w.t.Errorf("%s: %d, %d bytes, %v", why, status, len(body), err)
	} else if _, err := zip.NewReader(bytes.NewReader(body), int64(len(body))); err == nil {
		w.t.Errorf("%s: what came is an archive", why)
	}
}

func (w *world) takesAgain(link string) {
	w.t.Helper()
	eventually(w.t, "the account may take its archive again", func() bool {
		status, body, err := w.get(link)
		return err == nil && status == 200 && unpack(w.t, body).files["missing.json"] == nil
	})
}

// What is deleted, or hidden, while an archive is on its way is not in it from then on.
func TestExportEndsWithItsAccount(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	first, second := w.post(ada, largePicture(2<<20), nil), w.post(ada, picture(64, 48, 3), nil)
	e := w.export(ada)
	w.failing(func(read, _ int64) error {
		if read == 1 {
			return w.feed.DeletePhoto(context.Background(), adaID, second, true)
		}
		return nil
	})
	a := unpack(t, w.call("", "GET", e.DownloadURL, nil).is(200).body)
	if lost := rows[missingPhoto](a, "missing.json"); len(lost) != 1 || lost[0].ID != second || lost[0].Reason != "deleted meanwhile" || a.files[lost[0].File] != nil {
		t.Errorf("%+v", lost)
	}
	w.failing(func(read, _ int64) error {
		if read == 4 { // the first piece of the second reading
			return w.feed.DeletePhoto(context.Background(), adaID, first, true)
		}
		return nil
	})
	w.cutOff(e.DownloadURL, "the photo is deleted in the middle")
	w.post(ada, largePicture(2<<20), nil)
	w.failing(func(read, _ int64) error {
		if read == 5 {
			return w.feed.Suspend(context.Background(), adaID, true)
		}
		return nil
	})
	w.cutOff(e.DownloadURL, "the account is suspended in the middle")
}

// A photo that goes after photos.json was written, and before its original is come to, is
// named.
func TestExportNamesWhatGoesMeanwhile(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	var photos []id.ID
	for range archiveRows + 1 {
		photos = append(photos, w.post(ada, picture(8, 8, 1), nil))
	}
	last := photos[archiveRows]
	w.failing(func(read, _ int64) error {
		if read == 1 {
			return w.feed.DeletePhoto(context.Background(), adaID, last, true)
		}
		return nil
	})
	a := w.archive(ada)
	if lost := rows[missingPhoto](a, "missing.json"); len(lost) != 1 || lost[0].ID != last || lost[0].Reason != deletedMeanwhile || len(a.photos()) != archiveRows+1 {
		t.Errorf("%+v", lost)
	}
}

// A panic on the way is told of, and nothing is left of it.
func TestExportSurvivesPanics(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	w.post(ada, largePicture(4<<20), nil)
	e := w.export(ada)
	for i, read := range []int64{1, 7} { // in the first piece, and later
		w.failing(func(n, _ int64) error {
			if n == read {
				panic("test: a panic")
			}
			return nil
		})
		if status, _, err := w.get(e.DownloadURL); status == 200 && err == nil {
			t.Errorf("read %d: %d, %v", read, status, err)
		}
		eventually(t, "it is told of", func() bool { return len(w.eventsOf(EventPanic)) == i+1 })
	}
	w.blobs.onRead.Store(nil)
	w.takesAgain(e.DownloadURL)
	eventually(t, "the room is given back", func() bool { n, _ := w.api.masters.held(); return n == 0 })
}

// An archive leaves in large chunks: its reader is held to the slowest rate by the piece.
func TestExportLeavesInPieces(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	for i := range 24 {
		w.post(ada, largePicture(100_000+i), nil)
	}
	path := strings.TrimPrefix(w.export(ada).DownloadURL, w.url)
	for version, want := range map[string]string{"1.1": "100", "1.0": ""} {
		nc, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		must(t, err)
		_, err = fmt.Fprintf(nc, "GET %s HTTP/%s\r\nHost: x\r\n\r\n", path, version)
		must(t, err)
		r := bufio.NewReader(nc)
		line, err := r.ReadString('\n')
		must(t, err)
		if want == "" {
			if !strings.Contains(line, " 400 ") {
				t.Errorf("HTTP/%s: %q", version, line)
			}
			must(t, nc.Close())
			continue
		}
		for line != "\r\n" {
			line, err = r.ReadString('\n')
			must(t, err)
		}
		size, err := r.ReadString('\n')
		must(t, err)
		if n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64); err != nil || n < pieceBytes {
			t.Errorf("the first chunk has %q bytes, %v", size, err)
		}
		must(t, nc.Close())
	}
}

// An account takes one archive at a time, and all accounts so many; who leaves makes room.
func TestExportsAreBounded(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.Exports = 2 })
	var links []string
	for _, handle := range []string{"ada", "ben", "eve"} {
		token, _ := w.account(handle)
		w.post(token, largePicture(12<<20), nil) // more than sockets hold
		links = append(links, w.export(token).DownloadURL)
	}
	begin := func(link string) *http.Response {
		resp, err := w.http.Get(link)
		must(t, err)
		if resp.StatusCode != 200 {
			t.Fatalf("%d", resp.StatusCode)
		}
		_, err = io.ReadFull(resp.Body, make([]byte, 1<<20))
		must(t, err)
		return resp
	}
	first := begin(links[0])
	w.call("", "GET", links[0], nil).fails(pBusy)
	second := begin(links[1])
	w.call("", "GET", links[2], nil).fails(pBusy)
	must(t, first.Body.Close())
	eventually(t, "who has left has made room", func() bool {
		status, _, err := w.get(links[2])
		return status == 200 && err == nil
	})
	must(t, second.Body.Close())
	eventually(t, "nothing is left of them", func() bool {
		n, _ := w.api.masters.held()
		w.api.exports.mu.Lock()
		defer w.api.exports.mu.Unlock()
		return n == 0 && len(w.api.exports.open) == 0
	})
}
