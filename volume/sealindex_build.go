package volume

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"hayloft/internal/id"
)

// bitWriter appends bits, least significant first.
type bitWriter struct {
	b    []byte
	acc  uint64
	used uint // bits of acc
}

func (w *bitWriter) put(v uint64, n uint8) {
	if n == 0 {
		return
	}
	w.acc |= v << w.used
	total := w.used + uint(n)
	if total < 64 {
		w.used = total
		return
	}
	w.b = binary.LittleEndian.AppendUint64(w.b, w.acc)
	w.acc = 0
	if w.used > 0 {
		w.acc = v >> (64 - w.used)
	}
	w.used = total - 64
}

// flush fills up to a byte and returns what was written.
func (w *bitWriter) flush() []byte {
	for ; w.used > 0; w.used -= min(8, w.used) {
		w.b = append(w.b, byte(w.acc))
		w.acc >>= 8
	}
	return w.b
}

// sealIndexBuilder gathers what the header and the tables need.
type sealIndexBuilder struct {
	head     sealIndexHead
	slots    []id.Slot
	slotOf   [id.Slots]int
	patterns map[string]uint32
	table    []byte // patterns
	dir      []byte
	data     []byte
}

// buildSealIndex makes the index of the needles in sorted, which ascend by
// (key, alt). head names the file.
func buildSealIndex(head sealIndexHead, sorted []entry) (*sealIndex, error) {
	b := &sealIndexBuilder{head: head, patterns: make(map[string]uint32)}
	b.survey(sorted)
	for len(sorted) > 0 {
		n, keys := 0, 0
		for n < len(sorted) && keys < blockKeys {
			n += groupLen(sorted[n:])
			keys++
		}
		b.block(sorted[:n], keys)
		if len(b.data) > 1<<32-1 {
			return nil, fmt.Errorf("%w: a sealed index of more than 4 GiB", ErrTooLarge)
		}
		sorted = sorted[n:]
	}
	h := &b.head
	h.slots, h.patternsSize = len(b.slots), len(b.table)
	var body []byte
	for _, s := range b.slots {
		body = binary.LittleEndian.AppendUint16(body, uint16(s))
	}
	size := sealIndexHeader + len(body) + len(b.table) + len(b.dir) + len(b.data) + 8
	out := make([]byte, sealIndexHeader, size)
	out = append(append(append(append(out, body...), b.table...), b.dir...), b.data...)
	out = append(out, make([]byte, 8)...)
	h.body = int64(len(out) - sealIndexHeader)
	h.bodyCRC = crc32.Checksum(out[sealIndexHeader:], castagnoli)
	copy(out, h.encode())
	// Check what is about to be written the way it will be read.
	return decodeSealIndex(out)
}

// groupLen is how many needles at the front share a key.
func groupLen(sorted []entry) int {
	n := 1
	for n < len(sorted) && sorted[n].key == sorted[0].key {
		n++
	}
	return n
}

// survey finds the slots and the bits that sequences need.
func (b *sealIndexBuilder) survey(sorted []entry) {
	var seen [id.Slots]bool
	var maxSeq uint16
	for i := range sorted {
		seen[sorted[i].key.Slot()] = true
		maxSeq = max(maxSeq, sorted[i].key.Seq())
	}
	for s, ok := range seen {
		if ok {
			b.slotOf[s] = len(b.slots)
			b.slots = append(b.slots, id.Slot(s))
		}
	}
	b.head.seqBits = width(uint64(maxSeq))
	b.head.slotBits = width(uint64(max(0, len(b.slots)-1)))
	b.head.Needles = int64(len(sorted))
}

func (b *sealIndexBuilder) pattern(group []entry) uint32 {
	alts := make([]byte, 0, 8)
	for i := range group {
		alts = append(alts, group[i].alt)
	}
	n, ok := b.patterns[string(alts)]
	if !ok {
		n = uint32(len(b.patterns))
		b.patterns[string(alts)] = n
		b.table = append(append(b.table, byte(len(alts)-1)), alts...)
	}
	return n
}

// keyPlan is what a block says of one key.
type keyPlan struct {
	delta   uint64
	pattern uint32
	gap     uint64
	group   []entry
	gaps    []uint64 // of the needles after the first
}

// block appends one block of keys.
func (b *sealIndexBuilder) block(sorted []entry, keys int) {
	plans := make([]keyPlan, 0, keys)
	le := binary.LittleEndian
	start, pos := sorted[0].off, len(b.data)
	first, last, end := uint64(0), uint64(0), start
	for len(sorted) > 0 {
		group := sorted[:groupLen(sorted)]
		sorted = sorted[len(group):]
		k := group[0].key
		code := makeCode(k, b.slotOf[k.Slot()], b.head.slotBits, b.head.seqBits)
		p := keyPlan{group: group, pattern: b.pattern(group), gap: zigzag((group[0].off - end) / align)}
		if len(plans) > 0 {
			p.delta = code - last
		} else {
			first = code
		}
		last = code
		for i := range group {
			if i > 0 {
				p.gaps = append(p.gaps, zigzag((group[i].off-end)/align))
			}
			end = group[i].off + group[i].size()
		}
		plans = append(plans, p)
	}
	b.dir = le.AppendUint64(b.dir, first)
	b.dir = le.AppendUint64(b.dir, uint64(start/align))
	b.dir = le.AppendUint32(b.dir, uint32(pos))
	b.head.blocks++
	b.head.Keys += int64(len(plans))
	b.data = appendBlock(b.data, plans)
}

// appendBlock packs the keys with the least widths that hold all of them.
func appendBlock(out []byte, plans []keyPlan) []byte {
	base, top := plans[0].pattern, uint32(0)
	var d, g, h uint8
	var columns []byte
	for _, p := range plans {
		base, top = min(base, p.pattern), max(top, p.pattern)
		d, g = max(d, width(p.delta)), max(g, width(p.gap))
		for _, v := range p.gaps {
			h = max(h, width(v))
		}
		for i := range p.group {
			if i == len(columns) {
				columns = append(columns, 0)
			}
			columns[i] = max(columns[i], width(uint64(p.group[i].units)))
		}
	}
	pw := width(uint64(top - base))
	out = append(out, byte(len(plans)-1), d, pw, g, h, byte(len(columns)))
	out = append(binary.LittleEndian.AppendUint32(out, base), columns...)
	w := bitWriter{b: out}
	for n, p := range plans {
		if n > 0 {
			w.put(p.delta, d)
		}
		w.put(uint64(p.pattern-base), pw)
		w.put(p.gap, g)
		for i := range p.group {
			if i > 0 {
				w.put(p.gaps[i-1], h)
			}
			w.put(uint64(p.group[i].units), columns[i])
		}
	}
	return w.flush()
}
