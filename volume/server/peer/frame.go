package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"hayloft/volume"
)

// kind is what a frame holds; see docs/peer-protocol.md.
type kind uint8

const (
	kindArgs   kind = 1
	kindNeedle kind = 2
	kindData   kind = 3
	kindList   kind = 4
	kindBeat   kind = 5
	kindEnd    kind = 6
)

const (
	headBytes = 16
	maxArgs   = 4096
	maxNeedle = 256 // the frame, not the data
	maxList   = 64 << 10
	maxEnd    = 64 << 10
	maxPiece  = 4 << 20 // of a file
)

// most is the longest payload of a kind, in bytes.
func (k kind) most() int {
	switch k {
	case kindArgs:
		return maxArgs
	case kindNeedle:
		return maxNeedle
	case kindData:
		return volume.MaxData
	case kindList:
		return maxList
	case kindEnd:
		return maxEnd
	}
	return 0
}

// errMalformed: the other side broke a rule of the protocol, or the bytes were
// damaged on the way.
var errMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// head is the head of a frame.
type head struct {
	kind kind
	n    int    // bytes of payload
	crc  uint32 // of the payload
}

// put encodes h into the first headBytes of b.
func (h head) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b, uint32(h.kind))
	le.PutUint32(b[4:], uint32(h.n))
	le.PutUint32(b[8:], h.crc)
	le.PutUint32(b[12:], sum(b[:12]))
}

// parseHead decodes what put made, from headBytes bytes.
func parseHead(b []byte) (head, error) {
	le := binary.LittleEndian
	if le.Uint32(b[12:]) != sum(b[:12]) {
		return head{}, malformed("checksum of a frame's head")
	}
	h := head{kind: kind(b[0]), crc: le.Uint32(b[8:])}
	n := le.Uint32(b[4:])
	switch {
	case b[1] != 0 || b[2] != 0 || b[3] != 0 || h.kind < kindArgs || h.kind > kindEnd:
		return head{}, malformed("frame of kind %d", le.Uint32(b))
	case n > uint32(h.kind.most()):
		return head{}, malformed("frame of kind %d with %d bytes", h.kind, n)
	}
	h.n = int(n)
	return h, nil
}

// openFrame begins a frame behind b. Its payload is appended, then closeFrame is
// told where it began.
func openFrame(b []byte) ([]byte, int) {
	return append(b, make([]byte, headBytes)...), len(b)
}

func closeFrame(b []byte, at int, k kind) {
	payload := b[at+headBytes:]
	head{k, len(payload), sum(payload)}.put(b[at:])
}

// appendEmpty appends a frame without payload.
func appendEmpty(b []byte, k kind) []byte {
	b, at := openFrame(b)
	closeFrame(b, at, k)
	return b
}

// appendDataHead appends the head of a data frame whose bytes follow.
func appendDataHead(b []byte, n int, crc uint32) []byte {
	b, at := openFrame(b)
	head{kindData, n, crc}.put(b[at:])
	return b
}

// frames reads the frames of a body. It is one goroutine's.
type frames struct {
	r io.Reader
	// waiting, if not nil, is told before and after each wait for the other side.
	waiting func(bool)

	buf []byte // of heads and short payloads
}

// read fills b. A body that ends, at whatever byte, is cut short.
func (f *frames) read(b []byte) error {
	if f.waiting != nil {
		f.waiting(true)
		defer f.waiting(false)
	}
	_, err := io.ReadFull(f.r, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// next reads the head of the next frame that is not a beat.
func (f *frames) next() (head, error) {
	if f.buf == nil {
		f.buf = make([]byte, 512)
	}
	for {
		if err := f.read(f.buf[:headBytes]); err != nil {
			return head{}, err
		}
		if h, err := parseHead(f.buf[:headBytes]); err != nil || h.kind != kindBeat {
			return h, err
		}
	}
}

// want reads the head of the next frame, which has to be of kind k.
func (f *frames) want(k kind) (head, error) {
	h, err := f.next()
	if err == nil && h.kind != k {
		err = malformed("frame of kind %d, want %d", h.kind, k)
	}
	return h, err
}

// into reads the payload of h into b, which has its length.
func (f *frames) into(h head, b []byte) error {
	if err := f.read(b); err != nil {
		return err
	}
	if sum(b) != h.crc {
		return malformed("checksum of a frame of kind %d with %d bytes", h.kind, h.n)
	}
	return nil
}

// payload reads the payload of h, which is not longer than most of its kind. The
// bytes are the caller's until the next call.
func (f *frames) payload(h head) ([]byte, error) {
	if len(f.buf) < h.n {
		f.buf = make([]byte, h.n)
	}
	return f.buf[:h.n], f.into(h, f.buf[:h.n])
}

// finish sees to it that nothing follows the end.
func (f *frames) finish() error {
	if f.waiting != nil {
		f.waiting(true)
		defer f.waiting(false)
	}
	var b [1]byte
	if n, _ := io.ReadFull(f.r, b[:]); n > 0 {
		return malformed("bytes behind the end")
	}
	return nil // the end was there: what becomes of the connection is all the same
}
