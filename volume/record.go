package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"hayloft/internal/id"
)

// Kind is the kind of a record.
type Kind uint8

// The kinds of records; see docs/format.md.
const (
	KindNeedle    Kind = 1
	KindTombstone Kind = 2
	KindVoid      Kind = 3
	KindMark      Kind = 4
	KindPadding   Kind = 5
)

const (
	recordMagic = "NDL1"
	headerSize  = 64
	align       = 8

	flagBlocks = 1 << 0
	flagMaster = 1 << 1

	// BlockSize is the unit of the block CRCs of large needles, in bytes.
	BlockSize = 64 << 10
	// blocksAbove is the largest needle without block CRCs, in bytes.
	blocksAbove = 128 << 10
	// MaxData is the largest needle, in bytes.
	MaxData = 128 << 20
	// MaxGroup bounds the records of one Append, in bytes: should it tear, one void
	// record has to stand for all of it.
	MaxGroup = 1 << 30
	// maxPadding is the longest body of a padding record, in bytes.
	maxPadding = 64 << 10
	// MaxAlt is the largest alt of a needle.
	MaxAlt = 254

	masterFixed    = 25
	maxContentType = 127
	// maxMeta bounds header, master info and block CRC table together: the
	// table of a needle of MaxData, and a master info as long as its length
	// field can say.
	maxMeta = headerSize + 1<<16 + 4*(MaxData/BlockSize)
)

// MasterInfo says where a master belongs, so that it can be exported with
// nothing but the volume file.
type MasterInfo struct {
	Photo, Owner id.ID
	ContentType  string    // at most 127 bytes
	Time         time.Time // kept to the millisecond, UTC
}

func (m *MasterInfo) validate() error {
	if m.Photo == 0 || m.Owner == 0 {
		return fmt.Errorf("%w: master info without photo or owner", ErrInvalid)
	}
	if len(m.ContentType) > maxContentType {
		return fmt.Errorf("%w: content type of %d bytes", ErrTooLarge, len(m.ContentType))
	}
	return nil
}

func (m *MasterInfo) equal(o *MasterInfo) bool {
	if m == nil || o == nil {
		return m == o
	}
	return m.Photo == o.Photo && m.Owner == o.Owner && m.ContentType == o.ContentType &&
		m.Time.UnixMilli() == o.Time.UnixMilli()
}

func appendMaster(b []byte, m *MasterInfo) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(m.Photo))
	b = le.AppendUint64(b, uint64(m.Owner))
	b = le.AppendUint64(b, uint64(m.Time.UnixMilli()))
	b = append(b, byte(len(m.ContentType)))
	return append(b, m.ContentType...)
}

func decodeMaster(b []byte) (*MasterInfo, error) {
	if len(b) < masterFixed || int(b[24]) > maxContentType || len(b) < masterFixed+int(b[24]) {
		return nil, fmt.Errorf("%w: master info", ErrCorrupt)
	}
	le := binary.LittleEndian
	m := &MasterInfo{
		Photo:       id.ID(le.Uint64(b)),
		Owner:       id.ID(le.Uint64(b[8:])),
		Time:        time.UnixMilli(int64(le.Uint64(b[16:]))).UTC(),
		ContentType: string(b[masterFixed : masterFixed+int(b[24])]),
	}
	if m.Photo == 0 || m.Owner == 0 {
		return nil, fmt.Errorf("%w: master info", ErrCorrupt)
	}
	return m, nil
}

// header is the decoded form of a record header.
type header struct {
	Kind      Kind
	Flags     uint8
	Alt       uint8
	Key       id.ID
	Cookie    id.Cookie
	SyncedTo  int64
	Length    int64 // bytes of data, or of the body of a void or of padding
	DataCRC   uint32
	Deletes   uint32
	MasterLen int
}

// tableLen is the size of the block CRC table in bytes.
func (h *header) tableLen() int {
	if h.Kind != KindNeedle || h.Flags&flagBlocks == 0 {
		return 0
	}
	return 4 * int((h.Length+BlockSize-1)/BlockSize)
}

// metaLen is the size of header, master info and table: where the data begins.
func (h *header) metaLen() int { return headerSize + h.MasterLen + h.tableLen() }

// size is that of the whole record, padding included.
func (h *header) size() int64 { return alignUp(int64(h.metaLen()) + h.Length) }

func alignUp(n int64) int64 { return (n + align - 1) &^ (align - 1) }

// seal is what binds records to their file: secret, volume and generation.
type seal struct {
	sign [8]byte
	crc  uint32 // CRC32C state after secret, volume and generation
}

func newSeal(s superblock) seal {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], uint32(s.Volume))
	binary.LittleEndian.PutUint32(b[4:], s.Generation)
	out := seal{crc: crc32.Update(crc32.Checksum(s.Secret[:], castagnoli), castagnoli, b[:])}
	copy(out.sign[:], s.Secret[:8])
	return out
}

// recordCRC computes record_crc over meta, whose last header field is left out.
func (s *seal) recordCRC(meta []byte, off int64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(off))
	crc := crc32.Update(s.crc, castagnoli, b[:])
	crc = crc32.Update(crc, castagnoli, meta[:60])
	return crc32.Update(crc, castagnoli, meta[headerSize:])
}

