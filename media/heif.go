package media

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// sniffHEIF tells AVIF from HEIC by the brands of the ftyp box; the signature
// "ftyp" stands at data[4:8].
func sniffHEIF(data []byte, allowed bool) (string, error) {
	n := int64(binary.BigEndian.Uint32(data))
	if n < 16 || n > int64(len(data)) || n > 4096 || n%4 != 0 {
		return "", fmt.Errorf("%w: a media file with odd brands", ErrUnsupported)
	}
	contentType := ""
	for i := int64(8); i < n; i += 4 {
		if i == 12 { // the minor version stands between the brands
			continue
		}
		switch string(data[i : i+4]) {
		case "avif":
			contentType = TypeAVIF
		case "heic", "heix", "heim", "heis":
			if contentType == "" {
				contentType = TypeHEIC
			}
		}
	}
	switch {
	case contentType == "":
		return "", fmt.Errorf("%w: a media file that is no AVIF or HEIC image", ErrUnsupported)
	case !allowed:
		return "", fmt.Errorf("%w: AVIF and HEIC are not enabled here", ErrUnsupported)
	}
	return contentType, nil
}

// isoBox is a box of the ISO base media format (ISO/IEC 14496-12, 4.2).
type isoBox struct {
	kind string
	body []byte
	at   int // offset of body within what was walked
}

// isoBoxes splits b into boxes. What is no box ends the walk; rest is where.
func isoBoxes(b []byte, visit func(isoBox) error) (rest int, err error) {
	for at := 0; at < len(b); {
		if len(b)-at < 8 {
			return at, nil
		}
		n, head := uint64(binary.BigEndian.Uint32(b[at:])), 8
		switch {
		case n == 0:
			n = uint64(len(b) - at)
		case n == 1 && len(b)-at >= 16:
			n, head = binary.BigEndian.Uint64(b[at+8:]), 16
		}
		if n < uint64(head) {
			return at, nil
		}
		kind := string(b[at+4 : at+8])
		if n > uint64(len(b)-at) {
			return at, fmt.Errorf("%w: box %q", ErrTruncated, kind)
		}
		if err := visit(isoBox{kind, b[at+head : at+int(n)], at + head}); err != nil {
			return at, err
		}
		at += int(n)
	}
	return len(b), nil
}

// heif is what the meta box tells (ISO/IEC 23008-12).
type heif struct {
	primary    uint32
	kinds      map[uint32]string // item type by item
	thumbs     []uint32          // items that are thumbnails of others
	properties []isoBox          // ipco, in order
	uses       map[uint32][]int  // property numbers (from 1) by item
	extents    []heifExtent
	idat       int // offset of idat's body in the file, 0: none
}

// heifExtent is a range of bytes of one item; absolute unless inIdat.
type heifExtent struct {
	item        uint32
	from, bytes uint64
	method      uint16 // 0: file offsets, 1: offsets within idat, 2: within items
}

// walkHEIF reads the boxes; visit is given the parsed meta box at the end. The
// decoder applies irot itself, so no orientation is left to state.
func walkHEIF(data []byte, l Limits, visit func(*heif)) (shape, error) {
	h := &heif{kinds: map[uint32]string{}, uses: map[uint32][]int{}}
	metas, pixels := 0, false
	end, err := isoBoxes(data, func(b isoBox) error {
		switch b.kind {
		case "meta":
			if metas++; metas > 1 || len(b.body) < 4 {
				return fmt.Errorf("%w: meta box", ErrMalformed)
			}
			return h.meta(b.body[4:], b.at+4)
		case "moov":
			return fmt.Errorf("%w: an image sequence", ErrUnsupported)
		case "mdat":
			pixels = true
		}
		return nil
	})
	if err != nil {
		return shape{}, err
	}
	if metas == 0 || !pixels && h.idat == 0 {
		return shape{}, fmt.Errorf("%w: no meta or no data box", ErrTruncated)
	}
	s := shape{end: end}
	for _, p := range h.properties { // every item may be decoded, not just the primary
		if w, ht, ok := ispe(p); ok {
			if err := l.pixels(w, ht); err != nil {
				return shape{}, err
			}
		}
	}
	for _, n := range h.uses[h.primary] {
		if n < 1 || n > len(h.properties) {
			continue
		}
		p := h.properties[n-1]
		if w, ht, ok := ispe(p); ok {
			s.width, s.height = int(w), int(ht)
		}
		if p.kind == "irot" && len(p.body) >= 1 && p.body[0]&1 == 1 {
			s.width, s.height = s.height, s.width
		}
	}
	if s.width == 0 {
		return shape{}, fmt.Errorf("%w: no size of the primary image", ErrMalformed)
	}
	if visit != nil {
		visit(h)
	}
	return s, nil
}

func ispe(p isoBox) (w, h int64, ok bool) {
	if p.kind != "ispe" || len(p.body) < 12 {
		return 0, 0, false
	}
	return int64(binary.BigEndian.Uint32(p.body[4:])), int64(binary.BigEndian.Uint32(p.body[8:])), true
}

