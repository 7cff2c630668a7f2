package feed

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"

	"hayloft/internal/id"
)

// The record encoding of docs/feed-format.md, section 2. One function per type
// lists its fields in ascending order; the same list encodes and decodes, so
// the two cannot disagree.

const rowVersion = 1

const (
	wireVarint = 0
	wireFixed  = 1
	wireBytes  = 2
)

// record is a type with a record encoding.
type record interface {
	// fields names every field to c, ascending by number.
	fields(c *codec)
}

// codec walks the fields of one record, either appending them to out or taking
// them from in. The first error sticks; later calls do nothing.
type codec struct {
	decoding bool
	out      []byte
	in       []byte
	last     int // number of the field named last
	err      error
}

func corrupt(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, a...))
}

func appendRecord(dst []byte, r record) []byte {
	c := codec{out: dst}
	r.fields(&c)
	if c.err != nil {
		panic("feed: encoding " + c.err.Error()) // a fault of the field list, never of input
	}
	return c.out
}

func decodeRecord(b []byte, r record) error {
	c := decoders.Get().(*codec)
	*c = codec{decoding: true, in: b}
	r.fields(c)
	err := c.finish()
	*c = codec{} // it holds on to nothing
	decoders.Put(c)
	return err
}

// decoders are codecs at rest: one lives on the heap, as records are behind an
// interface, and a page decodes dozens of rows.
var decoders = sync.Pool{New: func() any { return new(codec) }}

// nested decodes b, all of a record within this one. c is without an error.
func (c *codec) nested(b []byte, r record) {
	in, last := c.in, c.last
	c.in, c.last = b, 0
	r.fields(c)
	c.err = c.finish()
	c.in, c.last = in, last
}

// finish reports the first error, and fields that nobody named.
func (c *codec) finish() error {
	if c.err != nil || len(c.in) == 0 {
		return c.err
	}
	tag, _, err := uvarint(c.in)
	if err != nil {
		return err
	}
	if n := int(min(tag>>2, math.MaxInt32)); n > c.last {
		return fmt.Errorf("%w: field %d", ErrUnsupported, n)
	}
	return corrupt("field %d out of order", tag>>2)
}

func encodeRow(r record) []byte {
	return appendRecord(append(make([]byte, 0, 128), rowVersion), r)
}

func decodeRow(b []byte, r record) error {
	if len(b) == 0 {
		return corrupt("empty row")
	}
	if b[0] != rowVersion {
		return fmt.Errorf("%w: row version %d", ErrUnsupported, b[0])
	}
	return decodeRecord(b[1:], r)
}

// uvarint reads a shortest-form uvarint from the front of b.
func uvarint(b []byte) (uint64, []byte, error) {
	if len(b) > 0 && b[0] < 0x80 { // most are one byte
		return uint64(b[0]), b[1:], nil
	}
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, corrupt("bad varint")
	}
	if n != uvarintLen(v) {
		return 0, nil, corrupt("varint not in its shortest form")
	}
	return v, b[n:], nil
}

func uvarintLen(v uint64) int { return max(1, (bits.Len64(v)+6)/7) }

// take reports whether the next field of the input is n, and consumes its tag.
func (c *codec) take(n, wire int) bool {
	if c.err != nil {
		return false
	}
	if n <= c.last {
		c.err = fmt.Errorf("field list: %d after %d", n, c.last)
		return false
	}
	c.last = n
	if len(c.in) == 0 {
		return false
	}
	tag, rest, err := uvarint(c.in)
	if err != nil {
		c.err = err
		return false
	}
	if tag>>2 != uint64(n) {
		return false
	}
	if int(tag&3) != wire {
		c.err = corrupt("field %d: wire type %d", n, tag&3)
		return false
	}
	c.in = rest
	return true
}

func (c *codec) put(n, wire int) {
	if n <= c.last {
		c.err = fmt.Errorf("field list: %d after %d", n, c.last)
	}
	c.last = n
	c.out = binary.AppendUvarint(c.out, uint64(n)<<2|uint64(wire))
}

func (c *codec) zero(n int) { c.err = corrupt("field %d: explicit zero", n) }

