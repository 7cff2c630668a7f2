// Package histogram counts how long steps take and how large things are, at a
// cost that a hot path does not notice.
//
// A Histogram counts durations, a Sizes counts numbers such as bytes. Both have
// fixed buckets, four to a doubling: a bucket's upper bound is at most 1.25
// times its lower one (the first four are one unit wide), so that a quantile is
// told to within 25 %. Durations are told apart from 256 ns to 275 s, sizes from
// 1 to 2^30; what is larger is in one last bucket without a bound.
//
// Threads: every method may be called by many goroutines. Observe takes no lock
// and allocates nothing. A Snapshot taken beside it is of no single moment: each
// bucket is right at the moment it was read, and Sum may hold an observation
// that Count does not, or lack one.
package histogram
