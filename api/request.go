package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/feed"
	"hayloft/internal/id"
)

const (
	typeJSON    = "application/json"
	typeProblem = "application/problem+json"
	methodGET   = "GET"
)

// apiHeaders go on every answer of the API. The page and media bring their own
// policies and get the rest of these where they have none.
var apiHeaders = [][2]string{
	{"X-Content-Type-Options", "nosniff"},
	{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Referrer-Policy", "no-referrer"},
	{"X-Frame-Options", "DENY"},
	{"Cache-Control", "no-store"},
}

// hsts goes on every answer of a server whose clients come over HTTPS.
var hsts = [2]string{"Strict-Transport-Security", "max-age=31536000"}

// request is one call on its way through a handler.
type request struct {
	a      *API
	ctx    context.Context // ends with the call's time, or with the server
	rc     *fasthttp.RequestCtx
	route  *route
	values []string
	addr   netip.Addr

	viewer   id.ID        // 0: anonymous
	session  feed.Session // the viewer's
	key      BlobKey      // of a call of the blob API: viewer stands for it
	byCookie bool
	alive    func(context.Context) error // asks whether the viewer's token still is one
	letIn    time.Duration               // when it was asked first, by running time

	bodyRead int64
	bodyDone bool // the body was read to its end
	release  []func()
}

func itoa(n int) string { return strconv.Itoa(n) }

// handle is the outermost handler: nothing gets past its recover and its
// headers.
func (a *API) handle(rc *fasthttp.RequestCtx) {
	start := a.opt.Clock.Now()
	r := &request{a: a, rc: rc, route: &route{}}
	defer func() {
		if v := recover(); v != nil {
			a.emit(Event{Kind: EventPanic, Route: r.route.pattern, Err: fmt.Errorf("panic: %v\n%s", v, debug.Stack())})
			r.fail(&problem{kind: pInternal})
		}
		for _, f := range r.release {
			f()
		}
		r.finish()
		a.emit(Event{Kind: EventRequest, Method: methodName(rc), Route: r.route.pattern, Status: rc.Response.StatusCode(),
			Took: a.opt.Clock.Now().Sub(start), Bytes: r.bodyRead, Account: r.viewer, Address: r.addr})
	}()
	r.addr = a.clientAddr(rc)
	if err := r.dispatch(); err != nil {
		r.fail(err)
	}
}

// methodName returns the method for events: one of a known few.
func methodName(rc *fasthttp.RequestCtx) string {
	switch m := string(rc.Method()); m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "OTHER"
}

// dispatch finds who answers: the API, the media tier or the page.
func (r *request) dispatch() error {
	if err := r.checkFraming(); err != nil {
		return err
	}
	path := string(r.rc.URI().PathOriginal())
	segments, ok := splitPath(path)
	read := r.rc.IsGet() || r.rc.IsHead()
	if path == "/" && read && r.page() {
		return nil
	}
	if !ok {
		return pNoEndpoint.because("")
	}
	rt, values, allow := r.a.routes.match(string(r.rc.Method()), segments)
	switch {
	case rt != nil:
		r.route, r.values = rt, values
		return r.call()
	case len(allow) > 0:
		return &problem{kind: pMethod, allow: strings.Join(allow, ", ")}
	case segments[0] == "media" && len(segments) > 1 && r.a.opt.Media != nil:
		if !read {
			return &problem{kind: pMethod, allow: "GET, HEAD"}
		}
		if strings.ContainsRune(path, '%') {
			return pNotFound.because("")
		}
		r.route = &route{pattern: mediaRoute}
		r.a.opt.Media(r.rc)
		return nil
	case segments[0] != "api" && read && r.page():
		return nil
	}
	return pNoEndpoint.because("")
}

// page lets the web page answer.
func (r *request) page() bool {
	if r.a.opt.Page == nil || !r.a.opt.Page(r.rc) {
		return false
	}
	r.route = &route{pattern: "/"}
	return true
}

// checkFraming refuses what two servers in a row could read as two different
// messages: a body framed both ways, and a fragment in the request line.
func (r *request) checkFraming() error {
	h := &r.rc.Request.Header
	if h.ContentLength() == -1 {
		for k := range h.AllInOrder() {
			if strings.EqualFold(string(k), "Content-Length") {
				r.rc.SetConnectionClose()
				return pMalformed.because("both Content-Length and Transfer-Encoding")
			}
		}
	}
	if strings.ContainsRune(string(h.RequestURI()), '#') {
		return pMalformed.because("a fragment in the request target")
	}
	return nil
}

// call runs a route: limits, viewer, index, handler.
func (r *request) call() error {
	h := &r.rc.Response.Header
	ctx, cancel := context.WithTimeout(r.a.base, r.a.opt.Limits.CallTimeout)
	r.ctx = ctx
	r.release = append(r.release, cancel)
	if err := r.enter(); err != nil {
		return err
	}
	if r.a.opt.Feed == nil {
		return r.route.handle(r)
	}
	if err := r.awaitIndex(); err != nil {
		return err
	}
	err := r.route.handle(r)
	h.Set("Hayloft-Index", strconv.FormatUint(r.a.opt.Feed.AppliedIndex(), 10))
	return err
}

// enter finds out who calls, and counts the call. A key of scope blob belongs to a
// program that an operator trusts with the store: its calls are as many as it likes.
func (r *request) enter() error {
	if r.route.access == withKey {
		err := r.withKey()
		if err == nil {
			return nil
		}
		if limited := r.a.limits.address.take(r, addrKey(r.addr)); limited != nil {
			return limited
		}
		return err
	}
	if !r.route.unlimited {
		if err := r.a.limits.address.take(r, addrKey(r.addr)); err != nil {
			return err
		}
	}
	if r.route.access == anyone {
		return nil
	}
	if err := r.authenticate(); err != nil || r.viewer == 0 {
		return err
	}
	return r.a.limits.account.take(r, r.viewer.String())
}

// payer is whose share of the memory for transfers a call takes; 0: of a key, nobody's.
func (r *request) payer() id.ID {
	if r.route.access == withKey {
		return 0
	}
	return r.viewer
}

// extend gives the call a fresh CallTimeout, after an upload's own time.
func (r *request) extend() {
	ctx, cancel := context.WithTimeout(r.a.base, r.a.opt.Limits.CallTimeout)
	r.ctx = ctx
	r.release = append(r.release, cancel)
}

// indexPoll is how often a replica that is behind looks again.
const (
	indexPoll = 5 * time.Millisecond
	indexWait = 2 * time.Second
)

// freshIndex in place of an index asks for whatever was acknowledged anywhere.
const freshIndex = "fresh"

// awaitIndex holds the call until this replica has applied the index that the
// client has seen, so that it reads its own writes on any replica.
func (r *request) awaitIndex() error {
	text := r.rc.Request.Header.Peek("Hayloft-Index")
	if len(text) == 0 {
		return nil
	}
	if string(text) == freshIndex {
		return r.awaitFresh()
	}
	want, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return pMalformed.because("Hayloft-Index is neither a number nor " + freshIndex)
	}
	for range int(indexWait / indexPoll) {
		if r.a.opt.Feed.AppliedIndex() >= want {
			return nil
		}
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-r.a.drain:
			return &problem{kind: pBehind, retryAfter: time.Second}
		case <-r.a.opt.Clock.After(indexPoll):
		}
	}
	return &problem{kind: pBehind, retryAfter: time.Second}
}

