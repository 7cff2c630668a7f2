package ssd

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"hayloft/cache"
	"hayloft/internal/id"
)

// The layout is in docs/cache-device-format.md.
const (
	fileName    = "hayloft-cache"
	headerBytes = 4096
	unit        = 1024
	blockBytes  = 4096 // batches begin at multiples of it; no device wants more
	headBytes   = 64   // of a record, without its texts
	maxHead     = headBytes + 4*255
	rowBytes    = 16
	trailerSize = 64

	version = 1

	minRegion = 16 << 10
	maxRegion = 64 << 20
)

const (
	kindObject = 1
	kindPurges = 2
)

var le = binary.LittleEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

var (
	errForeign = errors.New("ssd: the file is of a later version")
	errInvalid = errors.New("ssd: not a valid record")
	errOther   = errors.New("ssd: a record of another key")
)

// place is where a record must be: it says so itself. Who reads with seq 0 takes
// whichever there is.
type place struct {
	salt, seq uint64
	region    uint32
	unit      uint32
}

// record is one record, its data apart.
type record struct {
	kind         uint8
	blob         id.ID
	cookie       id.Cookie
	variant, ext string
	typ, etag    string
	data         []byte
}

func objectRecord(k cache.Key, o cache.Object) record {
	return record{kindObject, k.Blob, k.Cookie, k.Variant, k.Ext, o.ContentType, o.ETag, o.Data}
}

// fits reports whether the texts have the lengths that a record can have.
func (r *record) fits() bool { return max(len(r.variant), len(r.ext), len(r.typ), len(r.etag)) <= 255 }

func (r *record) size() int {
	return headBytes + len(r.variant) + len(r.ext) + len(r.typ) + len(r.etag) + len(r.data)
}

func unitsOf(bytes int) int { return (bytes + unit - 1) / unit }

// encode writes r to b, which has its size or more.
func (r *record) encode(b []byte, at place) {
	h := b[:headBytes]
	clear(h)
	copy(h, "HLcr")
	le.PutUint64(h[8:], at.salt)
	le.PutUint64(h[16:], at.seq)
	le.PutUint32(h[24:], at.region)
	le.PutUint32(h[28:], at.unit)
	le.PutUint64(h[32:], uint64(r.blob))
	le.PutUint64(h[40:], uint64(r.cookie))
	le.PutUint32(h[48:], uint32(len(r.data)))
	le.PutUint32(h[52:], checksum(r.data))
	h[56] = r.kind
	n := headBytes
	for i, text := range []string{r.variant, r.ext, r.typ, r.etag} {
		h[57+i] = uint8(len(text))
		n += copy(b[n:], text)
	}
	le.PutUint32(h[4:], checksum(b[8:n]))
	copy(b[n:], r.data)
}

// head is a record whose head was checked; its data lies at [from, to) and was
// not.
type head struct {
	record
	seq      uint64
	from, to int
	crc      uint32
}

// decodeHead reads the head of the record at the beginning of b, which may be
// cut anywhere.
func decodeHead(b []byte, at place) (h head, err error) {
	if len(b) < headBytes || string(b[:4]) != "HLcr" {
		return h, errInvalid
	}
	lens := b[57:61]
	h.from = headBytes
	for _, n := range lens {
		h.from += int(n)
	}
	if len(b) < h.from || le.Uint32(b[4:]) != checksum(b[8:h.from]) {
		return h, errInvalid
	}
	there := place{le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint32(b[24:]), le.Uint32(b[28:])}
	if at.seq == 0 {
		at.seq = there.seq
	}
	if there != at || there.seq == 0 {
		return h, errInvalid
	}
	h.blob, h.cookie, h.kind = id.ID(le.Uint64(b[32:])), id.Cookie(le.Uint64(b[40:])), b[56]
	h.seq = there.seq
	h.to, h.crc = h.from+int(le.Uint32(b[48:])), le.Uint32(b[52:])
	texts := b[headBytes:]
	for i, to := range []*string{&h.variant, &h.ext, &h.typ, &h.etag} {
		*to, texts = string(texts[:lens[i]]), texts[lens[i]:]
	}
	return h, nil
}

// withData checks the data of h in b, which begins where the record does.
func (h *head) withData(b []byte) error {
	if h.to > len(b) || checksum(b[h.from:h.to]) != h.crc {
		return errInvalid
	}
	h.data = b[h.from:h.to]
	return nil
}

// answer returns the object of k out of the record at the beginning of b: errOther
// when a sound record is that of another key.
func answer(b []byte, at place, k cache.Key) (cache.Object, error) {
	h, err := decodeHead(b, at)
	if err != nil {
		return cache.Object{}, err
	}
	if h.kind != kindObject || h.blob != k.Blob || h.cookie != k.Cookie || h.variant != k.Variant || h.ext != k.Ext {
		return cache.Object{}, errOther
	}
	if err := h.withData(b); err != nil {
		return cache.Object{}, err
	}
	return cache.Object{Data: h.data, ContentType: h.typ, ETag: h.etag}, nil
}

