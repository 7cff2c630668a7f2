package feed

import (
	"errors"
	"fmt"
)

// ErrIdempotencyReused is returned when an idempotency key comes again with
// another payload.
var ErrIdempotencyReused = errors.New("feed: idempotency key used with another payload")

// ErrPurgeGap is returned (wrapped in a *PurgeGap) when the purge log no longer
// holds, or never held, what the caller asks for.
var ErrPurgeGap = errors.New("feed: purge log does not reach back that far")

// Errors of decoding. Unsupported and corrupt are never confused: the one asks
// for a newer program, the other for a good copy.
var (
	ErrUnsupported = errors.New("feed: unsupported record")
	ErrCorrupt     = errors.New("feed: corrupt record")
)

// Invalid says which input is wrong and why. errors.Is(err, ErrInvalid) holds.
type Invalid struct {
	Field  string // name of the field as the API calls it
	Reason string // one line for the user
}

func (e Invalid) Error() string { return fmt.Sprintf("feed: invalid %s: %s", e.Field, e.Reason) }

// Is makes an Invalid an ErrInvalid.
func (e Invalid) Is(target error) bool { return target == ErrInvalid }

// PurgeGap says where a follower of the purge log goes on after it has
// forgotten everything it keeps. errors.Is(err, ErrPurgeGap) holds.
type PurgeGap struct {
	Resume uint64 // ask for entries after this Seq
}

func (e *PurgeGap) Error() string {
	return fmt.Sprintf("%v: forget everything, go on after %d", ErrPurgeGap, e.Resume)
}

// Unwrap makes a PurgeGap an ErrPurgeGap.
func (e *PurgeGap) Unwrap() error { return ErrPurgeGap }

// isDamage says that an error is about stored bytes.
func isDamage(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnsupported) }
