package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

// sizes are the suffixes of a size, largest first.
var sizes = []struct {
	suffix string
	bytes  int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseSize reads a whole number with one of B, KiB, MiB, GiB, TiB.
func ParseSize(s string) (Size, error) {
	for _, u := range sizes {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		return Size(n * u.bytes), nil
	}
	return 0, fmt.Errorf("%q is not a size: write a whole number with B, KiB, MiB, GiB or TiB, as in 32GiB", s)
}

// String writes the size with the largest suffix that keeps it whole.
func (s Size) String() string {
	for _, u := range sizes {
		if int64(s) >= u.bytes && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// Set implements the flag interface.
func (s *Size) Set(v string) error {
	n, err := ParseSize(v)
	if err == nil {
		*s = n
	}
	return err
}

// Type implements the flag interface.
func (*Size) Type() string { return "size" }

const day = 24 * time.Hour

// Duration is a time.Duration that may also be written in whole days: 90d.
type Duration time.Duration

// ParseDuration reads Go's duration syntax, or a whole number of days with d.
// Negative durations are refused.
func ParseDuration(s string) (Duration, error) {
	if digits, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(digits, 10, 64)
		if err == nil && n >= 0 && n <= int64(math.MaxInt64/day) {
			return Duration(n) * Duration(day), nil
		}
	} else if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return Duration(d), nil
	}
	return 0, fmt.Errorf("%q is not a duration: write it as in 90d, 12h, 10m or 1m30s", s)
}

// String writes whole days as days and all else as time.Duration does.
func (d Duration) String() string {
	if d != 0 && time.Duration(d)%day == 0 {
		return strconv.FormatInt(int64(time.Duration(d)/day), 10) + "d"
	}
	return time.Duration(d).String()
}

// Set implements the flag interface.
func (d *Duration) Set(v string) error {
	n, err := ParseDuration(v)
	if err == nil {
		*d = n
	}
	return err
}

// Type implements the flag interface.
func (*Duration) Type() string { return "duration" }
