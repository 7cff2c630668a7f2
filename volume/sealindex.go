package volume

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"
	"sort"

	"hayloft/internal/id"
)

const (
	sealIndexMagic  = "HAYINDEX"
	sealIndexHeader = 128
	blockKeys       = 64 // keys in a block, at most
	blockFixed      = 10 // bytes of a block in front of its column widths
	dirEntry        = 20
	maxAlts         = MaxAlt + 1
)

// sealIndex is the index of a sealed volume in the form it has on disk; see
// docs/format.md. It is one slice of bytes, read-only after it is made, and may
// be used by many goroutines.
type sealIndex struct {
	b       []byte // the whole file
	head    sealIndexHead
	slots   []byte   // slot table
	dir     []byte   // directory
	data    []byte   // blocks, with 8 zero bytes behind them
	pattern [][]byte // alts by pattern
}

// sealIndexHead is the decoded header.
type sealIndexHead struct {
	Volume       ID
	Generation   uint32
	Sign         [8]byte
	Digest       Digest
	End          int64
	Needles      int64
	Keys         int64
	seqBits      uint8
	slotBits     uint8
	slots        int
	patternsSize int
	blocks       int
	body         int64
	bodyCRC      uint32
}

func (h *sealIndexHead) encode() []byte {
	b := make([]byte, sealIndexHeader)
	le := binary.LittleEndian
	copy(b, sealIndexMagic)
	le.PutUint16(b[8:], formatVersion)
	b[10], b[11] = h.seqBits, h.slotBits
	le.PutUint16(b[12:], uint16(h.slots))
	le.PutUint32(b[16:], uint32(h.Volume))
	le.PutUint32(b[20:], h.Generation)
	copy(b[24:32], h.Sign[:])
	copy(b[32:64], h.Digest[:])
	le.PutUint64(b[64:], uint64(h.End))
	le.PutUint64(b[72:], uint64(h.Needles))
	le.PutUint64(b[80:], uint64(h.Keys))
	le.PutUint32(b[88:], uint32(h.patternsSize))
	le.PutUint32(b[92:], uint32(h.blocks))
	le.PutUint64(b[96:], uint64(h.body))
	le.PutUint32(b[104:], h.bodyCRC)
	le.PutUint32(b[124:], crc32.Checksum(b[:124], castagnoli))
	return b
}

func decodeSealIndexHead(b []byte) (sealIndexHead, error) {
	var h sealIndexHead
	le := binary.LittleEndian
	if len(b) < sealIndexHeader || string(b[:8]) != sealIndexMagic || le.Uint32(b[124:]) != crc32.Checksum(b[:124], castagnoli) {
		return h, fmt.Errorf("%w: header of a sealed index", ErrCorrupt)
	}
	if v := le.Uint16(b[8:]); v != formatVersion {
		return h, fmt.Errorf("%w: sealed index version %d", ErrUnsupported, v)
	}
	h = sealIndexHead{
		seqBits: b[10], slotBits: b[11], slots: int(le.Uint16(b[12:])),
		Volume: ID(le.Uint32(b[16:])), Generation: le.Uint32(b[20:]),
		Sign: [8]byte(b[24:32]), Digest: Digest(b[32:64]),
		End: int64(le.Uint64(b[64:])), Needles: int64(le.Uint64(b[72:])), Keys: int64(le.Uint64(b[80:])),
		patternsSize: int(le.Uint32(b[88:])), blocks: int(le.Uint32(b[92:])),
		body: int64(le.Uint64(b[96:])), bodyCRC: le.Uint32(b[104:]),
	}
	if h.seqBits > 13 || h.slotBits > 10 || h.slots > id.Slots || h.body != int64(len(b)-sealIndexHeader) ||
		int64(2*h.slots)+int64(h.patternsSize)+int64(h.blocks)*dirEntry+8 > h.body {
		return h, fmt.Errorf("%w: header of a sealed index", ErrCorrupt)
	}
	return h, nil
}

// decodeSealIndex reads a sealed index and verifies all of it. b is the
// index's from then on.
func decodeSealIndex(b []byte) (*sealIndex, error) {
	h, err := decodeSealIndexHead(b)
	if err != nil {
		return nil, err
	}
	body := b[sealIndexHeader:]
	if crc32.Checksum(body, castagnoli) != h.bodyCRC {
		return nil, fmt.Errorf("%w: sealed index checksum", ErrCorrupt)
	}
	x := &sealIndex{b: b, head: h}
	x.slots, body = body[:2*h.slots], body[2*h.slots:]
	patterns, body := body[:h.patternsSize], body[h.patternsSize:]
	x.dir, x.data = body[:h.blocks*dirEntry], body[h.blocks*dirEntry:]
	for len(patterns) > 0 {
		n := int(patterns[0]) + 1
		if len(patterns) < 1+n || n > maxAlts {
			return nil, fmt.Errorf("%w: patterns of a sealed index", ErrCorrupt)
		}
		x.pattern = append(x.pattern, patterns[1:1+n])
		patterns = patterns[1+n:]
	}
	if err := x.verify(); err != nil {
		return nil, fmt.Errorf("%w: sealed index: %w", ErrCorrupt, err)
	}
	return x, nil
}

