package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// The lane answers what a photo site is asked for most, a plain GET of a whole
// photo that is in memory, before the HTTP machinery has seen the request: one
// read, one look into the cache, one write, no allocation. Whatever is not
// exactly that goes up to the machinery, untouched.
//
// Two programs that read one stream of requests must agree on where each begins
// and ends. The lane looks only at bytes that begin where the machinery awaits a
// new request with nothing read ahead, and takes them only when they are one
// whole request without a body, of fields whose names it knows and none of which
// changes the answer. docs/decisions/182-the-lane.md.

// What the lane of a connection does.
const (
	laneAside   uint32 = iota // the machinery has the connection
	laneWaiting               // the lane has answered, and the next byte begins a request
	laneBusy                  // an answer is being sent: Close leaves its end to the lane
	laneClosing               // the connection ends
)

// lane is what a conn knows about its own requests. But for state it belongs to
// the goroutine that serves the connection.
type lane struct {
	state    atomic.Uint32
	boundary bool      // the next byte begins a request
	head     []byte    // of the answer, made again and again
	armed    time.Time // when the idle deadline was set by the lane; zero: the machinery's holds
}

// end ends the lane if it is idle, and lets it finish its answer if not. It reports
// whether the connection is the caller's to close.
func (l *lane) end() bool {
	if l.state.CompareAndSwap(laneWaiting, laneClosing) {
		return true
	}
	l.state.CompareAndSwap(laneBusy, laneClosing)
	return false
}

// enter makes the lane busy; false: the connection ends.
func (l *lane) enter() bool {
	return l.state.CompareAndSwap(laneAside, laneBusy) || l.state.CompareAndSwap(laneWaiting, laneBusy)
}

// connState follows the machinery. It is called on the connection's goroutine.
func (a *API) connState(nc net.Conn, s fasthttp.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	switch s {
	case fasthttp.StateIdle:
		// All that was read is answered, or some of the next request was read
		// ahead: then the machinery becomes active before it reads again.
		c.lane.boundary = true
	case fasthttp.StateActive:
		// Said of a new connection before its first byte is read.
		c.lane.boundary = c.lane.boundary && !c.begun.Load()
	}
}

// Read implements net.Conn. It returns what the lane does not answer.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n > 0 && !c.begun.Load() {
			c.begun.Store(true)
		}
		if n > 0 && err == nil && c.lane.boundary && c.answer(p[:n]) {
			continue
		}
		c.lane.boundary = false
		if c.lane.armed.IsZero() {
			return n, err
		}
		return c.stepAside(n, err)
	}
}

// stepAside gives a connection on which the lane has answered back to the machinery,
// with what was read from it since.
func (c *conn) stepAside(n int, err error) (int, error) {
	c.lane.armed = time.Time{}
	if !c.lane.state.CompareAndSwap(laneWaiting, laneAside) || n == 0 {
		return 0, io.EOF // the orderly end of an idle connection
	}
	// The machinery believes that it has waited for this request alone.
	return n, errors.Join(err, c.Conn.SetReadDeadline(time.Now().Add(c.grace)))
}

// answer answers a request, if it is one for the lane.
func (c *conn) answer(p []byte) bool {
	if c.a.opt.Hits == nil || c.tcp == nil {
		return false
	}
	req, ok := plainGet(p)
	if !ok || c.a.draining() {
		return false
	}
	before := c.lane.state.Load()
	if !c.lane.enter() {
		return false
	}
	ok, err := c.answerHit(req)
	after := uint32(laneWaiting)
	if !ok {
		after = before
	}
	if !c.lane.state.CompareAndSwap(laneBusy, after) || err != nil {
		_ = c.Conn.Close() // the next Read says so to the machinery
	}
	return ok
}

// answerHit answers req if the cache has the photo. With an error the connection is
// of no use any more.
func (c *conn) answerHit(req plainRequest) (ok bool, err error) {
	a := c.a
	defer func() {
		if v := recover(); v != nil {
			a.emit(Event{Kind: EventPanic, Route: mediaRoute, Err: fmt.Errorf("panic: %v\n%s", v, debug.Stack())})
			ok, err = true, errPanic
		}
	}()
	start := a.opt.Clock.Now()
	head, photo, ok := a.opt.Hits(append(c.lane.head[:0], a.laneHead...), req.target)
	if !ok {
		return false, nil
	}
	body := photo.Bytes()
	head = append(head, "Content-Length: "...)
	head = strconv.AppendInt(head, int64(len(body)), 10)
	head = append(append(head, "\r\nDate: "...), a.date.at(time.Now())...)
	head = append(head, "\r\n\r\n"...)
	c.lane.head = head
	c.out.prepare(body, photo)
	_, err = c.sendAll(head)
	photo.Done(c.out.sent)
	a.emit(Event{Kind: EventRequest, Time: start, Method: methodGET, Route: mediaRoute, Status: fasthttp.StatusOK,
		Took: a.opt.Clock.Now().Sub(start), Address: a.behindProxies(c.peer, req.forwarded)})
	return true, errors.Join(err, c.awaitNext())
}

// awaitNext lets the peer send its next request within the idle time, of which an
// eighth may be missing: the kernel's timer is not moved for every answer.
func (c *conn) awaitNext() error {
	now, idle := time.Now(), c.a.opt.Limits.IdleTimeout
	if now.Sub(c.lane.armed) < idle/8 {
		return nil
	}
	c.lane.armed = now
	return c.Conn.SetReadDeadline(now.Add(idle))
}

