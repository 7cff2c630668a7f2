package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"hayloft/client"
	"hayloft/testdata/photos"
)

// TestPage takes two people through the page: sign-up, upload, follow, feed,
// like, comment, profile, delete and undo, sign-out.
func TestPage(t *testing.T) {
	s := start(t, t.TempDir())
	browser := chromium(t)
	ada := open(t, browser, s.url, "ada", 1280, 860, false)
	ben := open(t, browser, s.url, "ben", 390, 800, true)

	ada.signUp("ada", "Ada Lindqvist")
	ada.see("empty")
	ada.sound("empty feed")
	ben.signUp("ben", "")

	photo := ada.upload("stream.jpg", "Up the brook", "Up the stream", "A stream")
	ada.edits(photo, "Upstream", "Up the stream, slowly", "A stream between mossy stones")
	ben.followByHandle("ada")
	ben.listens("ada")
	ben.reads(photo)
	ben.searches(photo)
	ben.answers(photo)
	ada.hasOneStream()
	ada.isTold(photo)
	ada.readsAnswers(photo)
	ada.likesComment()
	ada.replies()
	ada.usesSettings("correct horse ada")
	ada.looksAtProfile(photo)
	media := ada.mediaOf(photo)
	ada.deletesAndUndoes(photo)
	ada.deletesForGood(photo, ben, media)
	ada.signsOut()
	s.stop(t)
}

// signUp makes an account through the form.
func (b *tab) signUp(handle, name string) {
	b.t.Helper()
	b.goTo("")
	b.see("signup")
	b.sound("sign up")
	b.write("handle", handle)
	if name != "" {
		b.write("name", name)
	}
	b.write("password", "correct horse "+handle)
	b.click("submit")
	b.see("nav-profile")
	if c := eval[string](b, `document.cookie`); c != "" {
		b.t.Errorf("scripts can read the cookie %q", c)
	}
}

// upload shares a photo and waits until it is in the feed, and returns its id.
func (b *tab) upload(file, title, caption, alt string) string {
	b.t.Helper()
	dir := b.t.TempDir()
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, photos.ByName(file).Data, 0o644); err != nil {
		b.t.Fatal(err)
	}
	broken := filepath.Join(dir, "notes.jpg")
	if err := os.WriteFile(broken, []byte(strings.Repeat("These are notes and no photo. ", 50)), 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.click("nav-upload")
	b.see("drop")
	b.sound("upload")

	// What is no photo is refused, and nothing that was typed is lost.
	b.expect(`(415|422) \(.*/api/v1/uploads/`)
	b.do("choose a file", chromedp.SetUploadFiles(id("file"), []string{broken}))
	b.write("caption-input", caption)
	b.click("share")
	b.until("the refusal is shown", `document.querySelector('[data-testid="compose"] [data-testid="form-error"]')?.textContent`)
	if got := eval[string](b, `document.querySelector('[data-testid="caption-input"]').value`); got != caption {
		b.t.Errorf("after a refusal the caption reads %q", got)
	}
	b.sound("upload refused")

	b.click("choose-another")
	b.do("choose a photo", chromedp.SetUploadFiles(id("file"), []string{path}))
	b.see("preview")
	if got := eval[string](b, `document.querySelector('[data-testid="caption-input"]').value`); got != caption {
		b.t.Errorf("after another choice the caption reads %q", got)
	}
	b.saysMore(title, alt)
	// Noted by the page itself: on a fast machine the pending state is short.
	eval[bool](b, `(() => {
		window.seenStates = new Set();
		new MutationObserver(() => document.querySelectorAll('[data-testid="pending"]').forEach((e) => window.seenStates.add(e.dataset.state)))
			.observe(document.body, {subtree: true, childList: true});
		return true;
	})()`)
	b.click("share")
	b.see("card")
	b.loaded(`[data-testid="card"]`)
	b.until("pending is over", `!document.querySelector('[data-testid="pending"]')`)
	if states := eval[[]string](b, `[...window.seenStates]`); !strings.Contains(strings.Join(states, " "), "preparing") {
		b.t.Errorf("the pending photo was shown as %v", states)
	}
	b.text("caption", title)
	b.text("caption", caption)
	b.until("the tags are links", `[...document.querySelectorAll('[data-testid="tag"]')].map((e) => e.hash).join() === '#/t/moss,#/t/water'`)
	if got := eval[string](b, `document.querySelector('[data-testid="photo-image"]').alt`); got != alt {
		b.t.Errorf("the image's text is %q", got)
	}
	b.sound("feed with own photo")
	return eval[string](b, `document.querySelector('[data-testid="card"]').dataset.photo`)
}

