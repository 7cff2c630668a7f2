// Package ec measures coded volumes: what they take on the disk, what coding one
// costs beside a raw pass with the same reads and writes, what a needle costs out of
// shards, whole and with one away, what making shards again costs and does to
// reads, and whether a scrub finds and repairs every flipped bit.
//
// The volume is made by the engine, sealed and compacted; its shards are made, served
// and repaired by the production code with default options. Sides are kept equal as
// in package contest: they take turns, read the same needles in the same order past
// the page cache, and the raw side makes the calls that the engine was seen to make,
// as many at once, with O_DIRECT and the same syncs. All data read is verified.
//
// The plain name of a figure that there is for several policies is that of the
// policy for which it is worse; the others end in the policy, as in _4_2.
//
// Threads: Run owns its goroutines and its files; it leaves none of either.
// It makes a directory of its own inside each directory it is given.
package ec
