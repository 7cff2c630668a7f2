// Package feed holds what people do: accounts, follows, photos, likes,
// comments, and the feed pages that come of them.
//
// Every mutation is a versioned command, applied by a deterministic function
// through internal/raftgroup into one Pebble instance; timelines are derived
// from it by feed/timeline into another. The keys and encodings are in
// docs/feed-format.md, which was written before the code.
//
// Durability: a method that changes something returns after its command is
// synced in the Raft log and applied.
//
// Threads: a Feed may be used by many goroutines. Returned values are the
// caller's.
package feed
