package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"hayloft/internal/clock"
)

// Options configure a Door. The zero value works, and lets nobody through to
// what is guarded.
type Options struct {
	Token string // what guarded calls must show; "": none is right
	Open  bool   // guarded calls need not show it
	// Work ends long calls when it ends; nil: they end with their clients.
	Work  context.Context
	Clock clock.Clock // nil: the machine's
	// Problem names an error of a call; nil, or a nil result: 500.
	Problem func(error) *Problem
	// Audit is told of each guarded call, on the goroutine that serves it.
	Audit func(Action)
}

// Action is one guarded call that ended or was refused.
type Action struct {
	Address string // of the client, as the connection has it
	Method  string
	Path    string // as it came; for a log it must be quoted
	Query   string
	Status  int // of the answer; of a stream, of its last line
	Took    time.Duration
	Err     error // nil when it was done
}

// Door serves the calls.
type Door struct {
	o       Options
	mux     *http.ServeMux
	sum     [sha256.Size]byte // of the token
	methods map[string][]string
	closed  atomic.Bool
}

// NewDoor makes a Door without calls.
func NewDoor(o Options) *Door {
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Work == nil {
		o.Work = context.Background()
	}
	if o.Audit == nil {
		o.Audit = func(Action) {}
	}
	d := &Door{o: o, mux: http.NewServeMux(), sum: sha256.Sum256([]byte(o.Token)), methods: map[string][]string{}}
	d.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		NewProblem(NotHere, http.StatusNotFound, "There is no such call", "there is no call %q", r.URL.Path).write(w)
	})
	return d
}

// Look adds a call that everybody who reaches the listener may make.
func (d *Door) Look(method, path string, fn func(*Call) error) { d.add(method, path, false, fn) }

// Guard adds a call that needs the token.
func (d *Door) Guard(method, path string, fn func(*Call) error) { d.add(method, path, true, fn) }

func (d *Door) add(method, path string, guarded bool, fn func(*Call) error) {
	other := func(w http.ResponseWriter, r *http.Request) {
		p := NewProblem("method", http.StatusMethodNotAllowed, "The call has another method", "%s is not for %s", r.URL.Path, r.Method)
		p.Allow = strings.Join(d.methods[path], ", ")
		p.write(w)
	}
	d.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method { // HEAD comes with GET, and would do its work
			other(w, r)
			return
		}
		d.call(w, r, guarded, fn)
	})
	if d.methods[path] == nil {
		d.mux.HandleFunc(path, other)
	}
	d.methods[path] = append(d.methods[path], method)
}

// Close refuses every call from now on; those under way end with Options.Work.
// What they look at may be taken apart afterwards: none that gave no answer
// before gives one of that.
func (d *Door) Close() { d.closed.Store(true) }

func stopping() *Problem {
	return NewProblem(Stopped, http.StatusServiceUnavailable, "The server stops", "the server is stopping: ask again when it has started")
}

// ServeHTTP implements http.Handler.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if p := d.refused(r); p != nil {
		refuse(w, r, p)
		return
	}
	d.mux.ServeHTTP(w, r)
}

// refuse answers a request that nothing is done for.
func refuse(w http.ResponseWriter, r *http.Request, p *Problem) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // the body is not waited for
	}
	p.write(w)
}

// refused says why nothing is done for a request, whatever it asks.
func (d *Door) refused(r *http.Request) *Problem {
	site := r.Header.Get("Sec-Fetch-Site")
	switch {
	case d.closed.Load():
		return stopping()
	case r.Header.Get("Origin") != "" || site != "" && site != "none":
		return NewProblem("browser", http.StatusForbidden, "Not for pages", "calls from web pages are refused")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return NewProblem("body", http.StatusRequestEntityTooLarge, "The call has no body", "parameters go into the path and the query")
	}
	return nil
}

// admitted compares what the request shows with the token.
func (d *Door) admitted(r *http.Request) *Problem {
	if d.o.Open {
		return nil
	}
	shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	// Hashes have one length: the comparison tells nothing of the token's.
	sum := sha256.Sum256([]byte(shown))
	if subtle.ConstantTimeCompare(sum[:], d.sum[:]) == 1 && ok && d.o.Token != "" {
		return nil
	}
	what := "the admin token is wrong"
	if !ok {
		what = "the admin token is missing"
	}
	return NewProblem(Unauthorized, http.StatusUnauthorized, "The call needs the admin token", "%s: it is in the file admin.token of each data directory", what)
}

func (d *Door) call(w http.ResponseWriter, r *http.Request, guarded bool, fn func(*Call) error) {
	began := d.o.Clock.Elapsed()
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(d.o.Work, cancel)
	defer func() { stop(); cancel() }()
	c := &Call{d: d, w: w, r: r, ctx: ctx}
	var err error
	if p := d.admitted(r); guarded && p != nil {
		err = p
	} else {
		err = fn(c)
	}
	status, err := c.close(err)
	if guarded {
		d.o.Audit(Action{Address: r.RemoteAddr, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery,
			Status: status, Took: d.o.Clock.Elapsed() - began, Err: err})
	}
}

// close gives the answer its end, and returns what became of the call.
func (c *Call) close(err error) (int, error) {
	if c.stream == nil {
		if err == nil {
			return http.StatusOK, nil
		}
		p := c.d.problemOf(err)
		if !c.answered {
			p.write(c.w)
		}
		return p.Status, err
	}
	defer c.stream.leave()
	c.stream.end()
	if err == nil {
		return http.StatusOK, nil
	}
	p := c.d.problemOf(err)
	if c.stream.gone() == nil {
		c.stream.write(Line{Kind: KindProblem}, p, nil) //nolint:errcheck // asked for next
	}
	gone := c.stream.gone()
	switch {
	case gone == nil:
		return p.Status, err
	case errors.Is(err, gone): // no fault of the call's
		return http.StatusServiceUnavailable, fmt.Errorf("the client took no more: %w", gone)
	}
	return p.Status, fmt.Errorf("%w; the client took no more: %w", err, gone)
}

// Call is one request while it is served.
type Call struct {
	d        *Door
	w        http.ResponseWriter
	r        *http.Request
	ctx      context.Context
	stream   *Stream
	answered bool
}

// Context ends when the client leaves or the process stops.
func (c *Call) Context() context.Context { return c.ctx }

// Path is the part of the path that a pattern names.
func (c *Call) Path(name string) string { return c.r.PathValue(name) }

// Query returns the parameters, of which only known ones may be there, each
// once, unless its name is followed by a star here.
func (c *Call) Query(known ...string) (url.Values, error) {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, Invalid("the query cannot be read")
	}
	for name, values := range q {
		many := slices.Contains(known, name+"*")
		if !many && !slices.Contains(known, name) {
			return nil, Invalid("there is no parameter %q", name)
		}
		if !many && len(values) > 1 {
			return nil, Invalid("the parameter %q is there twice", name)
		}
	}
	return q, nil
}

// Answer sends v as JSON, the whole answer.
func (c *Call) Answer(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if c.d.closed.Load() {
		return stopping()
	}
	c.answered = true
	c.w.Header().Set("Content-Type", "application/json")
	_, err = c.w.Write(append(body, '\n'))
	return err
}
