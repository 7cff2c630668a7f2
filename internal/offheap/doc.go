// Package offheap keeps many blocks of bytes outside the Go heap: the garbage
// collector neither counts nor scans them, and the memory of a block goes back
// to the kernel when the block is freed. So what the process holds is what lives
// in blocks, rounded up to pages, however sizes change over time.
//
// The blocks lie in one memory file (memfd) that is far larger than what it ever
// holds: each class of sizes, powers of two of pages, has a stretch of addresses
// of its own. Only addresses are rounded up to the class, memory is not.
// docs/decisions/180-memory-outside-the-heap.md has the numbers.
//
// Sending. File says where in the memory file a block lies, for sendfile. The
// kernel may refer to pages that were given to a socket long after sendfile has
// returned. They keep their content: Free cuts the pages out of the file, and
// whoever has the addresses next gets other pages. It is for this that a block
// must not be changed once it was sent with File, and that pages are never huge
// ones, of which a part cannot be cut out while somebody refers to it.
//
// Ownership: a block is its holder's from Alloc to Free, which is called once.
// Close waits, without blocking, for the last Free.
//
// Threads: everything may be called from many goroutines.
//
// Errors: Alloc returns nil when the kernel gives no memory; a block that was
// given out has its memory, so touching it never fails.
package offheap
