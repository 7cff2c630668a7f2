package coding

import (
	"errors"
	"fmt"

	"hayloft/volume"
)

// The errors of this package besides those of package volume; test with
// errors.Is.
var (
	// ErrLost: fewer than k shards have what was asked for. The error is a
	// *LostError.
	ErrLost = errors.New("too many shards are lost")
	// ErrForeign: a file under the name of a shard is that of another run. It
	// is left alone.
	ErrForeign = errors.New("shard of another run")
)

// LostError says which shards of an epoch do not have what was asked for.
type LostError struct {
	Plan
	Lost   []int // numbers, ascending
	Causes error // why, one for each that is known
}

// Error implements error.
func (e *LostError) Error() string {
	s := fmt.Sprintf("%v: volume %d epoch %d is %s, shards %v are lost", ErrLost, e.Volume, e.Epoch, e.Policy, e.Lost)
	if e.Causes != nil {
		s += ": " + e.Causes.Error()
	}
	return s
}

// Unwrap makes errors.Is see ErrLost and the causes.
func (e *LostError) Unwrap() []error { return []error{ErrLost, e.Causes} }

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %w", volume.ErrCorrupt, fmt.Errorf(format, args...))
}
