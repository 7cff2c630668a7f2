// Package trace reads and makes traces of what a photo cache is asked for: which
// object, how large it is, and when.
//
// A trace is a Source, which hands out one request after the other and needs
// memory that does not grow with it. CSV and Oracle read files; Generator makes a
// trace from a seed, the same one each time, that behaves like the ones published
// about large photo services (docs/decisions/186-generated-trace.md).
//
// Threads: a Source belongs to one goroutine; a Generator, once made, may open
// sources for many.
package trace
