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
	"hayloft/internal/spread"
)

// order are the upstreams as a key has them: its home first, then who takes its place
// (rendezvous hashing: Thaler and Ravishankar 1998). Who is taken away changes nothing for
// keys of the others.
func (c *Chain) order(key uint64) []*upstream {
	out := slices.Clone(c.ups)
	slices.SortStableFunc(out, func(a, b *upstream) int {
		x, y := spread.Mix(a.hash^key), spread.Mix(b.hash^key)
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
		if score := spread.Mix(hashText(n) ^ hashKey(k)); i == 0 || score > best {
			best, at = score, i
		}
	}
	return at
}

func hashKey(k cache.Key) uint64 {
	return spread.Mix(spread.Mix(uint64(k.Blob))^uint64(k.Cookie)) ^ hashText(k.Variant+"."+k.Ext)
}

// hashText is FNV-1a, mixed.
func hashText(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return spread.Mix(h)
}

// fewFills are so few that they are balanced well enough.
const fewFills = 8

// bound is how many fills one upstream may have now: a quarter more than its share
// (Mirrokni, Thorup and Zadimoghaddam 2016) among those that can be asked.
func (c *Chain) bound() int {
	sum, n := 1, 0
	for _, u := range c.ups {
		if load, works := u.load(); works {
			sum += load
			n++
		}
	}
	n = max(n, 1)
	return min(max((5*sum+4*n-1)/(4*n), fewFills), c.o.MaxFills)
}

// result is what one attempt brought.
type result struct {
	o   *opened
	err error
	u   *upstream
}

// Fetch implements cache.Origin: it asks the key's home, and others in its place when
// that is away, has too much to do, or takes long. Of a large object the first bytes are
// there before the last.
func (c *Chain) Fetch(ctx context.Context, k cache.Key) (cache.Object, error) {
	o, err := c.open(ctx, k, nil)
	if err != nil {
		return cache.Object{}, err
	}
	r := &rest{c: c, ctx: ctx, k: k, o: o}
	obj := cache.Object{ContentType: o.typ, ETag: o.tag, Age: o.age}
	if o.size > chunk {
		obj.Rest, obj.Size = r, o.size
		return obj, nil
	}
	obj.Data = make([]byte, o.size)
	if _, err := r.Next(obj.Data); err != nil {
		return cache.Object{}, err
	}
	r.Done(obj.Data)
	return obj, nil
}

// open asks for an object until an upstream begins to answer; from is an answer that
// broke off, whose rest is wanted.
func (c *Chain) open(ctx context.Context, k cache.Key, from *opened) (*opened, error) {
	race, over := context.WithCancel(ctx)
	defer over()
	h := &heat{c: c, ctx: ctx, race: race, k: k, from: from, results: make(chan result), rest: c.order(hashKey(k))}
	h.home = h.rest[0]
	if from != nil { // who broke off comes last
		at := slices.Index(h.rest, from.u)
		h.rest = append(slices.Delete(h.rest, at, at+1), from.u)
	}
	h.next()
	for hedged := false; h.running > 0; {
		late := c.o.Clock.After(c.o.Hedge)
		if hedged || len(h.rest) == 0 {
			late = nil
		}
		select {
		case r := <-h.results:
			h.running--
			if r.err == nil {
				r.o.keep()
				return r.o, nil
			}
			if errors.Is(r.err, cache.ErrNotFound) {
				return nil, r.err
			}
			h.errs = append(h.errs, fmt.Errorf("%s: %w", r.u.name, r.err))
			if ctx.Err() == nil && h.running == 0 {
				h.next()
			}
		case <-late:
			if hedged = h.next(); hedged {
				h.home.count(func(s *UpstreamStats) { s.Hedged++ })
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if len(h.errs) > 0 && !slices.ContainsFunc(h.errs, func(err error) bool { return !errors.Is(err, ErrBusy) }) {
		return nil, ErrBusy
	}
	return nil, errors.Join(append([]error{ErrDown}, h.errs...)...)
}

// heat is one race of upstreams for an object.
type heat struct {
	c         *Chain
	ctx, race context.Context
	k         cache.Key
	from      *opened
	results   chan result
	rest      []*upstream // who was not asked yet
	full      []*upstream // who was not asked because it has more than its share
	home      *upstream
	running   int
	errs      []error
}

// next has one more upstream asked; false when there is none. Who has more than its share
// is asked when all others have failed.
func (h *heat) next() bool {
	for len(h.rest) > 0 {
		u := h.rest[0]
		h.rest = h.rest[1:]
		if !u.take(h.c.bound()) {
			h.full = append(h.full, u)
			continue
		}
		if h.ask(u) {
			return true
		}
	}
	for h.running == 0 && len(h.full) > 0 {
		u := h.full[0]
		h.full = h.full[1:]
		if !u.take(h.c.o.MaxFills) {
			h.errs = append(h.errs, fmt.Errorf("%s: %w", u.name, ErrBusy))
			continue
		}
		if h.ask(u) {
			return true
		}
	}
	return false
}

// ask asks an upstream, of which a fill was taken; false when it is left alone.
func (h *heat) ask(u *upstream) bool {
	if !u.begin() {
		u.give()
		u.count(func(s *UpstreamStats) { s.Refused++ })
		return false
	}
	h.running++
	go func() {
		o, err := h.c.attempt(h.ctx, h.race, u, h.k, h.from, u != h.home)
		select {
		case h.results <- result{o, err, u}:
		case <-h.race.Done():
			if o != nil {
				o.end(errLeft)
			}
		}
	}()
	return true
}

// receive reads an object, verified, that comes with these headers.
func receive(h http.Header, body io.Reader, length int64) (cache.Object, error) {
	size, tag, err := sizeAndTag(h)
	if err == nil && length != framed(size) {
		err = fmt.Errorf("tier: an object of %d bytes in %d", size, length)
	}
	if err != nil {
		return cache.Object{}, err
	}
	data := make([]byte, size)
	var sum uint32
	for at := 0; at < size; at += chunk {
		if sum, err = readPart(body, data[at:min(at+chunk, size)], sum); err != nil {
			return cache.Object{}, err
		}
	}
	if tag != tagOf(sum) {
		return cache.Object{}, fmt.Errorf("%w: its checksum is %s, its tag %q", errDamaged, tagOf(sum), tag)
	}
	return cache.Object{Data: data, ContentType: h.Get("Content-Type"), ETag: tag}, nil
}

// Put puts an object that was just made into a tier, so that its first reader finds it
// warm.
func Put(ctx context.Context, d Dialer, k cache.Key, obj cache.Object) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeObject(w, obj.Data, 0, there)) }()
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
