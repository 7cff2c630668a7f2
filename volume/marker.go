package volume

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

const (
	markerMagic = "HAYPOISN"
	markerSize  = 64
)

// marker is the decoded form of a poison marker.
type marker struct {
	Volume     ID
	Generation uint32
	SyncedTo   int64 // end of the last batch that was synced
	When       time.Time
	Torn       int64 // where the torn batch begins that a recovery could not repair, or 0
}

func encodeMarker(m marker) []byte {
	b := make([]byte, markerSize)
	copy(b, markerMagic)
	le := binary.LittleEndian
	le.PutUint16(b[8:], formatVersion)
	le.PutUint32(b[16:], uint32(m.Volume))
	le.PutUint32(b[20:], m.Generation)
	le.PutUint64(b[24:], uint64(m.SyncedTo))
	le.PutUint64(b[32:], uint64(m.When.UnixMilli()))
	le.PutUint64(b[40:], uint64(m.Torn))
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

func decodeMarker(b []byte) (marker, error) {
	var m marker
	le := binary.LittleEndian
	if len(b) != markerSize || string(b[:8]) != markerMagic || le.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return m, fmt.Errorf("%w: poison marker", ErrCorrupt)
	}
	if v := le.Uint16(b[8:]); v != formatVersion {
		return m, fmt.Errorf("%w: poison marker version %d", ErrUnsupported, v)
	}
	m = marker{
		Volume:     ID(le.Uint32(b[16:])),
		Generation: le.Uint32(b[20:]),
		SyncedTo:   int64(le.Uint64(b[24:])),
		When:       time.UnixMilli(int64(le.Uint64(b[32:]))).UTC(),
		Torn:       int64(le.Uint64(b[40:])),
	}
	if m.SyncedTo < dataStart || m.SyncedTo%align != 0 ||
		m.Torn != 0 && (m.Torn < dataStart || m.Torn > m.SyncedTo || m.Torn%align != 0) {
		return m, fmt.Errorf("%w: poison marker fields", ErrCorrupt)
	}
	return m, nil
}
