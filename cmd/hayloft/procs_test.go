package main

import (
	"runtime"
	"testing"
)

func TestProcs(t *testing.T) {
	for n, want := range map[int]int{1: 4, 2: 8, 8: 32, 16: 48, 128: 160} {
		if got := procsFor(n); got != want {
			t.Errorf("%d processors: %d places, want %d", n, got, want)
		}
	}
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "3")
	if spreadReads(); runtime.GOMAXPROCS(0) != before {
		t.Error("the environment did not count")
	}
	t.Setenv("GOMAXPROCS", "")
	if spreadReads(); runtime.GOMAXPROCS(0) != procsFor(before) {
		t.Errorf("%d places", runtime.GOMAXPROCS(0))
	}
}