// awaitFresh holds the call until this replica shows every change that was
// acknowledged, on any replica, before the call arrived.
func (r *request) awaitFresh() error {
	ctx, cancel := context.WithTimeout(r.ctx, indexWait)
	defer cancel()
	err := r.a.opt.Feed.Fresh(ctx)
	switch {
	case err == nil:
		return nil
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	}
	return &problem{kind: pBehind, retryAfter: time.Second, cause: err}
}

// fail answers with the problem that err is.
func (r *request) fail(err error) {
	p := asProblem(err)
	if p.kind.status >= 500 && p.cause != nil {
		r.a.emit(Event{Kind: EventFault, Method: methodName(r.rc), Route: r.route.pattern, Status: p.kind.status, Account: r.viewer, Address: r.addr, Err: p.cause})
	}
	writeProblem(&r.rc.Response, p)
}

func writeProblem(resp *fasthttp.Response, p *problem) {
	h := &resp.Header
	resp.ResetBody()
	resp.SetStatusCode(p.kind.status)
	h.SetContentType(typeProblem)
	h.Del("Location")
	h.Del("Content-Encoding")
	h.Set("Cache-Control", "no-store")
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	if p.kind.status == fasthttp.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="hayloft"`)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	resp.SetBodyRaw(p.body())
}

// finish sets what every answer carries and leaves the connection in a state
// that the next request on it can be read from.
func (r *request) finish() {
	h := &r.rc.Response.Header
	for _, kv := range apiHeaders {
		if len(h.Peek(kv[0])) == 0 {
			h.Set(kv[0], kv[1])
		}
	}
	if r.a.secure() {
		h.Set(hsts[0], hsts[1])
	}
	// The machinery reads up to 8 KiB of a body of known length before a handler
	// runs, and does not skip what a handler leaves unread: the rest would be
	// taken for the next request.
	const prefetched = 8 * kib
	n := r.rc.Request.Header.ContentLength()
	if r.rc.RequestBodyStream() != nil && !r.bodyDone && (n < 0 || n > prefetched) {
		r.rc.SetConnectionClose()
		if c, ok := r.rc.Conn().(*conn); ok {
			c.linger.Store(true)
		}
	}
}

// wireError answers what could not be read as a request.
func (a *API) wireError(rc *fasthttp.RequestCtx, err error) {
	p := pMalformed.because("the request cannot be read as HTTP/1.1")
	var small *fasthttp.ErrSmallBuffer
	var ne net.Error
	switch {
	case errors.As(err, &small):
		p = pHeaderLarge.because("")
	case errors.As(err, &ne) && ne.Timeout():
		p = pTimeout.because("")
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		p = pTooLarge.because("")
	}
	rc.Response.Reset()
	writeProblem(&rc.Response, p)
	for _, kv := range apiHeaders {
		rc.Response.Header.Set(kv[0], kv[1])
	}
	if c, ok := rc.Conn().(*conn); ok {
		c.linger.Store(true)
	}
	a.emit(Event{Kind: EventRequest, Status: p.kind.status, Address: addrOf(rc.RemoteAddr()), Note: "unreadable request"})
}

// body reads the whole body, at most limit bytes.
func (r *request) body(limit int64) ([]byte, error) {
	if int64(r.rc.Request.Header.ContentLength()) > limit {
		return nil, pTooLarge.because("the body is over %d bytes", limit)
	}
	stream := r.rc.RequestBodyStream()
	if stream == nil {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(stream, limit+1))
	r.bodyRead += int64(len(b))
	if int64(len(b)) > limit {
		return nil, pTooLarge.because("the body is over %d bytes", limit)
	}
	if n := r.rc.Request.Header.ContentLength(); err != nil || (n >= 0 && len(b) != n) {
		return nil, &problem{kind: pIncomplete, cause: err}
	}
	r.bodyDone = true
	return b, nil
}

// json answers with v.
func (r *request) json(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r.rc.SetStatusCode(status)
	r.rc.Response.Header.SetContentType(typeJSON)
	r.rc.Response.SetBodyRaw(b)
	return nil
}

// noContent answers 204.
func (r *request) noContent() error {
	r.rc.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// redirect answers 302 to an absolute URL, kept by nobody.
func (r *request) redirect(url string) error {
	r.rc.SetStatusCode(fasthttp.StatusFound)
	r.rc.Response.Header.Set("Location", url)
	return nil
}

// pathID reads the i-th parameter as an id. A text that is none names nothing.
func (r *request) pathID(i int) (id.ID, error) {
	v, err := id.Parse(r.values[i])
	if err != nil {
		return 0, pNotFound.because("")
	}
	return v, nil
}

// header returns a request header field; given twice it is refused.
func (r *request) header(name string) (string, error) {
	all := r.rc.Request.Header.PeekAll(name)
	switch len(all) {
	case 0:
		return "", nil
	case 1:
		return string(all[0]), nil
	}
	return "", pMalformed.because("%s is given more than once", name)
}

// query reads the query's parameters, each at most once and only from names.
func (r *request) query(names ...string) (map[string]string, error) {
	out := make(map[string]string, len(names))
	for k, v := range r.rc.QueryArgs().All() {
		name := string(k)
		if _, twice := out[name]; twice {
			return nil, &problem{kind: pMalformed, detail: "a parameter is given more than once"}
		}
		for _, n := range names {
			if n == name {
				out[n] = string(v)
			}
		}
	}
	return out, nil
}

func isDone(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
