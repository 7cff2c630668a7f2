package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"hayloft/feed"
	"hayloft/internal/id"
)

// Caller carries a call to a node with the role feed and returns its answer. A call
// that certainly arrived nowhere it may carry to another node; one for which again is
// true also when that is not certain: repeated says that it did, so that what is answered
// may be about what the call itself has done.
type Caller interface {
	Call(ctx context.Context, again bool, req []byte) (answer []byte, repeated bool, err error)
}

// repeatedError is what a node has answered to the repetition of a call of which it is
// not known what it had done elsewhere.
type repeatedError struct{ error }

// Unwrap returns the answer.
func (e repeatedError) Unwrap() error { return e.error }

// gone is what remains of the error of a call that removes something. A repetition which
// finds nothing to remove comes after the attempt that did.
func gone(err error) error {
	if _, repeated := errors.AsType[repeatedError](err); repeated && errors.Is(err, feed.ErrNotFound) {
		return nil
	}
	return err
}

// Client is the feed over a Caller.
type Client struct {
	to    Caller
	index atomic.Uint64 // the largest applied index that a node has answered
	ready atomic.Pointer[error]
	pages Hydrator // nil: pages come whole
}

// New returns a Client. It does not call.
func New(to Caller) *Client {
	c := &Client{to: to}
	first := fmt.Errorf("%w: no node with the role feed was asked yet", feed.ErrUnavailable)
	c.ready.Store(&first)
	return c
}

// request is one call on the wire.
type request struct {
	Method string            `json:"method"`
	Args   []json.RawMessage `json:"args"`
	Index  uint64            `json:"index,omitempty"` // that the node must have applied before it answers
	Idem   *idempotency      `json:"idempotency,omitempty"`
}

type idempotency struct {
	Account     id.ID    `json:"account"`
	Route       string   `json:"route"`
	Key         string   `json:"key"`
	Fingerprint [32]byte `json:"fingerprint"`
}

// answer is what comes back.
type answer struct {
	Results []json.RawMessage `json:"results"`
	Err     *failure          `json:"err,omitempty"`
	Index   uint64            `json:"index"` // applied by the node that answered
	Earlier id.ID             `json:"earlier,omitempty"`
}

// call makes one call. results are pointers. Reads are answered by a node that has
// applied whatever this client was answered before: calls of one process read what it
// wrote, whichever node they meet.
func (c *Client) call(ctx context.Context, method string, again bool, args []any, results ...any) error {
	req := request{Method: method, Args: make([]json.RawMessage, len(args)), Index: c.index.Load()}
	for i, a := range args {
		b, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("feed/remote: %s: %w", method, err)
		}
		req.Args[i] = b
	}
	idem := feed.IdempotencyOf(ctx)
	if idem != nil {
		req.Idem = &idempotency{idem.Account, idem.Route, idem.Key, idem.Fingerprint}
	}
	body, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("feed/remote: %s: %w", method, err)
	}
	got, repeated, err := c.to.Call(ctx, again, body)
	if err != nil {
		err = unavailable(err)
		if ctx.Err() == nil { // else it says nothing of the node: its caller did not wait
			c.note(err)
		}
		return err
	}
	var a answer
	if err := json.Unmarshal(got, &a); err != nil {
		return unavailable(fmt.Errorf("%s: the answer cannot be read: %w", method, err))
	}
	c.note(nil)
	c.applied(a.Index)
	if err := a.Err.error(); err != nil {
		if repeated {
			err = repeatedError{err}
		}
		return err
	}
	if len(a.Results) != len(results) {
		return unavailable(fmt.Errorf("%s: %d results, want %d", method, len(a.Results), len(results)))
	}
	for i, r := range results {
		if err := json.Unmarshal(a.Results[i], r); err != nil {
			return unavailable(fmt.Errorf("%s: result %d cannot be read: %w", method, i, err))
		}
	}
	if idem != nil && idem.Earlier != nil && a.Earlier != 0 {
		*idem.Earlier = a.Earlier
	}
	return nil
}

func unavailable(err error) error {
	if errors.Is(err, feed.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", feed.ErrUnavailable, err)
}

func (c *Client) note(err error) {
	if err == nil {
		c.ready.Store(nil)
		return
	}
	c.ready.Store(&err)
}

func (c *Client) applied(index uint64) {
	for {
		had := c.index.Load()
		if index <= had || c.index.CompareAndSwap(had, index) {
			return
		}
	}
}

// AppliedIndex is the largest index that a node has answered.
func (c *Client) AppliedIndex() uint64 { return c.index.Load() }

// Ready returns nil when the last call was answered. Somebody has to call: see Ping.
func (c *Client) Ready() error {
	if err := c.ready.Load(); err != nil {
		return *err
	}
	return nil
}

// Fresh has a node make sure that it shows every change that was acknowledged before
// the call. What is read here after that is read from a node that shows the same.
func (c *Client) Fresh(ctx context.Context) error { return c.call(ctx, "Fresh", true, nil) }

// Ping asks a node whether it works: what Ready says follows from it.
func (c *Client) Ping(ctx context.Context) error {
	err := c.call(ctx, "Ping", true, nil)
	if err != nil {
		c.note(err)
	}
	return err
}

// one is a call with one result.
func one[T any](ctx context.Context, c *Client, method string, again bool, args ...any) (v T, err error) {
	err = c.call(ctx, method, again, args, &v)
	return v, err
}

// two is a call with two.
func two[T, U any](ctx context.Context, c *Client, method string, again bool, args ...any) (v T, u U, err error) {
	err = c.call(ctx, method, again, args, &v, &u)
	return v, u, err
}
