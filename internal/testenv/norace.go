//go:build !race

package testenv

const raceShare = 1
