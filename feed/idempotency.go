package feed

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"hayloft/internal/id"
)

// Idempotency makes a call that is repeated with the same key do its work once.
// It travels in the context of the one call that changes something; the record
// is committed with the change and kept for Policy.IdempotencyLife.
//
// A repeat with the same fingerprint succeeds and changes nothing; with another
// one it is ErrIdempotencyReused. BeginUpload and AddComment return the first
// photo or comment again, CreateAccount the first account if the session's token
// hash is the same as the first time (else ErrHandleTaken: nobody gets a session
// by guessing a key). After Stored and Finalize look at Earlier. Intend and
// CreateSession take no notice. A refused call leaves no record.
type Idempotency struct {
	Account     id.ID  // whose key it is; 0 for calls before login
	Route       string // e.g. "POST /photos"
	Key         string // as the client sent it
	Fingerprint [32]byte
	// Earlier, when not nil, is set to the id that the first call made, if this
	// one is a repeat. The photo of a repeated Stored is abandoned.
	Earlier *id.ID
}

type idempotencyContext struct{}

// WithIdempotency returns a context for the one changing call that i is about.
func WithIdempotency(ctx context.Context, i Idempotency) context.Context {
	return context.WithValue(ctx, idempotencyContext{}, &i)
}

// IdempotencyOf returns what WithIdempotency put into a context, or nil.
func IdempotencyOf(ctx context.Context) *Idempotency {
	i, _ := ctx.Value(idempotencyContext{}).(*Idempotency)
	return i
}

// withoutIdempotency is for further commands of the same call.
func withoutIdempotency(ctx context.Context) context.Context {
	return context.WithValue(ctx, idempotencyContext{}, (*Idempotency)(nil))
}

func (i *Idempotency) hash() [32]byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(len(i.Route)))
	b = append(b, i.Route...)
	return sha256.Sum256(append(b, i.Key...))
}

func (f *Feed) idempotencyOf(ctx context.Context, now time.Time) (rec *idempotency, earlier *id.ID) {
	i := IdempotencyOf(ctx)
	if i == nil {
		return nil, nil
	}
	return &idempotency{
		Account: i.Account, Hash: i.hash(), Fingerprint: i.Fingerprint, Due: now.Add(f.policy.IdempotencyLife),
	}, i.Earlier
}

// Repeated returns the id that an earlier call with the same key made, so that
// a caller can answer a repeat before it does costly work. found is false when
// there was none; another fingerprint is ErrIdempotencyReused.
func (f *Feed) Repeated(ctx context.Context, i Idempotency) (earlier id.ID, found bool, err error) {
	now := f.now()
	err = f.serve(ctx, func(v *view) error {
		row, err := v.idempotent(i.Account, i.hash())
		if err != nil || row == nil || !row.Due.After(now) {
			return err
		}
		if row.Fingerprint != i.Fingerprint {
			return ErrIdempotencyReused
		}
		earlier, found = row.Result, true
		return nil
	})
	return earlier, found, err
}
