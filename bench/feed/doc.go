// Package feed measures fan-out and pages of the feed, with Redis beside it: the
// real feed on a group of one voter whose log is synced, timelines that are full,
// and authors that post in proportion to their followers.
//
// The world is written straight into the state (feed.Seed), not by millions of
// commands; from then on everything is the production code path.
//
// Durability: everything lies in a directory of its own, which is removed.
// Threads: Run owns all goroutines and processes that it starts, and returns when
// they have ended.
package feed
