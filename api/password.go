package api

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
)

// The parameters of new hashes: the first recommendation for argon2id where 2
// GiB cannot be spared (RFC 9106 names the trade; the floor is in faults of
// the security checks). Stored hashes carry their own, so these may rise.
const (
	argonKiB     = 19 * 1024
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16 // bytes
	argonKey     = 32 // bytes

	// Bounds on what a stored hash may ask for.
	argonMaxKiB  = 1 << 20
	argonMaxTime = 64

	hashWait = 10 * time.Second // longest wait for a hasher
)

var errHash = errors.New("api: stored password hash is not one")

// hasher bounds how many passwords are hashed at once: each costs memory and a
// core, and sign-ins come from strangers.
type hasher struct {
	rand    io.Reader
	slots   chan struct{}
	waiting atomic.Int64
	queue   int64
	decoy   string // hash of nobody's password, for handles that do not exist
}

func newHasher(rand io.Reader, parallel, queue int) (*hasher, error) {
	h := &hasher{rand: rand, slots: make(chan struct{}, parallel), queue: int64(queue)}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return nil, fmt.Errorf("api: no random bytes: %w", err)
	}
	decoy, err := h.hash(context.Background(), string(secret))
	h.decoy = decoy
	return h, err
}

// enter takes a slot; leave gives it back.
func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	default:
	}
	if h.waiting.Add(1) > h.queue {
		h.waiting.Add(-1)
		return &problem{kind: pBusy, detail: "too many sign-ins at once", retryAfter: 2 * time.Second}
	}
	defer h.waiting.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, hashWait)
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &problem{kind: pBusy, detail: "too many sign-ins at once", retryAfter: 2 * time.Second}
	}
}

func (h *hasher) leave() { <-h.slots }

// hash returns the encoded argon2id hash of a password with a fresh salt.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, argonSalt)
	if _, err := io.ReadFull(h.rand, salt); err != nil {
		return "", fmt.Errorf("api: no random bytes: %w", err)
	}
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	key := argon2.IDKey([]byte(password), salt, argonTime, argonKiB, argonThreads, argonKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonKiB, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// HashPassword returns what is stored of a password: for operators, who make accounts
// and give people new passwords without a call of this API.
func HashPassword(rand io.Reader, password string) (string, error) {
	h := &hasher{rand: rand, slots: make(chan struct{}, 1)}
	return h.hash(context.Background(), password)
}

// verify reports whether password is the one that encoded was made of. An
// empty encoded (no such account) takes as long and is false.
func (h *hasher) verify(ctx context.Context, password, encoded string) (bool, error) {
	known := encoded != ""
	if !known {
		encoded = h.decoy
	}
	p, err := parseHash(encoded)
	if err != nil {
		return false, err
	}
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	key := argon2.IDKey([]byte(password), p.salt, p.time, p.kib, p.threads, uint32(len(p.key)))
	return subtle.ConstantTimeCompare(key, p.key) == 1 && known, nil
}

type parsedHash struct {
	kib, time uint32
	threads   uint8
	salt, key []byte
}

// parseHash reads $argon2id$v=19$m=…,t=…,p=…$salt$key.
func parseHash(s string) (parsedHash, error) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return parsedHash{}, errHash
	}
	var p parsedHash
	nums := strings.Split(f[3], ",")
	if len(nums) != 3 {
		return parsedHash{}, errHash
	}
	var v [3]uint64
	for i, name := range []string{"m=", "t=", "p="} {
		text, ok := strings.CutPrefix(nums[i], name)
		n, err := strconv.ParseUint(text, 10, 31)
		if !ok || err != nil || n == 0 {
			return parsedHash{}, errHash
		}
		v[i] = n
	}
	if v[0] > argonMaxKiB || v[1] > argonMaxTime || v[2] > 255 {
		return parsedHash{}, errHash
	}
	p.kib, p.time, p.threads = uint32(v[0]), uint32(v[1]), uint8(v[2])
	var err1, err2 error
	p.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(f[4])
	p.key, err2 = base64.RawStdEncoding.Strict().DecodeString(f[5])
	if err1 != nil || err2 != nil || len(p.salt) < 8 || len(p.key) < 16 || len(p.key) > 64 {
		return parsedHash{}, errHash
	}
	return p, nil
}
