// Package vfs is the small file system through which Hayloft reaches its data
// files. Nobody else calls package os for them.
//
// There are two file systems, OS and Mem, which pass one conformance suite.
// Mem keeps apart what a program has written and what a device would hold
// after a power cut: unsynced writes may be lost, torn at any byte or arrive
// out of order, and a name made in a directory is lost until SyncDir. Fault
// wraps either one and makes any single call fail, fall short or wait. Both also
// write past the page cache: that is faster for large writes, and as unsynced as
// any other write until Sync.
//
// What we assume of a disk, and test against Mem:
//
//   - When Sync returns nil, everything written to the file before it began is
//     on stable storage, and so is the size needed to read it.
//   - When Sync fails, nothing is known about any write since the last good
//     one, and the kernel may have marked the lost pages clean: a second Sync
//     that succeeds proves nothing.
//   - Without a Sync every write may be absent, whole, or torn at any byte,
//     independently of the writes before and after it. Bytes of a file that
//     were allocated and never written may be zeros or anything at all.
//   - A name made, renamed or removed is durable once SyncDir of its directory
//     returned nil. A rename within one directory is atomic.
//   - Bytes that were synced can still rot, or fail to be read.
//
// Threads: every FS and File may be used by many goroutines. A File's reads
// may run beside its writes; a read that overlaps a write in flight may see
// any mixture.
package vfs
