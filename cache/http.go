package cache

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/internal/id"
	"hayloft/internal/sign"
)

const (
	pathPrefix = "/media/"
	// maxTarget bounds the request target before it is looked at: the longest
	// one that can be valid is well below.
	maxTarget = 512
)

// Handle answers one request. Mount it for every path that begins with /media/;
// it judges the raw request target itself, so that nothing decoded or cleaned
// on the way here can name another object.
func (c *Cache) Handle(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	setSafety(h)
	h.Set("Via", "1.1 "+c.opts.Name)
	if n := ctx.Request.Header.ContentLength(); n > 0 || n == -1 {
		// A body here has no meaning, and one that the server streams and
		// nobody reads would be taken for the connection's next request.
		ctx.SetConnectionClose()
		if ctx.IsGet() || ctx.IsHead() {
			problem(ctx, fasthttp.StatusBadRequest, "malformed", "The request is malformed")
			return
		}
	}
	if !ctx.IsGet() && !ctx.IsHead() {
		h.Set(fasthttp.HeaderAllow, "GET, HEAD")
		problem(ctx, fasthttp.StatusMethodNotAllowed, "method-not-allowed", "Method not allowed")
		return
	}
	now := c.clock.Now()
	k, grant, ok := c.parse(ctx.Request.Header.RequestURI(), now)
	if !ok {
		c.notFound(ctx)
		return
	}
	e, from, err := c.get(k, grant)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound), errors.Is(err, errDenied):
		c.notFound(ctx)
		return
	default:
		c.n.unavailable.Add(1)
		h.Set(fasthttp.HeaderRetryAfter, "1")
		problem(ctx, fasthttp.StatusServiceUnavailable, "unavailable", "Not available now")
		return
	}
	c.respond(ctx, e, from, grant)
}

// parse reads a request target. A target has one accepted form, and a signature
// is checked here, before anything is looked up.
func (c *Cache) parse(target []byte, now time.Time) (key, *sign.MediaGrant, bool) {
	if len(target) > maxTarget {
		return key{}, nil, false
	}
	return c.parseText(string(target), now)
}

// parseText keeps no part of target.
func (c *Cache) parseText(target string, now time.Time) (key, *sign.MediaGrant, bool) {
	path, query, signed := strings.Cut(target, "?")
	k, ok := c.parsePath(path)
	if !ok || !signed {
		return k, nil, ok
	}
	grant, err := sign.CheckMedia(c.opts.Ring, path, query, now)
	return k, &grant, err == nil
}

// parsePath reads /media/{variant}/{blob}-{cookie}.{ext}: known names, ids in
// their one text form, and nothing else.
func (c *Cache) parsePath(path string) (k key, ok bool) {
	rest, ok := strings.CutPrefix(path, pathPrefix)
	if !ok {
		return key{}, false
	}
	variant, file, ok := strings.Cut(rest, "/")
	if !ok {
		return key{}, false
	}
	name, ext, ok := strings.Cut(file, ".")
	if !ok {
		return key{}, false
	}
	blobText, cookieText, ok := strings.Cut(name, "-")
	if !ok {
		return key{}, false
	}
	blob, err := id.Parse(blobText)
	if err != nil {
		return key{}, false
	}
	cookie, err := id.ParseCookie(cookieText)
	if err != nil {
		return key{}, false
	}
	return c.internal(Key{Variant: variant, Blob: blob, Cookie: cookie, Ext: ext})
}

// Path returns the path that names k, as Handle reads it.
func (k Key) Path() string {
	return pathPrefix + k.Variant + "/" + k.Blob.String() + "-" + k.Cookie.String() + "." + k.Ext
}

