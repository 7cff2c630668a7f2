// Package slab hands out memory for direct I/O: it begins on a page border and,
// where the kernel gives huge pages, is physically contiguous, so that a
// transfer of 200 KiB is one segment for the device and not fifty.
// docs/decisions/120-contiguous-memory.md has the numbers.
//
// Ownership: what Get returns is its holder's until Release. Memory that is
// never released is the garbage collector's, with the rest of its chunk, once
// nothing points into that any more: forgetting Release costs memory for a
// while and never lets two holders share bytes. All memory is the Go heap's.
//
// Threads: a Pool may be used by many goroutines, and a Lease released by any.
package slab
