package testenv

import (
	"os"
	"strconv"
)

// Rounds is how many of n rounds a random test does by default: all of them,
// or a twelfth under the race detector, and at least one.
func Rounds(n int) int { return max(n/raceShare, 1) }

// Times is the number in an environment variable, or n when it holds none: how often
// a soak does what a test does a few times.
func Times(variable string, n int) int {
	if v, err := strconv.Atoi(os.Getenv(variable)); err == nil && v > 0 {
		return v
	}
	return n
}
