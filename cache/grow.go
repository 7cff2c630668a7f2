package cache

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// Rest brings the bytes of an Object that is not there yet as a whole. It belongs to the
// goroutine of the fill.
type Rest interface {
	// Next writes the next bytes of the object to the beginning of to, which is as long as
	// all that is missing, and returns how many: at least one without an error, and only
	// such as are certain. It ends when the context of Fetch does.
	Next(to []byte) (int, error)
	// Done is called once, at the end: with the whole object, valid until Done returns, or
	// nil when it did not become whole.
	Done(whole []byte)
}

// growth is how far the bytes of an entry have come. What is there does not change.
type growth struct {
	size int

	mu   sync.Mutex // guards what follows
	have int
	err  error         // it will not become whole
	more chan struct{} // closed at the next change
}

func newGrowth(size int) *growth { return &growth{size: size, more: make(chan struct{})} }

// step tells of n bytes more, or of an end without the rest.
func (g *growth) step(n int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.have += n
	g.err = err
	close(g.more)
	g.more = make(chan struct{})
}

// wait returns when there are at least n bytes, and how many there are. It ends with
// the fill, which has a deadline.
func (g *growth) wait(n int) (have int, err error) {
	for {
		g.mu.Lock()
		have, err := g.have, g.err
		more := g.more
		g.mu.Unlock()
		if have >= n || err != nil {
			return have, err
		}
		<-more
	}
}

// there reports whether the first n bytes are there.
func (g *growth) there(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.have >= n
}

// growing reports whether bytes of e may be missing.
func (e *entry) growing() bool { return e.growth != nil && !e.growth.there(e.growth.size) }

// present returns the entry of k or nil, also one that grows. Needs mu.
func (s *shard) present(k key) *entry {
	for e := s.blobs[k.blobID()]; e != nil; e = e.sibling {
		if e.key == k {
			return e
		}
	}
	return nil
}

// grow brings the bytes of e, which land has put in its place and pinned for this
// fill: everybody who finds it reads along. When they do not all come, nobody finds it
// any more, and those who read are cut off.
func (c *Cache) grow(ctx context.Context, s *shard, e *entry, rest Rest) {
	g := e.growth
	var err error
	for have := 0; have < g.size && err == nil; {
		var n int
		if n, err = rest.Next(e.data[have:]); err == nil {
			have += n
			g.step(n, nil)
			err = c.deserted(s, e)
		}
	}
	if err == nil {
		rest.Done(e.data)
		e.unpin()
		return
	}
	s.mu.Lock()
	if e.linked {
		s.drop(e)
	}
	s.unlock()
	rest.Done(nil)
	if !errors.Is(err, errDeserted) {
		c.n.fillErrors.Add(1)
		if c.ctx.Err() == nil {
			why := err
			if ctx.Err() != nil {
				why = context.Cause(ctx)
			}
			c.opts.Events(Event{Kind: FillFailed, Key: c.external(e.key), Err: why})
		}
	}
	g.step(0, err)
	e.unpin()
}

var errDeserted = errors.New("cache: nobody reads what could not be kept")

// deserted ends a fill that nobody reads and that will not be kept.
func (c *Cache) deserted(s *shard, e *entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.growing() && e.refs.Load() == 1 && (e.loose != nil || !e.linked) {
		if e.linked {
			s.drop(e)
		}
		return errDeserted
	}
	return nil
}

// growingBody streams a part of a pinned entry, also while it grows. Its Close is that of
// body.
type growingBody struct {
	body
	at, end int // of the entry's bytes: what is left
}

// next is what is there and not sent; io.EOF after the end. Before it waits it calls
// flush, of which nil does nothing.
func (b *growingBody) next(flush func() error) ([]byte, error) {
	if b.entry == nil || b.at == b.end {
		return nil, io.EOF
	}
	g := b.entry.growth
	if g == nil {
		return b.entry.data[b.at:b.end], nil
	}
	if flush != nil && !g.there(b.at+1) {
		if err := flush(); err != nil {
			return nil, err
		}
	}
	have, err := g.wait(b.at + 1)
	if have > b.at {
		return b.entry.data[b.at:min(have, b.end)], nil
	}
	return nil, err
}

// Read implements io.Reader.
func (b *growingBody) Read(p []byte) (int, error) {
	piece, err := b.next(nil)
	if err != nil {
		return 0, err
	}
	n := copy(p, piece)
	b.at += n
	b.entry.shard.served.Add(uint64(n))
	return n, nil
}

// WriteTo implements io.WriterTo: what is there, the head of the answer too, is sent
// before it waits for more.
func (b *growingBody) WriteTo(w io.Writer) (sum int64, err error) {
	var flush func() error
	if f, ok := w.(interface{ Flush() error }); ok {
		flush = f.Flush
	}
	for {
		piece, err := b.next(flush)
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
		n, err := w.Write(piece)
		b.at += n
		sum += int64(n)
		b.entry.shard.served.Add(uint64(n))
		if err != nil {
			return sum, err
		}
	}
}

// still asks again about a verdict that became old while the object was fetched. ok is
// false when the fill has ended.
func (c *Cache) still(s *shard, f *flight, v Verdict, asked time.Time) (Verdict, time.Time, bool) {
	if c.vouched(asked) {
		return v, asked, true
	}
	// Cut off from the purge log, and the fetch took its time.
	v, asked, ok := c.rights(s, f)
	if ok && !c.vouched(asked) {
		c.finish(s, f, errStale)
		ok = false
	}
	return v, asked, ok
}