// respond answers with e, which is pinned, or with what a condition makes of it.
func (c *Cache) respond(ctx *fasthttp.RequestCtx, e *entry, from how, grant *sign.MediaGrant) {
	now := c.clock.Now()
	h := &ctx.Response.Header
	h.Set(fasthttp.HeaderETag, e.etag)
	h.Set("Cache-Status", c.cacheStatus(e, from))
	// What was just made by the store has no age; what another tier had has one.
	if old := age(e, now); old > 0 || from != byFill && from != byCollapse {
		h.Set(fasthttp.HeaderAge, strconv.FormatInt(old, 10))
	}
	h.Set(fasthttp.HeaderCacheControl, cacheControl(grant, now))

	req := &ctx.Request.Header
	switch Conditions(req, e.etag) {
	case fasthttp.StatusPreconditionFailed:
		e.unpin()
		h.Set(fasthttp.HeaderCacheControl, "no-store")
		problem(ctx, fasthttp.StatusPreconditionFailed, "precondition-failed", "The object has another ETag")
		return
	case fasthttp.StatusNotModified:
		e.unpin()
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return
	}

	h.Set(fasthttp.HeaderAcceptRanges, "bytes")
	size := len(e.data)
	part := Span{0, size}
	if ctx.IsGet() { // RFC 9110, 14.2: Range means nothing to other methods
		spans, status := AllRanges(req, e.etag, size)
		switch {
		case status == fasthttp.StatusRequestedRangeNotSatisfiable:
			e.unpin()
			h.Set(fasthttp.HeaderContentRange, "bytes */"+strconv.Itoa(size))
			problem(ctx, status, "range-not-satisfiable", "The range lies outside the object")
			return
		case len(spans) > 1:
			c.respondParts(ctx, e, spans)
			return
		case len(spans) == 1:
			part = spans[0]
			h.Set(fasthttp.HeaderContentRange, contentRange(part, size))
			ctx.SetStatusCode(status)
		}
	}
	c.respondSpan(ctx, e, part)
}

// respondSpan answers with one part of e, or all of it.
func (c *Cache) respondSpan(ctx *fasthttp.RequestCtx, e *entry, s Span) {
	ctx.Response.Header.SetContentType(e.typ)
	if e.growing() {
		ctx.Response.SetBodyStream(&growingBody{body{entry: e}, s.First, s.First + s.Len}, s.Len)
		return
	}
	ctx.Response.SetBodyStream(&body{entry: e, rest: e.data[s.First : s.First+s.Len], conn: ctx.Conn()}, s.Len)
}

// safety is what every answer carries, errors, 206 and 304 included.
var safety = [][2]string{
	{"X-Content-Type-Options", "nosniff"},
	{"Content-Security-Policy", "default-src 'none'; sandbox"},
	{"Cross-Origin-Resource-Policy", "cross-origin"},
}

func setSafety(h *fasthttp.ResponseHeader) {
	for _, f := range safety {
		h.Set(f[0], f[1])
	}
}

func (c *Cache) notFound(ctx *fasthttp.RequestCtx) {
	c.n.notFound.Add(1)
	problem(ctx, fasthttp.StatusNotFound, "not-found", "Not found")
}

// problem answers with an RFC 9457 body, which no tier may keep.
func problem(ctx *fasthttp.RequestCtx, status int, name, title string) {
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.Response.Header.SetContentType("application/problem+json")
	ctx.SetStatusCode(status)
	ctx.SetBodyString(`{"type":"/problems/` + name + `","title":"` + title + `","status":` + strconv.Itoa(status) + `}`)
}

// cacheControl: a public URL names the same bytes for ever; a signed one is for
// its reader alone and while the signature holds.
func cacheControl(grant *sign.MediaGrant, now time.Time) string {
	if grant == nil {
		return "public, max-age=31536000, immutable"
	}
	left := max(0, int64(grant.Expires.Sub(now)/time.Second))
	return "private, max-age=" + strconv.FormatInt(left, 10)
}

// cacheStatus is the field of RFC 9211.
func (c *Cache) cacheStatus(e *entry, from how) string {
	kept := ""
	if e.loose == nil {
		kept = "; stored"
	}
	switch from {
	case byHit:
		return c.opts.Name + "; hit"
	case byRevalidation:
		return c.opts.Name + "; hit; detail=revalidated"
	case byCollapse:
		return c.opts.Name + "; fwd=uri-miss; collapsed" + kept
	default:
		return c.opts.Name + "; fwd=uri-miss" + kept
	}
}
