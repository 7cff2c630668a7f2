package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// The codec of checkpoints; docs/format.md has the byte tables.
const (
	checkpointMagic   = "HAYCKPNT"
	checkpointVersion = 1
	checkpointHead    = 128
	flagUnmarked      = 1 << 0

	sectionBytes = chunkBlocks * blockSize
	rotSize      = 24
	maxRots      = 1 << 16
	rotDeletes   = 1 << 0
)

// checkpoint is the decoded head of a checkpoint: what the records below
// covers add up to, but for the list of their places.
type checkpoint struct {
	covers     int64 // everything below it is synced and in the list
	unmarked   bool  // no mark follows the last batch below covers
	last       place // the last record of the list; size 0: there is none
	lastCRC    uint32
	deletes    uint32 // deletes written below covers
	needles    int64
	tombstones int64
	liveBytes  int64
	blocks     uint64
	slots      uint64 // of the table that the list takes
	damage     damage
}

// size is that of the whole file.
func (c *checkpoint) size() int64 {
	sections := (int64(c.blocks) + chunkBlocks - 1) / chunkBlocks
	return checkpointHead + int64(c.blocks)*blockSize + 4*sections + rotSize*int64(len(c.damage.rot)) + 4
}

// headCRC binds the head to the file's identity and secret.
func (s *seal) headCRC(b []byte) uint32 {
	return crc32.Update(s.crc, castagnoli, b[:checkpointHead-4])
}

// sectionCRC binds a section to its place in one checkpoint of one file.
func (s *seal) sectionCRC(covers, number int64, b []byte) uint32 {
	var p [16]byte
	binary.LittleEndian.PutUint64(p[:], uint64(covers))
	binary.LittleEndian.PutUint64(p[8:], uint64(number))
	return crc32.Update(crc32.Update(s.crc, castagnoli, p[:]), castagnoli, b)
}

func encodeCheckpointHead(c *checkpoint, ident Identity, s *seal) []byte {
	b := make([]byte, checkpointHead)
	copy(b, checkpointMagic)
	le := binary.LittleEndian
	le.PutUint16(b[8:], checkpointVersion)
	if c.unmarked {
		b[10] |= flagUnmarked
	}
	le.PutUint32(b[16:], uint32(ident.Volume))
	le.PutUint32(b[20:], ident.Generation)
	le.PutUint64(b[24:], uint64(c.covers))
	le.PutUint64(b[32:], uint64(c.last.off))
	le.PutUint32(b[40:], c.lastCRC)
	le.PutUint32(b[44:], c.deletes)
	le.PutUint64(b[48:], uint64(c.needles))
	le.PutUint64(b[56:], uint64(c.tombstones))
	le.PutUint64(b[64:], uint64(c.liveBytes))
	le.PutUint64(b[72:], c.blocks)
	le.PutUint64(b[80:], c.slots)
	le.PutUint64(b[88:], uint64(c.damage.unsureBelow))
	le.PutUint64(b[96:], uint64(c.damage.voidBytes))
	le.PutUint32(b[104:], uint32(len(c.damage.rot)))
	le.PutUint32(b[124:], s.headCRC(b))
	return b
}

// decodeCheckpointHead reads the head; the rot list has its length, not yet its content.
func decodeCheckpointHead(b []byte, ident Identity, s *seal) (*checkpoint, error) {
	le := binary.LittleEndian
	switch {
	case len(b) != checkpointHead || string(b[:8]) != checkpointMagic:
		return nil, fmt.Errorf("%w: not a checkpoint", ErrCorrupt)
	case le.Uint32(b[16:]) != uint32(ident.Volume) || le.Uint32(b[20:]) != ident.Generation:
		return nil, fmt.Errorf("%w: checkpoint of volume %d, generation %d", ErrCorrupt, le.Uint32(b[16:]), le.Uint32(b[20:]))
	case le.Uint32(b[124:]) != s.headCRC(b):
		return nil, fmt.Errorf("%w: checkpoint checksum", ErrCorrupt)
	case le.Uint16(b[8:]) != checkpointVersion || b[10]&^flagUnmarked != 0:
		return nil, fmt.Errorf("%w: checkpoint version %d, flags %#x", ErrUnsupported, le.Uint16(b[8:]), b[10])
	}
	c := &checkpoint{
		covers: int64(le.Uint64(b[24:])), unmarked: b[10]&flagUnmarked != 0,
		last: place{off: int64(le.Uint64(b[32:]))}, lastCRC: le.Uint32(b[40:]), deletes: le.Uint32(b[44:]),
		needles: int64(le.Uint64(b[48:])), tombstones: int64(le.Uint64(b[56:])), liveBytes: int64(le.Uint64(b[64:])),
		blocks: le.Uint64(b[72:]), slots: le.Uint64(b[80:]),
		damage: damage{unsureBelow: int64(le.Uint64(b[88:])), voidBytes: int64(le.Uint64(b[96:]))},
	}
	rots := le.Uint32(b[104:])
	bad := c.covers < dataStart || c.covers%align != 0 || c.covers > maxOffset || (c.blocks == 0) != (c.last.off == 0) ||
		c.blocks > 1<<32 || c.slots < c.blocks || c.slots > c.blocks*blockData || rots > maxRots ||
		c.needles < 0 || c.tombstones < 0 || c.liveBytes < 0 || c.damage.voidBytes < 0 || c.damage.unsureBelow < 0 ||
		b[11] != 0 || string(b[12:16]) != "\x00\x00\x00\x00" || string(b[108:124]) != string(make([]byte, 16))
	if bad {
		return nil, fmt.Errorf("%w: checkpoint fields", ErrCorrupt)
	}
	c.damage.rot = make([]Rot, rots)
	return c, nil
}

