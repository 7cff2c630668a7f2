// Package compare makes one table of what benchmarks found of Hayloft and of other
// servers on the same machine: what make compare prints.
//
// Threads: it has no state.
package compare
