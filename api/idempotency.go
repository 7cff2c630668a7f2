package api

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

// repeatable is a call's Idempotency-Key on its way to the command that does
// the call's work. The feed commits the key with the work and keeps it for 24
// hours, per account and route. Nil: the call has no key.
type repeatable struct {
	feed.Idempotency
	earlier id.ID // what the first call made, when this is a repeat
}

// idempotent reads the call's Idempotency-Key. payload is what a repeat must
// have in common with the first call. While the first call runs here, a repeat
// is a conflict; across processes the commands decide.
func (r *request) idempotent(payload ...string) (*repeatable, error) {
	key, err := r.header("Idempotency-Key")
	if err != nil || key == "" {
		return nil, err
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
	k := &repeatable{Idempotency: feed.Idempotency{Account: r.viewer, Route: route, Key: key, Fingerprint: [32]byte(h.Sum(nil))}}
	k.Earlier = &k.earlier
	return k, nil
}

// tie returns ctx for the one command that does the call's work.
func (k *repeatable) tie(ctx context.Context) context.Context {
	if k == nil {
		return ctx
	}
	return feed.WithIdempotency(ctx, k.Idempotency)
}
