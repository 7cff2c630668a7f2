package volume

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"hayloft/internal/id"
)

const (
	// classDeletes is the class of a delete log; see docs/format.md.
	classDeletes Class = 3

	// MaxSealTexts bounds replica set and policy of a sealed volume together,
	// in bytes.
	MaxSealTexts = 3072

	sealTextsAt = 512
	maxDeletes  = 1<<32 - 1 // the largest delete number
)

// ErrSealed: the volume is fenced or sealed and takes no puts.
var ErrSealed = errors.New("volume is sealed")

// ErrNotFenced: only a fenced or sealed volume can do this.
var ErrNotFenced = errors.New("volume is not fenced")

// ErrNotSealed: only a sealed volume can do this.
var ErrNotSealed = errors.New("volume is not sealed")

// SealInfo is what the directory says of a volume when it seals it. It is kept
// in the superblock, so that a directory can be made again from the disks.
type SealInfo struct {
	Slot     id.Slot   // of the tile
	From, To id.Millis // of the tile: first and last id time
	Replicas []byte    // opaque; with Policy at most MaxSealTexts bytes
	Policy   []byte    // opaque
	// United says that every needle and every delete which the other replicas
	// hold was added here: then a gap in the file hides nothing. Without it a
	// volume with gaps is not sealed. It is not kept.
	United bool
	// Throttle is asked before n bytes are read, and waits as long as the
	// budget wants; nil never waits. It is not asked while deletes wait for the
	// seal. It is not kept.
	Throttle func(ctx context.Context, n int64) error
}

func (s SealInfo) validate() error {
	if n := len(s.Replicas) + len(s.Policy); n > MaxSealTexts {
		return fmt.Errorf("%w: replica set and policy have %d bytes, at most %d go into a superblock", ErrInvalid, n, MaxSealTexts)
	}
	if s.Slot >= id.Slots || s.From > s.To || s.To > id.MaxMillis {
		return fmt.Errorf("%w: tile of slot %d from %d to %d", ErrInvalid, s.Slot, s.From, s.To)
	}
	return nil
}

func (s SealInfo) equal(o SealInfo) bool {
	return s.Slot == o.Slot && s.From == o.From && s.To == o.To &&
		bytes.Equal(s.Replicas, o.Replicas) && bytes.Equal(s.Policy, o.Policy)
}

// Digest identifies a set of live needles; see docs/format.md. It does not
// depend on where they lie.
type Digest [32]byte

// SealRecord is what the superblock of a sealed volume says.
type SealRecord struct {
	SealInfo
	End       int64 // bytes of the file, up to the end of the last record
	Needles   int64 // live when sealed
	DataBytes int64 // sum of their lengths
	Digest    Digest
	Sealed    time.Time // to the millisecond, UTC
	// Deletes is the number up to which the delete log is applied to the file.
	Deletes uint32
	// Source is the generation this one was compacted from, or 0, and
	// SourceDigest that generation's Digest.
	Source       uint32
	SourceDigest Digest
}

// encode writes the fields of the seal into a superblock copy.
func (s *SealRecord) encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b[72:], uint64(s.End))
	le.PutUint64(b[80:], uint64(s.Needles))
	le.PutUint64(b[88:], uint64(s.DataBytes))
	copy(b[96:128], s.Digest[:])
	le.PutUint64(b[128:], uint64(s.Sealed.UnixMilli()))
	le.PutUint64(b[136:], uint64(s.Deletes))
	le.PutUint32(b[144:], s.Source)
	le.PutUint16(b[148:], uint16(s.Slot))
	le.PutUint16(b[150:], uint16(len(s.Replicas)))
	le.PutUint16(b[152:], uint16(len(s.Policy)))
	le.PutUint64(b[160:], uint64(s.From))
	le.PutUint64(b[168:], uint64(s.To))
	copy(b[176:208], s.SourceDigest[:])
	n := copy(b[sealTextsAt:], s.Replicas)
	copy(b[sealTextsAt+n:], s.Policy)
}

// decodeSealRecord is the inverse of encode, on a copy whose checksum holds.
func decodeSealRecord(b []byte) (*SealRecord, error) {
	le := binary.LittleEndian
	n, m := int(le.Uint16(b[150:])), int(le.Uint16(b[152:]))
	deletes := le.Uint64(b[136:])
	s := &SealRecord{
		End:       int64(le.Uint64(b[72:])),
		Needles:   int64(le.Uint64(b[80:])),
		DataBytes: int64(le.Uint64(b[88:])),
		Digest:    Digest(b[96:128]),
		Sealed:    time.UnixMilli(int64(le.Uint64(b[128:]))).UTC(),
		Deletes:   uint32(deletes),
		Source:    le.Uint32(b[144:]),
		SealInfo:  SealInfo{Slot: id.Slot(le.Uint16(b[148:])), From: id.Millis(le.Uint64(b[160:])), To: id.Millis(le.Uint64(b[168:]))},

		SourceDigest: Digest(b[176:208]),
	}
	if n+m > MaxSealTexts || deletes > maxDeletes || s.End < dataStart || s.End > maxOffset || s.End%align != 0 ||
		s.Needles < 0 || s.Needles > s.End/headerSize || s.DataBytes < 0 || s.DataBytes > s.End {
		return nil, fmt.Errorf("%w: fields of the seal", ErrCorrupt)
	}
	if n > 0 {
		s.Replicas = bytes.Clone(b[sealTextsAt : sealTextsAt+n])
	}
	if m > 0 {
		s.Policy = bytes.Clone(b[sealTextsAt+n : sealTextsAt+n+m])
	}
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("%w: fields of the seal: %w", ErrCorrupt, err)
	}
	return s, nil
}
