package tier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/cache"
	"hayloft/internal/clock"
)

// maxResumes is how often the rest of one object is asked for again, where it broke off.
const maxResumes = 3

var errStalled = errors.New("tier: it does not go on")

// opened is an answer of which the head has come. Its user calls end once.
type opened struct {
	c      *Chain
	u      *upstream
	ctx    context.Context // of the call
	cancel context.CancelCauseFunc
	keep   func() bool // the race's end does not end it any more
	resp   *http.Response
	moved  atomic.Int64 // steps forward, for watch
	once   sync.Once

	size     int
	typ, tag string
	age      time.Duration
	sum      uint32 // CRC32C of the object up to the next byte
	at       int    // of the object: the next byte
	sent     uint64
	gutter   bool
}

// attempt asks one upstream for an object from a byte on; race ends it as long as it has
// not answered. It stalls when nothing comes for Options.Attempt.
func (c *Chain) attempt(ctx, race context.Context, u *upstream, k cache.Key, from *opened, gutter bool) (*opened, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	o := &opened{c: c, u: u, ctx: ctx, cancel: cancel, gutter: gutter}
	o.keep = context.AfterFunc(race, func() { cancel(context.Cause(race)) })
	go o.watch(c.o.Clock)
	q := url.Values{"path": {k.Path()}}
	if gutter {
		q.Set(gutterParam, "1")
	}
	if from != nil {
		o.at, o.sum = from.at, from.sum
		q.Set(fromParam, strconv.Itoa(from.at))
	}
	resp, err := c.do(ctx, u, pathObject, q, k.Blob)
	if err == nil {
		o.resp = resp
		err = o.head(k, from)
	}
	if err != nil {
		err = o.why(err)
		o.end(err)
		return nil, err
	}
	u.answers()
	return o, nil
}

// head reads the head of the answer.
func (o *opened) head(k cache.Key, from *opened) (err error) {
	h := o.resp.Header
	if p := h.Get(headerPath); p != k.Path() {
		return fmt.Errorf("tier: asked for another object, was answered with %q", p)
	}
	if o.size, o.tag, err = sizeAndTag(h); err != nil {
		return err
	}
	o.typ, o.age = h.Get("Content-Type"), ageOf(h)
	if o.at >= o.size || o.resp.ContentLength != framed(o.size)-framed(o.at) {
		return fmt.Errorf("tier: an object of %d bytes, from %d on in %d", o.size, o.at, o.resp.ContentLength)
	}
	if from != nil && (o.size != from.size || o.tag != from.tag || o.typ != from.typ) {
		return errors.New("tier: the object is another one than it was")
	}
	return nil
}

// sizeAndTag are what the head of an object says.
func sizeAndTag(h http.Header) (size int, tag string, err error) {
	size, err = strconv.Atoi(h.Get(headerSize))
	if err != nil || size <= 0 || size > maxObject {
		return 0, "", fmt.Errorf("tier: an object of %q bytes", h.Get(headerSize))
	}
	return size, strings.Trim(h.Get("ETag"), `"`), nil
}

// maxAge is the greatest age that is believed.
const maxAge = 100 * 365 * 24 * time.Hour

// ageOf reads how old an object is; what can't be read is 0: nothing depends on it.
func ageOf(h http.Header) time.Duration {
	s, err := strconv.ParseInt(h.Get(headerAge), 10, 64)
	if err != nil || s < 0 || s > int64(maxAge/time.Second) {
		return 0
	}
	return time.Duration(s) * time.Second
}

// watch ends the call when nothing comes for too long.
func (o *opened) watch(clk clock.Clock) {
	for last := o.moved.Load(); ; {
		select {
		case <-clk.After(o.c.o.Attempt):
			now := o.moved.Load()
			if now == last {
				o.cancel(errStalled)
				return
			}
			last = now
		case <-o.ctx.Done():
			return
		}
	}
}

// why is the reason behind an error of a call that was ended from here.
func (o *opened) why(err error) error {
	if o.ctx.Err() != nil && !errors.Is(err, cache.ErrNotFound) {
		return fmt.Errorf("%w: %w", context.Cause(o.ctx), err)
	}
	return err
}

// next reads a chunk into the beginning of to, verified.
func (o *opened) next(to []byte) (int, error) {
	part := to[:min(chunk, o.size-o.at, len(to))]
	sum, err := readPart(o.resp.Body, part, o.sum)
	if err == nil && o.at+len(part) == o.size && tagOf(sum) != o.tag {
		err = fmt.Errorf("%w: its checksum is %s, its tag %q", errDamaged, tagOf(sum), o.tag)
	}
	if err != nil {
		return 0, o.why(err)
	}
	o.moved.Add(1)
	o.sum = sum
	o.at += len(part)
	o.sent += uint64(len(part))
	return len(part), nil
}

// errLeft ends a call that nobody is interested in any more; it says nothing of the
// upstream.
var errLeft = errors.New("tier: it is not wanted any more")

// end ends the call and tells the upstream's breaker how it went.
func (o *opened) end(err error) {
	o.once.Do(func() {
		given := o.ctx.Err() != nil && !errors.Is(context.Cause(o.ctx), errStalled) || errors.Is(err, errLeft)
		o.keep()
		o.cancel(err)
		if o.resp != nil {
			_ = o.resp.Body.Close() // nothing more is wanted of it
		}
		o.u.give()
		if errors.Is(err, cache.ErrNotFound) || alive(err) {
			err = nil
		}
		o.u.end(err, given)
		o.u.count(func(s *UpstreamStats) {
			s.Bytes += o.sent
			if o.at == o.size && o.size > 0 {
				s.Fills++
				if o.gutter {
					s.Gutter++
				}
			}
		})
	})
}

// rest brings an object from one upstream, and what is missing from others when that
// breaks off. It implements cache.Rest.
type rest struct {
	c       *Chain
	ctx     context.Context
	k       cache.Key
	o       *opened
	resumed int
}

// Next implements cache.Rest.
func (r *rest) Next(to []byte) (int, error) {
	for {
		n, err := r.o.next(to)
		if err == nil {
			return n, nil
		}
		r.o.end(err)
		if r.ctx.Err() != nil || r.resumed == maxResumes {
			return 0, err
		}
		r.resumed++
		o, err2 := r.c.open(r.ctx, r.k, r.o)
		if err2 != nil {
			return 0, errors.Join(err, err2)
		}
		r.o = o
	}
}

// Done implements cache.Rest.
func (r *rest) Done(whole []byte) {
	if whole == nil {
		r.o.end(errLeft)
		return
	}
	r.o.end(nil)
}

// readPart fills data, verified, and returns the CRC32C of all of the object so far, of
// which it is given that of what came before.
func readPart(r io.Reader, data []byte, sum uint32) (uint32, error) {
	var tail [4]byte
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(r, tail[:]); err != nil {
		return 0, err
	}
	return checkPart(data, tail, sum)
}
