package server

import (
	"bytes"
	"testing"
	"time"
)

// FuzzIdentity: an identity that is accepted encodes to the bytes it was read from.
func FuzzIdentity(f *testing.F) {
	f.Add(identity{uuid: [16]byte{1}, created: time.Unix(1, 0)}.encode())
	f.Add([]byte(identityMagic + identityVersion + "\nuuid 00\ncreated x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if i, err := decodeIdentity(b); err == nil && !bytes.Equal(i.encode(), b) {
			t.Fatalf("%q was accepted as %+v", b, i)
		}
	})
}
