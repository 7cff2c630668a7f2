package web

import (
	"bytes"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// sources returns the embedded files by name relative to the page.
func sources(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(Files, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(Files, name)
		out[strings.TrimPrefix(name, root+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDocument(t *testing.T) {
	a, ok := Lookup("/")
	if !ok || a.ContentType != "text/html; charset=utf-8" || a.CacheControl != "no-cache" {
		t.Fatalf("document: %v %q %q", ok, a.ContentType, a.CacheControl)
	}
	if bytes.Contains(a.Body, []byte("@@")) {
		t.Error("a mark was left in the document")
	}
	refs := regexp.MustCompile(`(?:href|src)="([^"#]+)"`).FindAllSubmatch(a.Body, -1)
	modules := 0
	for _, m := range refs {
		to, ok := Lookup(string(m[1]))
		if !ok {
			t.Errorf("the document names %s, which is not served", m[1])
		}
		if to.CacheControl != immutable {
			t.Errorf("%s: Cache-Control %q", m[1], to.CacheControl)
		}
		if path.Ext(to.Path) == ".js" {
			modules++
		}
	}
	want := 1 // the script itself
	for name := range sources(t) {
		if path.Ext(name) == ".js" {
			want++
		}
	}
	if modules != want {
		t.Errorf("%d modules named, want %d", modules, want)
	}
	for _, no := range []string{"/static/app.js", "/index.html", "/page/app.js", "", "/static/", "//"} {
		if _, ok := Lookup(no); ok {
			t.Errorf("%q is served", no)
		}
	}
	if len(Assets()) != len(sources(t)) {
		t.Errorf("%d assets of %d files", len(Assets()), len(sources(t)))
	}
}

// TestImports: every import leads to a file, so no module is missing in the
// browser, and every module is reached from the first.
func TestImports(t *testing.T) {
	files := sources(t)
	imports := regexp.MustCompile(`(?m)^import\s+(?:\{[^}]*\}\s+from\s+)?'([^']+)';$`)
	reached := map[string]bool{}
	var follow func(name string)
	follow = func(name string) {
		if reached[name] {
			return
		}
		reached[name] = true
		for _, m := range imports.FindAllStringSubmatch(files[name], -1) {
			to := path.Join(path.Dir(name), m[1])
			if _, ok := files[to]; !ok || !strings.HasPrefix(m[1], ".") {
				t.Errorf("%s imports %s, which is no file of the page", name, m[1])
				continue
			}
			follow(to)
		}
	}
	follow("app.js")
	for name, text := range files {
		if path.Ext(name) != ".js" {
			continue
		}
		if !reached[name] {
			t.Errorf("%s is imported by nothing", name)
		}
		if n := strings.Count(text, "import "); n != len(imports.FindAllString(text, -1)) {
			t.Errorf("%s: %d imports, of which the test understands %d", name, n, len(imports.FindAllString(text, -1)))
		}
	}
}

// TestImportedNames: what one module asks of another is exported there. A wrong
// name would stop the whole page at load.
func TestImportedNames(t *testing.T) {
	files := sources(t)
	imports := regexp.MustCompile(`(?m)^import\s+\{([^}]*)\}\s+from\s+'([^']+)';$`)
	for name, text := range files {
		for _, m := range imports.FindAllStringSubmatch(text, -1) {
			to := files[path.Join(path.Dir(name), m[2])]
			for _, sym := range strings.Split(m[1], ",") {
				sym = strings.TrimSpace(sym)
				def := regexp.MustCompile(`(?m)^export (?:async )?(?:function|const|let|class) ` + regexp.QuoteMeta(sym) + `\b`)
				if !def.MatchString(to) {
					t.Errorf("%s imports %s, which %s does not export", name, sym, m[2])
				}
				if strings.Count(text, sym) < 2 {
					t.Errorf("%s imports %s and does not use it", name, sym)
				}
			}
		}
	}
}

// TestStrict: nothing in the page needs more than its policy allows, and nothing
// turns text into markup or code.
func TestStrict(t *testing.T) {
	bans := map[string][]*regexp.Regexp{
		".html": {
			regexp.MustCompile(`(?i)<style`), regexp.MustCompile(`(?i)\sstyle\s*=`), regexp.MustCompile(`(?i)\son\w+\s*=`),
			regexp.MustCompile(`(?i)<script(?:[^>]*)>[^<]`), regexp.MustCompile(`https?://`), regexp.MustCompile(`(?i)<base`),
		},
		".js": {
			regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc`),
			regexp.MustCompile(`\beval\b|new Function|javascript:`), regexp.MustCompile(`setAttribute\('style'`),
			regexp.MustCompile(`\bimport\(`), regexp.MustCompile(`\bconsole\.`),
		},
		".css": {regexp.MustCompile(`(?i)@import|expression\(|https?:|data:`)},
		".svg": {regexp.MustCompile(`(?i)<script|\son\w+\s*=|href|<style|\sstyle\s*=|foreignObject`)},
	}
	for name, text := range sources(t) {
		for _, ban := range bans[path.Ext(name)] {
			if m := ban.FindString(text); m != "" {
				t.Errorf("%s holds %q", name, m)
			}
		}
		text = strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "")
		if regexp.MustCompile(`https?://[a-z]`).MatchString(text) {
			t.Errorf("%s names an outside address", name)
		}
		if lines := strings.Count(text, "\n"); lines > 500 {
			t.Errorf("%s has %d lines", name, lines)
		}
		for i, line := range strings.Split(text, "\n") {
			if strings.TrimRight(line, " \t\r") != line {
				t.Errorf("%s:%d: white space at the end", name, i+1)
			}
		}
	}
	// The bans themselves: each finds what it is for.
	for ext, text := range map[string]string{".js": "el.innerHTML = x", ".html": `<p style="x">`, ".css": "@import 'x'", ".svg": "<script>"} {
		hit := false
		for _, ban := range bans[ext] {
			hit = hit || ban.MatchString(text)
		}
		if !hit {
			t.Errorf("%s: %q passes", ext, text)
		}
	}
}

// TestDigest: any change of any file moves every address, so that modules of two
// builds never meet in one browser.
func TestDigest(t *testing.T) {
	page := func(js string) fs.FS {
		return fstest.MapFS{
			"page/index.html": {Data: []byte(`<link href="@@STATIC@@/a.css">@@PRELOAD@@`)},
			"page/a.css":      {Data: []byte("p{}")},
			"page/v/b.js":     {Data: []byte(js)},
		}
	}
	one, err := build(page("1"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := build(page("1"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := build(page("2"))
	if err != nil {
		t.Fatal(err)
	}
	for p := range maps.Keys(one) {
		if _, ok := again[p]; !ok {
			t.Errorf("%s moved without a change", p)
		}
		if _, ok := other[p]; ok != (p == "/") {
			t.Errorf("%s after a change: %v", p, ok)
		}
	}
	if one["/"].ETag == other["/"].ETag || one["/"].ETag != again["/"].ETag {
		t.Error("the document's ETag does not follow its content")
	}
	if !strings.Contains(string(one["/"].Body), `<link rel="modulepreload" href="/static/`) {
		t.Errorf("document: %s", one["/"].Body)
	}
	if e := one["/"].ETag; len(e) < 10 || e[0] != '"' || e[len(e)-1] != '"' {
		t.Errorf("ETag %s is not strong and quoted", e)
	}
	if _, err := build(fstest.MapFS{"page/index.html": {Data: nil}, "page/x.exe": {Data: nil}}); err == nil {
		t.Error("a file of unknown type was taken")
	}
	if _, err := build(fstest.MapFS{"page/a.css": {Data: nil}}); err == nil {
		t.Error("a page without a document was taken")
	}
}

func TestCSP(t *testing.T) {
	const rest = "; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	const start = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:"
	for in, want := range map[string]string{
		"":                                start + rest,
		"https://media.example.org":       start + " https://media.example.org" + rest,
		"http://127.0.0.1:8080/some/path": start + " http://127.0.0.1:8080" + rest,
		"http://[::1]:8080":               start + " http://[::1]:8080" + rest,
	} {
		got, err := CSP(in)
		if err != nil || got != want {
			t.Errorf("CSP(%q) = %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"media.example.org", "*", "ftp://h", "http://", "http://a;script-src *", "http://a b", "http://a'b", "data:", "http://*.example.org", "http://a\r\nX: y"} {
		if got, err := CSP(bad); err == nil {
			t.Errorf("CSP(%q) = %q", bad, got)
		}
	}
}
