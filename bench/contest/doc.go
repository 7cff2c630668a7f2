// Package contest measures several ways to do the same work so that they can be
// compared: an engine beside a raw device, or beside itself in another state.
//
// The ways take turns within every round, because a machine's disk is not the
// same disk a minute later, and who begins changes from round to round. A ratio is
// the median of the rounds' ratios. Single pieces that fail are counted and are no
// throughput; what makes measuring impossible is an error.
//
// Threads: every call returns when the goroutines it began have ended.
package contest
