package remote

import (
	"context"
	"errors"
	"fmt"

	"hayloft/feed"
)

// codes are the errors that keep their identity on the way. The first match
// counts.
var codes = []struct {
	code string
	err  error
}{
	{"not-found", feed.ErrNotFound},
	{"handle-taken", feed.ErrHandleTaken},
	{"bytes-missing", feed.ErrBytesMissing},
	{"stored", feed.ErrStored},
	{"expired", feed.ErrExpired},
	{"forbidden", feed.ErrForbidden},
	{"idempotency-reused", feed.ErrIdempotencyReused},
	{"conflict", feed.ErrConflict},
	{"invalid", feed.ErrInvalid},
	{"corrupt", feed.ErrCorrupt},
	{"unsupported", feed.ErrUnsupported},
	{"unavailable", feed.ErrUnavailable},
	{"late", context.DeadlineExceeded},
}

// failure is an error on the wire.
type failure struct {
	Code   string `json:"code"`
	Text   string `json:"text"`
	Field  string `json:"field,omitempty"`  // of a feed.Invalid
	Reason string `json:"reason,omitempty"` //
	Resume uint64 `json:"resume,omitempty"` // of a feed.PurgeGap
}

const codeGap = "purge-gap"

func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Code: "unavailable", Text: err.Error()}
	var gap *feed.PurgeGap
	if errors.As(err, &gap) {
		f.Code, f.Resume = codeGap, gap.Resume
		return f
	}
	if inv, ok := errors.AsType[feed.Invalid](err); ok {
		f.Field, f.Reason = inv.Field, inv.Reason
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			f.Code = c.code
			break
		}
	}
	return f
}

func (f *failure) error() error {
	switch {
	case f == nil:
		return nil
	case f.Code == codeGap:
		return &feed.PurgeGap{Resume: f.Resume}
	case f.Field != "":
		return feed.Invalid{Field: f.Field, Reason: f.Reason}
	}
	for _, c := range codes {
		if c.code == f.Code {
			return fmt.Errorf("%w: %s", c.err, f.Text)
		}
	}
	return fmt.Errorf("%w: %s", feed.ErrUnavailable, f.Text)
}
