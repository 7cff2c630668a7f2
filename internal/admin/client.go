package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxAnswer = 64 << 20 // bytes of an answer that is no stream
	maxLine   = 16 << 20 // bytes of a line
	maxError  = 64 << 10 // bytes of a problem
	// maxSilence is how long a stream may be silent: six alive lines.
	maxSilence = 6 * aliveEvery
)

// Client makes calls.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient returns a client of the door at base, an origin such as
// http://127.0.0.1:9090. token may be empty: then only unguarded calls are
// answered. It never follows a redirect, which could lead the token astray.
func NewClient(base, token string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is not an address such as http://127.0.0.1:9090", base)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil // the token goes where it is sent, and nowhere else
	t.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	t.DisableCompression = true
	return &Client{base: u.Scheme + "://" + u.Host, token: token, http: &http.Client{Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Close gives connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get makes a call and fills v with its answer.
func (c *Client) Get(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, maxSilence)
	defer cancel()
	res, err := c.do(ctx, http.MethodGet, path, "application/json")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errors.New("it is too long")
	}
	if err == nil {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		return fmt.Errorf("the answer of %s%s cannot be read: %w", c.base, path, err)
	}
	return nil
}

// Stream makes a long call and gives every line but alive ones and the last to
// fn, with the bytes that it announced, which are fn's to keep. The value of the
// last line fills result.
func (c *Client) Stream(ctx context.Context, method, path string, result any, fn func(kind string, value json.RawMessage, raw []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(maxSilence, func() { cancel(fmt.Errorf("%s says nothing any more", c.base)) })
	defer silence.Stop()
	res, err := c.do(ctx, method, path, streamType)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	in := bufio.NewReaderSize(heard{res.Body, func() { silence.Reset(maxSilence) }}, 256<<10)
	for {
		l, raw, err := readLine(in)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("the answer of %s%s was cut off: %w", c.base, path, err)
		}
		switch l.Kind {
		case KindAlive:
		case KindResult:
			return json.Unmarshal(l.Value, result)
		case KindProblem:
			p := &Problem{}
			if err := json.Unmarshal(l.Value, p); err != nil {
				return err
			}
			return p
		default:
			if err := fn(l.Kind, l.Value, raw); err != nil {
				return err
			}
		}
	}
}

// heard tells of each read that brought something.
type heard struct {
	io.Reader
	tell func()
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if n > 0 {
		h.tell()
	}
	return n, err
}

// readLine reads one line and the bytes behind it.
func readLine(in *bufio.Reader) (l Line, raw []byte, err error) {
	var text []byte
	for more := true; more; {
		var part []byte
		part, err = in.ReadSlice('\n')
		if more = errors.Is(err, bufio.ErrBufferFull); err != nil && !more {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // the last line returns before
			}
			return l, nil, err
		}
		if text = append(text, part...); len(text) > maxLine {
			return l, nil, errors.New("a line is too long")
		}
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return l, nil, err
	}
	if l.Bytes < 0 || l.Bytes > maxRaw {
		return l, nil, fmt.Errorf("a line announces %d bytes", l.Bytes)
	}
	raw = make([]byte, 0, min(l.Bytes, 1<<20))
	for int64(len(raw)) < l.Bytes {
		n := min(l.Bytes-int64(len(raw)), 1<<20)
		at := len(raw)
		raw = append(raw, make([]byte, n)...)
		if _, err := io.ReadFull(in, raw[at:]); err != nil {
			return l, nil, err
		}
	}
	return l, raw, nil
}

// streamType is the content type of long answers.
const streamType = "application/x-ndjson"

// maxRaw bounds the bytes behind a line: the largest needle.
const maxRaw = 1 << 30

// do sends a request and returns the answer when it is 200 and of the type
// that is wanted.
func (c *Client) do(ctx context.Context, method, path, want string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	if c.token != "" && want == streamType { // every guarded call answers so, and no other
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // its text has the address again
		}
		return nil, fmt.Errorf("no answer from %s: %w", c.base, err)
	}
	typ, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode == http.StatusOK && typ == want {
		return res, nil
	}
	defer res.Body.Close()
	p := &Problem{}
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxError)) // what came is enough
	if typ != "application/problem+json" || json.Unmarshal(body, p) != nil || p.Status == 0 || !strings.HasPrefix(p.Type, problemBase) {
		return nil, fmt.Errorf("%s answers %s to %s: is that the admin listener of a hayloft server?", c.base, res.Status, path)
	}
	return nil, p
}
