package e2e

import (
	"fmt"

	"github.com/chromedp/chromedp"
)

// likesComment likes the first comment that is shown, and takes that back.
func (b *tab) likesComment() {
	b.t.Helper()
	for _, want := range []string{"1", "", "1"} {
		b.click("comment-like")
		b.until("the comment has "+want+" likes", `document.querySelector('[data-testid="comment-likes"]').textContent === "`+want+`"`)
	}
	b.sound("own photo with a comment liked")
}

// replies answers the older of two comments, finds the answer again, with the one it
// names as a link, and deletes it.
func (b *tab) replies() {
	b.t.Helper()
	b.do("answer", chromedp.Click(chromedp.CSS(`[data-testid="comment"]:last-child [data-testid="reply"]`)))
	b.write("reply-input", "So it is, @Ben.\r")
	b.until("the reply is there", `document.querySelector('[data-testid="replies"] [data-testid="comment-text"]')?.textContent === 'So it is, @Ben.'`)
	b.sound("reply")
	b.goTo(eval[string](b, `location.hash`))
	b.until("one reply is told of", `document.querySelector('[data-testid="replies-show"]:not([hidden])')?.textContent === 'Show 1 reply'`)
	b.do("show it", chromedp.Click(chromedp.CSS(`[data-testid="replies-show"]:not([hidden])`)))
	b.until("the reply names ben", `document.querySelector('[data-testid="replies"] .named')?.hash === '#/@ben'`)
	b.do("delete the reply", chromedp.Click(chromedp.CSS(`[data-testid="replies"] [data-testid="comment-delete"]`)))
	b.until("the reply is gone", `document.querySelectorAll('[data-testid="comment"]').length === 2`)
	b.sound("reply deleted")
}

// hasOneStream looks at the stream of notifications when the page is left and comes
// back. A page that is kept for the way back and holds its stream takes one of the six
// connections that a browser has: after six visits nothing loads any more.
func (b *tab) hasOneStream() {
	b.t.Helper()
	got := eval[[]int](b, `(() => {
		const real = window.EventSource, close = real.prototype.close;
		let closed = 0, opened = 0;
		real.prototype.close = function () { closed++; close.call(this); };
		window.EventSource = class extends real { constructor(url) { super(url); opened++; } };
		dispatchEvent(new Event('pagehide'));
		const left = [closed, opened];
		dispatchEvent(new Event('pageshow'));
		dispatchEvent(new Event('pageshow'));
		window.EventSource = real;
		real.prototype.close = close;
		return [...left, closed, opened];
	})()`)
	if fmt.Sprint(got) != "[1 0 1 1]" {
		b.t.Errorf("streams closed and opened when the page was left, and when it had come back: %v", got)
	}
}

// usesSettings takes the photo that is shown for a picture, and goes through the
// settings: private, a key, another password.
func (b *tab) usesSettings(password string) {
	b.t.Helper()
	b.click("use-as-avatar")
	b.text("toast", "your picture")
	b.until("the bar shows the picture", `document.querySelector('[data-testid="nav-profile"] img')`)
	b.click("nav-profile")
	b.click("to-settings")
	b.see("avatar-remove")
	b.sound("settings")
	b.choosesWhatToBeTold()
	b.click("avatar-remove")
	b.text("toast", "removed")
	b.until("no picture is left", `!document.querySelector('[data-testid="avatar-remove"]') && !document.querySelector('[data-testid="nav-profile"] img')`)
	b.click("private")
	b.text("toast", "approve")
	b.write("key-name", "backup")
	b.click("key-make")
	b.text("key-shown", "hlk_")
	b.click("key-delete")
	b.until("the key is gone", `!document.querySelector('[data-testid="key-delete"]')`)
	b.click("private")
	b.text("toast", "Everybody")
	b.write("s-old", password)
	b.write("s-new", password+"\r")
	b.text("toast", "password is changed")
	b.goTo("#/settings")
	b.until("one session is left", `document.querySelector('[data-testid="sessions"]')?.children.length === 1`)
	b.takesEverything()
}