// verify walks everything once, so that look-ups need not doubt what they see.
func (x *sealIndex) verify() error {
	for i := 1; i < x.head.slots; i++ {
		if x.slotAt(i) <= x.slotAt(i-1) {
			return fmt.Errorf("slot table")
		}
	}
	if x.head.slots > 0 && x.slotAt(x.head.slots-1) >= id.Slots || x.head.slots > 1<<x.head.slotBits {
		return fmt.Errorf("slot table")
	}
	for _, p := range x.pattern {
		for i := range p {
			if p[i] > MaxAlt || i > 0 && p[i] <= p[i-1] {
				return fmt.Errorf("pattern table")
			}
		}
	}
	var needles, keys int64
	var last uint64
	for n := range x.head.blocks {
		bl, err := x.block(n)
		if err != nil {
			return err
		}
		if first := x.firstCode(n); first != bl.code {
			return fmt.Errorf("directory")
		}
		for bl.next() {
			if keys > 0 && bl.code <= last {
				return fmt.Errorf("codes do not ascend")
			}
			if _, ok := x.keyOf(bl.code); !ok {
				return fmt.Errorf("code without a key")
			}
			last = bl.code
			keys++
			needles += int64(len(bl.alts))
		}
		if bl.err != nil {
			return bl.err
		}
	}
	if needles != x.head.Needles || keys != x.head.Keys {
		return fmt.Errorf("holds %d needles of %d keys, not %d of %d", needles, keys, x.head.Needles, x.head.Keys)
	}
	return nil
}

func (x *sealIndex) slotAt(i int) id.Slot { return id.Slot(binary.LittleEndian.Uint16(x.slots[2*i:])) }

func (x *sealIndex) firstCode(block int) uint64 {
	return binary.LittleEndian.Uint64(x.dir[block*dirEntry:])
}

// codeOf returns the code of a key, or false when no key of this index can
// have it.
func (x *sealIndex) codeOf(k id.ID) (uint64, bool) {
	slot := sort.Search(x.head.slots, func(i int) bool { return x.slotAt(i) >= k.Slot() })
	if slot == x.head.slots || x.slotAt(slot) != k.Slot() || k.Seq()>>x.head.seqBits != 0 {
		return 0, false
	}
	return makeCode(k, slot, x.head.slotBits, x.head.seqBits), true
}

func makeCode(k id.ID, slot int, slotBits, seqBits uint8) uint64 {
	return (uint64(k.Millis())<<slotBits|uint64(slot))<<seqBits | uint64(k.Seq())
}

// keyOf is the inverse of codeOf.
func (x *sealIndex) keyOf(code uint64) (id.ID, bool) {
	seq := code & (1<<x.head.seqBits - 1)
	code >>= x.head.seqBits
	slot := int(code & (1<<x.head.slotBits - 1))
	code >>= x.head.slotBits
	if slot >= x.head.slots || code > uint64(id.MaxMillis) {
		return 0, false
	}
	k := id.Make(id.Millis(code), x.slotAt(slot), uint16(seq))
	return k, k != 0
}

// sealBlock walks the keys of one block.
type sealBlock struct {
	x       *sealIndex
	left    int // keys not yet walked
	code    uint64
	first   bool
	d, p, g uint8 // widths: code, pattern, gap of a key
	h       uint8 // gap of a needle
	base    uint32
	columns []byte // widths of sizes
	bits    []byte // the bit stream and what follows it
	at      int    // next bit
	end     int    // bits of the stream there can be

	alts    []byte // of the key walked last
	sizeAt  int    // bit where its first size lies
	keyOff  int64  // offset of its first record
	nextOff int64  // end of its last record
	err     error
}

// block begins the walk of block n.
func (x *sealIndex) block(n int) (sealBlock, error) {
	le := binary.LittleEndian
	e := x.dir[n*dirEntry:]
	pos := int64(le.Uint32(e[16:]))
	if pos+blockFixed+8 > int64(len(x.data)) {
		return sealBlock{}, fmt.Errorf("block %d lies outside", n)
	}
	b := x.data[pos:]
	bl := sealBlock{x: x, left: int(b[0]) + 1, code: le.Uint64(e), first: true, d: b[1], p: b[2], g: b[3], h: b[4], base: le.Uint32(b[6:])}
	c := int(b[5])
	off := le.Uint64(e[8:])
	if bl.left > blockKeys || bl.d > 64 || bl.p > 32 || bl.g > 40 || bl.h > 40 || off > uint64(maxOffset/align) || len(b) < blockFixed+c+8 {
		return sealBlock{}, fmt.Errorf("block %d has impossible fields", n)
	}
	bl.nextOff = int64(off) * align
	bl.columns, bl.bits = b[blockFixed:blockFixed+c], b[blockFixed+c:]
	for _, w := range bl.columns {
		if w > 32 {
			return sealBlock{}, fmt.Errorf("block %d has impossible fields", n)
		}
	}
	bl.end = 8 * (len(bl.bits) - 8)
	return bl, nil
}

