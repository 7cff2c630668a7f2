package e2e

import (
	"fmt"

	"github.com/chromedp/chromedp"
)

// saysMore fills in what can be said of a photo that is about to be shared, and is told of
// each fault beside its field.
func (b *tab) saysMore(title, alt string) {
	b.t.Helper()
	b.write("title-input", title)
	b.write("alt-input", alt)
	b.write("tags-input", "#Moss, wa-ter")
	b.write("place-input", "Harz")
	b.write("position-input", "51.75")
	b.do("choose who sees it", chromedp.SendKeys(id("visibility-input"), "Followers"))
	b.click("share")
	b.text("tags-error", "“wa-ter”")
	b.text("position-error", "in degrees")
	b.focused("tags-input")
	b.sound("upload with faults")
	b.rewrite("tags-input", "#Moss, water")
	b.until("the fault that is mended is gone", `!document.querySelector('[data-testid="tags-error"]').textContent && document.querySelector('[data-testid="position-error"]').textContent`)
	b.rewrite("position-input", " ")
	b.click("share")
	b.text("position-error", "A place needs its position")
	b.focused("position-input")
	b.rewrite("position-input", "51.75, −10.62°")
	b.sound("upload chosen")
}

// focused waits until an element has the keyboard.
func (b *tab) focused(testID string) {
	b.t.Helper()
	b.until(testID+" has the focus", fmt.Sprintf(`document.activeElement?.dataset.testid === '%s'`, testID))
}

// edits says something else about a photo of which the upload said title, tags, place and
// that followers alone may see it. The feed is kept behind: it has to know, too.
func (b *tab) edits(photo, title, caption, alt string) {
	b.t.Helper()
	path := "/photos/" + photo
	b.agrees(path, `v.title === 'Up the brook' && v.visibility === 'followers' && v.tags.join() === 'moss,water' && v.location.name === 'Harz' && v.location.lat === 51.75 && v.location.lng === -10.62`)
	b.text("place", "Harz")
	b.text("card", "Followers")
	b.click("photo-link")
	b.see("photo-page")
	b.loaded(`[data-testid="photo-page"]`)
	b.click("edit-photo")
	b.focused("title-input")
	b.until("the fields hold what was said", `['title', 'tags', 'place', 'position', 'visibility'].map((n) => document.querySelector('[data-testid="' + n + '-input"]').value).join('|') === 'Up the brook|moss, water|Harz|51.75, -10.62|followers'`)
	b.sound("photo being edited")

	// Nothing is sent when it is let be, and the way out is a key.
	b.do("leave it by keyboard", chromedp.KeyEvent("\u001b"))
	b.until("the dialog is gone", `!document.querySelector('dialog')`)
	b.focused("edit-photo")
	b.do("come back by keyboard", chromedp.KeyEvent("\r"))
	b.focused("title-input")

	// What the server refuses stands beside its field.
	b.expect(`422 \(.*/api/v1` + path + `$`)
	eval[bool](b, `(document.querySelector('[data-testid="title-input"]').value = 'A \u0007 bell', true)`)
	b.click("photo-save")
	b.text("title-error", "control character")
	b.focused("title-input")
	b.sound("edit refused")

	// Somebody else, on another device, changes what is not touched here.
	eval[bool](b, fmt.Sprintf(`fetch('/api/v1%s', {method: 'PATCH', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({caption: %q})}).then((r) => r.ok)`, path, caption))
	b.rewrite("title-input", title)
	b.rewrite("tags-input", "moss, stones")
	b.rewrite("place-input", "Bodetal")
	b.rewrite("position-input", "51.74 11.02")
	b.rewrite("alt-input", alt)
	b.do("everybody may see it", chromedp.SendKeys(id("visibility-input"), "Everybody"))
	b.click("photo-save")
	b.text("toast", "Saved")
	b.focused("edit-photo")
	b.agrees(path, fmt.Sprintf(`v.title === %q && v.caption === %q && v.alt === %q && v.tags.join() === 'moss,stones' && v.location.name === 'Bodetal' && v.location.lat === 51.74 && v.location.lng === 11.02 && v.visibility === 'public'`, title, caption, alt))
	b.until("the page shows it", fmt.Sprintf(`document.title === %q && document.querySelector('[data-testid="place"]').textContent === 'Bodetal' && !document.querySelector('.byline').textContent.includes('Followers') && document.querySelector('[data-testid="photo-image"]').alt === %q`, title+" · Hayloft", alt))
	b.see("use-as-avatar")
	b.loaded(`[data-testid="photo-page"]`)
	b.sound("photo edited")

	b.do("go back", chromedp.NavigateBack())
	b.see("feed")
	b.text("caption", title)
	b.until("the feed that was kept shows it", fmt.Sprintf(`document.querySelector('[data-testid="place"]').textContent === 'Bodetal' && document.querySelector('[data-testid="photo-image"]').alt === %q`, alt))
	b.loaded(`[data-testid="card"]`)
	b.goTo("#/p/" + photo) // and so does a fresh load
	b.text("caption", title)
	b.text("caption", caption)
	b.until("the tags are links", `[...document.querySelectorAll('[data-testid="tag"]')].map((e) => e.hash).join() === '#/t/moss,#/t/stones'`)

	b.takesKnownPlace()
	b.takesPlaceAway(path, title)
}

// takesKnownPlace is offered a place that a photo has, and gets its position with it.
func (b *tab) takesKnownPlace() {
	b.t.Helper()
	b.click("edit-photo")
	b.rewrite("position-input", "1, 2")
	b.rewrite("place-input", "bode")
	b.until("the place is offered", `document.querySelector('[data-testid="places-known"] option')?.value === 'Bodetal (51.74, 11.02)'`)
	// The browser's own list is none of the page's elements: what it does is this.
	eval[bool](b, `(() => {
		const e = document.querySelector('[data-testid="place-input"]');
		e.value = document.querySelector('[data-testid="places-known"] option').value;
		return e.dispatchEvent(new InputEvent('input', {bubbles: true}));
	})()`)
	b.until("the fields hold it", `['place', 'position'].map((n) => document.querySelector('[data-testid="' + n + '-input"]').value).join('|') === 'Bodetal|51.74, 11.02'`)
	b.click("photo-cancel")
	b.until("the dialog is gone", `!document.querySelector('dialog')`)
}

// takesPlaceAway empties a field, which is something else than not to touch it.
func (b *tab) takesPlaceAway(path, title string) {
	b.t.Helper()
	b.click("edit-photo")
	b.rewrite("place-input", " ")
	b.rewrite("position-input", " ")
	b.click("photo-save")
	b.text("toast", "Saved")
	b.agrees(path, fmt.Sprintf(`v.location === null && v.title === %q && v.tags.length === 2`, title))
	b.until("the place is gone", `!document.querySelector('[data-testid="place"]')`)
}
