package api

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"
)

// idempotent returns the context for the call's one command that makes
// something, tied to its Idempotency-Key if it has one: the feed keeps the key
// with the outcome for 24 hours, per account and route. payload is what a
// repeat must have in common with the first request. Without a key it returns
// r.ctx itself.
func (r *request) idempotent(payload ...string) (context.Context, error) {
	key, err := r.header("Idempotency-Key")
	if err != nil || key == "" {
		return r.ctx, err
	}
	if len(key) > 255 || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) {
		return nil, pMalformed.because("Idempotency-Key is not 1 to 255 printable ASCII characters")
	}
	route := r.route.method + " " + r.route.pattern
	flight := r.viewer.String() + " " + route + " " + key
	if !r.a.keys.begin(flight) {
		return nil, &problem{kind: pIdemBusy, retryAfter: time.Second}
	}
	r.release = append(r.release, func() { r.a.keys.end(flight) })
	h := sha256.New()
	for _, p := range payload {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return withIdempotency(r.ctx, route, key, [32]byte(h.Sum(nil))), nil
}
