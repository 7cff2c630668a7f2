package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The protocol between pool and child; docs/media.md is its definition.
const (
	wireMagic   = "HMD"
	wireVersion = 1
	wireHeader  = 16

	kindGreeting = 1
	kindJob      = 2
	kindMade     = 3
	kindRefused  = 4

	maxAnswer   = 32 << 20 // bytes of an answer's body
	maxGreeting = 4 << 10
	jobOverhead = 64 << 10 // bytes of a job's body beyond the image
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errWire is wrapped by all faults of a frame: not the photo's fault.
var errWire = errors.New("media: protocol")

// greeting is the child's first word.
type greeting struct {
	engine string
	types  []string // content types it decodes
}

// writeFrame writes one frame in a single call.
func writeFrame(w io.Writer, kind byte, body []byte) error {
	frame := make([]byte, wireHeader, wireHeader+len(body))
	copy(frame, wireMagic)
	frame[3], frame[4] = wireVersion, kind
	binary.LittleEndian.PutUint32(frame[8:], uint32(len(body)))
	binary.LittleEndian.PutUint32(frame[12:], crc32.Checksum(body, castagnoli))
	_, err := w.Write(append(frame, body...))
	return err
}

// readFrame reads one frame with a body of at most limit bytes. io.EOF means
// that the other side ended between frames.
func readFrame(r io.Reader, limit int64) (kind byte, body []byte, err error) {
	var head [wireHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if string(head[:3]) != wireMagic {
		return 0, nil, fmt.Errorf("%w: frame begins with %q", errWire, head[:4])
	}
	if head[3] != wireVersion {
		return 0, nil, fmt.Errorf("%w: version %d, this is %d", errWire, head[3], wireVersion)
	}
	n := int64(binary.LittleEndian.Uint32(head[8:]))
	if n > limit {
		return 0, nil, fmt.Errorf("%w: frame of %d bytes, the limit is %d", errWire, n, limit)
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(head[12:]) {
		return 0, nil, fmt.Errorf("%w: checksum of a frame", errWire)
	}
	return head[4], body, nil
}

// fields takes fields off the front of a body. Reading beyond its end yields
// zeros and sets short.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.b) {
		f.b, f.short = nil, true
		return nil
	}
	v := f.b[:n:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) uint(n int) uint64 {
	var v [8]byte
	copy(v[:], f.take(n))
	return binary.LittleEndian.Uint64(v[:])
}

func (f *fields) text() string  { return string(f.take(int(f.uint(2)))) }
func (f *fields) bytes() []byte { return f.take(int(f.uint(4))) }

func appendText(b []byte, s string) []byte {
	if len(s) > 1<<16-1 {
		s = s[:1<<16-1]
	}
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendBytes(b, v []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(v))), v...)
}

func (g greeting) encode() []byte {
	b := append(appendText(nil, g.engine), byte(len(g.types)))
	for _, t := range g.types {
		b = appendText(b, t)
	}
	return b
}

func decodeGreeting(body []byte) (greeting, error) {
	f := fields{b: body}
	g := greeting{engine: f.text()}
	for n := f.uint(1); n > 0 && !f.short; n-- {
		g.types = append(g.types, f.text())
	}
	if f.short {
		return greeting{}, fmt.Errorf("%w: greeting cut short", errWire)
	}
	return g, nil
}

func (j Job) encode() []byte {
	b := make([]byte, 0, len(j.Data)+64)
	b = binary.LittleEndian.AppendUint64(b, uint64(j.MaxPixels))
	b = append(b, byte(j.Orientation))
	b = appendText(b, j.ContentType)
	return appendBytes(b, j.Data)
}

func decodeJob(body []byte) (Job, error) {
	f := fields{b: body}
	j := Job{MaxPixels: int64(f.uint(8)), Orientation: int(f.uint(1)), ContentType: f.text(), Data: f.bytes()}
	if f.short || j.Orientation < 1 || j.Orientation > 8 || j.MaxPixels < 0 {
		return Job{}, fmt.Errorf("%w: malformed job", errWire)
	}
	return j, nil
}

func (r Result) encode() []byte {
	n := 64 + len(r.Placeholder)
	for _, v := range r.Variants {
		n += len(v.Data) + 32
	}
	b := make([]byte, 0, n)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Width))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Height))
	b = appendText(appendText(b, r.Placeholder), r.Colour)
	b = append(b, byte(len(r.Variants)))
	for _, v := range r.Variants {
		b = append(b, byte(v.Variant))
		b = binary.LittleEndian.AppendUint32(b, uint32(v.Width))
		b = binary.LittleEndian.AppendUint32(b, uint32(v.Height))
		b = appendBytes(appendText(b, v.ContentType), v.Data)
	}
	return b
}

func decodeResult(body []byte) (Result, error) {
	f := fields{b: body}
	r := Result{Width: int(f.uint(4)), Height: int(f.uint(4)), Placeholder: f.text(), Colour: f.text()}
	for n := f.uint(1); n > 0 && !f.short; n-- {
		r.Variants = append(r.Variants, Rendition{
			Variant: Variant(f.uint(1)), Width: int(f.uint(4)), Height: int(f.uint(4)),
			ContentType: f.text(), Data: f.bytes(),
		})
	}
	if f.short {
		return Result{}, fmt.Errorf("%w: answer cut short", errWire)
	}
	return r, nil
}

func (r Rejected) encode() []byte { return appendText(appendText(nil, r.Type), r.Title) }

func decodeRejected(body []byte) (Rejected, error) {
	f := fields{b: body}
	r := Rejected{Type: f.text(), Title: f.text()}
	if f.short || r.Type == "" {
		return Rejected{}, fmt.Errorf("%w: malformed refusal", errWire)
	}
	return r, nil
}
