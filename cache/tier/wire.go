package tier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// The calls, below the one prefix.
const (
	prefix      = "/tier/1/"
	pathObject  = prefix + "object"
	pathVerdict = prefix + "verdict"
	pathPurges  = prefix + "purges"
	pathKeys    = prefix + "keys"
	pathHot     = prefix + "hot"
)

const (
	headerVia  = "Via"
	headerAge  = "Age"          // of the object, in seconds
	headerSize = "Hayloft-Size" // of the object, in bytes
	headerPath = "Hayloft-Path" // of the object: an answer to another question is found out
	// gutterParam says that the key has its home at another upstream.
	gutterParam = "gutter"
	// fromParam is the first byte of the object that is wanted, a multiple of chunk.
	fromParam = "from"

	chunk     = 64 << 10
	maxAnswer = 1 << 20   // bytes of an answer that is no object
	maxVia    = 512       // tiers that a question names
	maxPurges = 1024      // in one answer
	maxHot    = 4096      // names in one answer
	maxObject = 256 << 20 // bytes of an object, whatever its header says
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tagOf is the entity tag, without quotes, of bytes with this CRC32C.
func tagOf(crc uint32) string { return fmt.Sprintf("%08x", crc) }

// verdictAnswer is a verdict on the wire.
type verdictAnswer struct {
	Audience cache.Audience `json:"audience"`
	Epoch    uint32         `json:"epoch,omitempty"`
	Age      int64          `json:"age_ns"`
}

// purgesAnswer is a piece of the purge log on the wire.
type purgesAnswer struct {
	Purges  []purge `json:"purges,omitempty"`
	Through uint64  `json:"through"` // what the tier that answers has applied
	Age     int64   `json:"age_ns"`
	Gap     bool    `json:"gap,omitempty"` // what was asked for is not there any more
}

type purge struct {
	Seq  uint64 `json:"seq"`
	Blob id.ID  `json:"blob"`
}

// keyAnswer is a key that private URLs are checked with.
type keyAnswer struct {
	Version uint32 `json:"version"`
	Secret  []byte `json:"secret"`
	Standby bool   `json:"standby,omitempty"`
}

func keysOf(list []keyAnswer) ([]sign.Key, error) {
	out := make([]sign.Key, len(list))
	for i, k := range list {
		if len(k.Secret) != len(out[i].Secret) {
			return nil, fmt.Errorf("tier: a key of %d bytes", len(k.Secret))
		}
		out[i] = sign.Key{Version: k.Version, Standby: k.Standby, Secret: [32]byte(k.Secret)}
	}
	return out, nil
}

// framed is how long an object of n bytes is on the wire: after each chunk of it, and
// at its end, comes the CRC32C of all of it so far, little-endian.
func framed(n int) int64 { return int64(n) + 4*int64((n+chunk-1)/chunk) }

// writeObject writes data from a byte on, with its checksums: wait returns when so many
// bytes of it are there, and flushes if they were not. from is a multiple of chunk.
func writeObject(w io.Writer, data []byte, from int, wait func(n int) error) error {
	if err := wait(from); err != nil {
		return err
	}
	sum := crc32.Checksum(data[:from], castagnoli)
	var tail [4]byte
	for at := from; at < len(data); at += chunk {
		end := min(at+chunk, len(data))
		if err := wait(end); err != nil {
			return err
		}
		sum = crc32.Update(sum, castagnoli, data[at:end])
		binary.LittleEndian.PutUint32(tail[:], sum)
		if _, err := w.Write(data[at:end]); err != nil {
			return err
		}
		if _, err := w.Write(tail[:]); err != nil {
			return err
		}
	}
	return nil
}

// there is wait of what is whole.
func there(int) error { return nil }

var errDamaged = errors.New("tier: the object was damaged on its way")

// checkPart compares a part of an object with the checksum behind it, and returns that.
func checkPart(part []byte, tail [4]byte, sum uint32) (uint32, error) {
	if sum = crc32.Update(sum, castagnoli, part); sum != binary.LittleEndian.Uint32(tail[:]) {
		return 0, errDamaged
	}
	return sum, nil
}
