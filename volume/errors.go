package volume

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The errors of this package; test with errors.Is. Returned errors wrap one of
// them and name volume, offset or key.
var (
	// ErrNotFound: the volume does not hold the needle. Also the answer to a
	// wrong cookie and for a deleted key.
	ErrNotFound = errors.New("needle not found")
	// ErrCorrupt: this copy cannot be used; another replica may have a good
	// one. Also returned when the device could not read the bytes, and for a
	// key that may lie in a damaged part of the file.
	ErrCorrupt = errors.New("stored bytes are corrupt")
	// ErrFull: the put would pass Options.MaxBytes. Deletes still work.
	ErrFull = errors.New("volume is full")
	// ErrNoSpace: the disk has no room. Nothing was written, the volume is
	// sound, and puts work again when there is room.
	ErrNoSpace = errors.New("no space left on the disk")
	// ErrPoisoned: a write or sync failed, now or in an earlier process. The
	// volume is read-only for ever.
	ErrPoisoned = errors.New("volume is poisoned: a write or sync failed")
	// ErrConflict: the key and alt are taken by another content.
	ErrConflict = errors.New("needle exists with another content")
	// ErrTombstoned: the key was deleted and cannot be put again.
	ErrTombstoned = errors.New("key was deleted")
	// ErrUnsupported: the file is of a newer format than this program knows.
	ErrUnsupported = errors.New("volume format is not supported")
	// ErrTooLarge: the needle, its content type or the group is over the format's
	// limit.
	ErrTooLarge = errors.New("needle is too large")
	// ErrClosed: the volume was closed.
	ErrClosed = errors.New("volume is closed")
	// ErrExists: Create found a volume of that id in the directory.
	ErrExists = errors.New("volume exists")
	// ErrNoVolume: the directory has no volume of that id.
	ErrNoVolume = errors.New("no such volume")
	// ErrHung: the disk does not answer, see Options.Hung. What was asked for may
	// be done or not, now or later.
	ErrHung = errors.New("the disk does not answer")
	// ErrInvalid: an argument makes no sense, for example a zero key.
	ErrInvalid = errors.New("invalid argument")
)

func isUnsupported(err error) bool { return errors.Is(err, ErrUnsupported) }

// classify adds ErrNoSpace to what the system says when a disk or quota is
// full.
func classify(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
