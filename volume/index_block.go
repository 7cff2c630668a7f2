package volume

import (
	"encoding/binary"
	"sync/atomic"

	"hayloft/internal/id"
)

// Blocks are the list half of the index: every indexed record in the order of
// the file, a few bytes each, because a record mostly begins where the one
// before it ended and has a key that was minted a moment later. The bytes of a
// block are those of the checkpoint; see docs/format.md.
const (
	blockSize = 128
	blockData = blockSize - 16
	// chunkBlocks is how many blocks are allocated at a time: 32 KiB.
	chunkBlocks = 256

	// Bits of an entry's tag. The upper four are the lower four of the size.
	tagKey       = 1 << 0 // the key differs from the entry before: its difference follows
	tagGap       = 1 << 1 // the record does not begin where the one before ended: the distance follows
	tagAlt       = 1 << 2 // the alt follows; else it is 0 for a new key and one more than before for the same
	tagTombstone = 1 << 3

	// maxEntry is the longest entry: tag, key, alt, gap, size.
	maxEntry = 1 + binary.MaxVarintLen64 + 1 + 6 + 5
)

// block holds entries. One goroutine adds to it; any number may read it
// meanwhile, because what is published never changes.
type block struct {
	// head is bytes of data in use (8 bits), then offset / 8 of the first
	// record. It is stored after the bytes it counts.
	head atomic.Uint64
	key  id.ID // of the first entry
	data [blockData]byte
}

type chunk [chunkBlocks]block

// located is one indexed record. A tombstone has altTombstone.
type located struct {
	key id.ID
	alt uint8
	place
}

func packHead(off int64, used int) uint64 { return uint64(off/align)<<8 | uint64(used) }

// cursor reads a block, or says how its next entry will be written.
type cursor struct {
	data []byte
	pos  int // of the next entry in data; -1: the bytes are no entries
	located
}

// start is the cursor in front of the first entry of a block.
func start(key id.ID, off int64) cursor {
	return cursor{located: located{key: key, alt: altTombstone, place: place{off: off}}}
}

func (b *block) cursor() cursor {
	head := b.head.Load()
	c := start(b.key, int64(head>>8)*align)
	c.data = b.data[:min(head&0xff, blockData)]
	return c
}

// next steps to the next entry and reports whether there is one.
func (c *cursor) next() bool {
	pos := c.pos
	if uint(pos) >= uint(len(c.data)) {
		return false
	}
	tag := c.data[pos]
	pos++
	c.off += c.size
	c.alt++
	var v uint64
	if tag&tagKey != 0 {
		v, pos = uvarint(c.data, pos)
		c.key += id.ID(unzigzag(v))
		c.alt = 0
	}
	if tag&tagAlt != 0 && uint(pos) < uint(len(c.data)) {
		c.alt = c.data[pos]
		pos++
	}
	if tag&tagTombstone != 0 {
		c.alt = altTombstone
	}
	if tag&tagGap != 0 {
		v, pos = uvarint(c.data, pos)
		c.off += unzigzag(v) * align
	}
	v, pos = uvarint(c.data, pos)
	c.size = int64(v<<4|uint64(tag>>4)) * align
	c.pos = pos
	return pos > 0
}

// uvarint reads a number at pos and returns where the next one is, or -1.
func uvarint(b []byte, pos int) (v uint64, next int) {
	for shift := 0; uint(pos) < uint(len(b)) && shift < 64; shift += 7 {
		c := b[pos]
		pos++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, pos
		}
	}
	return 0, -1
}

// append adds the bytes of e to b, as they follow c.
func (c *cursor) append(b []byte, e located) []byte {
	units := uint64(e.size / align)
	tag := byte(units&15) << 4
	alt := c.alt + 1
	if e.key != c.key {
		tag |= tagKey
		alt = 0
	}
	gap := (e.off - c.off - c.size) / align
	if gap != 0 {
		tag |= tagGap
	}
	switch {
	case e.alt == altTombstone:
		tag |= tagTombstone
	case e.alt != alt:
		tag |= tagAlt
	}
	b = append(b, tag)
	if tag&tagKey != 0 {
		b = binary.AppendVarint(b, int64(e.key-c.key))
	}
	if tag&tagAlt != 0 {
		b = append(b, e.alt)
	}
	if tag&tagGap != 0 {
		b = binary.AppendVarint(b, gap)
	}
	return binary.AppendUvarint(b, units>>4)
}
