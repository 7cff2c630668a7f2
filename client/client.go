package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	apiPrefix   = "/api/v1"
	indexHeader = "Hayloft-Index"

	// maxJSONBytes bounds an answer: 100 photos with every text at its limit
	// stay well below it.
	maxJSONBytes = 8 << 20
	// maxDrainBytes is read to give a connection back; beyond it, closing the
	// connection is cheaper.
	maxDrainBytes = 256 << 10
)

// Options says how a Client behaves. The zero value works.
type Options struct {
	// Token is sent as a bearer token. Empty: anonymous.
	Token string
	// HTTPClient carries the calls. Nil: one of the client's own, with bounded
	// times to connect and to the answer's first byte, none for bodies. Its
	// redirect policy is not used.
	HTTPClient *http.Client
	// UserAgent names the program. Empty: "hayloft-client".
	UserAgent string
	// Retries is how many times a repeatable call is repeated. 0: 3; negative:
	// never.
	Retries int
	// MinPause and MaxPause bound the pause before a repetition. 0: 100 ms and
	// 5 s. When the server asks for more than MaxPause, its refusal is returned.
	MinPause, MaxPause time.Duration
	// MaxMediaBytes bounds one media download. 0: 256 MiB.
	MaxMediaBytes int64
}

// Validate lists every fault of the options at once.
func (o Options) Validate() error {
	var errs []error
	if o.MinPause < 0 || o.MaxPause < 0 {
		errs = append(errs, errors.New("client: pauses must not be negative"))
	}
	if o.MaxPause > 0 && o.MinPause > o.MaxPause {
		errs = append(errs, errors.New("client: MinPause is above MaxPause"))
	}
	if o.MaxMediaBytes < 0 {
		errs = append(errs, errors.New("client: MaxMediaBytes must not be negative"))
	}
	if strings.ContainsAny(o.Token, "\r\n") {
		errs = append(errs, errors.New("client: Token holds a line break"))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.HTTPClient == nil {
		o.HTTPClient = &http.Client{Transport: newTransport()}
	}
	if o.UserAgent == "" {
		o.UserAgent = "hayloft-client"
	}
	if o.Retries == 0 {
		o.Retries = 3
	}
	if o.MaxPause == 0 {
		o.MaxPause = max(5*time.Second, o.MinPause)
	}
	if o.MinPause == 0 {
		o.MinPause = min(100*time.Millisecond, o.MaxPause)
	}
	if o.MaxMediaBytes == 0 {
		o.MaxMediaBytes = 256 << 20
	}
	return o
}

// newTransport has no bound on whole calls, because an upload over a slow line
// is no fault; it bounds the steps in which nothing should take long. The
// answer's bound lies above the 10 s that "Prefer: wait" may take.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,
		ForceAttemptHTTP2:     true,
	}
}

// Client speaks to one Hayloft. See the package comment for threads, retries
// and errors.
type Client struct {
	base string // scheme, host and path prefix, no trailing slash
	http *http.Client
	opts Options

	// index is the largest Hayloft-Index answered so far.
	index *atomic.Uint64

	// sleep waits for d or for ctx; tests count its calls instead of waiting.
	sleep func(ctx context.Context, d time.Duration) error
}

// New makes a Client for the server at baseURL ("http://127.0.0.1:8080"). It
// does not connect.
func New(baseURL string, o Options) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, fmt.Errorf("client: base URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("client: base URL %q is not of the form http(s)://host[:port]", u.Redacted())
	}
	o = o.withDefaults()
	hc := *o.HTTPClient // a copy: the caller's keeps its own redirect policy
	// Redirects are taken by hand (Variant): a login must not travel to a media
	// host, and no other call has any.
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{
		base:  strings.TrimRight(u.Scheme+"://"+u.Host+u.EscapedPath(), "/"),
		http:  &hc,
		opts:  o,
		index: new(atomic.Uint64),
		sleep: sleep,
	}, nil
}

// WithToken returns a Client with another login ("": anonymous) over the same
// connections. The two keep separate indexes.
func (c *Client) WithToken(token string) *Client {
	d := *c
	d.opts.Token = token
	d.index = new(atomic.Uint64)
	return &d
}

// Token returns the token the Client carries.
func (c *Client) Token() string { return c.opts.Token }

// CloseIdle closes connections that carry no call.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type freshKey struct{}

// Fresh returns a context whose calls see every change that was acknowledged to
// anybody before they were made, rather than all that this Client knows of. They cost
// the servers a round trip.
func Fresh(ctx context.Context) context.Context { return context.WithValue(ctx, freshKey{}, true) }

// call is one API call before it is sent.
type call struct {
	method string
	path   string // under /api/v1, escaped; or url
	url    string // absolute, instead of path: sent without the login
	query  url.Values
	header http.Header
	// body gives the body of one attempt; nil: none. size is its length in
	// bytes.
	body func() io.Reader
	size int64
	mime string
	// fresh says that body gives all the bytes each time it is called.
	fresh bool
	// repeatable says that a second arrival has no second effect.
	repeatable bool
}

