package mesh

import (
	"errors"
	"io"
	"sync"
)

// Body is the body of a request, made of buffers that stay the caller's. HTTP may go
// on reading a body after a call has ended; after Release it finds nothing there.
// Set a request's ContentLength to Len, and give it no body when that is 0.
type Body struct {
	mu    sync.Mutex // guards what follows; held while a part is read
	parts [][]byte
	off   int // into the first of them
	gone  bool
}

// NewBody returns the body that the parts make one after another.
func NewBody(parts ...[]byte) *Body { return &Body{parts: parts} }

// Len is how many bytes are left.
func (b *Body) Len() (n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.parts {
		n += int64(len(p))
	}
	return n - int64(b.off)
}

var errReleased = errors.New("the body was released")

// Read implements io.Reader.
func (b *Body) Read(to []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return 0, errReleased
	}
	for len(b.parts) > 0 && n < len(to) {
		k := copy(to[n:], b.parts[0][b.off:])
		n, b.off = n+k, b.off+k
		if b.off == len(b.parts[0]) {
			b.parts, b.off = b.parts[1:], 0
		}
	}
	if n == 0 && len(to) > 0 {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer.
func (b *Body) Close() error { return nil }

// Release takes the buffers back: when it returns, nothing reads them any more.
func (b *Body) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parts, b.off, b.gone = nil, 0, true
}