// choosesWhatToBeTold turns one kind of notification off and on, and hears of a refusal
// beside the box that it is about.
func (b *tab) choosesWhatToBeTold() {
	b.t.Helper()
	b.until("every kind is wanted", `document.querySelectorAll('[data-testid^="told-"]:checked').length === 6`)
	b.click("told-like")
	b.agrees("/notifications/preferences", `v.like === false && v.comment && v.post`)
	b.goTo("#/notifications")
	b.until("likes are not shown", `document.querySelectorAll('[data-testid="notification"]').length === 2`)
	b.goTo("#/settings")
	b.until("the box says so after a reload", `document.querySelector('[data-testid="told-like"]:not(:disabled)')?.checked === false && document.querySelector('[data-testid="told-post"]').checked`)
	eval[bool](b, `(() => {
		const real = window.fetch;
		window.fetch = () => { window.fetch = real; return Promise.reject(new TypeError('cut off')); };
		return true;
	})()`)
	b.click("told-post")
	b.until("the refusal is beside its box", `document.getElementById('s-told-post-e').textContent.includes('cannot be reached') && document.querySelector('[data-testid="told-post"]').checked`)
	b.sound("settings refused")
	b.do("turn it on by keyboard", chromedp.Focus(id("told-like")), chromedp.KeyEvent(" "))
	b.agrees("/notifications/preferences", `Object.values(v).length === 6 && Object.values(v).every((on) => on)`)
	b.see("avatar-remove")
}

// listens asks to be told of photos by the one whose profile is shown and whom it follows.
func (b *tab) listens(handle string) {
	b.t.Helper()
	b.text("listen", "Notify me")
	b.click("listen")
	b.text("toast", "You are told")
	b.text("listen", "Notified")
	b.agrees("/listening", `v.items.map((u) => u.handle).join() === "`+handle+`"`)
	b.goTo("#/@" + handle)
	b.text("listen", "Notified")
	b.sound("profile listened to")

	// The settings know it, and can end it.
	b.goTo("#/settings")
	b.see("listen-end")
	b.focusIsSeen("listen-end")
	b.click("listen-end")
	b.agrees("/listening", `v.items.length === 0`)
	b.goTo("#/@" + handle)
	b.text("listen", "Notify me")
	b.do("press it by keyboard", chromedp.Focus(id("listen")), chromedp.KeyEvent("\r"))
	b.text("listen", "Notified")
	b.until("it has kept the focus", `document.activeElement?.dataset.testid === 'listen'`)

	// Who does not follow is not told.
	b.click("follow")
	b.text("follow", "Follow")
	b.until("there is nothing to ask", `document.querySelector('[data-testid="listen"]').hidden`)
	b.agrees("/users/@"+handle, `v.viewer.listens === false`)
	b.click("follow")
	b.text("follow", "Following")
	b.expect(`409 \(.*/listen$`)
	eval[bool](b, `fetch('/api/v1/users/@`+handle+`/follow', {method: 'DELETE'}).then((r) => r.ok)`) // on another device
	b.click("listen")
	b.text("toast", "do not follow")
	b.text("follow", "Follow")
	b.until("there is nothing to ask any more", `document.querySelector('[data-testid="listen"]').hidden`)
	b.click("follow")
	b.text("follow", "Following")
	b.click("listen")
	b.text("listen", "Notified")
	b.agrees("/users/@"+handle, `v.viewer.listens`)
}

// focusIsSeen looks whether a control of a small window that lies behind the bar at its foot
// comes out from there when it gets the focus.
func (b *tab) focusIsSeen(testID string) {
	b.t.Helper()
	over := eval[float64](b, fmt.Sprintf(`(() => {
		const e = document.querySelector('[data-testid="%s"]'), bar = document.querySelector('.nav').getBoundingClientRect();
		scrollBy(0, e.getBoundingClientRect().bottom - innerHeight + 10);
		const hidden = e.getBoundingClientRect().bottom > bar.top;
		e.focus();
		return hidden ? e.getBoundingClientRect().bottom - bar.top : NaN;
	})()`, testID))
	if !(over <= 0) {
		b.t.Errorf("%s has the focus and is %v pixels behind the bar", testID, over)
	}
}
