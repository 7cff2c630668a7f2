package id

import (
	"errors"
	"fmt"
	"time"
)

// The three fields of an ID, from the most significant bit: 41 bits of
// milliseconds since Epoch, 10 bits of slot, 13 bits of sequence.
const (
	timeBits = 41
	slotBits = 10
	seqBits  = 13

	// Slots is the number of slots; a slot is 0 … Slots-1.
	Slots = 1 << slotBits
	// MaxSeq is the largest sequence within one slot and millisecond.
	MaxSeq = 1<<seqBits - 1
	// MaxMillis is the largest id time an ID can carry (the year 2095).
	MaxMillis = Millis(1<<timeBits - 1)

	textLen = 13 // characters of the text form
)

// Epoch is id time zero.
var Epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// ErrMalformed is returned for a text that is not an ID.
var ErrMalformed = errors.New("malformed id")

// Millis is id time: milliseconds since Epoch.
type Millis uint64

// MillisOf returns the id time of t, clamped to [0, MaxMillis].
func MillisOf(t time.Time) Millis {
	ms := t.Sub(Epoch).Milliseconds()
	if ms < 0 {
		return 0
	}
	return min(Millis(ms), MaxMillis)
}

// Time returns the wall-clock time of m, in UTC.
func (m Millis) Time() time.Time { return Epoch.Add(time.Duration(m) * time.Millisecond) }

// Slot is a worker number: the part of an ID that the directory leases to one
// holder at a time.
type Slot uint16

// ID names a user, photo, comment or blob. Zero is no ID.
type ID uint64

// Make assembles an ID. It panics when a field is out of range: such a value
// is a fault of the caller, never of input.
func Make(ms Millis, slot Slot, seq uint16) ID {
	if ms > MaxMillis || slot >= Slots || seq > MaxSeq {
		panic(fmt.Sprintf("id: field out of range: ms=%d slot=%d seq=%d", ms, slot, seq))
	}
	return ID(uint64(ms)<<(slotBits+seqBits) | uint64(slot)<<seqBits | uint64(seq))
}

// Millis returns the id time.
func (i ID) Millis() Millis { return Millis(i >> (slotBits + seqBits)) }

// Slot returns the slot.
func (i ID) Slot() Slot { return Slot(i>>seqBits) & (Slots - 1) }

// Seq returns the sequence within slot and millisecond.
func (i ID) Seq() uint16 { return uint16(i) & MaxSeq }

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz" // Crockford base32, lower case

var decode = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte(alphabet) {
		t[c] = byte(i)
	}
	return t
}()

// String returns the 13 characters of lower-case Crockford base32. Texts of
// IDs sort as the IDs do.
func (i ID) String() string {
	t := i.text()
	return string(t[:])
}

// Append appends what String returns.
func (i ID) Append(b []byte) []byte {
	t := i.text()
	return append(b, t[:]...)
}

func (i ID) text() (b [textLen]byte) {
	v := uint64(i)
	for n := textLen - 1; n >= 0; n-- {
		b[n] = alphabet[v&31]
		v >>= 5
	}
	return b
}

// Parse reads the text form. There is exactly one text for each ID: upper
// case, look-alikes and other lengths are refused, so that two URLs never
// name one thing.
func Parse(s string) (ID, error) {
	if len(s) != textLen || decode[s[0]] > 15 {
		return 0, ErrMalformed
	}
	var v uint64
	for n := range textLen {
		d := decode[s[n]]
		if d == 0xff {
			return 0, ErrMalformed
		}
		v = v<<5 | uint64(d)
	}
	if v == 0 {
		return 0, ErrMalformed
	}
	return ID(v), nil
}

// MarshalText writes the text form; zero becomes the empty text.
func (i ID) MarshalText() ([]byte, error) {
	if i == 0 {
		return []byte{}, nil
	}
	return []byte(i.String()), nil
}

// UnmarshalText is the inverse of MarshalText.
func (i *ID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*i = 0
		return nil
	}
	v, err := Parse(string(b))
	if err != nil {
		return err
	}
	*i = v
	return nil
}
