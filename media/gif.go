package media

import (
	"encoding/binary"
	"fmt"
)

// gifPart is one block of a GIF on the walk: the header with the global colour
// table, an extension, an image, or the trailer.
type gifPart struct {
	kind  byte   // 0 for the header, else the block's introducer
	label byte   // of an extension
	app   string // the eleven characters that name an application extension
	raw   []byte
}

const (
	gifExtension = 0x21
	gifImage     = 0x2c
	gifTrailer   = 0x3b

	gifGraphicControl = 0xf9
	gifPlainText      = 0x01
	gifApplication    = 0xff
)

// walkGIF goes over the blocks up to the trailer and hands each to visit, when
// given (GIF89a).
func walkGIF(data []byte, l Limits, visit func(gifPart)) (shape, error) {
	if len(data) < 13 {
		return shape{}, fmt.Errorf("%w: GIF header", ErrTruncated)
	}
	s := shape{width: int(binary.LittleEndian.Uint16(data[6:])), height: int(binary.LittleEndian.Uint16(data[8:]))}
	if err := l.pixels(int64(s.width), int64(s.height)); err != nil {
		return shape{}, err
	}
	at := 13 + gifTable(data[10])
	if at > len(data) {
		return shape{}, fmt.Errorf("%w: GIF colour table", ErrTruncated)
	}
	if visit != nil {
		visit(gifPart{raw: data[:at]})
	}
	for images := 0; ; {
		if at >= len(data) {
			return shape{}, fmt.Errorf("%w: GIF without its trailer", ErrTruncated)
		}
		p, err := s.gifBlock(data, at)
		if err != nil {
			return shape{}, err
		}
		at += len(p.raw)
		if visit != nil {
			visit(p)
		}
		switch p.kind {
		case gifImage:
			images++
		case gifTrailer:
			if images == 0 {
				return shape{}, fmt.Errorf("%w: GIF without an image", ErrMalformed)
			}
			s.end = at
			return s, nil
		}
	}
}

// gifTable is the size in bytes of the colour table that packed fields tell of.
func gifTable(packed byte) int {
	if packed&0x80 == 0 {
		return 0
	}
	return 3 << (packed&7 + 1)
}

// gifBlock reads the block at data[at:].
func (s *shape) gifBlock(data []byte, at int) (gifPart, error) {
	b := data[at:]
	p := gifPart{kind: b[0]}
	n := 0
	switch p.kind {
	case gifTrailer:
		p.raw = b[:1]
		return p, nil
	case gifExtension:
		if len(b) < 3 {
			return p, fmt.Errorf("%w: GIF extension", ErrTruncated)
		}
		p.label, n = b[1], 2
		if p.label == gifApplication && b[2] == 11 && len(b) >= 14 {
			p.app = string(b[3:14])
		}
	case gifImage:
		if len(b) < 11 {
			return p, fmt.Errorf("%w: GIF image", ErrTruncated)
		}
		x, y := int(binary.LittleEndian.Uint16(b[1:])), int(binary.LittleEndian.Uint16(b[3:]))
		w, h := int(binary.LittleEndian.Uint16(b[5:])), int(binary.LittleEndian.Uint16(b[7:]))
		if w == 0 || h == 0 || x+w > s.width || y+h > s.height {
			return p, fmt.Errorf("%w: GIF image beyond its screen", ErrMalformed)
		}
		n = 10 + gifTable(b[9]) + 1 // descriptor, colour table, code size
	default:
		return p, fmt.Errorf("%w: GIF block %#02x", ErrMalformed, p.kind)
	}
	for { // sub-blocks, each after its length, up to an empty one
		if n >= len(b) {
			return p, fmt.Errorf("%w: within a GIF block", ErrTruncated)
		}
		k := int(b[n])
		n += 1 + k
		if k == 0 {
			p.raw = b[:n]
			return p, nil
		}
	}
}

// stripGIF keeps images with their timing, and how often an animation repeats.
func stripGIF(data []byte) ([]byte, error) {
	out := make([]byte, 0, len(data))
	_, err := walkGIF(data, unlimited, func(p gifPart) {
		if p.kind == gifExtension && p.label != gifGraphicControl {
			// A repeat count is a sub-block of three bytes behind the name.
			loops := (p.app == "NETSCAPE2.0" || p.app == "ANIMEXTS1.0") && len(p.raw) == 19 && p.raw[14] == 3
			if !loops {
				return
			}
		}
		out = append(out, p.raw...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
