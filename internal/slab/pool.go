package slab

import (
	"sync"
	"sync/atomic"
)

const (
	// Sizes are those of images, powers of two from 8 KiB to 1 MiB and one
	// between each two, plus room for what stands around an image in a record
	// and for alignment.
	smallest = 8 << 10
	slack    = 8 << 10
	classes  = 15
	// Largest is the largest buffer that is pooled, in bytes.
	Largest = smallest<<(classes/2) + slack

	chunkBytes = 4 << 20 // memory of one size
	slabBytes  = 4 * chunkBytes
	// keepChunks bounds how many chunks that nobody uses wait for the next user.
	keepChunks = 16
)

// sizeOf is the size of the buffers of a class.
func sizeOf(class int) int {
	size := smallest << (class / 2)
	if class%2 == 1 {
		size += size / 2
	}
	return size + slack
}

// Size returns how much memory Get takes for n bytes.
func Size(n int) int {
	if c := classOf(n); c < classes {
		return sizeOf(c)
	}
	return roundUp(n, pageBytes)
}

func classOf(n int) int {
	for c := range classes {
		if n <= sizeOf(c) {
			return c
		}
	}
	return classes
}

// buffer is memory from a Pool.
type buffer struct {
	space []byte
	chunk *chunk        // nil: of a size that is not pooled
	use   atomic.Uint64 // how often it was released
}

// chunk is a piece of memory cut into buffers of one size.
type chunk struct {
	mem   []byte
	class int
	free  []*buffer // the last one released is the first one given out
	count int
}

// Pool is a set of buffers. The zero value is ready.
type Pool struct {
	growing sync.Mutex // held, before mu, by the one who gets more memory: that takes its time

	mu      sync.Mutex        // guards all below
	partial [classes][]*chunk // chunks with free buffers
	empty   [][]byte          // memory of chunks that nobody uses
	bytes   atomic.Int64

	alloc func(n int) []byte // nil: Alloc
}

// Bytes is how much memory the pool keeps, in use or not, without what is
// larger than Largest.
func (p *Pool) Bytes() int64 { return p.bytes.Load() }

// Get returns a buffer of at least n bytes with any content. One larger than
// Largest is not pooled.
func (p *Pool) Get(n int) Lease {
	class := classOf(n)
	if class == classes {
		return (&buffer{space: Alloc(roundUp(n, pageBytes))}).lease(p)
	}
	if l, ok := p.get(class); ok {
		return l
	}
	p.growing.Lock()
	defer p.growing.Unlock()
	for {
		if l, ok := p.get(class); ok { // somebody was here before
			return l
		}
		p.grow()
	}
}

// get takes a buffer out of the memory that there is, if there is enough.
func (p *Pool) get(class int) (Lease, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.partial[class]
	if len(list) == 0 {
		if len(p.empty) == 0 {
			return Lease{}, false
		}
		list = append(list, p.newChunk(class))
	}
	c := list[len(list)-1]
	b := c.free[len(c.free)-1]
	c.free[len(c.free)-1] = nil
	c.free = c.free[:len(c.free)-1]
	if len(c.free) == 0 {
		list[len(list)-1] = nil
		list = list[:len(list)-1] // only its buffers know it now
	}
	p.partial[class] = list
	return b.lease(p), true
}

// grow gets memory for some chunks. Whoever needs none goes on meanwhile.
// Called with growing held.
func (p *Pool) grow() {
	alloc := p.alloc
	if alloc == nil {
		alloc = Alloc
	}
	slab := alloc(slabBytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes.Add(slabBytes)
	for at := 0; at < slabBytes; at += chunkBytes {
		p.empty = append(p.empty, slab[at:at+chunkBytes:at+chunkBytes])
	}
}

// newChunk makes a chunk of free buffers out of empty memory, which there is.
// Called with mu held.
func (p *Pool) newChunk(class int) *chunk {
	mem := p.empty[len(p.empty)-1]
	p.empty = p.empty[:len(p.empty)-1]
	size := sizeOf(class)
	c := &chunk{mem: mem, class: class, count: len(mem) / size}
	for i := c.count - 1; i >= 0; i-- { // so that memory is touched from its beginning on
		c.free = append(c.free, &buffer{space: mem[i*size : (i+1)*size : (i+1)*size], chunk: c})
	}
	return c
}

// put takes a buffer back.
func (p *Pool) put(b *buffer) {
	c := b.chunk
	if c == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.free = append(c.free, b)
	switch list := p.partial[c.class]; {
	case len(c.free) == 1:
		p.partial[c.class] = append(list, c)
	case len(c.free) == c.count && len(list) > 1:
		// Another chunk of this size has room: the memory may become another size.
		p.drop(c)
	}
}

// drop takes an unused chunk out of service. Called with mu held.
func (p *Pool) drop(c *chunk) {
	list := p.partial[c.class]
	for i := range list {
		if list[i] == c {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			p.partial[c.class] = list[:len(list)-1]
			break
		}
	}
	if len(p.empty) < keepChunks {
		p.empty = append(p.empty, c.mem)
	} else {
		p.bytes.Add(-chunkBytes) // the collector's, with its slab
	}
}

// Lease is the right to a buffer, from Get to Release. Its copies are one
// lease: once one of them was released the others do nothing, whoever has the
// buffer by then. The zero Lease is that of nothing.
type Lease struct {
	pool *Pool
	buf  *buffer
	use  uint64 // buf.use while the lease lasts
}

func (b *buffer) lease(p *Pool) Lease { return Lease{p, b, b.use.Load()} }

// Own returns a lease of memory that is no pool's.
func Own(b []byte) Lease { return (&buffer{space: b}).lease(nil) }

// Bytes returns all of the buffer, which nobody else has while the lease lasts.
func (l Lease) Bytes() []byte {
	if l.buf == nil {
		return nil
	}
	return l.buf.space
}

// Release gives the buffer back and reports whether it was still held.
func (l Lease) Release() bool {
	if l.buf == nil || !l.buf.use.CompareAndSwap(l.use, l.use+1) {
		return false
	}
	l.pool.put(l.buf)
	return true
}

// Pooled reports whether the buffer goes to another holder when it is released.
func (l Lease) Pooled() bool { return l.buf != nil && l.buf.chunk != nil }
