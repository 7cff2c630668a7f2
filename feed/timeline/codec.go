package timeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"hayloft/internal/id"
)

// The codec of docs/timeline-format.md. It does no I/O.

// formatVersion is the value of the format row. An instance of any other
// version is wiped and built anew: nothing in it is a first copy.
const formatVersion = 1

// First byte of every key.
const (
	keyFormat   = 0x01 // → formatVersion
	keyState    = 0x02 // → cursor, fan-outs under way
	keyReader   = 0x03 // reader → when the reader was last here
	keyTimeline = 0x04 // reader → runs of positions, merged
	keyPost     = 0x05 // pos → photo, author
)

// First byte of every timeline operand.
const (
	tagPush  = 0x01 // one position
	tagDelta = 0x02 // a run that joins what lies below it
	tagBase  = 0x03 // a run that is a built timeline
)

const (
	lowBits = 23 // slot and sequence of an id
	lowMask = 1<<lowBits - 1
)

var errCorrupt = errors.New("timeline: corrupt value")

func key1(kind byte) []byte { return []byte{kind} }

func key8(kind byte, v uint64) []byte {
	var b [9]byte
	b[0] = kind
	binary.BigEndian.PutUint64(b[1:], v)
	return b[:]
}

func setKey8(b []byte, kind byte, v uint64) {
	b[0] = kind
	binary.BigEndian.PutUint64(b[1:9], v)
}

// key8Of returns the number in a key of nine bytes.
func key8Of(key []byte) (uint64, error) {
	if len(key) != 9 {
		return 0, fmt.Errorf("%w: key of %d bytes", errCorrupt, len(key))
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

func encodeU64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func decodeU64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: number of %d bytes", errCorrupt, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// encodePost is the value of a post row; the position is in its key.
func encodePost(p Post) []byte {
	b := make([]byte, 0, 16)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Photo))
	return binary.BigEndian.AppendUint64(b, uint64(p.Author))
}

func decodePost(pos id.ID, b []byte) (Post, error) {
	if len(b) != 16 {
		return Post{}, fmt.Errorf("%w: post row of %d bytes", errCorrupt, len(b))
	}
	return Post{
		Pos:    pos,
		Photo:  id.ID(binary.BigEndian.Uint64(b)),
		Author: id.ID(binary.BigEndian.Uint64(b[8:])),
	}, nil
}

// state is how far the writer has come: every event up to cursor is processed
// or in open.
type state struct {
	cursor uint64
	open   []fanout
}

// fanout is a fan-out under way: readers up to and including After have been
// served.
type fanout struct {
	Post  Post
	After id.ID
}

const fanoutLen = 32 // bytes

func encodeState(s state) []byte {
	b := make([]byte, 0, 8+fanoutLen*len(s.open))
	b = binary.BigEndian.AppendUint64(b, s.cursor)
	for _, f := range s.open {
		b = binary.BigEndian.AppendUint64(b, uint64(f.Post.Pos))
		b = binary.BigEndian.AppendUint64(b, uint64(f.Post.Photo))
		b = binary.BigEndian.AppendUint64(b, uint64(f.Post.Author))
		b = binary.BigEndian.AppendUint64(b, uint64(f.After))
	}
	return b
}

func decodeState(b []byte) (state, error) {
	if len(b) < 8 || (len(b)-8)%fanoutLen != 0 {
		return state{}, fmt.Errorf("%w: state of %d bytes", errCorrupt, len(b))
	}
	s := state{cursor: binary.BigEndian.Uint64(b)}
	for b = b[8:]; len(b) > 0; b = b[fanoutLen:] {
		s.open = append(s.open, fanout{
			Post: Post{
				Pos:    id.ID(binary.BigEndian.Uint64(b)),
				Photo:  id.ID(binary.BigEndian.Uint64(b[8:])),
				Author: id.ID(binary.BigEndian.Uint64(b[16:])),
			},
			After: id.ID(binary.BigEndian.Uint64(b[24:])),
		})
	}
	return s, nil
}

// run is what one operand says: the positions, descending, and the floor at or
// above which they are complete.
type run struct {
	base  bool
	floor id.ID
	pos   []id.ID
}

// putPush writes the operand that delivers one position into b (9 bytes).
func putPush(b []byte, pos id.ID) {
	b[0] = tagPush
	binary.BigEndian.PutUint64(b[1:9], uint64(pos))
}

// appendRun appends the operand for r to dst. r.pos must descend strictly.
func appendRun(dst []byte, r run) []byte {
	tag := byte(tagDelta)
	if r.base {
		tag = tagBase
	}
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(r.floor))
	dst = binary.AppendUvarint(dst, uint64(len(r.pos)))
	var ms, low uint64
	for i, p := range r.pos {
		m, l := uint64(p)>>lowBits, uint64(p)&lowMask
		if i == 0 {
			dst = binary.AppendUvarint(dst, m)
		} else {
			dst = binary.AppendUvarint(dst, ms-m)
		}
		dst = binary.AppendUvarint(dst, l^low)
		ms, low = m, l
	}
	return dst
}

// decodeOperand adds the operand b to r: its positions are appended, the flag
// and the floor joined.
func decodeOperand(r *run, b []byte) error {
	if len(b) == 9 && b[0] == tagPush {
		p := id.ID(binary.BigEndian.Uint64(b[1:]))
		if p == 0 {
			return fmt.Errorf("%w: push of nothing", errCorrupt)
		}
		r.pos = append(r.pos, p)
		return nil
	}
	if len(b) < 3 || (b[0] != tagDelta && b[0] != tagBase) {
		return fmt.Errorf("%w: operand of %d bytes", errCorrupt, len(b))
	}
	r.base = r.base || b[0] == tagBase
	d := decoder{b: b[1:]}
	r.floor = max(r.floor, id.ID(d.uvarint()))
	n := d.uvarint()
	if n > uint64(len(d.b))/2 { // each position takes two bytes or more
		return fmt.Errorf("%w: count %d", errCorrupt, n)
	}
	r.pos = slices.Grow(r.pos, int(n))
	var ms, low, last uint64
	for i := range n {
		if m := d.uvarint(); i == 0 {
			ms = m
		} else {
			ms -= m
		}
		low ^= d.uvarint()
		p := ms<<lowBits | low
		if low > lowMask || ms > uint64(id.MaxMillis) || p == 0 || (i > 0 && p >= last) {
			return fmt.Errorf("%w: position %d of %d", errCorrupt, i, n)
		}
		r.pos = append(r.pos, id.ID(p))
		last = p
	}
	if d.bad || len(d.b) != 0 {
		return fmt.Errorf("%w: %d bytes left", errCorrupt, len(d.b))
	}
	return nil
}

// decoder reads varints; the first fault sticks.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 { // most are one byte
		v := uint64(d.b[0])
		d.b = d.b[1:]
		return v
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}
