package main

import (
	"os"
	"runtime"
)

// procsFor is how many goroutines the scheduler lets run at once on n
// processors. A read or sync of a file keeps its place until the runtime's
// monitor takes it away, which is up to 10 ms later, so with one place for each
// processor a fast device is asked by two or three readers of sixteen. Decision
// 122 has the numbers.
func procsFor(n int) int { return min(4*n, n+32) }

// spreadReads sets the number of places, unless GOMAXPROCS in the environment
// says what is wanted.
func spreadReads() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(procsFor(runtime.GOMAXPROCS(0)))
	}
}