// purgeRecord is the record that voids the objects of blobs.
func purgeRecord(blobs []id.ID) record {
	data := make([]byte, 0, 8*len(blobs))
	for _, b := range blobs {
		data = le.AppendUint64(data, uint64(b))
	}
	return record{kind: kindPurges, data: data}
}

// row is one line of a region's table.
type row struct {
	blob        id.ID
	tag         uint32
	unit, units uint16 // units 0: a purge
}

// rowsOf are the rows of a record of size bytes, whose data is needed only if it
// has purges.
func (r *record) rowsOf(at uint16, size int) []row {
	if r.kind == kindObject {
		return []row{{r.blob, tagOf(r.cookie, r.variant, r.ext), at, uint16(unitsOf(size))}}
	}
	var out []row
	for b := r.data; len(b) >= 8; b = b[8:] {
		out = append(out, row{blob: id.ID(le.Uint64(b)), unit: at})
	}
	return out
}

// tagOf tells the objects of a blob from one another.
func tagOf(cookie id.Cookie, variant, ext string) uint32 {
	b := make([]byte, 0, 64)
	b = le.AppendUint64(b, uint64(cookie))
	b = append(b, variant...)
	b = append(b, 0)
	return checksum(append(b, ext...))
}

// tableBlocks is how many bytes table and trailer of n rows take, in whole blocks.
func tableBlocks(n int) int { return (n*rowBytes + trailerSize + blockBytes - 1) &^ (blockBytes - 1) }

// encodeTable writes rows and trailer so that they end with b.
func encodeTable(b []byte, rows []row, at place) {
	clear(b)
	t := b[len(b)-trailerSize:]
	lines := b[len(b)-trailerSize-len(rows)*rowBytes : len(b)-trailerSize]
	for i, r := range rows {
		line := lines[i*rowBytes:]
		le.PutUint64(line, uint64(r.blob))
		le.PutUint32(line[8:], r.tag)
		le.PutUint16(line[12:], r.unit)
		le.PutUint16(line[14:], r.units)
	}
	copy(t, "HLctrail")
	le.PutUint64(t[8:], at.salt)
	le.PutUint64(t[16:], at.seq)
	le.PutUint32(t[24:], at.region)
	le.PutUint32(t[28:], uint32(len(rows)))
	le.PutUint32(t[32:], checksum(lines))
	le.PutUint32(t[60:], checksum(t[:60]))
}

// trailer is what the end of a region says.
type trailer struct {
	seq  uint64
	rows int
	crc  uint32
}

func decodeTrailer(b []byte, salt uint64, region uint32) (trailer, bool) {
	t := b[len(b)-trailerSize:]
	if string(t[:8]) != "HLctrail" || le.Uint32(t[60:]) != checksum(t[:60]) || le.Uint64(t[8:]) != salt || le.Uint32(t[24:]) != region {
		return trailer{}, false
	}
	return trailer{le.Uint64(t[16:]), int(le.Uint32(t[28:])), le.Uint32(t[32:])}, true
}

// decodeRows reads the rows of t, which end with b.
func decodeRows(b []byte, t trailer) ([]row, bool) {
	lines := b[len(b)-t.rows*rowBytes:]
	if checksum(lines) != t.crc {
		return nil, false
	}
	rows := make([]row, t.rows)
	for i := range rows {
		line := lines[i*rowBytes:]
		rows[i] = row{id.ID(le.Uint64(line)), le.Uint32(line[8:]), le.Uint16(line[12:]), le.Uint16(line[14:])}
	}
	return rows, true
}

// header is what the file says of itself.
type header struct {
	region int // bytes
	salt   uint64
}

func (h header) encode() []byte {
	b := make([]byte, headerBytes)
	copy(b, "HAYLOFTC")
	le.PutUint16(b[8:], version)
	le.PutUint32(b[12:], uint32(h.region))
	le.PutUint64(b[16:], h.salt)
	le.PutUint32(b[headerBytes-4:], checksum(b[:headerBytes-4]))
	return b
}

// decodeHeader returns errForeign for what a later version wrote and errInvalid
// for what is no header.
func decodeHeader(b []byte) (h header, err error) {
	if len(b) != headerBytes || string(b[:8]) != "HAYLOFTC" || le.Uint32(b[headerBytes-4:]) != checksum(b[:headerBytes-4]) {
		return h, errInvalid
	}
	if le.Uint16(b[8:]) != version {
		return h, errForeign
	}
	h = header{int(le.Uint32(b[12:])), le.Uint64(b[16:])}
	if h.region < minRegion || h.region > maxRegion || h.region&(h.region-1) != 0 {
		return h, errInvalid
	}
	return h, nil
}