// followByHandle finds somebody by handle and follows them.
func (b *tab) followByHandle(handle string) {
	b.t.Helper()
	b.click("nav-people")
	b.expect(`404 \(Not Found\).*/api/v1/users/%40nobody.here$`)
	b.write("find-input", "nobody.here")
	b.click("find-submit")
	b.text("form-error", "Nobody here is called @nobody.here")
	b.sound("people, not found")
	b.rewrite("find-input", "@"+strings.ToUpper(handle))
	b.click("find-submit")
	b.text("profile-handle", handle)
	b.text("follower-count", "0")
	b.click("follow")
	b.text("follow", "Following")
	b.text("follower-count", "1")
	b.loaded(`[data-testid="grid"]`)
	b.sound("profile followed")
}

// reads finds the photo in the feed, whole and in the right size.
func (b *tab) reads(photo string) {
	b.t.Helper()
	b.click("nav-home")
	b.see("card")
	b.loaded(fmt.Sprintf(`[data-photo="%s"]`, photo))
	shape := eval[struct{ Natural, Shown, Width float64 }](b, `(() => {
		const i = document.querySelector('[data-testid="photo-image"]');
		return {Natural: i.naturalWidth / i.naturalHeight, Shown: i.clientWidth / i.clientHeight, Width: i.naturalWidth};
	})()`)
	if shape.Width < 320 || shape.Natural/shape.Shown < 0.97 || shape.Natural/shape.Shown > 1.03 {
		b.t.Errorf("the photo in the feed: %+v", shape)
	}
	if shift := eval[float64](b, layoutShift); shift > 0.05 {
		b.t.Errorf("the feed moved by %.3f while it loaded", shift)
	}
	b.sound("feed of the follower")
}

// searches finds the photo by words, and its author by a handle.
func (b *tab) searches(photo string) {
	b.t.Helper()
	b.click("nav-search")
	b.see("search-input")
	b.sound("search")
	b.write("search-input", "STREAM 100% no")
	b.click("search-submit")
	b.see("no-photos")
	b.rewrite("search-input", "slowly stream")
	b.click("search-submit")
	b.until("the photo is found", fmt.Sprintf(`document.querySelector('[data-testid="found-photos"] [data-photo="%s"]')`, photo))
	b.loaded(`[data-testid="found-photos"]`)
	b.until("the bar says where one is", `document.querySelector('[data-testid="nav-search"][aria-current]')`)
	b.sound("search results")
	b.rewrite("search-input", "ad")
	b.click("search-submit")
	b.see("found-people")
	b.text("person", "ada")
	b.sound("people found")
	b.goTo("#/t/nothing")
	b.see("empty")
	b.goTo("#/")
	b.see("card")
}

// layoutShift is the sum of what the browser saw jump without the user's doing.
const layoutShift = `new Promise((done) => {
	let sum = 0;
	new PerformanceObserver((list) => { for (const e of list.getEntries()) if (!e.hadRecentInput) sum += e.value; done(sum); })
		.observe({type: 'layout-shift', buffered: true});
	requestAnimationFrame(() => requestAnimationFrame(() => done(sum)));
})`

