package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	// stepTimeout bounds one step in the browser; a loaded machine of two cores
	// takes a few seconds for a first page.
	stepTimeout = 30 * time.Second
	lookAgain   = 40 * time.Millisecond
)

// chromium starts one browser for the test and returns its context. The binary
// is Debian's chromium; HAYLOFT_CHROMIUM names another.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := os.Getenv("HAYLOFT_CHROMIUM")
	if path == "" {
		path = "/usr/bin/chromium"
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no browser to test with (apt-get install chromium): %v", err)
	}
	profile, err := os.MkdirTemp("", "hayloft-browser-")
	if err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("no-proxy-server", true))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // chromium refuses to run as root with it
	}
	actx, stopAllocator := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, stopBrowser := chromedp.NewContext(actx)
	t.Cleanup(func() {
		stopBrowser()
		stopAllocator()
		removeSoon(t, profile)
	})
	if err := chromedp.Do(ctx); err != nil { // starts it
		t.Fatalf("the browser did not start: %v", err)
	}
	return ctx
}

// removeSoon removes a browser's profile. Its last children may still write for
// a moment after the browser has gone.
func removeSoon(t *testing.T, dir string) {
	for deadline := time.Now().Add(5 * time.Second); ; {
		err := os.RemoveAll(dir)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Logf("browser profile stays: %v", err)
			return
		}
		<-time.After(lookAgain)
	}
}

// tab is one person's browser window, with cookies and storage of its own.
type tab struct {
	t    *testing.T
	ctx  context.Context
	name string
	base string
	shot int

	mu       sync.Mutex
	expected []*regexp.Regexp // log lines that belong to the test
	errors   []string         // everything else the browser complained about
}

// open makes a window of the given size. What the page writes to its console,
// exceptions, policy violations and failed loads are errors of the test unless
// expect has named them.
func open(t *testing.T, browser context.Context, base, name string, width, height int64, mobile bool) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	b := &tab{t: t, ctx: ctx, name: name, base: base}
	// A guest's page asks who is signed in; the answer is 401 and browsers log it.
	b.expect(`401 \(Unauthorized\).*/api/v1/users/me$`)
	// A stream of notifications ends with the server; browsers log that and open it again.
	b.expect(`/api/v1/notifications/stream`)
	messages := chromedp.Console(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range messages {
			if err != nil {
				return
			}
			b.complain(m)
		}
	}()
	var opts []chromedp.EmulateViewportOption
	if mobile {
		opts = append(opts, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	b.do("size the window", chromedp.EmulateViewport(width, height, opts...))
	t.Cleanup(func() {
		cancel()
		<-done
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range b.errors {
			t.Errorf("%s's browser: %s", name, e)
		}
	})
	return b
}

func (b *tab) complain(m chromedp.ConsoleMessage) {
	if m.Type == chromedp.ConsoleDebug || m.Type == chromedp.ConsoleInfo || m.Type == chromedp.ConsoleLog {
		return
	}
	line := fmt.Sprintf("%s %s %s", m.Type, strings.TrimSpace(m.Text), m.URL)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, re := range b.expected {
		if re.MatchString(line) {
			return
		}
	}
	b.errors = append(b.errors, line)
}

// expect names log lines that the test causes on purpose from here on.
func (b *tab) expect(pattern string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, regexp.MustCompile(pattern))
}

// id selects by data-testid.
func id(testID string) chromedp.CSS { return chromedp.CSS(`[data-testid="` + testID + `"]`) }

// do runs actions; what says what they are for.
func (b *tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.fail(what, err)
	}
}

// see waits until an element is visible.
func (b *tab) see(testID string) {
	b.t.Helper()
	b.do("see "+testID, chromedp.WaitVisible(id(testID)))
}

// click waits for an element and clicks it.
func (b *tab) click(testID string) {
	b.t.Helper()
	b.do("click "+testID, chromedp.WaitVisible(id(testID)), chromedp.Click(id(testID)))
}

// write writes into a field.
func (b *tab) write(testID, text string) {
	b.t.Helper()
	b.do("write into "+testID, chromedp.WaitVisible(id(testID)), chromedp.SendKeys(id(testID), text))
}

// rewrite replaces what a field holds.
func (b *tab) rewrite(testID, text string) {
	b.t.Helper()
	b.see(testID)
	eval[bool](b, fmt.Sprintf(`(document.querySelector('[data-testid="%s"]').select(), true)`, testID))
	b.write(testID, text)
}

// goTo shows the view at a hash, from a fresh load of the page.
func (b *tab) goTo(hash string) {
	b.t.Helper()
	b.do("leave", chromedp.Navigate("about:blank"))
	b.do("go to "+hash, chromedp.Navigate(b.base+"/"+hash))
}

