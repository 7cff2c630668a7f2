package media

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// pngChunk is one chunk of a PNG on the walk.
type pngChunk struct {
	kind string
	data []byte
	raw  []byte // length, type, data and CRC
}

// critical says whether a decoder must understand the chunk: the fifth bit of
// its first letter (PNG, 5.4).
func (c pngChunk) critical() bool { return c.kind[0]&0x20 == 0 }

// walkPNG goes over the chunks up to IEND and hands each to visit, when given.
// Checksums are verified for the chunks that make the picture.
func walkPNG(data []byte, l Limits, visit func(pngChunk)) (shape, error) {
	var s shape
	pixels := false
	for at := 8; ; {
		if at+12 > len(data) {
			return shape{}, fmt.Errorf("%w: PNG without its end", ErrTruncated)
		}
		n := int64(binary.BigEndian.Uint32(data[at:]))
		if n > 1<<31-1 {
			return shape{}, fmt.Errorf("%w: PNG chunk of %d bytes", ErrMalformed, n)
		}
		if int64(at)+12+n > int64(len(data)) {
			return shape{}, fmt.Errorf("%w: within a PNG chunk", ErrTruncated)
		}
		end := at + 12 + int(n)
		c := pngChunk{kind: string(data[at+4 : at+8]), data: data[at+8 : end-4], raw: data[at:end]}
		if c.critical() && crc32.ChecksumIEEE(data[at+4:end-4]) != binary.BigEndian.Uint32(data[end-4:]) {
			return shape{}, fmt.Errorf("%w: checksum of PNG chunk %q", ErrMalformed, c.kind)
		}
		first := at == 8
		at = end
		if err := s.chunk(c, first, &pixels, l); err != nil {
			return shape{}, err
		}
		if visit != nil {
			visit(c)
		}
		if c.kind == "IEND" {
			s.end = end
			return s, nil
		}
	}
}

// chunk takes in one chunk; pixels says whether image data has begun.
func (s *shape) chunk(c pngChunk, first bool, pixels *bool, l Limits) error {
	if first != (c.kind == "IHDR") {
		return fmt.Errorf("%w: PNG chunk %q out of place", ErrMalformed, c.kind)
	}
	switch c.kind {
	case "IHDR":
		return s.ihdr(c.data, l)
	case "IDAT":
		*pixels = true
	case "IEND":
		if !*pixels {
			return fmt.Errorf("%w: PNG without pixels", ErrMalformed)
		}
	case "PLTE":
	case "eXIf":
		if s.orientation == 0 {
			s.orientation = exifOrientation(c.data)
		}
	default:
		if c.critical() {
			return fmt.Errorf("%w: PNG chunk %q", ErrUnsupported, c.kind)
		}
	}
	return nil
}

// ihdr reads the header chunk (PNG, 11.2.1).
func (s *shape) ihdr(b []byte, l Limits) error {
	if len(b) != 13 {
		return fmt.Errorf("%w: PNG header of %d bytes", ErrMalformed, len(b))
	}
	depths := map[byte]string{0: "\x01\x02\x04\x08\x10", 2: "\x08\x10", 3: "\x01\x02\x04\x08", 4: "\x08\x10", 6: "\x08\x10"}
	if !bytes.Contains([]byte(depths[b[9]]), b[8:9]) || b[10] != 0 || b[11] != 0 || b[12] > 1 {
		return fmt.Errorf("%w: PNG header", ErrMalformed)
	}
	w, h := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if err := l.pixels(w, h); err != nil {
		return err
	}
	s.width, s.height = int(w), int(h)
	return nil
}

// pngKept are the ancillary chunks that change how the pixels look. All others
// are texts, times, positions, or unknown.
var pngKept = map[string]bool{
	"gAMA": true, "cHRM": true, "sRGB": true, "cICP": true, "tRNS": true, "sBIT": true, "pHYS": true,
	"acTL": true, "fcTL": true, "fdAT": true,
}

// stripPNG rewrites the chunks that make the picture and its colours.
func stripPNG(data []byte, orientation bool) ([]byte, error) {
	out := append(make([]byte, 0, len(data)), data[:8]...)
	icc := iccPNG(data)
	s, err := walkPNG(data, unlimited, func(c pngChunk) {
		switch {
		case c.kind == "iCCP":
			// The profile is packed again: its name and any bytes that follow the
			// packed profile are free text.
			if len(icc) > 0 {
				out = appendPNGChunk(out, "iCCP", packICC(icc))
				icc = nil
			}
		case c.critical() || pngKept[c.kind]:
			out = append(out, c.raw...)
		}
	})
	if err != nil {
		return nil, err
	}
	if orientation && s.orientation > 1 {
		const ihdrEnd = 8 + 12 + 13
		exif := appendPNGChunk(nil, "eXIf", minimalExif(s.orientation))
		out = append(out[:ihdrEnd], append(exif, out[ihdrEnd:]...)...)
	}
	return out, nil
}

func appendPNGChunk(out []byte, kind string, data []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
	at := len(out)
	out = append(append(out, kind...), data...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[at:]))
}

// packICC is the payload of an iCCP chunk: a name, a zero, method 0, and the
// packed profile.
func packICC(icc []byte) []byte {
	var b bytes.Buffer
	b.WriteString("ICC\x00\x00")
	z := zlib.NewWriter(&b)
	_, err := z.Write(icc)
	if err = errors.Join(err, z.Close()); err != nil {
		panic("media: zlib into memory: " + err.Error())
	}
	return b.Bytes()
}

// maxICCPNG bounds a profile that must be unpacked and packed again. Profiles
// for RGB and grey, the only ones a PNG may have, are small.
const maxICCPNG = 1 << 20

// iccPNG returns the unpacked profile of the first iCCP chunk, or nil. Others
// are not even looked at: each could take long to unpack.
func iccPNG(data []byte) []byte {
	var icc []byte
	seen := false
	_, err := walkPNG(data, unlimited, func(c pngChunk) {
		if c.kind != "iCCP" || seen {
			return
		}
		seen = true
		name := bytes.IndexByte(c.data, 0)
		if name < 0 || name+2 > len(c.data) || c.data[name+1] != 0 {
			return
		}
		z, err := zlib.NewReader(bytes.NewReader(c.data[name+2:]))
		if err != nil {
			return
		}
		b, err := io.ReadAll(io.LimitReader(z, maxICCPNG+1))
		if err != nil || len(b) > maxICCPNG {
			return
		}
		icc = validICC(b)
	})
	if err != nil {
		return nil
	}
	return icc
}