// answers likes the photo, takes it back, likes it again, and comments.
func (b *tab) answers(photo string) {
	b.t.Helper()
	b.text("like-count", "0")
	for _, want := range []string{"1", "0", "1"} {
		b.click("like")
		b.text("like-count", want)
	}
	b.click("comments-toggle")
	b.see("no-comments")
	const nasty = `Lovely <img src=x onerror="document.title='gone'"> & "quoted"`
	b.write("comment-input", nasty)
	b.click("comment-send")
	b.text("comment-text", nasty)
	b.text("comment-count", "1")
	b.text("like-count", "1") // one does not undo the other
	b.sound("feed with comment")
	b.click("photo-link")
	b.see("photo-page")
	b.loaded(`[data-testid="photo-page"]`)
	b.text("likes", "1 like")
	b.text("comment-text", nasty)
	if eval[bool](b, `!!document.querySelector('[data-testid="delete"]')`) {
		b.t.Error("somebody else's photo offers to be deleted")
	}
	b.sound("photo of somebody else")
}

// isTold hears, while she looks at something else, of a follow, a like and a comment.
func (b *tab) isTold(photo string) {
	b.t.Helper()
	b.text("unread", "3")
	b.click("nav-notifications")
	b.until("all three are there", `document.querySelectorAll('[data-testid="notification"]').length === 3`)
	kinds := eval[[]string](b, `[...document.querySelectorAll('[data-testid="notification"]')].map((e) => e.dataset.kind)`)
	if strings.Join(kinds, " ") != "comment like follow" {
		b.t.Errorf("told of %v", kinds)
	}
	b.until("they show the photo", fmt.Sprintf(`document.querySelectorAll('[data-testid="notification"] a[href="#/p/%s"] img').length === 2`, photo))
	b.until("nothing is unread", `document.querySelector('[data-testid="unread"]').hidden`)
	b.sound("notifications")
}

// readsAnswers sees on the photo's page what others left there.
func (b *tab) readsAnswers(photo string) {
	b.t.Helper()
	b.goTo("#/p/" + photo)
	b.see("photo-page")
	b.text("likes", "1 like")
	b.see("comment")
	b.see("delete")
	b.loaded(`[data-testid="photo-page"]`)
	b.write("comment-input", "Thank you\r") // Enter sends
	b.until("both comments are there", `document.querySelectorAll('[data-testid="comment"]').length === 2`)
	b.sound("own photo")
}

func (b *tab) looksAtProfile(photo string) {
	b.t.Helper()
	b.click("nav-profile")
	b.text("profile-name", "Ada Lindqvist")
	b.text("photo-count", "1")
	b.text("follower-count", "1")
	b.loaded(fmt.Sprintf(`[data-testid="grid"] [data-photo="%s"]`, photo))
	b.sound("own profile")
}

// mediaOf asks the API, as the page is signed in, for the photo's URLs.
func (b *tab) mediaOf(photo string) []string {
	b.t.Helper()
	urls := eval[[]string](b, fmt.Sprintf(`fetch('/api/v1/photos/%s', {headers: {Accept: 'application/json'}}).then((r) => r.json()).then((p) => Object.values(p.urls))`, photo))
	if len(urls) != 5 {
		b.t.Fatalf("the photo has the URLs %q", urls)
	}
	for _, u := range urls {
		if status, body := get(b.t, u); status != 200 || len(body) == 0 {
			b.t.Errorf("%s: %d, %d bytes", u, status, len(body))
		}
	}
	return urls
}

func (b *tab) deletesAndUndoes(photo string) {
	b.t.Helper()
	b.goTo("#/p/" + photo)
	b.click("delete")
	b.see("toast-action")
	b.until("the grid is empty", `document.querySelector('[data-testid="profile-handle"]') && !document.querySelector('[data-testid="grid"] [data-photo]:not([hidden])')`)
	b.sound("deleted")
	b.click("toast-action")
	b.see("photo-page")
	b.loaded(`[data-testid="photo-page"]`)
	b.text("likes", "1 like")
}

