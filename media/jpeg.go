package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// JPEG markers (ITU-T T.81, table B.1).
const (
	mSOF0 = 0xc0 // baseline
	mSOF1 = 0xc1 // extended sequential
	mSOF2 = 0xc2 // progressive
	mDHT  = 0xc4
	mDAC  = 0xcc
	mRST0 = 0xd0
	mRST7 = 0xd7
	mSOI  = 0xd8
	mEOI  = 0xd9
	mSOS  = 0xda
	mDQT  = 0xdb
	mDNL  = 0xdc
	mDRI  = 0xdd
	mEXP  = 0xdf
	mAPP0 = 0xe0
	mAPP1 = 0xe1
	mAPP2 = 0xe2
	mAPPE = 0xee
	mCOM  = 0xfe
)

// maxScans bounds the scans of one image: each may make the decoder walk all
// pixels again for a few bytes of input. Encoders write about ten.
const maxScans = 100

var (
	sigExif  = []byte("Exif\x00\x00")
	sigICC   = []byte("ICC_PROFILE\x00")
	sigJFIF  = []byte("JFIF\x00")
	sigAdobe = []byte("Adobe")
)

// jpegPart is one piece of a JPEG on the walk: a marker with its segment, and
// after SOS the entropy-coded data up to the next marker.
type jpegPart struct {
	marker  byte
	payload []byte // without marker and length
	raw     []byte // everything, the marker included, fill bytes not
	scan    []byte // entropy-coded data, SOS only
}

// walkJPEG goes over the segments up to the first EOI and hands each to visit,
// when given. It never looks into entropy-coded data except for markers.
func walkJPEG(data []byte, l Limits, visit func(jpegPart)) (shape, error) {
	var s shape
	scans, at := 0, 2
	for {
		p, next, err := nextSegment(data, at)
		if err != nil {
			return shape{}, err
		}
		switch m := p.marker; {
		case m == mEOI:
			if scans == 0 {
				return shape{}, fmt.Errorf("%w: JPEG without a scan", ErrMalformed)
			}
			s.end = next
			return s, nil
		case m == mSOF0 || m == mSOF1 || m == mSOF2:
			if s.width != 0 {
				return shape{}, fmt.Errorf("%w: JPEG with two frames", ErrMalformed)
			}
			if err := s.frame(p.payload, l); err != nil {
				return shape{}, err
			}
		case m > mSOF2 && m <= 0xcf && m != mDHT && m != mDAC || m >= mDNL && m <= mEXP && m != mDRI:
			return shape{}, fmt.Errorf("%w: JPEG coding %#02x", ErrUnsupported, m)
		case m == mSOS:
			if scans++; s.width == 0 || scans > maxScans {
				return shape{}, fmt.Errorf("%w: JPEG scan %d out of place", ErrMalformed, scans)
			}
			p.scan, next = entropy(data, next)
		case m == mAPP1 && s.orientation == 0 && bytes.HasPrefix(p.payload, sigExif):
			s.orientation = exifOrientation(p.payload[len(sigExif):])
		}
		if visit != nil {
			visit(p)
		}
		at = next
	}
}

// nextSegment reads the first marker segment in data[at:]. Cameras leave stray
// bytes and restarts between segments and decoders pass over them; so does
// this, and Strip leaves them out.
func nextSegment(data []byte, at int) (jpegPart, int, error) {
	for {
		i := bytes.IndexByte(data[min(at, len(data)):], 0xff)
		if i < 0 || at+i+1 >= len(data) {
			return jpegPart{}, 0, fmt.Errorf("%w: JPEG without its end marker", ErrTruncated)
		}
		at += i + 1
		if m := data[at]; m == 0xff {
			continue // fill: the next one may begin the marker
		} else if m > 1 && (m < mRST0 || m > mRST7) {
			break
		}
		at++
	}
	start, m := at-1, data[at]
	at++
	switch m {
	case mEOI:
		return jpegPart{marker: m, raw: data[start:at]}, at, nil
	case mSOI:
		return jpegPart{}, 0, fmt.Errorf("%w: JPEG within a JPEG", ErrMalformed)
	}
	if at+2 > len(data) {
		return jpegPart{}, 0, fmt.Errorf("%w: within a JPEG segment", ErrTruncated)
	}
	n := int(binary.BigEndian.Uint16(data[at:]))
	if n < 2 {
		return jpegPart{}, 0, fmt.Errorf("%w: JPEG segment of length %d", ErrMalformed, n)
	}
	if at+n > len(data) {
		return jpegPart{}, 0, fmt.Errorf("%w: within a JPEG segment", ErrTruncated)
	}
	return jpegPart{marker: m, payload: data[at+2 : at+n], raw: data[start : at+n]}, at + n, nil
}