// meta reads the children of the meta box, whose first byte is at file offset at.
func (h *heif) meta(b []byte, at int) error {
	_, err := isoBoxes(b, func(c isoBox) error {
		r := &isoReader{b: c.body}
		switch c.kind {
		case "idat":
			h.idat = at + c.at
		case "pitm":
			h.primary = r.id(r.version() > 0)
		case "iinf":
			return h.iinf(r)
		case "iloc":
			h.iloc(r)
		case "iref":
			return h.iref(r)
		case "iprp":
			return h.iprp(c.body)
		}
		if r.short {
			return fmt.Errorf("%w: box %q", ErrMalformed, c.kind)
		}
		return nil
	})
	return err
}

func (h *heif) iinf(r *isoReader) error {
	r.id(r.version() > 0) // the count; the boxes speak for themselves
	_, err := isoBoxes(r.b, func(c isoBox) error {
		e := &isoReader{b: c.body}
		v := e.version()
		if c.kind != "infe" || v < 2 {
			return nil
		}
		item := e.id(v > 2)
		e.uint(2)
		if kind := e.take(4); !e.short {
			h.kinds[item] = string(kind)
		}
		return nil
	})
	return err
}

func (h *heif) iref(r *isoReader) error {
	wide := r.version() > 0
	_, err := isoBoxes(r.b, func(c isoBox) error {
		e := &isoReader{b: c.body}
		if from := e.id(wide); c.kind == "thmb" && !e.short {
			h.thumbs = append(h.thumbs, from)
		}
		return nil
	})
	return err
}

func (h *heif) iprp(b []byte) error {
	_, err := isoBoxes(b, func(c isoBox) error {
		switch c.kind {
		case "ipco":
			_, err := isoBoxes(c.body, func(p isoBox) error {
				h.properties = append(h.properties, p)
				return nil
			})
			return err
		case "ipma":
			r := &isoReader{b: c.body}
			v, flags := r.version(), r.flags
			for n := r.uint(4); n > 0 && !r.short; n-- {
				item := r.id(v > 0)
				for k := r.uint(1); k > 0 && !r.short; k-- {
					if flags&1 == 1 {
						h.uses[item] = append(h.uses[item], int(r.uint(2)&0x7fff))
					} else {
						h.uses[item] = append(h.uses[item], int(r.uint(1)&0x7f))
					}
				}
			}
		}
		return nil
	})
	return err
}

// iloc reads where the items lie (ISO/IEC 14496-12, 8.11.3).
func (h *heif) iloc(r *isoReader) {
	v := r.version()
	sizes := r.uint(2)
	offset, length, base, index := int(sizes>>12&15), int(sizes>>8&15), int(sizes>>4&15), int(sizes&15)
	n := uint64(0)
	if v < 2 {
		n = r.uint(2)
	} else {
		n = r.uint(4)
	}
	for ; n > 0 && !r.short; n-- {
		x := heifExtent{item: r.id(v == 2)}
		if v > 0 {
			x.method = uint16(r.uint(2) & 15)
		}
		r.uint(2)
		start := r.uint(base)
		for k := r.uint(2); k > 0 && !r.short; k-- {
			if v > 0 {
				r.uint(index)
			}
			x.from = start + r.uint(offset)
			x.bytes = r.uint(length)
			if offset+length == 0 { // no bytes are used up: this loop must not be long
				k = 1
			}
			h.extents = append(h.extents, x)
		}
	}
}

// stripHEIF overwrites with zeros what tells more than the picture: the file
// keeps its length, so that no offset in it changes.
func stripHEIF(data []byte) ([]byte, error) {
	out := make([]byte, 0)
	var bad error
	s, err := walkHEIF(data, unlimited, func(h *heif) {
		out = slices.Clone(data)
		for _, x := range h.extents {
			kind := h.kinds[x.item]
			if kind != "Exif" && kind != "mime" && kind != "uri " && !slices.Contains(h.thumbs, x.item) {
				continue
			}
			if bad = zeroExtent(out, x, h.idat); bad != nil {
				return
			}
		}
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, err
	}
	_, err = isoBoxes(out, func(b isoBox) error {
		switch b.kind {
		case "ftyp", "meta", "mdat":
		default:
			clear(b.body)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out[:s.end], nil
}

func zeroExtent(out []byte, x heifExtent, idat int) error {
	if x.method == 1 {
		x.from += uint64(idat)
	}
	n := uint64(len(out))
	if x.method > 1 || x.from > n || x.bytes > n-x.from {
		return fmt.Errorf("%w: an item's place", ErrMalformed)
	}
	if x.bytes == 0 { // to the end
		x.bytes = n - x.from
	}
	clear(out[x.from : x.from+x.bytes])
	return nil
}

// isoReader takes fields off the front of b. Reading beyond its end yields
// zeros and sets short.
type isoReader struct {
	b     []byte
	flags uint32
	short bool
}

func (r *isoReader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.short = nil, true
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

// uint reads a big-endian number of n bytes, n at most 15.
func (r *isoReader) uint(n int) uint64 {
	var v uint64
	for _, c := range r.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

// version reads the version and flags of a full box.
func (r *isoReader) version() byte {
	v := r.uint(4)
	r.flags = uint32(v & 0xffffff)
	return byte(v >> 24)
}

// id reads an item number (or count) of two bytes, four when wide.
func (r *isoReader) id(wide bool) uint32 {
	if wide {
		return uint32(r.uint(4))
	}
	return uint32(r.uint(2))
}