// deletesForGood deletes, and looks for the photo everywhere.
func (b *tab) deletesForGood(photo string, follower *tab, media []string) {
	b.t.Helper()
	b.click("delete")
	b.see("toast-action")
	for _, u := range media {
		waitStatus(b.t, u, 404, "media of a deleted photo")
	}
	b.goTo("#/deleted")
	b.see("restore")
	b.sound("recently deleted")

	follower.expect(`404 \(Not Found\).*/api/v1/photos/` + photo + `$`)
	follower.goTo("#/p/" + photo)
	follower.text("empty", "Nothing here")
	follower.sound("photo that is gone")
	follower.click("nav-home")
	follower.text("empty", "A quiet place")
	follower.goTo("#/@ada")
	follower.text("photo-count", "0")
	follower.text("empty", "No photos yet")
}

func (b *tab) signsOut() {
	b.t.Helper()
	b.click("nav-profile")
	b.click("sign-out")
	b.see("signin")
	b.goTo("#/upload")
	b.see("signin")
	b.expect(`401 \(Unauthorized\).*/api/v1/sessions$`)
	b.write("handle", "ada")
	b.write("password", "not the password")
	b.click("submit")
	b.text("form-error", "Wrong handle or password")
	b.sound("sign in refused")
	b.rewrite("password", "correct horse ada")
	b.click("submit")
	b.see("nav-profile")
}

// TestPageFeedScroll: a feed longer than the window loads as one scrolls, keeps
// its order, and on the way back from a photo is where it was.
func TestPageFeedScroll(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s := start(t, t.TempDir())
	author, reader := s.account(t, "author"), s.account(t, "reader")
	if _, err := reader.Follow(ctx, "author"); err != nil {
		t.Fatal(err)
	}
	var want []string // newest first
	for _, p := range photos.All() {
		posted, err := author.PostPhoto(ctx, client.File{At: strings.NewReader(string(p.Data)), Size: int64(len(p.Data)), ContentType: "image/jpeg", Name: p.Name},
			client.Details{Title: p.Title, Caption: p.Caption}, 10*time.Second, "")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := author.WaitReady(ctx, posted.PhotoID); err != nil || got.Status != client.StatusReady {
			t.Fatalf("%s: %s, %v", p.Name, got.Status, err)
		}
		want = append([]string{posted.PhotoID}, want...)
	}

	b := open(t, chromium(t), s.url, "reader", 1280, 860, false)
	b.goTo("#/signin")
	b.write("handle", "reader")
	b.write("password", "correct horse reader")
	b.click("submit")
	b.see("card")
	b.until("all photos come", fmt.Sprintf(`(scrollTo(0, document.body.scrollHeight), document.querySelectorAll('[data-testid="card"]').length >= %d)`, len(want)))
	got := eval[[]string](b, `[...document.querySelectorAll('[data-testid="card"]')].map((c) => c.dataset.photo)`)
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("feed  %q\nwant %q", got, want)
	}
	b.loaded(`[data-testid="card"]:last-of-type`)
	b.sound("end of the feed")
	// A view that is left and come back to is where it was.
	last := want[len(want)-1]
	eval[bool](b, fmt.Sprintf(`(document.querySelector('[data-photo="%s"]').scrollIntoView(), true)`, last))
	at := eval[float64](b, `scrollY`)
	if at < 1000 {
		t.Fatalf("the feed is scrolled to %v", at)
	}
	eval[bool](b, fmt.Sprintf(`(document.querySelector('[data-photo="%s"] [data-testid="photo-link"]').click(), true)`, last))
	b.see("photo-page")
	b.do("go back", chromedp.NavigateBack())
	b.see("feed")
	b.until("the feed is where it was", fmt.Sprintf(`Math.abs(scrollY - %v) < 2`, at))
	s.stop(t)
}
