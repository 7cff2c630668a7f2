package api

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"hayloft/internal/id"
)

// Store is what the blob API needs of the blob store. Errors are those of Blobs,
// and ErrNoBlob.
type Store interface {
	// ReserveBlob mints a blob id of a class and a cookie for one write.
	ReserveBlob(ctx context.Context, class BlobClass) (id.ID, id.Cookie, error)
	// WriteBlob writes the variants of a blob as one group and returns when they are
	// durable. The data is the caller's again afterwards. ErrMoved: reserve again.
	WriteBlob(ctx context.Context, blob id.ID, cookie id.Cookie, variants []BlobVariant) error
	// ReadBlob returns up to n verified bytes of a variant from off on.
	ReadBlob(ctx context.Context, blob id.ID, cookie id.Cookie, variant uint8, off, n int64) (BlobPiece, error)
	// DeleteBlob makes a blob unreadable for ever, durably.
	DeleteBlob(ctx context.Context, blob id.ID) error
}

// ErrNoBlob is the one answer for a blob that is not there, was deleted, or is
// asked for with another cookie.
var ErrNoBlob = errors.New("api: no such blob")

// BlobClass is a storage class, by its name in the API.
type BlobClass string

// The classes.
const (
	BlobOriginals BlobClass = "originals"
	BlobVariants  BlobClass = "variants"
)

// BlobVariant is one needle of a blob.
type BlobVariant struct {
	Variant uint8 // its alternate key
	Data    []byte
	// Owner and ContentType are kept with an original, so that hayloft rescue can
	// export it from bare volumes; Owner 0: they are not.
	Owner       id.ID
	ContentType string
}

// BlobPiece is a part of a needle. Its memory is the caller's until Release, which
// is owed.
type BlobPiece struct {
	Data        []byte
	Size        int64  // of the needle
	ETag        uint32 // CRC32C of the needle's data
	ContentType string // "" when none is kept
	Release     func()
}

// BlobKey is a key for the blob API: it may write, read with a cookie and delete.
type BlobKey struct {
	Name string
	Hash [32]byte // SHA-256 of the key's text
}

// blobKeyPrefix begins each key, so that scanners find one that leaked.
const blobKeyPrefix = "hlb_"

// NewBlobKey makes a key from 32 random bytes: its text, which is shown once, and
// what the server is told.
func NewBlobKey(name string, random [tokenBytes]byte) (text string, k BlobKey) {
	text = blobKeyPrefix + b64url.EncodeToString(random[:])
	return text, BlobKey{Name: name, Hash: sha256.Sum256([]byte(text))}
}

// String is the form in which settings have a key: name:hash.
func (k BlobKey) String() string { return fmt.Sprintf("%s:%x", k.Name, k.Hash) }

// ParseBlobKey is the inverse of String.
func ParseBlobKey(s string) (k BlobKey, err error) {
	name, hash, ok := strings.Cut(s, ":")
	if !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool { return !isPathRune(c) }) {
		return k, fmt.Errorf("%q is not name:hash, with a name of letters, digits and -._", s)
	}
	k.Name = name
	d, ok := parseDigest("sha256:" + hash)
	if !ok {
		return k, fmt.Errorf("the key %q has no SHA-256 of 64 hexadecimal digits behind its name", name)
	}
	k.Hash = d
	return k, nil
}

// owner stands for the key where the needles of photos name their owner, and
// where bytes under way are counted.
func (k BlobKey) owner() id.ID { return id.ID(binary.BigEndian.Uint64(k.Hash[:])>>1 | 1) }

// withKey finds out which key a call of the blob API comes with. There are few:
// all are compared, in a time that tells nothing.
func (r *request) withKey() error {
	token, err := r.apiKey()
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(token))
	for _, k := range r.a.opt.BlobKeys {
		if hash == k.Hash { // of hashes: how far they are equal says nothing of a key
			r.key = k
		}
	}
	if r.key.Name == "" {
		return pUnauthorized.because("the call needs an API key of scope blob: Authorization: Bearer, or X-API-Key")
	}
	r.viewer = r.key.owner()
	return nil
}

// apiKey returns the token or key that a call brings, in one of three fields.
func (r *request) apiKey() (string, error) {
	key := ""
	for _, name := range []string{"X-API-Key", "X-API-Dev-Key"} {
		text, err := r.header(name)
		if err != nil {
			return "", err
		}
		if text != "" && key != "" {
			return "", pUnauthorized.because("more than one API key")
		}
		key += text
	}
	text, err := r.header("Authorization")
	if err != nil {
		return "", err
	}
	if scheme, token, _ := strings.Cut(text, " "); text != "" {
		if !strings.EqualFold(scheme, "Bearer") || token == "" || key != "" {
			return "", pUnauthorized.because("Authorization must be Bearer and one token or key")
		}
		key = token
	}
	return key, nil
}
