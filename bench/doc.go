// Package bench measures Hayloft as its users meet it and writes what it found.
//
// A benchmark drives the production code path with default flags, states its
// settings, and reports times in seconds and sizes in bytes. Latencies are
// open-loop at a stated rate and counted from the intended start of each
// request, so that a stalled server cannot hide its stall (coordinated
// omission); a name that says "closed" is counted from the actual start.
//
// Threads: each benchmark owns its goroutines and returns when they have ended.
package bench
