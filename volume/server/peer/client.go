package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"hayloft/volume"
	"hayloft/volume/server"
)

// Doer sends a request to a node, known by its name, and returns its answer, as an
// http.Client does. The host of the URL is the node's name.
type Doer interface {
	Do(ctx context.Context, node string, r *http.Request) (*http.Response, error)
}

// Options configure Clients. The zero value works.
type Options struct {
	// Reads is the budget of what is read from other nodes, until it is released.
	// nil: no bound.
	Reads  *volume.ReadBudget
	Limits Limits
	Timing Timing
}

// Clients reach the blob servers of other nodes.
type Clients struct {
	do    Doer
	o     Options
	slots *slots
}

// NewClients returns what shares limits and budget.
func NewClients(do Doer, o Options) *Clients {
	o.Timing.setDefaults()
	return &Clients{do: do, o: o, slots: newSlots(o.Limits)}
}

// Node returns the client of one node. It costs nothing, and may be kept.
func (c *Clients) Node(name string) *Client {
	return &Client{c: c, node: name, base: "https://" + name + pathPrefix + version + "/"}
}

// Client is the server.Peer of another node.
type Client struct {
	c    *Clients
	node string
	base string
}

var _ server.Peer = (*Client)(nil)

// Node implements server.Peer.
func (c *Client) Node() string { return c.node }

// request is a call that is about to be made. send adds what follows the arguments.
type request struct {
	call call
	args args
	send func(*body)
	// got is told of each frame that comes before the end, with its head only; nil:
	// none may come. It reads the payload from in.
	got func(ctx context.Context, in *frames, h head) error
}

// ownError is an error of the caller's own function: it is returned as it is.
type ownError struct{ err error }

func (e *ownError) Error() string { return e.err.Error() }
func (e *ownError) Unwrap() error { return e.err }

// ask makes a call and returns its result.
func (c *Client) ask(ctx context.Context, q request) (result []byte, err error) {
	result, err = c.exchange(ctx, &q)
	var own *ownError
	var said *remoteError
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &own):
		return nil, own.err
	case errors.As(err, &said):
		return result, &callError{c.node, q.call, said}
	case ctx.Err() != nil:
		return nil, &callError{c.node, q.call, unavailable(context.Cause(ctx))}
	}
	return nil, &callError{c.node, q.call, unavailable(err)}
}

func (c *Client) exchange(ctx context.Context, q *request) (result []byte, err error) {
	kind := classOf[q.call]
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !kind.long() {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, c.c.o.Timing.Timeout)
		defer end()
	}
	leave, err := c.c.slots.enter(ctx, c.node, kind)
	if err != nil {
		return nil, err
	}
	defer leave()
	b := &body{buf: make([]byte, 0, 1024)}
	b.add(kindArgs, func(buf []byte) []byte {
		if buf = appendArgs(buf, &q.args); tailOf(q.call) == namesTail {
			buf = appendNames(buf, &q.args)
		}
		return buf
	})
	if q.send != nil {
		q.send(b)
	}
	b.complete()
	defer b.end()
	r, err := c.httpRequest(ctx, q.call, b)
	if err != nil {
		return nil, err
	}
	var watch *watchdog
	if kind.long() {
		watch = c.c.watch(ctx, cancel)
		watch.wait(true)
	}
	resp, err := c.c.do.Do(ctx, c.node, r)
	if err != nil {
		return nil, reason(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read as far as it counts
	if err := understood(resp); err != nil {
		return nil, err
	}
	in := &frames{r: resp.Body}
	if watch != nil {
		watch.wait(false)
		in.waiting = watch.wait
	}
	result, err = c.answer(ctx, q, in)
	return result, reason(ctx, err)
}

// reason prefers why ctx ended to what that led to.
func reason(ctx context.Context, err error) error {
	var own *ownError
	var said *remoteError
	if err == nil || ctx.Err() == nil || errors.As(err, &own) || errors.As(err, &said) {
		return err
	}
	return context.Cause(ctx)
}

func (c *Client) httpRequest(ctx context.Context, name call, b *body) (*http.Request, error) {
	first, _ := b.reader()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+string(name), first)
	if err != nil {
		return nil, err
	}
	r.ContentLength, r.GetBody = b.size, b.reader
	r.Header.Set("Content-Type", "application/octet-stream")
	// What may be repeated is, on another connection when one turns out to be closed.
	// The key is not sent.
	if name != callOpen && name != callName {
		r.Header["Idempotency-Key"] = nil
	}
	if at, ok := ctx.Deadline(); ok {
		left := at.Sub(machine.Now())
		if left < time.Millisecond {
			return nil, context.DeadlineExceeded
		}
		r.Header.Set(headerTimeout, strconv.FormatInt(left.Milliseconds(), 10))
	}
	return r, nil
}

// understood says why an answer is none of the protocol's.
func understood(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 256)) // what there is of it
	line, _, _ := strings.Cut(string(text), "\n")
	err := fmt.Errorf("status %d: %s", resp.StatusCode, line)
	if resp.StatusCode == http.StatusNotImplemented {
		return fmt.Errorf("%w: the node speaks %q, not %s: %w", ErrVersion, resp.Header.Get(headerVersions), version, err)
	}
	return err
}

// answer reads an answer to its end.
func (c *Client) answer(ctx context.Context, q *request, in *frames) ([]byte, error) {
	for {
		h, err := in.next()
		switch {
		case err != nil:
			return nil, err
		case h.kind == kindEnd:
			return c.ended(in, h)
		case q.got == nil:
			return nil, malformed("frame of kind %d in the answer", h.kind)
		}
		if err := q.got(ctx, in, h); err != nil {
			return nil, err
		}
	}
}

func (c *Client) ended(in *frames, h head) ([]byte, error) {
	b, err := in.payload(h)
	if err != nil {
		return nil, err
	}
	p := parser{b: b}
	said := takeError(&p)
	if p.bad {
		return nil, malformed("end of the answer")
	}
	result := append([]byte(nil), p.b...)
	if err := in.finish(); err != nil {
		return nil, err
	}
	if said != nil {
		return result, said
	}
	return result, nil
}

// watchdog ends a long call when the other side is silent for too long.
type watchdog struct {
	waiting atomic.Bool   // for the other side
	seen    atomic.Uint64 // changes of waiting
}

func (d *watchdog) wait(begin bool) {
	d.seen.Add(1)
	d.waiting.Store(begin)
}

var errSilent = errors.New("peer: the node is silent")

// watch begins to look at a call, until ctx ends.
func (c *Clients) watch(ctx context.Context, cancel context.CancelCauseFunc) *watchdog {
	d := &watchdog{}
	t := c.o.Timing
	go func() {
		for last, still := uint64(0), 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-t.Clock.After(t.Patience / 4):
			}
			now := d.seen.Load()
			if still++; now != last || !d.waiting.Load() {
				last, still = now, 0
			}
			if still >= 4 {
				cancel(errSilent)
				return
			}
		}
	}()
	return d
}
