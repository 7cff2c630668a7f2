package tier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"hayloft/cache"
)

// order are the upstreams as a key has them: its home first, then who takes its place
// (rendezvous hashing: Thaler and Ravishankar 1998). Who is taken away changes nothing for
// keys of the others.
func (c *Chain) order(key uint64) []*upstream {
	out := slices.Clone(c.ups)
	slices.SortStableFunc(out, func(a, b *upstream) int {
		x, y := mix(a.hash^key), mix(b.hash^key)
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	return out
}

// Home is the index of the one of these names that is the home of a key.
func Home(names []string, k cache.Key) int {
	best, at := uint64(0), 0
	for i, n := range names {
		if score := mix(hashText(n) ^ hashKey(k)); i == 0 || score > best {
			best, at = score, i
		}
	}
	return at
}

func hashKey(k cache.Key) uint64 {
	return mix(mix(uint64(k.Blob))^uint64(k.Cookie)) ^ hashText(k.Variant+"."+k.Ext)
}

// hashText is FNV-1a, mixed.
func hashText(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// fewFills are so few that they are balanced well enough.
const fewFills = 8

// bound is how many fills one upstream may have now: a quarter more than its share
// (Mirrokni, Thorup and Zadimoghaddam 2016).
func (c *Chain) bound() int {
	sum, n := 1, 0
	for _, u := range c.ups {
		sum += u.load()
		n++
	}
	return min(max((5*sum+4*n-1)/(4*n), fewFills), c.o.MaxFills)
}

// result is what one attempt brought.
type result struct {
	obj cache.Object
	err error
	u   *upstream
}

// Fetch implements cache.Origin: it asks the key's home, and others in its place when
// that is away, has too much to do, or takes long.
func (c *Chain) Fetch(ctx context.Context, k cache.Key) (cache.Object, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		errs    = []error{}
		results = make(chan result, len(c.ups)) // who comes late finds room
		running = 0
		rest    = c.order(hashKey(k))
		home    = rest[0]
		hedged  = false
	)
	next := func() bool {
		for len(rest) > 0 {
			u := rest[0]
			rest = rest[1:]
			if !u.take(c.bound()) {
				errs = append(errs, fmt.Errorf("%s: %w", u.name, ErrBusy))
				continue
			}
			if !u.begin() {
				u.give()
				u.count(func(s *UpstreamStats) { s.Refused++ })
				continue
			}
			running++
			go func() {
				obj, err := c.attempt(ctx, u, k, u != home)
				u.give()
				results <- result{obj, err, u}
			}()
			return true
		}
		return false
	}
	next()
	for running > 0 {
		late := c.o.Clock.After(c.o.Hedge)
		if hedged || len(rest) == 0 {
			late = nil
		}
		select {
		case r := <-results:
			running--
			if r.err == nil || errors.Is(r.err, cache.ErrNotFound) {
				return r.obj, r.err
			}
			errs = append(errs, fmt.Errorf("%s: %w", r.u.name, r.err))
			if ctx.Err() == nil && running == 0 {
				next()
			}
		case <-late:
			if hedged = next(); hedged {
				home.count(func(s *UpstreamStats) { s.Hedged++ })
			}
		case <-ctx.Done():
			return cache.Object{}, context.Cause(ctx)
		}
	}
	if len(errs) > 0 && !slices.ContainsFunc(errs, func(err error) bool { return !errors.Is(err, ErrBusy) }) {
		return cache.Object{}, ErrBusy
	}
	return cache.Object{}, errors.Join(append([]error{ErrDown}, errs...)...)
}

// attempt asks one upstream for an object.
func (c *Chain) attempt(ctx context.Context, u *upstream, k cache.Key, gutter bool) (cache.Object, error) {
	one, cancel := context.WithTimeout(ctx, c.o.Attempt)
	defer cancel()
	obj, err := c.fetchFrom(one, u, k, gutter)
	if errors.Is(err, cache.ErrNotFound) {
		u.end(nil, false)
		return obj, err
	}
	c.ended(ctx, u, err)
	if err == nil {
		u.count(func(s *UpstreamStats) {
			s.Fills++
			s.Bytes += uint64(len(obj.Data))
			if gutter {
				s.Gutter++
			}
		})
	}
	return obj, err
}

func (c *Chain) fetchFrom(ctx context.Context, u *upstream, k cache.Key, gutter bool) (cache.Object, error) {
	q := url.Values{"path": {k.Path()}}
	if gutter {
		q.Set(gutterParam, "1")
	}
	resp, err := c.do(ctx, u, pathObject, q, k.Blob)
	if err != nil {
		return cache.Object{}, err
	}
	defer resp.Body.Close()
	if p := resp.Header.Get(headerPath); p != k.Path() {
		return cache.Object{}, fmt.Errorf("tier: asked for another object, was answered with %q", p)
	}
	return receive(resp.Header, resp.Body, resp.ContentLength)
}

// receive reads an object, verified, that comes with these headers.
func receive(h http.Header, body io.Reader, length int64) (cache.Object, error) {
	size, err := strconv.Atoi(h.Get(headerSize))
	if err != nil || size <= 0 || size > maxObject || length != framed(size) {
		return cache.Object{}, fmt.Errorf("tier: an object of %q bytes in %d", h.Get(headerSize), length)
	}
	data := make([]byte, size)
	sum, err := readObject(body, data)
	if err != nil {
		return cache.Object{}, err
	}
	tag := strings.Trim(h.Get("ETag"), `"`)
	if tag != tagOf(sum) {
		return cache.Object{}, fmt.Errorf("%w: its checksum is %s, its tag %q", errDamaged, tagOf(sum), tag)
	}
	return cache.Object{Data: data, ContentType: h.Get("Content-Type"), ETag: tag}, nil
}

// Put puts an object that was just made into a tier, so that its first reader finds it
// warm.
func Put(ctx context.Context, d Dialer, k cache.Key, obj cache.Object) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeObject(w, obj.Data)) }()
	defer r.Close()
	req, err := http.NewRequest(http.MethodPut, pathObject+"?"+url.Values{"path": {k.Path()}}.Encode(), r)
	if err != nil {
		return err
	}
	req.ContentLength = framed(len(obj.Data))
	req.Header.Set("Content-Type", obj.ContentType)
	req.Header.Set("ETag", `"`+obj.ETag+`"`)
	req.Header.Set(headerSize, strconv.Itoa(len(obj.Data)))
	resp, err := d.Do(ctx, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return &statusError{resp.StatusCode, resp.Status}
	}
	return nil
}
