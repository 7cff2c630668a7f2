// Package disk measures the storage engine beside the raw device it lies on:
// table 4 of the Haystack paper (Beaver et al., OSDI 2010), on any directory.
//
// The raw side asks the device for the same aligned extents as the engine, at
// the same offsets of the same file, from as many goroutines, with O_DIRECT
// and nothing else: no checksum, no index, no memory to hand out. For writes
// it puts down batches of the sizes the engine was seen to write, with each
// durable method it knows, and the best one counts. The two sides take turns
// within every round, because a machine's disk is not the same disk a minute
// later; a ratio is the median of the rounds' ratios.
//
// Cold reads: no needle is read twice in a slice, and the file's pages are
// dropped from the page cache before each. How many bytes the device really
// delivered per needle is reported. Restarts drop all caches when the process
// may.
//
// Every read is verified by the engine and, against what was written, by this
// package: length, checksum and two stamps of each while measuring, all bytes
// of a sample afterwards. What fails is counted as an error of its result and
// never as throughput.
//
// Threads: Run owns its goroutines and its files; it leaves none of either.
// It makes a directory of its own inside each directory it is given.
package disk