func appendRots(b []byte, rots []Rot) []byte {
	le := binary.LittleEndian
	for _, r := range rots {
		b = le.AppendUint64(b, uint64(r.Offset))
		b = le.AppendUint64(b, uint64(r.Length))
		flags := uint64(0)
		if r.LostDeletes {
			flags = rotDeletes
		}
		b = le.AppendUint64(b, flags)
	}
	return b
}

func decodeRots(rots []Rot, b []byte) error {
	le := binary.LittleEndian
	for i := range rots {
		r := b[i*rotSize:]
		flags := le.Uint64(r[16:])
		rots[i] = Rot{Offset: int64(le.Uint64(r)), Length: int64(le.Uint64(r[8:])), LostDeletes: flags&rotDeletes != 0}
		if rots[i].Offset < dataStart || rots[i].Length < 0 || flags&^rotDeletes != 0 {
			return fmt.Errorf("%w: checkpoint's list of damage", ErrCorrupt)
		}
	}
	return nil
}

// encode writes a block as the checkpoint has it. head may be older than the
// block's: then what was added since is left out.
func (b *block) encode(out []byte, head uint64) {
	clear(out[:blockSize])
	binary.LittleEndian.PutUint64(out, head)
	binary.LittleEndian.PutUint64(out[8:], uint64(b.key))
	copy(out[16:], b.data[:head&0xff])
}

// decode fills an empty block, number n of the list, checks its entries, which
// lie in front of covers and behind at, the end of the entry before, and feeds
// their keys. It returns the place of the last one.
func (b *block) decode(in []byte, at, covers int64, n uint64, feed *feeder) (place, error) {
	head := binary.LittleEndian.Uint64(in)
	b.key = idOf(in[8:])
	copy(b.data[:], in[16:blockSize])
	b.head.Store(head)
	used := head & 0xff
	if used == 0 || used > blockData || head>>8 > uint64(maxOffset/align) || slices.ContainsFunc(b.data[used:], notZero) {
		return place{}, fmt.Errorf("%w: checkpoint block", ErrCorrupt)
	}
	c := b.cursor()
	for key := id.ID(0); c.next(); key = c.key {
		if c.off < at || c.size < headerSize || c.size > maxRecord || c.off+c.size > covers || c.key == 0 {
			return place{}, fmt.Errorf("%w: checkpoint entry", ErrCorrupt)
		}
		at = c.off + c.size
		if c.key != key {
			feed.add(hash(c.key), n)
		}
	}
	if c.pos != int(used) {
		return place{}, fmt.Errorf("%w: checkpoint block", ErrCorrupt)
	}
	return c.place, nil
}

func notZero(b byte) bool { return b != 0 }

// matches tells whether c was made of this very file: the last record it
// lists is where it says, bit for bit.
func (c *checkpoint) matches(f vfs.File, s *seal) error {
	if c.blocks == 0 {
		return nil
	}
	crc, err := recordCRCAt(f, s, c.last)
	if err == nil && crc != c.lastCRC {
		err = errors.New("another record")
	}
	if err != nil {
		return fmt.Errorf("%w: the checkpoint's last record, at %d: %w", ErrCorrupt, c.last.off, err)
	}
	return nil
}

// recordCRCAt returns the record_crc of the valid record at p.
func recordCRCAt(f vfs.File, s *seal, p place) (uint32, error) {
	w := &walker{file: f, seal: s, end: p.off + p.size}
	h, meta, err := w.header(p.off)
	switch {
	case err != nil:
		return 0, err
	case h.size() != p.size:
		return 0, fmt.Errorf("%w: record at %d has %d bytes, not %d", ErrCorrupt, p.off, h.size(), p.size)
	}
	return binary.LittleEndian.Uint32(meta[60:]), nil
}
