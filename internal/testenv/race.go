//go:build race

package testenv

// raceShare: the race detector makes a round ten to thirty times slower.
const raceShare = 12
