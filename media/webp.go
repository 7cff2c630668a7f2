package media

import (
	"encoding/binary"
	"fmt"
)

// The flags of a VP8X chunk (RFC 9649, 2.7).
const (
	vp8xAnimation = 0x02
	vp8xXMP       = 0x04
	vp8xExif      = 0x08
	vp8xAlpha     = 0x10
	vp8xICC       = 0x20
)

// webpChunk is one chunk of a WebP on the walk.
type webpChunk struct {
	kind string
	data []byte
}

// walkWebP goes over the chunks that the RIFF header covers and hands each to
// visit, when given.
func walkWebP(data []byte, l Limits, visit func(webpChunk)) (shape, error) {
	var s shape
	size := int64(binary.LittleEndian.Uint32(data[4:]))
	end := 8 + size
	if size < 4 {
		return shape{}, fmt.Errorf("%w: WebP of %d bytes", ErrMalformed, size)
	}
	if end > int64(len(data)) {
		return shape{}, fmt.Errorf("%w: WebP of %d bytes, %d are here", ErrTruncated, end, len(data))
	}
	picture, extended := false, false
	err := riffChunks(data[12:end], func(i int, c webpChunk) error {
		switch c.kind {
		case "VP8X":
			if i != 0 || len(c.data) < 10 {
				return fmt.Errorf("%w: WebP header", ErrMalformed)
			}
			extended = true
			s.width, s.height = int(le24(c.data[4:]))+1, int(le24(c.data[7:]))+1
			return l.pixels(int64(s.width), int64(s.height))
		case "VP8 ", "VP8L":
			if picture || !extended && i != 0 {
				return fmt.Errorf("%w: WebP chunk %q out of place", ErrMalformed, c.kind)
			}
			picture = true
			return s.bitstream(c, extended, l)
		case "ANMF":
			if !extended {
				return fmt.Errorf("%w: WebP chunk %q out of place", ErrMalformed, c.kind)
			}
			picture = true
			return s.webpFrame(c.data, l)
		case "EXIF": // has no place in a file without a VP8X chunk
			if extended && s.orientation == 0 {
				s.orientation = exifOrientation(c.data)
			}
		}
		return nil
	}, visit)
	if err != nil {
		return shape{}, err
	}
	if !picture {
		return shape{}, fmt.Errorf("%w: WebP without a picture", ErrMalformed)
	}
	s.end = int(end)
	return s, nil
}

// riffChunks splits b into chunks: check judges each, then visit sees it.
func riffChunks(b []byte, check func(int, webpChunk) error, visit func(webpChunk)) error {
	for i := 0; len(b) > 0; i++ {
		if len(b) < 8 {
			return fmt.Errorf("%w: within a WebP chunk", ErrTruncated)
		}
		n := int64(binary.LittleEndian.Uint32(b[4:]))
		if n > int64(len(b))-8 {
			return fmt.Errorf("%w: within a WebP chunk", ErrTruncated)
		}
		c := webpChunk{kind: string(b[:4]), data: b[8 : 8+n]}
		if err := check(i, c); err != nil {
			return err
		}
		if visit != nil {
			visit(c)
		}
		b = b[min(8+n+n&1, int64(len(b))):] // odd chunks are padded
	}
	return nil
}

