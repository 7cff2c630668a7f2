package library

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"

	"hayloft/internal/id"
	"hayloft/volume"
)

// stampEvery is the distance of the stamps that make the bytes of each
// needle its own.
const stampEvery = 4096

// castagnoli is the polynomial of ETags.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxNeedle is the largest needle there is, in bytes.
const maxNeedle = 256 << 10

// Noise is what all needles are cut from: incompressible, equal in every run.
var Noise = func() []byte {
	b := make([]byte, maxNeedle)
	r := rand.NewChaCha8([32]byte{'h', 'a', 'y'})
	r.Read(b) //nolint:errcheck // never fails
	return b
}()

// Needle is what a reader must know and what it should get.
type Needle struct {
	Key       id.ID
	Size      int
	Off, Span int64 // of the record in the file
	ETag      uint32
}

// KeyOf spreads keys as a running system makes them: eight slots, many ids in
// each millisecond.
func KeyOf(i int) id.ID {
	const slots, perMilli = 8, 64
	return id.Make(id.Millis(1+i/perMilli), id.Slot(i%slots), uint16(i%perMilli/slots))
}

// CookieOf is the cookie of every needle under key.
func CookieOf(key id.ID) id.Cookie { return id.Cookie(uint64(key)*0x9e3779b97f4a7c15 | 1) }

// Stamp makes buf, a copy of noise, the data of key.
func Stamp(buf []byte, key id.ID) {
	for at := 0; at+8 <= len(buf); at += stampEvery {
		binary.LittleEndian.PutUint64(buf[at:], uint64(key))
	}
	if len(buf) >= 8 {
		binary.LittleEndian.PutUint64(buf[len(buf)-8:], uint64(key))
	}
}

// ErrWrongData says that what was read is whole and something else.
var ErrWrongData = errors.New("read data that was not written")

// CheckFast compares what can be compared without reading everything again.
func CheckFast(n *Needle, b volume.Blob) error {
	if len(b.Data) != n.Size || n.ETag != 0 && b.ETag != n.ETag ||
		binary.LittleEndian.Uint64(b.Data) != uint64(n.Key) ||
		binary.LittleEndian.Uint64(b.Data[n.Size-8:]) != uint64(n.Key) {
		return fmt.Errorf("%w: key %v", ErrWrongData, n.Key)
	}
	return nil
}

// ETag is the checksum of data.
func ETag(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// CheckAll compares every byte. scratch is as long as Noise.
func CheckAll(n *Needle, b volume.Blob, scratch []byte) error {
	want := scratch[:n.Size]
	copy(want, Noise)
	Stamp(want, n.Key)
	if !bytes.Equal(b.Data, want) || b.ETag != ETag(want) {
		return fmt.Errorf("%w: key %v", ErrWrongData, n.Key)
	}
	return nil
}

// MakeNeedle is the i-th needle, with its data in buf.
func MakeNeedle(buf []byte, i, size int) volume.Needle {
	copy(buf[:size], Noise) // an earlier needle of another size left its stamps
	key := KeyOf(i)
	Stamp(buf[:size], key)
	return volume.Needle{Key: key, Cookie: CookieOf(key), Data: buf[:size]}
}
