package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
)

// Files holds the page as it lies in the repository, under "page".
//
//go:embed page
var Files embed.FS

const (
	root     = "page"
	document = "index.html"

	// immutable is for addresses that carry a digest, revalidate for the one
	// that does not.
	immutable  = "public, max-age=31536000, immutable"
	revalidate = "no-cache"

	staticMark  = "@@STATIC@@"  // in the document: where the other files are
	preloadMark = "@@PRELOAD@@" // in the document: a link for each module
)

// Asset is one file as it is served.
type Asset struct {
	Path         string // of the URL: "/" or "/static/{digest}/…"
	ContentType  string
	CacheControl string
	ETag         string // strong, quoted
	Body         []byte // read-only
}

// contentTypes by extension. A file of another kind is a fault of the build,
// found by the first test.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".png":  "image/png",
}

var table = sync.OnceValue(func() map[string]Asset {
	t, err := build(Files)
	if err != nil {
		panic(err) // the files are part of the program
	}
	return t
})

// Lookup returns the asset served at a URL path.
func Lookup(urlPath string) (Asset, bool) {
	a, ok := table()[urlPath]
	return a, ok
}

// Assets returns every asset, by path.
func Assets() []Asset {
	t := table()
	out := make([]Asset, 0, len(t))
	for _, a := range t {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Asset) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// build makes the table from a file system that holds the page.
func build(files fs.FS) (map[string]Asset, error) {
	bodies := map[string][]byte{}
	err := fs.WalkDir(files, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, name)
		bodies[strings.TrimPrefix(name, root+"/")] = b
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("web: read page: %w", err)
	}
	static := "/static/" + digest(bodies)
	page, ok := bodies[document]
	if !ok {
		return nil, errors.New("web: page has no " + document)
	}
	bodies[document] = complete(page, static, bodies)

	t := make(map[string]Asset, len(bodies))
	for name, b := range bodies {
		ct, ok := contentTypes[path.Ext(name)]
		if !ok {
			return nil, fmt.Errorf("web: no content type for %s", name)
		}
		a := Asset{Path: static + "/" + name, ContentType: ct, CacheControl: immutable, Body: b}
		if name == document {
			a.Path, a.CacheControl = "/", revalidate
		}
		sum := sha256.Sum256(b)
		a.ETag = `"` + hex.EncodeToString(sum[:16]) + `"`
		t[a.Path] = a
	}
	return t, nil
}

// digest covers names and contents of all files, in order.
func digest(bodies map[string][]byte) string {
	h := sha256.New()
	for _, name := range sortedNames(bodies) {
		fmt.Fprintf(h, "%d:%s%d:", len(name), name, len(bodies[name]))
		h.Write(bodies[name])
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// complete puts the addresses into the document. Every module is named in it,
// or the browser would learn of each only from the one that imports it.
func complete(page []byte, static string, bodies map[string][]byte) []byte {
	var links []string
	for _, name := range sortedNames(bodies) {
		if path.Ext(name) == ".js" {
			links = append(links, `<link rel="modulepreload" href="`+static+"/"+name+`">`)
		}
	}
	page = bytes.ReplaceAll(page, []byte(preloadMark), []byte(strings.Join(links, "\n")))
	return bytes.ReplaceAll(page, []byte(staticMark), []byte(static))
}

func sortedNames(bodies map[string][]byte) []string {
	names := make([]string, 0, len(bodies))
	for name := range bodies {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// CSP returns the Content-Security-Policy of the page. Nothing is allowed but
// the page's own scripts and styles, calls to its own origin, and images, which
// may also come from the media URL (its origin counts; "": the page's own). An
// URL that is not absolute http(s) is an error: whatever it holds would
// otherwise stand in a header field.
func CSP(mediaURL string) (string, error) {
	images := "'self' data: blob:"
	if mediaURL != "" {
		o, err := origin(mediaURL)
		if err != nil {
			return "", err
		}
		images += " " + o
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src " + images,
		"connect-src 'self'",
		"form-action 'self'",
		"base-uri 'none'",
		"frame-ancestors 'none'",
	}, "; "), nil
}

func origin(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("web: media URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.ContainsAny(u.Host, " ;,'\"*") {
		return "", fmt.Errorf("web: media URL %q is not of the form http(s)://host[:port]", raw)
	}
	return u.Scheme + "://" + u.Host, nil
}

// Headers returns the further header fields of the document, name and value,
// beside CSP, ETag and Cache-Control.
func Headers() [][2]string {
	return [][2]string{
		{"X-Content-Type-Options", "nosniff"},
		{"Referrer-Policy", "same-origin"},
		{"Permissions-Policy", "camera=(), geolocation=(), microphone=()"},
	}
}