// get reads w bits, at most 64, from bit at on. Eight bytes must follow.
func getBits(b []byte, at int, w uint8) uint64 {
	if w == 0 {
		return 0
	}
	i, shift := at>>3, uint(at&7)
	v := binary.LittleEndian.Uint64(b[i:]) >> shift
	if uint(w)+shift > 64 {
		v |= uint64(b[i+8]) << (64 - shift)
	}
	return v & (^uint64(0) >> (64 - w))
}

func (bl *sealBlock) take(w uint8) uint64 {
	if bl.at+int(w) > bl.end {
		bl.fail("stream ends early")
		return 0
	}
	v := getBits(bl.bits, bl.at, w)
	bl.at += int(w)
	return v
}

func (bl *sealBlock) fail(what string) {
	if bl.err == nil {
		bl.err = fmt.Errorf("block: %s", what)
	}
	bl.left = 0
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

// next walks to the next key; false at the end of the block or on damage.
func (bl *sealBlock) next() bool {
	if bl.left == 0 {
		return false
	}
	bl.left--
	if !bl.first {
		old := bl.code
		if bl.code += bl.take(bl.d); bl.code < old {
			bl.fail("code overflows")
		}
	}
	pattern := uint64(bl.base) + bl.take(bl.p)
	if pattern >= uint64(len(bl.x.pattern)) {
		bl.fail("no such pattern")
		return false
	}
	bl.alts = bl.x.pattern[pattern]
	if len(bl.alts) > len(bl.columns) {
		bl.fail("too few columns")
		return false
	}
	gap := unzigzag(bl.take(bl.g))
	if bl.first && gap != 0 {
		bl.fail("gap of the first key")
	}
	bl.first = false
	bl.keyOff = bl.nextOff + gap*align
	bl.sizeAt = bl.at
	off := bl.keyOff
	for i := range bl.alts {
		if i > 0 {
			off += unzigzag(bl.take(bl.h)) * align
		}
		size := int64(bl.take(bl.columns[i])) * align
		if size < headerSize || size > maxRecord || off < dataStart || off+size > bl.x.head.End {
			bl.fail("record lies outside")
			return false
		}
		off += size
	}
	bl.nextOff = off
	return bl.err == nil
}

// maxRecord is the size of the largest record.
const maxRecord = (maxMeta+MaxData+align-1)/align*align + align

// place returns where the record of the i-th alt of the key walked last lies.
func (bl *sealBlock) place(i int) place {
	off, at := bl.keyOff, bl.sizeAt
	for j := 0; ; j++ {
		if j > 0 {
			off += unzigzag(getBits(bl.bits, at, bl.h)) * align
			at += int(bl.h)
		}
		size := int64(getBits(bl.bits, at, bl.columns[j])) * align
		at += int(bl.columns[j])
		if j == i {
			return place{off: off, size: size}
		}
		off += size
	}
}

// find walks to key; false when it is not there.
func (x *sealIndex) find(key id.ID) (sealBlock, bool) {
	code, ok := x.codeOf(key)
	if !ok {
		return sealBlock{}, false
	}
	n := sort.Search(x.head.blocks, func(i int) bool { return x.firstCode(i) > code }) - 1
	if n < 0 {
		return sealBlock{}, false
	}
	bl, err := x.block(n)
	if err != nil {
		return sealBlock{}, false // not after verify
	}
	for bl.next() {
		if bl.code >= code {
			return bl, bl.code == code
		}
	}
	return sealBlock{}, false
}

// get returns where (key, alt) lies. The size is exact.
func (x *sealIndex) get(key id.ID, alt uint8) (place, bool) {
	bl, ok := x.find(key)
	if !ok {
		return place{}, false
	}
	i := slices.Index(bl.alts, alt)
	if i < 0 {
		return place{}, false
	}
	return bl.place(i), true
}

// each calls fn for every needle by (key, alt), until it returns false.
func (x *sealIndex) each(fn func(key id.ID, alt uint8, p place) bool) {
	for n := range x.head.blocks {
		bl, err := x.block(n)
		if err != nil {
			return // not after verify
		}
		for bl.next() {
			key, _ := x.keyOf(bl.code)
			for i, alt := range bl.alts {
				if !fn(key, alt, bl.place(i)) {
					return
				}
			}
		}
	}
}

// bytes is the memory the index holds: the file, and a slice header per pattern.
func (x *sealIndex) bytes() int64 { return int64(cap(x.b)) + int64(cap(x.pattern))*24 + 200 }

func width(v uint64) uint8 { return uint8(bits.Len64(v)) }