var errPanic = errors.New("api: a panic")

// plainRequest is what the lane wants to know of a request.
type plainRequest struct {
	target    []byte
	forwarded []byte // the value of the one X-Forwarded-For
}

// plainGet reads a request that is a GET under /media/, complete, alone, and of no
// fields but harmless ones.
func plainGet(p []byte) (req plainRequest, ok bool) {
	rest, ok := bytes.CutPrefix(p, []byte("GET /media/"))
	end := bytes.IndexByte(rest, ' ')
	if !ok || end < 0 {
		return req, false
	}
	req.target = p[len("GET ") : len("GET /media/")+end]
	for _, b := range req.target { // what may need decoding or cleaning is not for us
		if b <= ' ' || b >= 0x7f || b == '%' || b == '#' || b == '\\' {
			return req, false
		}
	}
	if rest, ok = bytes.CutPrefix(rest[end:], []byte(" HTTP/1.1\r\n")); !ok {
		return req, false
	}
	hosts := 0
	for {
		line, after, found := bytes.Cut(rest, []byte("\r\n"))
		if !found {
			return req, false
		}
		if len(line) == 0 {
			return req, len(after) == 0 && hosts == 1
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found || !visible(value) {
			return req, false
		}
		switch value = bytes.TrimSpace(value); meaningOf(name) {
		case harmless:
		case host:
			if hosts++; !plainHost(value) {
				return req, false
			}
		case forwardedFor:
			if req.forwarded != nil || len(value) == 0 {
				return req, false
			}
			req.forwarded = value
		case connection:
			if !bytes.EqualFold(value, keepAlive) {
				return req, false
			}
		default:
			return req, false
		}
		rest = after
	}
}

// visible reports whether a field's value has no byte that two readers could take
// for two things.
func visible(value []byte) bool {
	for _, b := range value {
		if b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

// plainHost reports whether a Host is a name or an IPv4 address, with or without a
// port.
func plainHost(value []byte) bool {
	name, port, found := bytes.Cut(value, []byte(":"))
	for _, b := range name {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '.', b == '-':
		default:
			return false
		}
	}
	for _, b := range port {
		if b < '0' || b > '9' {
			return false
		}
	}
	return len(name) > 0 && found == (len(port) > 0) && len(port) <= 5
}

// meaning is what a field means for a GET of a photo.
type meaning uint8

const (
	unknown meaning = iota
	harmless
	host
	forwardedFor
	connection
)

// keepAlive is the one value of Connection that means nothing in HTTP/1.1; all
// browsers send it.
var keepAlive = []byte("keep-alive")

func meaningOf(name []byte) meaning {
	var buf [32]byte
	if len(name) > len(buf) {
		return unknown
	}
	for i, b := range name {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		buf[i] = b
	}
	return meanings[string(buf[:len(name)])]
}

// meanings has the lower-case names of fields that the lane knows. What clients send
// beside them, such as conditions, ranges and all that frames a body, is for the
// machinery.
var meanings = map[string]meaning{
	"host": host, "x-forwarded-for": forwardedFor, "connection": connection,
	"accept": harmless, "accept-charset": harmless, "accept-encoding": harmless, "accept-language": harmless,
	"authorization": harmless, "cache-control": harmless, "cdn-loop": harmless, "cookie": harmless, "dnt": harmless,
	"forwarded": harmless, "from": harmless, "origin": harmless, "pragma": harmless, "priority": harmless,
	"referer": harmless, "save-data": harmless, "sec-ch-ua": harmless, "sec-ch-ua-mobile": harmless,
	"sec-ch-ua-platform": harmless, "sec-fetch-dest": harmless, "sec-fetch-mode": harmless, "sec-fetch-site": harmless,
	"sec-fetch-user": harmless, "sec-gpc": harmless, "traceparent": harmless, "tracestate": harmless,
	"upgrade-insecure-requests": harmless, "user-agent": harmless, "via": harmless, "x-forwarded-host": harmless,
	"x-forwarded-proto": harmless, "x-real-ip": harmless, "x-request-id": harmless,
}

const mediaRoute = "/media"

// laneFields are the first lines of every answer of the lane: what the machinery
// and finish would set.
func (a *API) laneFields() []byte {
	b := []byte("HTTP/1.1 200 OK\r\nServer: " + serverName + "\r\n")
	for _, kv := range apiHeaders {
		switch kv[0] {
		case "Referrer-Policy", "X-Frame-Options": // the others the cache has in its own words
			b = append(b, kv[0]+": "+kv[1]+"\r\n"...)
		}
	}
	if a.secure() {
		b = append(b, hsts[0]+": "+hsts[1]+"\r\n"...)
	}
	return b
}

// dateText is the text of a Date field, made once a second.
type dateText struct{ last atomic.Pointer[datedText] }

type datedText struct {
	second int64
	text   []byte
}

func (d *dateText) at(now time.Time) []byte {
	last := d.last.Load()
	if last == nil || last.second != now.Unix() {
		last = &datedText{now.Unix(), fasthttp.AppendHTTPDate(nil, now)}
		d.last.Store(last)
	}
	return last.text
}
