// Package likes measures many people who like one photo at the same time: the real
// feed on a group of one voter whose log is synced, and a photo whose counter every
// command changes. Afterwards the counter must be exact, and a count of everything
// must find nothing wrong.
//
// The people are written straight into the state (feed.Seed); from then on
// everything is the production code path.
//
// Durability: everything lies in a directory of its own, which is removed.
// Threads: Run owns all goroutines that it starts, and returns when they have ended.
package likes
