package sign

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// MACSize is the length of a code in bytes.
const MACSize = sha256.Size

// label separates this scheme, and its version, from any other use of a key.
const label = "hayloft/sign/1"

// ErrKey is returned for a set of keys that cannot be a ring.
var ErrKey = errors.New("sign: bad key")

// Key is one version of the secret.
type Key struct {
	Version uint32 // from 1; a ring signs with its highest
	Secret  [32]byte
	Standby bool // verifies only: handed out before any node signs with it
}

// Ring is a set of keys of which one signs and all verify.
type Ring struct {
	keys atomic.Pointer[keySet] // immutable once stored
}

type keySet struct {
	byVersion map[uint32]Key
	signer    uint32 // 0: none
}

// NewRing returns a ring of keys. A ring without a key that may sign is valid,
// for a node that has not heard from the directory yet: it signs nothing.
func NewRing(keys ...Key) (*Ring, error) {
	r := new(Ring)
	if err := r.Replace(keys...); err != nil {
		return nil, err
	}
	return r, nil
}

// Replace exchanges all keys at once. On error (version 0, a version given
// twice, an empty secret: always ErrKey) the ring is unchanged.
func (r *Ring) Replace(keys ...Key) error {
	set := &keySet{byVersion: make(map[uint32]Key, len(keys))}
	for _, k := range keys {
		if k.Version == 0 {
			return fmt.Errorf("%w: version 0", ErrKey)
		}
		if k.Secret == [32]byte{} {
			return fmt.Errorf("%w: version %d has an empty secret", ErrKey, k.Version)
		}
		if _, twice := set.byVersion[k.Version]; twice {
			return fmt.Errorf("%w: version %d is given twice", ErrKey, k.Version)
		}
		set.byVersion[k.Version] = k
		if !k.Standby {
			set.signer = max(set.signer, k.Version)
		}
	}
	r.keys.Store(set)
	return nil
}

// Sign returns the code of parts for purpose and the version of the key that
// made it. A ring that cannot sign returns version 0 and no code, which Verify
// refuses everywhere.
func (r *Ring) Sign(purpose string, parts ...string) (version uint32, mac []byte) {
	set := r.keys.Load()
	if set.signer == 0 {
		return 0, nil
	}
	k := set.byVersion[set.signer]
	return k.Version, code(&k, purpose, parts)
}

// Verify reports whether mac is the code of parts for purpose under the key of
// that version. An unknown version is simply false: a caller learns nothing
// about which keys exist.
func (r *Ring) Verify(purpose string, version uint32, mac []byte, parts ...string) bool {
	k, ok := r.keys.Load().byVersion[version]
	if !ok || len(mac) != MACSize {
		return false
	}
	return hmac.Equal(mac, code(&k, purpose, parts))
}

// Seal is Sign for a text that is part of what is signed and that nobody is to read. Open is
// its inverse. The same text and parts give the same bytes.
func (r *Ring) Seal(purpose, text string, parts ...string) (version uint32, sealed []byte) {
	set := r.keys.Load()
	if set.signer == 0 {
		return 0, nil
	}
	k := set.byVersion[set.signer]
	mac := code(&k, purpose, append(slices.Clone(parts), text))
	return k.Version, append(mac, blur(&k, purpose, mac, []byte(text))...)
}

// Open returns the text of Seal; false is as that of Verify.
func (r *Ring) Open(purpose string, version uint32, sealed []byte, parts ...string) (text string, ok bool) {
	k, known := r.keys.Load().byVersion[version]
	if !known || len(sealed) < MACSize {
		return "", false
	}
	mac := sealed[:MACSize]
	text = string(blur(&k, purpose, mac, sealed[MACSize:]))
	if !hmac.Equal(mac, code(&k, purpose, append(slices.Clone(parts), text))) {
		return "", false
	}
	return text, true
}

// blur is AES-256 in counter mode, its own inverse, under a key that nothing else has. It
// begins at the text's code (RFC 5297 calls that a synthetic IV).
func blur(k *Key, purpose string, mac, text []byte) []byte {
	block, err := aes.NewCipher(code(k, "seal", []string{purpose}))
	if err != nil { // of keys of another length
		panic(err)
	}
	out := make([]byte, len(text))
	cipher.NewCTR(block, mac[:aes.BlockSize]).XORKeyStream(out, text)
	return out
}

// code is HMAC-SHA256(secret, label ‖ version u32 ‖ count u32 ‖ (length u64 ‖
// bytes) of the purpose and of each part), integers little-endian.
func code(k *Key, purpose string, parts []string) []byte {
	size := len(label) + 8 + 8 + len(purpose)
	for _, p := range parts {
		size += 8 + len(p)
	}
	msg := make([]byte, 0, size)
	msg = append(msg, label...)
	msg = binary.LittleEndian.AppendUint32(msg, k.Version)
	msg = binary.LittleEndian.AppendUint32(msg, uint32(len(parts)))
	msg = appendPart(msg, purpose)
	for _, p := range parts {
		msg = appendPart(msg, p)
	}
	h := hmac.New(sha256.New, k.Secret[:])
	h.Write(msg) // a hash never returns an error
	return h.Sum(nil)
}

func appendPart(b []byte, part string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(part)))
	return append(b, part...)
}
