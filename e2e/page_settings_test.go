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
	b.write("s-new", password)
	b.click("password-save")
	b.text("toast", "password is changed")
	b.goTo("#/settings")
	b.until("one session is left", `document.querySelector('[data-testid="sessions"]')?.children.length === 1`)
}