// putHeader writes h into the first 64 bytes of meta, which holds master info
// and table already, and seals it for offset off.
func (s *seal) putHeader(meta []byte, h *header, off int64) {
	clear(meta[:headerSize])
	copy(meta, recordMagic)
	meta[4], meta[5], meta[6] = byte(h.Kind), h.Flags, h.Alt
	copy(meta[8:16], s.sign[:])
	le := binary.LittleEndian
	le.PutUint64(meta[16:], uint64(h.Key))
	le.PutUint64(meta[24:], uint64(h.Cookie))
	le.PutUint64(meta[32:], uint64(h.SyncedTo))
	le.PutUint32(meta[40:], uint32(h.Length))
	le.PutUint32(meta[44:], h.DataCRC)
	le.PutUint32(meta[48:], h.Deletes)
	le.PutUint16(meta[52:], uint16(h.MasterLen))
	le.PutUint32(meta[60:], s.recordCRC(meta, off))
}

// padding is what stands behind the data of a record up to the next multiple of
// align, at most.
var padding [align]byte

// errShort says that a header needs more bytes than were given.
var errShort = errors.New("header is cut off")

// looksLike tells cheaply whether a header of this file may begin at b.
func (s *seal) looksLike(b []byte) bool {
	return len(b) >= headerSize && string(b[:4]) == recordMagic && string(b[8:16]) == string(s.sign[:])
}

// decodeHeader reads the header at b, which starts at offset off of the file
// and may be longer than the record. It fails with ErrCorrupt, ErrUnsupported,
// or with errShort when b ends before the header's master info and table do.
func (s *seal) decodeHeader(b []byte, off int64) (header, error) {
	var h header
	if len(b) < headerSize {
		return h, errShort
	}
	if !s.looksLike(b) {
		return h, fmt.Errorf("%w: no record at %d", ErrCorrupt, off)
	}
	h.parse(b)
	// The lengths are not verified yet: they only say how far to read.
	if h.Length > MaxData && h.Kind != KindVoid {
		return h, fmt.Errorf("%w: record at %d: length", ErrCorrupt, off)
	}
	if len(b) < h.metaLen() {
		return h, errShort
	}
	if binary.LittleEndian.Uint32(b[60:]) != s.recordCRC(b[:h.metaLen()], off) {
		return h, fmt.Errorf("%w: record at %d: checksum", ErrCorrupt, off)
	}
	return h, h.validate(b, off)
}

func (h *header) parse(b []byte) {
	le := binary.LittleEndian
	*h = header{
		Kind: Kind(b[4]), Flags: b[5], Alt: b[6],
		Key:       id.ID(le.Uint64(b[16:])),
		Cookie:    id.Cookie(le.Uint64(b[24:])),
		SyncedTo:  int64(le.Uint64(b[32:])),
		Length:    int64(le.Uint32(b[40:])),
		DataCRC:   le.Uint32(b[44:]),
		Deletes:   le.Uint32(b[48:]),
		MasterLen: int(le.Uint16(b[52:])),
	}
}

// validate applies rules 3 and 4 of a valid header to sealed bytes.
func (h *header) validate(b []byte, off int64) error {
	if h.Kind < KindNeedle || h.Kind > KindPadding || h.Flags&^(flagBlocks|flagMaster) != 0 {
		return fmt.Errorf("%w: record at %d: kind %d, flags %#x", ErrUnsupported, off, h.Kind, h.Flags)
	}
	bad := b[7] != 0 || string(b[54:60]) != "\x00\x00\x00\x00\x00\x00" ||
		off%align != 0 || h.SyncedTo%align != 0 || h.SyncedTo < dataStart || h.SyncedTo > off ||
		(h.Flags&flagMaster != 0) != (h.MasterLen > 0)
	named := h.Kind == KindNeedle || h.Kind == KindTombstone
	bad = bad || named != (h.Key != 0)
	if h.Kind == KindNeedle {
		bad = bad || h.Cookie == 0 || h.Alt > MaxAlt || (h.Flags&flagBlocks != 0) != (h.Length > blocksAbove)
	} else {
		bad = bad || h.Cookie != 0 || h.Alt != 0 || h.Flags != 0 || h.DataCRC != 0
	}
	switch h.Kind {
	case KindNeedle:
	case KindVoid:
		bad = bad || h.Length%align != 0
	case KindPadding:
		bad = bad || h.Length%align != 0 || h.Length > maxPadding
	default:
		bad = bad || h.Length != 0
	}
	if bad {
		return fmt.Errorf("%w: record at %d: fields disagree", ErrCorrupt, off)
	}
	return nil
}

// master decodes the master info of a record whose header is valid.
func (h *header) master(meta []byte) (*MasterInfo, error) {
	if h.MasterLen == 0 {
		return nil, nil
	}
	return decodeMaster(meta[headerSize : headerSize+h.MasterLen])
}

// newNeedle prepares what does not depend on where the record will lie: the
// header's fields, and meta with room for the header in front.
func newNeedle(n *Needle) (h header, meta []byte) {
	h = header{
		Kind: KindNeedle, Alt: n.Alt, Key: n.Key, Cookie: n.Cookie,
		Length: int64(len(n.Data)),
	}
	if h.Length > blocksAbove {
		h.Flags |= flagBlocks
	}
	meta = make([]byte, headerSize, headerSize+masterFixed+maxContentType+h.tableLen())
	if n.Master != nil {
		h.Flags |= flagMaster
		meta = appendMaster(meta, n.Master)
		h.MasterLen = len(meta) - headerSize
	}
	if h.Flags&flagBlocks != 0 {
		meta, h.DataCRC = appendTable(meta, n.Data)
	} else {
		h.DataCRC = crc32.Checksum(n.Data, castagnoli)
	}
	return h, meta
}