// uint is field n, an unsigned number that must not exceed limit.
func (c *codec) uint(n int, p *uint64, limit uint64) {
	if !c.decoding {
		if *p != 0 {
			c.put(n, wireVarint)
			c.out = binary.AppendUvarint(c.out, *p)
		}
		return
	}
	if !c.take(n, wireVarint) {
		return
	}
	v, rest, err := uvarint(c.in)
	switch {
	case err != nil:
		c.err = err
	case v == 0:
		c.zero(n)
	case v > limit:
		c.err = corrupt("field %d: %d is more than %d", n, v, limit)
	default:
		*p, c.in = v, rest
	}
}

// num is field n, a number of any integer type that is never negative.
func num[T ~uint8 | ~uint32 | ~uint64 | ~int | ~int64](c *codec, n int, p *T) {
	limit := uint64(math.MaxUint64)
	switch any(*p).(type) {
	case int, int64:
		limit = math.MaxInt64
	default:
		if top := uint64(^T(0)); top < limit {
			limit = top // the named types are all unsigned
		}
	}
	if !c.decoding && uint64(*p) > limit {
		c.err = fmt.Errorf("field %d: negative", n)
		return
	}
	v := uint64(*p)
	c.uint(n, &v, limit)
	*p = T(v)
}

func (c *codec) bool(n int, p *bool) {
	var v uint64
	if *p {
		v = 1
	}
	c.uint(n, &v, 1)
	*p = v == 1
}

// maxTime bounds stored times so that arithmetic on them cannot overflow.
const maxTime = 1 << 50

// time is field n, rounded down to milliseconds; the zero Time is absence.
func (c *codec) time(n int, p *time.Time) {
	v := millis(*p)
	c.uint(n, &v, maxTime)
	if c.decoding {
		*p = timeOf(v)
	}
}

// millis is t in milliseconds since 1970; 0 for the zero time and earlier ones.
func millis(t time.Time) uint64 {
	if ms := t.UnixMilli(); ms > 0 {
		return min(uint64(ms), maxTime)
	}
	return 0
}

func timeOf(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}

func (c *codec) fixed(n int, p *uint64) {
	if !c.decoding {
		if *p != 0 {
			c.put(n, wireFixed)
			c.out = binary.BigEndian.AppendUint64(c.out, *p)
		}
		return
	}
	if !c.take(n, wireFixed) {
		return
	}
	if len(c.in) < 8 {
		c.err = corrupt("field %d: short", n)
		return
	}
	if *p = binary.BigEndian.Uint64(c.in); *p == 0 {
		c.zero(n)
	}
	c.in = c.in[8:]
}

func (c *codec) id(n int, p *id.ID) {
	v := uint64(*p)
	c.fixed(n, &v)
	*p = id.ID(v)
}

func (c *codec) float(n int, p *float64) {
	v := math.Float64bits(*p)
	c.fixed(n, &v)
	*p = math.Float64frombits(v)
}

// raw is field n, bytes. Decoded bytes alias the input.
func (c *codec) raw(n int, p *[]byte) {
	if !c.decoding {
		if len(*p) != 0 {
			c.putBytes(n, *p)
		}
		return
	}
	if b, ok := c.takeBytes(n); ok {
		if len(b) == 0 {
			c.zero(n)
		}
		*p = b
	}
}

func (c *codec) putBytes(n int, b []byte) {
	c.put(n, wireBytes)
	c.out = binary.AppendUvarint(c.out, uint64(len(b)))
	c.out = append(c.out, b...)
}

// putRecord encodes r in place and slips its length in before it.
func (c *codec) putRecord(n int, r record, keepEmpty bool) {
	start := len(c.out)
	c.put(n, wireBytes)
	body := len(c.out)
	c.out = appendRecord(c.out, r)
	size := len(c.out) - body
	if size == 0 && !keepEmpty {
		c.out = c.out[:start]
		return
	}
	var prefix [binary.MaxVarintLen64]byte
	width := binary.PutUvarint(prefix[:], uint64(size))
	c.out = append(c.out, prefix[:width]...) // room for the shift
	copy(c.out[body+width:], c.out[body:body+size])
	copy(c.out[body:], prefix[:width])
}

