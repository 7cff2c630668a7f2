package volume

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// ID names a volume. The directory numbers them; 0 is none.
type ID uint32

// Class is the storage class of a volume.
type Class uint8

// The storage classes.
const (
	ClassVariants  Class = 1 // small, hot, made again if need be
	ClassOriginals Class = 2 // masters, kept verbatim
)

// String returns the name used by tools and the API.
func (c Class) String() string {
	switch c {
	case ClassVariants:
		return "variants"
	case ClassOriginals:
		return "originals"
	}
	if c == classDeletes {
		return "deletes"
	}
	return fmt.Sprintf("class-%d", uint8(c))
}

// Identity says which volume a file is.
type Identity struct {
	Volume     ID
	Generation uint32 // raised by compaction; the first is 1
	Class      Class
}

func (i Identity) validate() error {
	if i.Volume == 0 || i.Generation == 0 || i.Class != ClassVariants && i.Class != ClassOriginals {
		return fmt.Errorf("%w: volume %d, generation %d, class %d", ErrInvalid, i.Volume, i.Generation, i.Class)
	}
	return nil
}

// Sizes and offsets of format version 1; see docs/format.md.
const (
	superblockSize = 4096
	dataStart      = 2 * superblockSize // offset of the first record
	formatVersion  = 1

	stateOpen   = 0
	stateFenced = 1 // no client's put is taken any more
	stateSealed = 2 // the file never changes again

	// featureLogged, of a fenced file: its deletes are in the delete log too.
	featureLogged = 1

	superblockMagic = "HAYLOFTV"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// superblock is the decoded form of a superblock copy.
type superblock struct {
	Identity
	Sequence uint64
	Secret   [32]byte
	Created  time.Time // to the millisecond
	State    uint8
	Logged   bool        // of a fenced volume: deletes go to the delete log
	Seal     *SealRecord // of a sealed volume, else nil
}

// encodeSuperblock returns the 4096 bytes of one copy.
func encodeSuperblock(s superblock) []byte {
	b := make([]byte, superblockSize)
	copy(b, superblockMagic)
	le := binary.LittleEndian
	le.PutUint16(b[8:], formatVersion)
	b[10] = byte(s.Class)
	b[11] = s.State
	if s.Logged {
		le.PutUint32(b[12:], featureLogged)
	}
	le.PutUint32(b[16:], uint32(s.Volume))
	le.PutUint32(b[20:], s.Generation)
	le.PutUint64(b[24:], s.Sequence)
	copy(b[32:64], s.Secret[:])
	le.PutUint64(b[64:], uint64(s.Created.UnixMilli()))
	if s.State == stateSealed {
		s.Seal.encode(b)
	}
	le.PutUint32(b[4092:], crc32.Checksum(b[:4092], castagnoli))
	return b
}

// decodeSuperblock reads one copy. Damage is ErrCorrupt; an intact copy of a
// newer format is ErrUnsupported.
func decodeSuperblock(b []byte) (superblock, error) {
	var s superblock
	if len(b) != superblockSize || string(b[:8]) != superblockMagic {
		return s, fmt.Errorf("%w: not a superblock", ErrCorrupt)
	}
	le := binary.LittleEndian
	if le.Uint32(b[4092:]) != crc32.Checksum(b[:4092], castagnoli) {
		return s, fmt.Errorf("%w: superblock checksum", ErrCorrupt)
	}
	v, st, f := le.Uint16(b[8:]), b[11], le.Uint32(b[12:])
	if s.Logged = st == stateFenced && f == featureLogged; v != formatVersion || st > stateSealed || f != 0 && !s.Logged {
		return s, fmt.Errorf("%w: version %d, state %d, features %#x", ErrUnsupported, v, st, f)
	}
	s.Class = Class(b[10])
	s.Volume = ID(le.Uint32(b[16:]))
	s.Generation = le.Uint32(b[20:])
	s.Sequence = le.Uint64(b[24:])
	copy(s.Secret[:], b[32:64])
	s.Created = time.UnixMilli(int64(le.Uint64(b[64:]))).UTC()
	s.State = b[11]
	if s.State == stateSealed {
		var err error
		if s.Seal, err = decodeSealRecord(b); err != nil {
			return s, err
		}
	}
	if s.validate() != nil && s.Class != classDeletes || s.Volume == 0 || s.Generation == 0 {
		return s, fmt.Errorf("%w: superblock fields", ErrCorrupt)
	}
	return s, nil
}

// chooseSuperblock applies the rule for two copies. damaged tells that one of
// them could not be used.
func chooseSuperblock(copies [2][]byte) (s superblock, damaged bool, err error) {
	a, errA := decodeSuperblock(copies[0])
	b, errB := decodeSuperblock(copies[1])
	for _, err := range []error{errA, errB} {
		if isUnsupported(err) {
			return s, false, err
		}
	}
	switch {
	case errA != nil && errB != nil:
		return s, true, fmt.Errorf("both superblock copies: %w", errA)
	case errA != nil:
		return b, true, nil
	case errB != nil:
		return a, true, nil
	case b.Sequence > a.Sequence:
		return b, false, nil
	}
	return a, false, nil
}