func le24(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

// bitstream reads the size that a VP8 or VP8L chunk states, which must be that
// of the canvas where there is one.
func (s *shape) bitstream(c webpChunk, canvas bool, l Limits) error {
	w, h, err := webpSize(c)
	if err != nil {
		return err
	}
	if canvas && (w != s.width || h != s.height) {
		return fmt.Errorf("%w: WebP picture of %d × %d on a canvas of %d × %d", ErrMalformed, w, h, s.width, s.height)
	}
	s.width, s.height = w, h
	return l.pixels(int64(w), int64(h))
}

// webpSize reads the header of a VP8 (RFC 6386, 9.1) or VP8L bitstream.
func webpSize(c webpChunk) (w, h int, err error) {
	b := c.data
	switch {
	case c.kind == "VP8 " && len(b) >= 10 && b[0]&1 == 0 && string(b[3:6]) == "\x9d\x01\x2a":
		return int(binary.LittleEndian.Uint16(b[6:]) & 0x3fff), int(binary.LittleEndian.Uint16(b[8:]) & 0x3fff), nil
	case c.kind == "VP8L" && len(b) >= 5 && b[0] == 0x2f:
		v := binary.LittleEndian.Uint32(b[1:])
		if v>>29 != 0 {
			return 0, 0, fmt.Errorf("%w: WebP lossless version %d", ErrUnsupported, v>>29)
		}
		return int(v&0x3fff) + 1, int(v>>14&0x3fff) + 1, nil
	}
	return 0, 0, fmt.Errorf("%w: WebP chunk %q", ErrMalformed, c.kind)
}

// webpFrame checks one frame of an animation: it must lie on the canvas and its
// bitstream must have its size.
func (s *shape) webpFrame(b []byte, l Limits) error {
	if len(b) < 16 {
		return fmt.Errorf("%w: WebP frame", ErrMalformed)
	}
	x, y := 2*int(le24(b)), 2*int(le24(b[3:]))
	f := shape{width: int(le24(b[6:])) + 1, height: int(le24(b[9:])) + 1}
	if x+f.width > s.width || y+f.height > s.height {
		return fmt.Errorf("%w: WebP frame beyond its canvas", ErrMalformed)
	}
	pictures := 0
	err := riffChunks(b[16:], func(_ int, c webpChunk) error {
		if c.kind != "VP8 " && c.kind != "VP8L" {
			return nil
		}
		pictures++
		return f.bitstream(c, true, l)
	}, nil)
	if err == nil && pictures != 1 {
		err = fmt.Errorf("%w: WebP frame of %d pictures", ErrMalformed, pictures)
	}
	return err
}

// stripWebP rewrites the chunks that make the picture and its colours.
func stripWebP(data []byte, orientation bool) ([]byte, error) {
	out := append(make([]byte, 0, len(data)), data[:12]...)
	flags := -1 // offset of VP8X's flags in out
	iccKept := false
	icc := iccWebP(data)
	s, err := walkWebP(data, unlimited, func(c webpChunk) {
		switch c.kind {
		case "VP8X":
			flags = len(out) + 8
			out = appendRIFF(out, "VP8X", c.data[:10])
		case "ICCP":
			if icc != nil && !iccKept && flags >= 0 {
				iccKept = true
				out = appendRIFF(out, "ICCP", icc)
			}
		case "ANMF":
			out = appendRIFF(out, "ANMF", stripWebPFrame(c.data))
		case "VP8 ", "VP8L", "ALPH", "ANIM":
			out = appendRIFF(out, c.kind, c.data)
		}
	})
	if err != nil {
		return nil, err
	}
	if flags >= 0 {
		out[flags] &= vp8xAnimation | vp8xAlpha
		if iccKept {
			out[flags] |= vp8xICC
		}
		if orientation && s.orientation > 1 {
			out[flags] |= vp8xExif
			out = appendRIFF(out, "EXIF", minimalExif(s.orientation))
		}
	}
	binary.LittleEndian.PutUint32(out[4:], uint32(len(out)-8))
	return out, nil
}

// stripWebPFrame keeps of a frame that walkWebP let pass only what it shows.
func stripWebPFrame(b []byte) []byte {
	out := append([]byte(nil), b[:16]...)
	err := riffChunks(b[16:], func(_ int, c webpChunk) error {
		switch c.kind {
		case "VP8 ", "VP8L", "ALPH":
			out = appendRIFF(out, c.kind, c.data)
		}
		return nil
	}, nil)
	if err != nil {
		panic("media: a frame that has been walked: " + err.Error())
	}
	return out
}

func appendRIFF(out []byte, kind string, data []byte) []byte {
	out = append(out, kind...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	out = append(out, data...)
	if len(data)%2 == 1 {
		out = append(out, 0)
	}
	return out
}

// iccWebP returns the colour profile, or nil.
func iccWebP(data []byte) []byte {
	var icc []byte
	_, err := walkWebP(data, unlimited, func(c webpChunk) {
		if c.kind == "ICCP" && icc == nil {
			icc = validICC(c.data)
		}
	})
	if err != nil {
		return nil
	}
	return icc
}