func (c *codec) takeBytes(n int) ([]byte, bool) {
	if !c.take(n, wireBytes) {
		return nil, false
	}
	b, rest, err := lengthPrefixed(c.in)
	if err != nil {
		c.err = err
		return nil, false
	}
	c.in = rest
	return b, true
}

func lengthPrefixed(in []byte) (b, rest []byte, err error) {
	size, rest, err := uvarint(in)
	if err != nil {
		return nil, nil, err
	}
	if size > uint64(len(rest)) {
		return nil, nil, corrupt("length %d of %d bytes left", size, len(rest))
	}
	return rest[:size:size], rest[size:], nil
}

func (c *codec) str(n int, p *string) {
	if !c.decoding {
		if *p != "" {
			c.put(n, wireBytes)
			c.out = binary.AppendUvarint(c.out, uint64(len(*p)))
			c.out = append(c.out, *p...)
		}
		return
	}
	var b []byte
	c.raw(n, &b)
	*p = string(b)
}

func (c *codec) hash(n int, p *[32]byte) {
	var b []byte
	if *p != [32]byte{} {
		b = p[:]
	}
	c.raw(n, &b)
	if !c.decoding || c.err != nil || b == nil {
		return
	}
	if len(b) != 32 || [32]byte(b) == [32]byte{} {
		c.err = corrupt("field %d: not a hash", n)
		return
	}
	*p = [32]byte(b)
}

func (c *codec) ids(n int, p *[]id.ID) {
	var b []byte
	for _, v := range *p {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	c.raw(n, &b)
	if !c.decoding || c.err != nil || b == nil {
		return
	}
	if len(b)%8 != 0 {
		c.err = corrupt("field %d: list of ids of %d bytes", n, len(b))
		return
	}
	for ; len(b) > 0; b = b[8:] {
		*p = append(*p, id.ID(binary.BigEndian.Uint64(b)))
	}
}

func (c *codec) strs(n int, p *[]string) {
	var b []byte
	for _, s := range *p {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	c.raw(n, &b)
	if !c.decoding {
		return
	}
	*p = slices.Grow(*p, elements(b))
	for c.err == nil && len(b) > 0 {
		var s []byte
		s, b, c.err = lengthPrefixed(b)
		*p = append(*p, string(s))
	}
}

// elements is how many there are in a list, as far as it is sound.
func elements(list []byte) (n int) {
	for len(list) > 0 {
		var err error
		if _, list, err = lengthPrefixed(list); err != nil {
			break
		}
		n++
	}
	return n
}

// sub is field n, a nested record that is always there: a zero one is left out.
func (c *codec) sub(n int, r record) {
	if !c.decoding {
		c.putRecord(n, r, false)
		return
	}
	if b, ok := c.takeBytes(n); ok {
		if len(b) == 0 {
			c.zero(n)
			return
		}
		c.nested(b, r)
	}
}

// opt is field n, a nested record that may be absent (nil); an empty one is
// present all the same.
func opt[T any, R interface {
	*T
	record
}](c *codec, n int, p **T) {
	if !c.decoding {
		if *p != nil {
			c.putRecord(n, R(*p), true)
		}
		return
	}
	if b, ok := c.takeBytes(n); ok {
		*p = new(T)
		c.nested(b, R(*p))
	}
}

// list is field n, a list of records.
func list[T any, R interface {
	*T
	record
}](c *codec, n int, p *[]T) {
	var b []byte
	for i := range *p {
		e := appendRecord(nil, R(&(*p)[i]))
		b = binary.AppendUvarint(b, uint64(len(e)))
		b = append(b, e...)
	}
	c.raw(n, &b)
	if !c.decoding {
		return
	}
	*p = slices.Grow(*p, elements(b))
	for c.err == nil && len(b) > 0 {
		var e []byte
		if e, b, c.err = lengthPrefixed(b); c.err == nil {
			*p = append(*p, *new(T))
			c.nested(e, R(&(*p)[len(*p)-1]))
		}
	}
}
