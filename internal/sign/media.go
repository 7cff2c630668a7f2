package sign

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// mediaPurpose names the codes of private media URLs.
const mediaPurpose = "media"

// mediaHour is the granularity of expiry: every URL of a photo made within one
// hour is the same text, so that browsers and tiers between can keep it.
const mediaHour = int64(time.Hour / time.Second)

// Errors of CheckMedia. Outside both are the same 404.
var (
	ErrSignature = errors.New("sign: no valid signature")
	ErrExpired   = errors.New("sign: signature expired")
)

// macText is unpadded URL-safe base64 that refuses stray trailing bits, so that
// a code has exactly one text.
var macText = base64.RawURLEncoding.Strict()

// MediaGrant is what a valid media signature allows.
type MediaGrant struct {
	Expires time.Time // first moment at which it no longer holds
	Epoch   uint32    // the owner's epoch it was made for
}

// MediaQuery returns the query, without "?", that makes the private media URL
// with this path valid for at least ttl from now, until the full hour after
// that: v=<key version>&e=<unix seconds>&p=<epoch>&s=<code>. path is the path
// as requested, with its leading slash. A ring that cannot sign yields a query
// that no ring accepts.
func MediaQuery(r *Ring, path string, epoch uint32, now time.Time, ttl time.Duration) string {
	at := now.Add(ttl).Unix()
	e := strconv.FormatInt((at+mediaHour-1)/mediaHour*mediaHour, 10)
	p := strconv.FormatUint(uint64(epoch), 10)
	version, mac := r.Sign(mediaPurpose, path, e, p)
	return "v=" + strconv.FormatUint(uint64(version), 10) + "&e=" + e + "&p=" + p + "&s=" + macText.EncodeToString(mac)
}

// CheckMedia verifies the query that MediaQuery made for path. It accepts one
// text only: the four parameters in that order, numbers without leading zeros
// and nothing else, so nobody can make many URLs out of one. Errors are
// ErrSignature and, for a genuine code that is too old, ErrExpired.
func CheckMedia(r *Ring, path, query string, now time.Time) (MediaGrant, error) {
	parts := strings.Split(query, "&")
	if len(parts) != 4 {
		return MediaGrant{}, ErrSignature
	}
	for i, name := range []string{"v=", "e=", "p=", "s="} {
		value, ok := strings.CutPrefix(parts[i], name)
		if !ok {
			return MediaGrant{}, ErrSignature
		}
		parts[i] = value
	}
	version, okV := decimal(parts[0], 32)
	expires, okE := decimal(parts[1], 63)
	epoch, okP := decimal(parts[2], 32)
	mac, err := macText.DecodeString(parts[3])
	if !okV || !okE || !okP || err != nil || strings.ContainsAny(parts[3], "\r\n") {
		return MediaGrant{}, ErrSignature
	}
	if !r.Verify(mediaPurpose, uint32(version), mac, path, parts[1], parts[2]) {
		return MediaGrant{}, ErrSignature
	}
	g := MediaGrant{Expires: time.Unix(int64(expires), 0).UTC(), Epoch: uint32(epoch)}
	if !now.Before(g.Expires) {
		return MediaGrant{}, ErrExpired
	}
	return g, nil
}

// decimal reads a number that has exactly one text.
func decimal(s string, bits int) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, bits)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}