// eval returns the value of a script. It runs beside the page's policy, as the
// developer tools do.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.fail("evaluate "+script, err)
	}
	return v
}

// until waits for a script to be true: the page shows effects of calls that no
// event tells of.
func (b *tab) until(what, script string) {
	b.t.Helper()
	deadline := time.Now().Add(stepTimeout)
	for !eval[bool](b, "!!("+script+")") {
		if time.Now().After(deadline) {
			b.fail(what, context.DeadlineExceeded)
		}
		<-time.After(lookAgain)
	}
}

// agrees waits until what the API says at a path, to who is signed in here, meets a
// condition on v.
func (b *tab) agrees(path, condition string) {
	b.t.Helper()
	script := fmt.Sprintf(`fetch('/api/v1%s', {headers: {Accept: 'application/json'}}).then((r) => r.json()).then((v) => [!!(%s), JSON.stringify(v)])`, path, condition)
	for deadline := time.Now().Add(stepTimeout); ; {
		said := eval[[]any](b, script)
		if said[0] == true {
			return
		}
		if time.Now().After(deadline) {
			b.fail(fmt.Sprintf("%s says %s where %s", path, said[1], condition), context.DeadlineExceeded)
		}
		<-time.After(lookAgain)
	}
}

// text waits until an element holds a text.
func (b *tab) text(testID, want string) {
	b.t.Helper()
	quoted, err := json.Marshal(want)
	if err != nil {
		b.t.Fatal(err)
	}
	b.until(fmt.Sprintf("%s reads %q", testID, want), fmt.Sprintf(`document.querySelector('[data-testid="%s"]')?.textContent.includes(%s)`, testID, quoted))
}

// loaded waits until the images within a selector are there with their pixels.
func (b *tab) loaded(selector string) {
	b.t.Helper()
	b.until("images in "+selector+" load", fmt.Sprintf(`(() => {
		const list = [...document.querySelectorAll('%s [data-testid="photo-image"]')];
		return list.length > 0 && list.every((i) => i.complete && i.naturalWidth > 0);
	})()`, selector))
}

// fail ends the test with what the page looks like.
func (b *tab) fail(what string, err error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	page, terr := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + '\n' + document.body.innerText`))
	if terr != nil {
		page = terr.Error()
	}
	b.picture("failed")
	b.t.Fatalf("%s: %s: %v\nthe page:\n%s", b.name, what, err, page)
}

// picture saves a screenshot when HAYLOFT_SCREENSHOTS names a directory.
func (b *tab) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("HAYLOFT_SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	settled := `Promise.all(document.getAnimations().filter((a) => a instanceof CSSTransition).map((a) => a.finished.catch(() => 0))).then(() => true)`
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](settled, chromedp.EvalAwaitPromise)); err != nil {
		b.t.Logf("screenshot %s: %v", name, err) // a picture in motion is better than none
	}
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		b.shot++
		err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%02d-%s.png", b.name, b.shot, name)), png, 0o644)
	}
	if err != nil {
		b.t.Errorf("screenshot %s: %v", name, err)
	}
}

// sound checks what every view owes its readers, and names the view.
func (b *tab) sound(view string) {
	b.t.Helper()
	b.picture(view)
	for _, fault := range eval[[]string](b, soundness) {
		b.t.Errorf("%s, view %s: %s", b.name, view, fault)
	}
}

// soundness lists faults of the view that is shown: content wider than the
// window, controls without a name, images without a text or a size.
const soundness = `(() => {
	const faults = [];
	const shown = (e) => e.getClientRects().length > 0;
	const over = document.documentElement.scrollWidth - innerWidth;
	if (over > 0) faults.push('wider than the window by ' + over);
	for (const e of document.querySelectorAll('a, button')) {
		if (shown(e) && !e.closest('[aria-hidden="true"]') && !(e.textContent.trim() || e.getAttribute('aria-label') || e.querySelector('img[alt]:not([alt=""])'))) faults.push('no name: ' + e.outerHTML.slice(0, 120));
	}
	for (const e of document.querySelectorAll('input, textarea, select')) {
		if (shown(e) && !(e.labels?.length || e.getAttribute('aria-label'))) faults.push('no label: ' + e.outerHTML.slice(0, 120));
	}
	for (const e of document.querySelectorAll('img')) {
		if (!e.hasAttribute('alt')) faults.push('no text: ' + e.src);
		if (e.dataset.testid === 'photo-image' && !(e.width > 0 && e.getAttribute('width') > 0 && e.getAttribute('height') > 0)) faults.push('no size: ' + e.src);
	}
	if (!document.title.includes('Hayloft')) faults.push('title ' + document.title);
	return faults;
})()`
