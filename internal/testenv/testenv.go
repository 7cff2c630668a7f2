package testenv

// Rounds is how many of n rounds a random test does by default: all of them,
// or a twelfth under the race detector, and at least one.
func Rounds(n int) int { return max(n/raceShare, 1) }
