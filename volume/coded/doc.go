// Package coded serves a volume out of its shards with the ordinary engine. Open
// gives the engine a file system of one directory: the volume's file is read
// through a coding.Reader, its sealed index comes out of a shard, and its delete
// log is one file that is kept on several disks. So reads, ranges, cookies,
// checksums, budgets, checks, exports, deletes and compactions are those of
// package volume; see docs/decisions/135-coded-volumes-are-volumes.md.
//
// Reads: a needle in one shard costs one read of that shard, into the memory that
// is handed out. What its checksums refuse, or a shard does not give, is read again
// with the blocks' sums and computed from other shards before anybody is told that
// it is corrupt.
//
// Deletes: a delete is acknowledged when it is on stable storage on every copy of
// the delete log that is in the set, and on Tolerance+1 at least. A copy that fails
// or does not answer in time leaves the set for good: nothing is written to it any
// more, and it counts again once the whole log was copied anew (SetLogs, or the
// next Open). With fewer than Tolerance+1 copies deletes are refused, as those of a
// poisoned log, until the volume is closed and opened again; reads go on. Open
// unites the copies: every key in any of them is deleted. With more than Tolerance
// of them unread it refuses (ErrDeletesUnsure), because a delete might come back.
// The copies are described in docs/shard-format.md.
//
// Threads: a Volume may be used by many goroutines. Calls to copies of the delete
// log run on goroutines of their own; one that never returns keeps that goroutine,
// the file and its place, and nothing else.
//
// Ownership: shards stay the caller's; Options.Unused tells when one is read no
// more. LogCopy and shards are compared with ==.
package coded
