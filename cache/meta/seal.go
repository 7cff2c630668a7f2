package meta

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"errors"
)

// sealed is one key as servers see it: a name that says nothing, and what seals its
// value. Each key has a sealing key of its own, so that no number of values wears out
// the random nonces of one.
type sealed struct {
	name string
	aead cipher.AEAD
}

// What a value's first byte says, inside.
const (
	sealedValue  = 1
	sealedAbsent = 2
)

var errLie = errors.New("meta: not what was put there")

func sealedKey(secret []byte, key string) sealed {
	m := hmac.New(sha512.New, secret)
	m.Write([]byte("hayloft/meta/1\x00"))
	m.Write([]byte(key))
	sum := m.Sum(nil)
	block, _ := aes.NewCipher(sum[:32]) // 32 bytes: no error
	aead, _ := cipher.NewGCM(block)     // AES: no error
	return sealed{base64.RawURLEncoding.EncodeToString(sum[32:53]), aead}
}

func (s sealed) seal(e entry) []byte {
	kind := byte(sealedValue)
	if e.absent {
		kind = sealedAbsent
	}
	out := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+1+len(e.value)+s.aead.Overhead())
	_, _ = rand.Read(out) // never fails
	plain := append([]byte{kind}, e.value...)
	return s.aead.Seal(out, out, plain, nil)
}

func (s sealed) open(b []byte) (entry, error) {
	n := s.aead.NonceSize()
	if len(b) < n {
		return entry{}, errLie
	}
	plain, err := s.aead.Open(nil, b[:n], b[n:], nil)
	if err != nil || len(plain) == 0 {
		return entry{}, errLie
	}
	switch plain[0] {
	case sealedValue:
		return entry{value: plain[1:]}, nil
	case sealedAbsent:
		return entry{absent: true}, nil
	}
	return entry{}, errLie
}
