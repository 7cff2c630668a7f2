package peer

import (
	"errors"
	"io"
	"sync"
)

// body is what a request sends: frames, and between them data that is the caller's.
// Whoever sends reads it through readers, and after end no reader touches the data,
// though the transport may still hold one.
type body struct {
	buf   []byte // frames
	cuts  []int  // where, in buf, the data of pieces goes
	data  [][]byte
	parts [][]byte // buf and data in order, once it is complete
	size  int64

	mu    sync.RWMutex // held for reading by those who copy
	ended bool         // guarded by mu
}

var errBodyEnded = errors.New("peer: the call is over")

// add appends a frame.
func (b *body) add(k kind, build func([]byte) []byte) {
	buf, at := openFrame(b.buf)
	b.buf = build(buf)
	closeFrame(b.buf, at, k)
}

// addData appends a data frame without copying it.
func (b *body) addData(data []byte, crc uint32) {
	b.buf = appendDataHead(b.buf, len(data), crc)
	b.cuts, b.data = append(b.cuts, len(b.buf)), append(b.data, data)
}

// complete ends the request.
func (b *body) complete() {
	b.buf = appendEmpty(b.buf, kindEnd)
	from := 0
	for i, at := range b.cuts {
		b.parts = append(b.parts, b.buf[from:at], b.data[i])
		from = at
	}
	b.parts = append(b.parts, b.buf[from:])
	for _, p := range b.parts {
		b.size += int64(len(p))
	}
}

// end takes the data back. It waits for no one but a copy under way.
func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.parts, b.data = nil, nil
}

// reader returns one that begins at the start.
func (b *body) reader() (io.ReadCloser, error) { return &bodyReader{b: b}, nil }

type bodyReader struct {
	b    *body
	part int
	off  int
}

func (r *bodyReader) Read(p []byte) (n int, err error) {
	r.b.mu.RLock()
	defer r.b.mu.RUnlock()
	if r.b.ended {
		return 0, errBodyEnded
	}
	for n < len(p) && r.part < len(r.b.parts) {
		k := copy(p[n:], r.b.parts[r.part][r.off:])
		n += k
		if r.off += k; r.off == len(r.b.parts[r.part]) {
			r.part, r.off = r.part+1, 0
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *bodyReader) Close() error { return nil }