// entropy returns the entropy-coded data that begins at data[at:] and the
// offset of the marker that ends it (or len(data)).
func entropy(data []byte, at int) ([]byte, int) {
	for i := at; ; {
		j := bytes.IndexByte(data[i:], 0xff)
		if j < 0 || i+j+1 >= len(data) {
			return data[at:], len(data)
		}
		i += j
		switch m := data[i+1]; {
		case m == 0 || m >= mRST0 && m <= mRST7: // a stuffed byte, a restart
			i += 2
		case m == 0xff: // fill
			i++
		default:
			return data[at:i], i
		}
	}
}

// frame reads a frame header (T.81, B.2.2).
func (s *shape) frame(b []byte, l Limits) error {
	if len(b) < 6 || len(b) != 6+3*int(b[5]) {
		return fmt.Errorf("%w: JPEG frame header", ErrMalformed)
	}
	if b[0] != 8 {
		return fmt.Errorf("%w: JPEG with %d bits per sample", ErrUnsupported, b[0])
	}
	if n := b[5]; n != 1 && n != 3 && n != 4 {
		return fmt.Errorf("%w: JPEG with %d components", ErrUnsupported, n)
	}
	s.height, s.width = int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	return l.pixels(int64(s.width), int64(s.height))
}

// stripJPEG rewrites the segments that a decoder needs for the same pixels in
// the same colours, and nothing else.
func stripJPEG(data []byte, orientation bool) ([]byte, error) {
	out := append(make([]byte, 0, len(data)), 0xff, mSOI)
	jfif, adobe := false, false
	var kept []byte // everything after the leading APP segments
	s, err := walkJPEG(data, unlimited, func(p jpegPart) {
		switch m := p.marker; {
		case m == mAPP0 && bytes.HasPrefix(p.payload, sigJFIF) && len(p.payload) >= 12 && !jfif:
			// Without the thumbnail that a JFIF header may carry.
			jfif = true
			out = append(out, 0xff, mAPP0, 0, 16)
			out = append(append(out, p.payload[:12]...), 0, 0)
		case m == mAPPE && bytes.HasPrefix(p.payload, sigAdobe) && len(p.payload) >= 12 && !adobe:
			// Its last byte says how the colours are coded.
			adobe = true
			kept = append(kept, 0xff, mAPPE, 0, 14)
			kept = append(kept, p.payload[:12]...)
		case m >= mAPP0 && m <= 0xef, m >= 0xf0: // other APPs, JPGn, COM
		default:
			kept = append(append(kept, p.raw...), p.scan...)
		}
	})
	if err != nil {
		return nil, err
	}
	if orientation && s.orientation > 1 {
		exif := minimalExif(s.orientation)
		out = append(out, 0xff, mAPP1, 0, byte(2+len(sigExif)+len(exif)))
		out = append(append(out, sigExif...), exif...)
	}
	out = append(append(out, kept...), 0xff, mEOI)
	return withICC(out, iccJPEG(data)), nil
}

// iccJPEG returns the colour profile that APP2 segments carry in order, or nil.
func iccJPEG(data []byte) []byte {
	var icc []byte
	want, total, ok := 1, 0, true
	_, err := walkJPEG(data, unlimited, func(p jpegPart) {
		if p.marker != mAPP2 || !bytes.HasPrefix(p.payload, sigICC) || len(p.payload) < len(sigICC)+2 {
			return
		}
		seq, n := int(p.payload[len(sigICC)]), int(p.payload[len(sigICC)+1])
		if seq != want || total != 0 && n != total {
			ok = false
			return
		}
		want, total = want+1, n
		icc = append(icc, p.payload[len(sigICC)+2:]...)
	})
	if err != nil || !ok || total == 0 || want != total+1 {
		return nil
	}
	return validICC(icc)
}

// withICC returns a JPEG with the profile put after its SOI and JFIF segment.
func withICC(jpeg, icc []byte) []byte {
	const chunk = 65533 - 14
	n := (len(icc) + chunk - 1) / chunk
	if len(icc) == 0 || n > 255 || len(jpeg) < 4 {
		return jpeg
	}
	at := 2
	if jpeg[2] == 0xff && jpeg[3] == mAPP0 {
		if _, next, err := nextSegment(jpeg, 2); err == nil {
			at = next
		}
	}
	out := append(make([]byte, 0, len(jpeg)+len(icc)+n*18), jpeg[:at]...)
	for i := range n {
		part := icc[i*chunk : min(len(icc), (i+1)*chunk)]
		out = append(out, 0xff, mAPP2)
		out = binary.BigEndian.AppendUint16(out, uint16(2+14+len(part)))
		out = append(append(out, sigICC...), byte(i+1), byte(n))
		out = append(out, part...)
	}
	return append(out, jpeg[at:]...)
}