func jsonCall(method, path string, body any) (call, error) {
	c := call{method: method, path: path}
	if body == nil {
		return c, nil
	}
	b, err := json.Marshal(body)
	if err != nil {
		return call{}, fmt.Errorf("client: encode request: %w", err)
	}
	c.body = func() io.Reader { return bytes.NewReader(b) }
	c.size = int64(len(b))
	c.fresh = true
	c.mime = "application/json"
	return c, nil
}

// request builds one attempt.
func (c *Client) request(ctx context.Context, k call) (*http.Request, error) {
	target := k.url
	if target == "" {
		target = c.base + apiPrefix + k.path
	}
	if len(k.query) > 0 {
		target += "?" + k.query.Encode()
	}
	var body io.Reader
	if k.body != nil {
		// NopCloser: the transport closes what it is given, the bytes' source is
		// the caller's.
		body = io.NopCloser(k.body())
	}
	req, err := http.NewRequestWithContext(ctx, k.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if k.body != nil {
		req.ContentLength = k.size
		if k.size == 0 {
			req.Body = http.NoBody
		}
		if k.fresh {
			// For the transport: an idle connection that turns out to be closed
			// before a byte was written is replaced without any repetition.
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(k.body()), nil }
		}
	}
	for name, v := range k.header {
		req.Header[name] = v
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if k.mime != "" {
		req.Header.Set("Content-Type", k.mime)
	}
	if k.url == "" {
		if c.opts.Token != "" {
			req.Header.Set("Authorization", "Bearer "+c.opts.Token)
		}
		if ctx.Value(freshKey{}) != nil {
			req.Header.Set(indexHeader, "fresh")
		} else if i := c.index.Load(); i > 0 {
			req.Header.Set(indexHeader, strconv.FormatUint(i, 10))
		}
	}
	return req, nil
}

// send makes the call, repeating it where that is allowed, and returns an
// answer below 400 whose body the caller closes, or an error.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		res, err := c.attempt(ctx, k)
		if err == nil {
			return res, nil
		}
		if !k.repeatable || attempt >= c.opts.Retries || !passing(ctx, err) {
			return nil, err
		}
		pause := c.pause(attempt)
		var p *Problem
		if errors.As(err, &p) && p.RetryAfter > 0 {
			if p.RetryAfter > c.opts.MaxPause {
				return nil, err
			}
			pause = p.RetryAfter
		}
		if c.sleep(ctx, pause) != nil {
			return nil, err // what went wrong says more than that time ran out
		}
	}
}

func (c *Client) attempt(ctx context.Context, k call) (*http.Response, error) {
	req, err := c.request(ctx, k)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if k.url == "" {
		c.noteIndex(res.Header)
	}
	if res.StatusCode >= 400 {
		defer discard(res.Body)
		return nil, problemOf(res)
	}
	return res, nil
}

// passing reports whether err may be gone at the next attempt.
func passing(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	var p *Problem
	if errors.As(err, &p) {
		switch p.Status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	var u *url.Error // what http.Client.Do returns; anything else is ours
	return errors.As(err, &u)
}

// pause doubles with each attempt and is drawn from the upper half, so that
// clients which failed together do not return together.
func (c *Client) pause(attempt int) time.Duration {
	d := c.opts.MaxPause
	if attempt < 16 {
		d = min(d, c.opts.MinPause<<attempt)
	}
	return d/2 + rand.N(d/2+1)
}

func (c *Client) noteIndex(h http.Header) {
	n, err := strconv.ParseUint(h.Get(indexHeader), 10, 64)
	if err != nil {
		return
	}
	for {
		old := c.index.Load()
		if n <= old || c.index.CompareAndSwap(old, n) {
			return
		}
	}
}

// do makes the call and decodes its JSON answer into out; nil: none wanted.
func (c *Client) do(ctx context.Context, k call, out any) error {
	if out != nil {
		if k.header == nil {
			k.header = http.Header{}
		}
		k.header.Set("Accept", "application/json")
	}
	res, err := c.send(ctx, k)
	if err != nil {
		return err
	}
	defer discard(res.Body)
	if out == nil {
		return nil
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("client: %s %s: unexpected status %d", k.method, k.path, res.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxJSONBytes+1))
	if err != nil {
		return fmt.Errorf("client: read answer: %w", err)
	}
	if len(b) > maxJSONBytes {
		return fmt.Errorf("client: answer above %d bytes", maxJSONBytes)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("client: decode answer: %w", err)
	}
	return nil
}

// discard reads what little is left, so that the connection can be used again,
// and closes.
func discard(body io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(body, maxDrainBytes)) //nolint:errcheck // the answer is known already
	body.Close()
}
