package api

import (
	"strings"

	"github.com/valyala/fasthttp"

	"hayloft/api/web"
)

// WebPage returns what serves the web page and its assets, for Options.Page.
// Images may come from mediaURL ("": the page's own origin).
func WebPage(mediaURL string) (func(*fasthttp.RequestCtx) bool, error) {
	policy, err := web.CSP(mediaURL)
	if err != nil {
		return nil, err
	}
	headers := append(web.Headers(), [2]string{"Content-Security-Policy", policy})
	return func(rc *fasthttp.RequestCtx) bool {
		a, ok := web.Lookup(string(rc.URI().PathOriginal()))
		if !ok {
			return false
		}
		h := &rc.Response.Header
		for _, kv := range headers {
			h.Set(kv[0], kv[1])
		}
		h.Set("ETag", a.ETag)
		h.Set("Cache-Control", a.CacheControl)
		if matches(rc.Request.Header.Peek("If-None-Match"), a.ETag) {
			rc.SetStatusCode(fasthttp.StatusNotModified)
			return true
		}
		h.SetContentType(a.ContentType)
		rc.Response.SetBodyRaw(a.Body) // HEAD: the machinery leaves it out
		return true
	}, nil
}

// matches reports whether an If-None-Match field names the tag, by the weak
// comparison that RFC 9110, section 13.1.2, asks for.
func matches(field []byte, etag string) bool {
	for tag := range strings.SplitSeq(string(field), ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == etag || tag == "*" {
			return true
		}
	}
	return false
}
